"""A sweep of Gibbs sampling: a draw of every row, of their priors, of what features say, and of the noise.

Blocked: each row is one draw (`rows.sample_rows`), given the other side, and all rows of a side are drawn at once.
Bayesian matrix factorisation after Salakhutdinov & Mnih (ICML 2008), with a normal–gamma prior of each column in place
of their normal–Wishart, as in libFM and myFM: it needs no inverse of a matrix, and a factor's columns may be rotated
until they are uncorrelated. Prior means from features after Simm et al. (2017, Macau). Ordered steps as latent numbers
after Albert & Chib (1993).
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
from jaxmf.data.histories import Block, even, evened, filled, joint_blocks
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import links, params, rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.likelihoods import Gaussian, Likelihood, Ordinal
from jaxmf.model.objective import squares
from jaxmf.model.params import Params, predict
from jaxmf.model.posterior import Draw, Population
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table
from jaxmf.training.cutpoints import sample_cutpoints
from jaxmf.training.hyper import half_squares, sample_side
from jaxmf.training.loop import Info

CG_STEPS = 4
"""From the last draw a few steps suffice: on a validation part of MovieLens latest-small 4 predict as 8 and 16 do."""


@no_type_check
class State(struct.PyTreeNode):
    """What a chain carries from sweep to sweep.

    Attributes:
        draw: The last draw.
        key: Random key of the next sweep.
    """

    draw: Draw
    key: Key[Array, ""]


@no_type_check
class Data(struct.PyTreeNode):
    """The training ratings, the same as blocks of both sides' rows, and features.

    Attributes:
        ratings: The ratings.
        blocks: The same in `jaxmf.histories.joint_blocks`.
        features: Features of either side.
        places: Which rating is in each slot of the blocks, where latent numbers are written in their place.
    """

    ratings: Ratings
    blocks: tuple[Block, ...]
    features: Sides
    places: tuple[Int[AnyArray, "g p w"], ...] | None = None


def data_of(ratings: Ratings, likelihood: Likelihood = Gaussian(), features: Sides = Sides()) -> Data:
    """What `step` takes, on the host."""
    both = tuple(map(evened, joint_blocks(ratings)))
    places = [evened(stack).other for stack in joint_blocks(ratings, positions=True)] if likelihood.latent else None
    return Data(filled(ratings, even(len(ratings))), both, features, places and tuple(places))


def init(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int,
    likelihood: Likelihood = Gaussian(),
    features: Sides = Sides(),
) -> State:
    """Items N(0, 0.1²), users 0, priors and noise at 1, cutpoints at the probit of the levels' shares."""
    mean = 0.0 if likelihood.latent else float(np.average(ratings.rating, weights=ratings.weight))
    offset = np.float32(kernel.offset(mean))
    return _start(key, offset, likelihood.start(ratings), ratings.n_users, ratings.n_items, rank, links.sizes(features))


@partial(jax.jit, static_argnames=("n_users", "n_items", "rank", "features"))
def _start(
    key: Key[Array, ""],
    offset: Float[AnyArray, ""],
    likelihood: Likelihood,
    n_users: int,
    n_items: int,
    rank: int,
    features: tuple[int, int],
) -> State:
    """`init` by one program, given how many features either side has."""
    key, key_init = jax.random.split(key)
    start = params.init(key_init, n_users, n_items, rank, offset=offset)
    zero = Table(jnp.zeros(()), jnp.zeros(rank))
    user, item = (
        Population(zero, jax.tree.map(jnp.ones_like, zero), link, jnp.ones(())) for link in links.zeros(features, rank)
    )
    start = start.replace(user=jax.tree.map(jnp.zeros_like, start.user))
    return State(Draw(start, user, item, jnp.ones(()), likelihood), key)


def step(state: State, data: Data, *, kernel: Kernel) -> tuple[State, Info]:
    """One sweep: both sides' priors, users' rows, items' rows, noise. Info's `loss` is the mean squared error.

    Where the likelihood is ordinal, its cutpoints and the latent numbers come first, and the noise stays as it is;
    `loss` is minus the mean log-likelihood of a rating, and `taken` says whether the cutpoints moved.
    """
    key, key_sides, key_ratings = jax.random.split(state.key, 3)
    if data.places is None:
        draw = sample_sides(key_sides, state.draw, data, kernel=kernel)
        noise, info = sample_noise(key_ratings, draw.params, data.ratings, kernel=kernel)
        return State(draw.replace(noise=noise), key), info
    draw, latent, info = sample_latent(key_ratings, state.draw, data.ratings, kernel=kernel)
    written = [stack.replace(rating=latent[at]) for stack, at in zip(data.blocks, data.places, strict=True)]
    draw = sample_sides(key_sides, draw, data.replace(blocks=tuple(written)), kernel=kernel)
    return State(draw, key), info


def sample_sides(key: Key[Array, ""], draw: Draw, data: Data, *, kernel: Kernel) -> Draw:
    """The draw with both sides' priors and rows drawn anew, given what the blocks hold in place of ratings."""
    model, features = draw.params, data.features
    key_user, key_item, key_rows = jax.random.split(key, 3)
    user = sample_side(key_user, model.user, draw.user, features.user)
    item = sample_side(key_item, model.item, draw.item, features.item)
    drawn = draw.replace(user=user, item=item)
    return drawn.replace(params=sample_tables(key_rows, drawn, data, kernel=kernel))


def sample_tables(key: Key[Array, ""], draw: Draw, data: Data, *, kernel: Kernel) -> Params:
    """Both sides' rows: the users' given the items, and then the items' given the users.

    As in `jaxmf.als.solve_blocks` they are one table, so that one program serves both.
    """
    model = draw.params
    table = model.user.join(model.item)
    of_user = row_priors(draw.user, data.features.user, model.user)
    of_item = row_priors(draw.item, data.features.item, model.item)
    means, precisions = (users.join(items) for users, items in zip(of_user, of_item, strict=True))

    def sample(table: Table, key_and_block: tuple[Array, Block]) -> tuple[Table, None]:
        key, block = key_and_block
        given = block.replace(weight=draw.noise * block.weight)
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
    """The precision of the noise, given the rows."""
    total = squares(model, kernel, ratings)
    rate = 1 + total / 2
    counted = jnp.concatenate([jnp.sign(ratings.weight), jnp.ones(2)])
    noise = half_squares(jax.random.normal(key, counted.shape), counted) / rate
    return noise, {"loss": total / jnp.sum(ratings.weight), "noise": noise}


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
