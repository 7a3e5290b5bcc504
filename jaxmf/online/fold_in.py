"""The online update: rows that got new ratings are solved, and nothing else is touched."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf.data.histories import Block, blocks, one_row
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import rows
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.params import Params, check_rows
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides, check
from jaxmf.model.tables import Table

STEPS = 8
CG_STEPS = 24


def fold_in_users(params: Params, kernel: Kernel, ratings: Ratings, *, prior: Prior | Priors = DEFAULT) -> Params:
    """The model with the row of every user in `ratings` solved, the items frozen.

    New users and known ones alike: a row is a function of its ratings, the items and the prior, not of where it was.
    Rows of other users stay as they are; where `ratings.n_users` is larger than the table, the table grows to it,
    and a new row without ratings is the prior mean.

    Args:
        params: The model.
        kernel: Its kernel.
        ratings: *All* ratings of the users to solve, old and new, on the host.
        prior: The prior of both sides, or one each; the one the model was trained with.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or points to an item that the model does not have.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import init
        >>> model = init(jax.random.key(0), n_users=3, n_items=5, rank=2, offset=3.0)
        >>> new = Ratings(np.array([3, 3]), np.array([0, 4]), np.array([5.0, 4.0]), np.ones(2), n_users=4, n_items=5)
        >>> len(fold_in_users(model, Linear(), new).user)
        4
    """
    check_fold_in(params, kernel, ratings)
    touched = np.unique(ratings.user)
    table = grow(params.user, ratings.n_users)
    user_prior = check(prior).user
    for stack in blocks(ratings, touched, ladder=True):
        for block in _unstack(stack):
            table = table.put(block.rows, solve_block(kernel, params.offset, params.item, block, user_prior))
    return params.replace(user=table)


def fold_in_items(params: Params, kernel: Kernel, ratings: Ratings, *, prior: Prior | Priors = DEFAULT) -> Params:
    """The model with the row of every item in `ratings` solved, the users frozen; else as `fold_in_users`."""
    prior = both_sides(prior).transpose()
    return fold_in_users(params.transpose(), kernel, ratings.transpose(), prior=prior).transpose()


def fold_in_user(
    params: Params,
    kernel: Kernel,
    item: Int[np.ndarray, " n"],
    rating: Float[np.ndarray, " n"],
    *,
    prior: Prior | Priors = DEFAULT,
) -> Table:
    """One user's row, from the ratings alone: the shortest way from arrays to a row.

    Args:
        params: The model; its user table is not looked at.
        kernel: Its kernel.
        item: Item rows that the user rated.
        rating: The ratings.
        prior: The prior of both sides, or one each.

    Returns:
        A table of one row.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or an item is not in the model.
    """
    item, rating = np.asarray(item), np.asarray(rating)
    check_ratings(kernel, rating)
    check_rows(item, params.item, "item")
    return solve_block(kernel, params.offset, params.item, one_row(item, rating), both_sides(prior).user)


@jax.jit
def solve_stacks(
    kernel: Kernel, params: Params, stacks: tuple[Block, ...], *, prior: Prior | Priors = DEFAULT
) -> tuple[Table, ...]:
    """Users' rows for whole stacks of blocks that are on the device already, as one program.

    Returns:
        A table a stack, its rows in the order of the stack's `rows`.
    """
    user_prior = both_sides(prior).user

    def solve(block: Block) -> Table:
        return solve_block(kernel, params.offset, params.item, block, user_prior)

    return tuple(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), lax.map(solve, stack)) for stack in stacks)


@partial(jax.jit, static_argnames=("steps", "cg_steps"))
def solve_block(
    kernel: Kernel,
    offset: Float[AnyArray, ""],
    others: Table,
    block: Block,
    prior: Prior,
    *,
    steps: int = STEPS,
    cg_steps: int = CG_STEPS,
) -> Table:
    """The block's rows under `prior`, from its mean: one compiled program a shape."""
    n = rows.row_weights(block)
    mean = Table(jnp.zeros_like(n), jnp.zeros((len(n), others.rank)))
    return rows.solve_rows(
        kernel, offset, mean, others, block, mean, prior.precision(n), steps=steps, cg_steps=cg_steps
    )


def sgd_retrain(
    key: Key[Array, ""],
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    prior: Prior | Priors = DEFAULT,
    epochs: int = 60,
    learning_rate: float = 0.02,
) -> Params:
    """The model with the row of every user in `ratings` retrained by SGD over its profile, the items frozen.

    UserUpdate of Rendle & Schmidt-Thieme (RecSys 2008, Fig. 3): the row starts anew at random, and takes a gradient
    step for each of its ratings, in turn, `epochs` times over. It departs from the paper in that all rows go at once
    (`vmap` over rows, `lax.scan` over ratings), and in that the penalty of a step is the rating's share of the row's
    prior, so that it descends the same objective as `fold_in_users`.

    Args:
        key: Random key of the rows' start.
        params: The model.
        kernel: Its kernel.
        ratings: All ratings of the users to retrain, on the host.
        prior: The prior of both sides, or one each.
        epochs: Passes over each profile.
        learning_rate: Step size.

    Raises:
        ValueError: As `fold_in_users`.
    """
    check_fold_in(params, kernel, ratings)
    touched, count = np.unique(ratings.user, return_counts=True)
    table = grow(params.user, ratings.n_users)
    user_prior = check(prior).user
    for stack in blocks(ratings, touched, width=int(count.max(initial=1))):
        for block in _unstack(stack):
            key, key_block = jax.random.split(key)
            solved = _sgd_block(
                key_block, kernel, params.offset, params.item, block, user_prior, learning_rate, epochs=epochs
            )
            table = table.put(block.rows, solved)
    return params.replace(user=table)


@partial(jax.jit, static_argnames="epochs")
def _sgd_block(
    key: Key[Array, ""],
    kernel: Kernel,
    offset: Float[AnyArray, ""],
    others: Table,
    block: Block,
    prior: Prior,
    learning_rate: ScalarLike,
    *,
    epochs: int,
) -> Table:
    """A block of one page a row, retrained by SGD."""
    b = block.rows.shape[0]
    total = rows.row_weights(block)
    precision = jax.tree.map(jnp.atleast_1d, prior.precision(total))
    start = Table(jnp.zeros(b), 0.1 * jax.random.normal(key, (b, others.rank)))

    def retrain(x: Table, precision: Table, n: Float[AnyArray, ""], page: tuple) -> Table:
        def descend(x: Table, slot: tuple) -> tuple[Table, None]:
            other, rating, weight = slot

            def share(x: Table) -> Float[Array, ""]:
                error = rating - kernel(x, others[other], offset)
                prior_loss = precision.bias * x.bias**2 + jnp.sum(precision.factors * x.factors**2)
                return weight * (error**2 + prior_loss / jnp.maximum(n, 1e-9))

            return jax.tree.map(lambda x, g: x - learning_rate * g, x, jax.grad(share)(x)), None

        def epoch(_: ScalarLike, x: Table) -> Table:
            return lax.scan(descend, x, page)[0]

        return lax.fori_loop(0, epochs, epoch, x)

    return jax.vmap(retrain)(start, precision, total, (block.other, block.rating, block.weight))


def grow(table: Table, size: int) -> Table:
    """The table with rows of zeros, the prior mean, appended up to `size` rows."""
    more = max(0, size - len(table))
    return Table(jnp.pad(table.bias, (0, more)), jnp.pad(table.factors, ((0, more), (0, 0))))


def check_fold_in(params: Params, kernel: Kernel, ratings: Ratings) -> None:
    """Refuse ratings that don't fit the model, before anything is solved.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or an item is not in the model.
    """
    check_ratings(kernel, np.asarray(ratings.rating))
    check_rows(np.asarray(ratings.item), params.item, "item")


def _unstack(stack: Block) -> list[Block]:
    def at(index: int) -> Block:
        return jax.tree.map(lambda x: x[index], stack)

    return [at(index) for index in range(len(stack.rows))]
