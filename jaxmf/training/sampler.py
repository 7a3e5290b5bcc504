"""A sweep of Gibbs sampling: a draw of every row, of their priors, of what features say, and of each user's noise.

Blocked: each row is one draw (`rows.sample_rows`), given the other side, and all rows of a side are drawn at once.
Bayesian matrix factorisation after Salakhutdinov & Mnih (ICML 2008), with a normal–gamma prior of each column in place
of their normal–Wishart, as in libFM and myFM: it needs no inverse of a matrix, and a factor's columns may be rotated
until they are uncorrelated. Prior means from features after Simm et al. (2017, Macau). Ordered steps as latent numbers
after Albert & Chib (1993).

Some users' ratings lie closer to any model than others', so each user's noise has a precision of its own (Geweke 1993;
for users and items, Lakshminarayanan, Bouchard & Archambeau 2011). Without it the products of factors, which are large
where both rows are, stand in for that: they learn the noise, and the more so the fewer ratings there are a row.
"""

from functools import partial
from typing import cast, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.features import Features, Sides
from jaxmf.data.histories import Block, joint_blocks
from jaxmf.data.packing import even
from jaxmf.data.ratings import AnyArray, Ratings, filled
from jaxmf.model import links, params, rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.likelihoods import Gaussian, Likelihood, Ordinal
from jaxmf.model.objective import Weights, squares, weights
from jaxmf.model.params import Params, predict
from jaxmf.model.posterior import Draw, Population
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table
from jaxmf.training.cutpoints import sample_cutpoints
from jaxmf.training.hyper import half_squares, sample_side
from jaxmf.training.loop import Info

ALIKE = 10
"""How alike users' noises are: a user's precision is gamma(ALIKE/2, ALIKE/2), as if so many ratings of it were known.

Of 3, 5, 10 and 20 it predicts best, or within .0005 of it, on validation parts of MovieLens latest-small, its tenth,
MovieLens 100K and MovieTweetings.
"""

BIAS, FACTOR, NOISE = 4.0, 10.0, 1.5
"""Precisions a chain starts from, those of noise in the kernel's unit: rows that are drawn under them are as large as
most data's. From rows of 0 the first precisions would be so large that rows may only creep away from 0."""

CG_STEPS = 4
"""From the last draw a few steps suffice: on a validation part of MovieLens latest-small 4 predict as 8 and 16 do."""


@no_type_check
class State(struct.PyTreeNode):
    """What a chain carries from sweep to sweep.

    Attributes:
        draw: The last draw; its `noise` is that of a user whose ratings are as precise as most.
        precise: How precise each user's ratings are beside that.
        key: Random key of the next sweep.
    """

    draw: Draw
    precise: Float[Array, " users"]
    key: Key[Array, ""]

    def told(self, weight: Float[AnyArray, " n"], user: Int[AnyArray, " n"]) -> Draw:
        """The draw with the noise of an average rating, of those with these weights and users."""
        rated = jnp.sign(weight)
        return self.draw.replace(noise=self.draw.noise * rated.sum() / jnp.sum(rated / self.precise[user]))


@no_type_check
class Data(struct.PyTreeNode):
    """The training ratings, the same as blocks of both sides' rows, and features.

    Attributes:
        ratings: The ratings.
        rated: 1 for each user, and for each item, that has a rating, else 0.
        blocks: The same in `jaxmf.histories.joint_blocks`.
        features: Features of either side.
        places: Which rating is in each slot of the blocks, where latent numbers are written in their place.
    """

    ratings: Ratings
    rated: Weights
    blocks: tuple[Block, ...]
    features: Sides
    places: tuple[Int[AnyArray, "g p w"], ...] | None = None


def data_of(ratings: Ratings, likelihood: Likelihood = Gaussian(), features: Sides = Sides()) -> Data:
    """What `step` takes, on the host."""
    both = joint_blocks(ratings, even=True)
    at = joint_blocks(ratings, positions=True, even=True) if likelihood.latent else ()
    rated = jax.tree.map(jnp.sign, weights(ratings))
    places = tuple(stack.other for stack in at) or None
    return Data(filled(ratings, even(len(ratings))), rated, both, features, places)


def init(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int,
    likelihood: Likelihood = Gaussian(),
    features: Sides = Sides(),
) -> State:
    """Rows and priors at `BIAS` and `FACTOR`, the noise at `NOISE`, cutpoints at the probit of the levels' shares.

    The users' rows are 0: they are drawn first.
    """
    mean = 0.0 if likelihood.latent else float(np.average(ratings.rating, weights=ratings.weight))
    noise = 1.0 if likelihood.latent else NOISE / float(kernel.unit) ** 2
    offset, noise = np.array([kernel.offset(mean), noise], np.float32)
    sizes = ratings.n_users, ratings.n_items, rank, links.sizes(features)
    return _start(key, offset, noise, likelihood.start(ratings), sizes)


@partial(jax.jit, static_argnames="sizes")
def _start(
    key: Key[Array, ""], offset: Float[AnyArray, ""], noise: Float[AnyArray, ""], likelihood: Likelihood, sizes: tuple
) -> State:
    """`init` by one program, given how many users, items and factors there are, and features of either side."""
    n_users, n_items, rank, features = sizes
    key, key_init = jax.random.split(key)
    start = params.init(key_init, n_users, n_items, rank, offset=offset, scale=FACTOR**-0.5)
    precision = Table(jnp.float32(BIAS), jnp.full(rank, FACTOR))
    mean = jax.tree.map(jnp.zeros_like, precision)
    user, item = (Population(mean, precision, link, jnp.ones(())) for link in links.zeros(features, rank))
    start = start.replace(user=jax.tree.map(jnp.zeros_like, start.user))
    return State(Draw(start, user, item, jnp.asarray(noise), likelihood), jnp.ones(n_users), key)


def step(state: State, data: Data, *, kernel: Kernel) -> tuple[State, Info]:
    """One sweep: users' rows, items' rows, both sides' priors, noise.

    Info's `loss` is the mean squared error, a precise user's errors counting more. Where the likelihood is ordinal, its
    cutpoints and the latent numbers come first, and the noise of most users stays as it is; `loss` is minus the mean
    log-likelihood of a rating, and `taken` says whether the cutpoints moved.
    """
    key, key_sides, key_ratings, key_noise = jax.random.split(state.key, 4)
    given, draw = data.ratings.replace(weight=data.ratings.weight * state.precise[data.ratings.user]), state.draw
    if data.places is None:
        draw = sample_sides(key_sides, state, data, kernel=kernel)
        noise, info = sample_noise(key_ratings, draw.params, given, kernel=kernel)
        draw, rating = draw.replace(noise=noise), data.ratings.rating
    else:
        draw, rating, info = sample_latent(key_ratings, draw, given, kernel=kernel)
        written = [stack.replace(rating=rating[at]) for stack, at in zip(data.blocks, data.places, strict=True)]
        state, data = state.replace(draw=draw), data.replace(blocks=tuple(written))
        draw = sample_sides(key_sides, state, data, kernel=kernel)
    precise = sample_precise(key_noise, draw, data.ratings.replace(rating=rating), kernel=kernel)
    return State(draw, precise, key), info


def sample_sides(key: Key[Array, ""], state: State, data: Data, *, kernel: Kernel) -> Draw:
    """The draw with both sides' rows and priors drawn anew, given what the blocks hold in place of ratings.

    Rows without ratings are drawn from the priors, and tell them nothing.
    """
    key_user, key_item, key_rows = jax.random.split(key, 3)
    draw, features, rated = state.draw, data.features, data.rated
    model = sample_tables(key_rows, state, data, kernel=kernel)
    user = sample_side(key_user, model.user, draw.user, rated.user, features.user)
    item = sample_side(key_item, model.item, draw.item, rated.item, features.item)
    return draw.replace(params=model, user=user, item=item)


def sample_tables(key: Key[Array, ""], state: State, data: Data, *, kernel: Kernel) -> Params:
    """Both sides' rows: the users' given the items, and then the items' given the users.

    As in `jaxmf.als.solve_blocks` they are one table, so that one program serves both.
    """
    draw = state.draw
    model = draw.params
    table = model.user.join(model.item)
    of_user = row_priors(draw.user, data.features.user, model.user)
    of_item = row_priors(draw.item, data.features.item, model.item)
    means, precisions = (users.join(items) for users, items in zip(of_user, of_item, strict=True))
    # Of a rating's two rows one is a user's.
    precise = jnp.pad(state.precise, (0, len(model.item)), constant_values=1)

    def sample(table: Table, key_and_block: tuple[Array, Block]) -> tuple[Table, None]:
        key, block = key_and_block
        of_pages = precise.at[block.rows].get(mode="clip")[block.owner]
        given = block.replace(weight=draw.noise * block.weight * of_pages[:, None] * precise[block.other])
        problem = Problem(kernel, model.offset, table, given, means[block.rows], precisions[block.rows])
        drawn = rows.sample_rows(key, problem, table[block.rows], steps=1, cg_steps=CG_STEPS, tol=0.0)
        return table.put(block.rows, drawn), None

    for at, stack in enumerate(data.blocks):
        keys = jax.random.split(jax.random.fold_in(key, at), len(stack.rows))
        table, _ = lax.scan(sample, table, (keys, stack))
    users, items = table.cut(len(model.user))
    return model.replace(user=users, item=items)


def sample_noise(
    key: Key[Array, ""], model: Params, ratings: Ratings, *, kernel: Kernel
) -> tuple[Float[Array, ""], Info]:
    """The precision of most users' noise, given the rows; the ratings' weights are theirs times their users'."""
    total = squares(model, kernel, ratings)
    rate = kernel.unit**2 + total / 2
    counted = jnp.concatenate([jnp.sign(ratings.weight), jnp.ones(2)])
    noise = half_squares(jax.random.normal(key, counted.shape), counted) / rate
    return noise, {"loss": total / jnp.sum(ratings.weight), "noise": noise}


def sample_precise(key: Key[Array, ""], draw: Draw, ratings: Ratings, *, kernel: Kernel) -> Float[Array, " users"]:
    """How precise each user's ratings are beside `draw.noise`, given the rows."""
    error, users = ratings.rating - predict(draw.params, kernel, ratings.user, ratings.item), len(draw.params.user)
    # A gamma's draw is a sum of squared normals, one for each rating and `ALIKE` more: see `half_squares`.
    of_ratings, more = jnp.split(jax.random.normal(key, (len(error) + ALIKE * users,)) ** 2, [len(error)])
    each = jnp.stack([jnp.sign(ratings.weight) * of_ratings, draw.noise * ratings.weight * error**2])
    drawn, squares = jnp.zeros((2, users)).at[:, ratings.user].add(each)
    return (drawn + more.reshape(users, ALIKE).sum(1)) / (ALIKE + squares)


def sample_latent(
    key: Key[Array, ""], draw: Draw, ratings: Ratings, *, kernel: Kernel
) -> tuple[Draw, Float[Array, " n"], Info]:
    """The draw with new cutpoints, and the latent numbers of the ratings under these, given the rows."""
    key_cuts, key_latent = jax.random.split(key)
    predicted = predict(draw.params, kernel, ratings.user, ratings.item)
    old = cast(Ordinal, draw.likelihood)
    likelihood, value, taken = sample_cutpoints(key_cuts, old, predicted, old.level(ratings.rating), ratings.weight)
    u = jax.random.uniform(key_latent, predicted.shape)
    latent = likelihood.draw_latent(u, predicted, ratings.rating, ratings.weight)
    info = {"loss": -value / jnp.sum(ratings.weight), "noise": draw.noise, "taken": taken}
    return draw.replace(likelihood=likelihood), latent, info


def row_priors(side: Population, features: Features | None, table: Table) -> tuple[Table, Table]:
    """Prior mean and precision of each row of a side's table."""
    mean, precision = (
        jax.tree.map(lambda x: jnp.broadcast_to(x, (len(table), *x.shape)), columns)
        for columns in (side.mean, side.precision)
    )
    return mean + links.means(features, side.link, table), precision
