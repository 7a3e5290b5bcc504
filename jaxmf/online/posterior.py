"""Fold-in under uncertainty: a new row is drawn against each kept draw of the other side; nothing is retrained."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.features import Features
from jaxmf.data.histories import Block, blocks, packed_row, row_block
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import links
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.params import check_rows
from jaxmf.model.posterior import (
    Draw,
    Predictive,
    class_probabilities,
    pick,
    predictive,
    ratings_of_draws,
    rounded,
)
from jaxmf.model.tables import Table
from jaxmf.online.draws import Noise, draw_rows
from jaxmf.online.update import resized, unstack

__all__ = [
    "Draw",
    "Predictive",
    "class_probabilities",
    "draw_stacks",
    "fold_in_items",
    "fold_in_user",
    "fold_in_users",
    "pick",
    "predictive",
    "ratings_of_draws",
    "rounded",
    "thin",
]


def fold_in_users(
    key: Key[Array, ""],
    posterior: Draw,
    kernel: Kernel,
    ratings: Ratings,
    *,
    users: Int[AnyArray, " b"] | None = None,
    features: Features | None = None,
) -> Draw:
    """The posterior with the rows of `users` drawn from their ratings, once against every kept draw of the items.

    Each draw of a row is a draw from its posterior given that draw of everything else, so that means and spreads over
    the draws are those of a row of the model itself. Other rows stay as they are; where `ratings.n_users` is larger
    than the table, it grows.

    Args:
        key: Random key of the draws.
        posterior: The kept draws.
        kernel: The kernel.
        ratings: *All* ratings of the users to draw, on the host.
        users: Rows to draw; else those of every user in `ratings`. One without ratings is drawn from its prior.
        features: Features of the users' rows, where the model was fitted with features of users: for implicit
            feedback `jaxmf.features.implicit(ratings)`.

    Raises:
        ValueError: If a rating is outside the kernel's scale or no level, an item is not in the model, or features are
            missing.

    Cost: linear in the draws; memory that of the draws' tables.
    """
    one = jax.tree.map(lambda x: x[0], posterior)
    check_ratings(kernel, np.asarray(ratings.rating))
    one.likelihood.check(np.asarray(ratings.rating), kernel)
    check_rows(np.asarray(ratings.item), one.params.item, "item")
    users = np.unique(ratings.user) if users is None else np.unique(users)
    size = max(ratings.n_users, len(one.params.user))
    given, known = 0 if features is None else features.n_features, len(one.user.link)
    if given != known:
        raise ValueError(
            f"the model was fitted with {known} features of a row and the fold-in is given {given}: "
            "pass the same kind of features"
        )
    if features is not None and features.n_rows < ratings.n_users:
        raise ValueError(f"the features have {features.n_rows} rows, the ratings {ratings.n_users}: give a row each")
    table = jax.vmap(lambda table: resized(table, size))(posterior.params.user)
    means = _prior_means(posterior, features, size)
    for block in (block for stack in blocks(ratings, users, ladder=True) for block in unstack(stack)):
        key, key_block = jax.random.split(key)
        drawn = draw_block(key_block, posterior, kernel, block, means)
        table = _written(table, block.rows, drawn)
    return posterior.replace(params=posterior.params.replace(user=table))


def fold_in_items(
    key: Key[Array, ""],
    posterior: Draw,
    kernel: Kernel,
    ratings: Ratings,
    *,
    items: Int[AnyArray, " b"] | None = None,
    features: Features | None = None,
) -> Draw:
    """The posterior with the rows of `items` drawn from their ratings; else as `fold_in_users`."""
    flipped = fold_in_users(key, posterior.transpose(), kernel, ratings.transpose(), users=items, features=features)
    return flipped.transpose()


def thin(posterior: Draw, draws: int) -> Draw:
    """`draws` of the kept draws, evenly spaced: faster to fold in with, and rougher.

    Raises:
        ValueError: If `draws` is not between 1 and the number kept.
    """
    kept = posterior.noise.shape[0]
    if not 1 <= draws <= kept:
        raise ValueError(f"draws must be between 1 and the {kept} kept, got {draws}")
    return _thinned(posterior, draws)


@partial(jax.jit, static_argnames="draws")
def _thinned(posterior: Draw, draws: int) -> Draw:
    return jax.tree.map(lambda x: x[np.arange(draws) * x.shape[0] // draws], posterior)


def fold_in_user(
    key: Key[Array, ""],
    posterior: Draw,
    kernel: Kernel,
    item: Int[AnyArray, " n"],
    rating: Float[AnyArray, " n"],
    *,
    draws: int | None = None,
) -> Draw:
    """A posterior whose user table is the one new user, from the ratings alone: the shortest way for a request.

    Where the model has features of users they must be implicit feedback, which the ratings themselves tell.

    Args:
        key: Random key of the draws.
        posterior: The kept draws.
        kernel: The kernel.
        item: Item rows that the user rated.
        rating: The ratings.
        draws: How many of the kept draws to use; else all. For many requests, `thin` the posterior once.

    Raises:
        ValueError: If a rating is outside the kernel's scale or no level, an item is not in the model, or `draws` is
            out of range.
    """
    kept, n_items = posterior.noise.shape[0], posterior.params.item.bias.shape[1]
    draws = kept if draws is None else draws
    item, rating = np.asarray(item), np.asarray(rating)
    check_ratings(kernel, rating)
    jax.tree.map(lambda x: x[0], posterior.likelihood).check(rating, kernel)
    if item.size and not (item.min() >= 0 and item.max() < n_items):
        raise ValueError(f"item rows {item[(item < 0) | (item >= n_items)]} are not among the table's {n_items} rows")
    links_known = posterior.user.link.bias.shape[1]
    if links_known not in (0, n_items):
        raise ValueError(
            f"the model was fitted with {links_known} features of users, which {item.size} ratings don't tell: "
            "use fold_in_users and pass the features"
        )
    if draws != kept:
        posterior = thin(posterior, draws)
    user = _draw_user(key, posterior, kernel, packed_row(item, rating))
    return posterior.replace(params=posterior.params.replace(user=user))


@partial(jax.jit, static_argnames="implicit")
def draw_stacks(
    key: Key[Array, ""], posterior: Draw, kernel: Kernel, stacks: tuple[Block, ...], *, implicit: bool
) -> tuple[Table, ...]:
    """Users' rows for whole stacks of blocks that are on the device already, as one program: a draw a kept draw.

    Args:
        key: Random key of the draws.
        posterior: The kept draws.
        kernel: The kernel.
        stacks: The users' histories.
        implicit: The users' features are their implicit feedback; else they have none.

    Returns:
        A table a stack, with axes in front for blocks and draws.
    """

    def draw(given: tuple) -> Table:
        key, block = given
        return jax.vmap(lambda noise, one: _draw_user_rows(noise, one, kernel, block, implicit=implicit))(
            _noises(key, posterior), posterior
        )

    return tuple(
        lax.map(draw, (jax.random.split(jax.random.fold_in(key, at), stack.rows.shape[0]), stack))
        for at, stack in enumerate(stacks)
    )


@jax.jit
def draw_block(key: Key[Array, ""], posterior: Draw, kernel: Kernel, block: Block, means: Table) -> Table:
    """The block's rows, a draw of them for each draw of the posterior, given prior means of all rows."""

    def draw(given: tuple) -> Table:
        noise, one, mean = given
        return draw_rows(noise, one, kernel, block, mean[block.rows])

    return lax.map(draw, (_noises(key, posterior), posterior, means))


@jax.jit
def _draw_user(
    key: Key[Array, ""],
    posterior: Draw,
    kernel: Kernel,
    packed: Int[AnyArray, " packed"],
) -> Table:
    block, implicit = row_block(packed), posterior.user.link.bias.shape[1] > 0

    def draw(noise: Noise, one: Draw) -> Table:
        return _draw_user_rows(noise, one, kernel, block, implicit=implicit)

    return jax.vmap(draw)(_noises(key, posterior), posterior)


def _noises(key: Key[Array, ""], posterior: Draw) -> Noise:
    """Each draw's noise; every second one mirrors that of the draw before.

    Every draw of a row stays exact, and most of its noise cancels from means over the draws (antithetic variates,
    Hammersley & Morton 1956): neighbours in a chain have much the same items.
    """
    at = np.arange(posterior.noise.shape[0])
    return Noise(jax.random.split(key, len(at))[at // 2], jnp.asarray(1.0 - 2.0 * (at % 2), jnp.float32))


def _draw_user_rows(noise: Noise, one: Draw, kernel: Kernel, block: Block, *, implicit: bool) -> Table:
    """A block's rows under one draw, with their own implicit feedback, 1/√n at each rated item, as features or none."""
    b = block.rows.shape[0]
    mean = jax.tree.map(lambda m: jnp.broadcast_to(m, (b, *m.shape)), one.user.mean)
    if implicit:
        mean = mean + links.block_means(links.feedback(block), one.user.link, b)
    return draw_rows(noise, one, kernel, block, mean)


@jax.jit
def _linked(posterior: Draw, features: Features) -> Table:
    return lax.map(lambda one: links.row_means(features, one.user.link), posterior)


@partial(jax.jit, donate_argnums=0)
def _written(tables: Table, rows: Int[AnyArray, " b"], values: Table) -> Table:
    """The draws' tables with `values` in `rows`, in place."""
    return jax.vmap(Table.put, (0, None, 0))(tables, rows, values)


def _prior_means(posterior: Draw, features: Features | None, size: int) -> Table:
    """Prior mean of every row under every draw."""
    mean = jax.tree.map(lambda m: jnp.broadcast_to(m[:, None], (m.shape[0], size, *m.shape[1:])), posterior.user.mean)
    if features is None:
        return mean
    said = _linked(posterior, features)
    return mean + jax.vmap(lambda table: resized(table, size))(said)
