"""A sweep of Gibbs sampling: a draw of every row, of their priors, of what features say, and of the noise.

Blocked: each row is one draw (`rows.sample_rows`), given the other side, and all rows of a side are drawn at once.
Bayesian matrix factorisation after Salakhutdinov & Mnih (ICML 2008), with a normal–gamma prior of each column in place
of their normal–Wishart, as in libFM and myFM: it needs no inverse of a matrix, and a factor's columns may be rotated
until they are uncorrelated. Prior means from features after Simm et al. (2017, Macau). Ordered steps as latent numbers
after Albert & Chib (1993).
"""

from typing import NamedTuple, cast, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.features import Features, Sides
from jaxmf.data.histories import Block, blocks, even, evened, filled
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


class Places(NamedTuple):
    """Which rating, by position, is in each slot of either side's blocks: what writes other numbers in their place."""

    user: tuple[Int[AnyArray, "g p w"], ...]
    item: tuple[Int[AnyArray, "g p w"], ...]


@no_type_check
class Data(struct.PyTreeNode):
    """The training ratings, the same as blocks of either side, with features, and where ratings are for latent ones."""

    ratings: Ratings
    user: tuple[Block, ...]
    item: tuple[Block, ...]
    features: Sides
    places: Places | None = None


def data_of(ratings: Ratings, likelihood: Likelihood = Gaussian(), features: Sides = Sides()) -> Data:
    """What `step` takes, on the host."""
    where = places(ratings) if likelihood.latent else None
    user, item = (tuple(map(evened, blocks(side))) for side in (ratings, ratings.transpose()))
    return Data(filled(ratings, even(len(ratings))), user, item, features, where)


def places(ratings: Ratings) -> Places:
    """Where the ratings are in both sides' blocks."""

    def of(ratings: Ratings) -> tuple[Int[AnyArray, "g p w"], ...]:
        n = len(ratings)
        return tuple(evened(stack).other for stack in blocks(ratings.replace(item=np.arange(n), n_items=n)))

    return Places(of(ratings), of(ratings.transpose()))


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
    key, key_init = jax.random.split(key)
    mean = 0.0 if likelihood.latent else float(np.average(ratings.rating, weights=ratings.weight))
    start = params.init(key_init, ratings.n_users, ratings.n_items, rank, offset=kernel.offset(mean))
    start = start.replace(user=jax.tree.map(jnp.zeros_like, start.user))

    zero = Table(jnp.zeros(()), jnp.zeros(rank))
    user, item = (
        Population(zero, jax.tree.map(jnp.ones_like, zero), link, jnp.ones(())) for link in links.init(features, rank)
    )
    return State(Draw(start, user, item, jnp.ones(()), likelihood.start(ratings)), key)


def step(state: State, data: Data, *, kernel: Kernel) -> tuple[State, Info]:
    """One sweep: users' priors and rows, items' priors and rows, noise. Info's `loss` is the mean squared error.

    Where the likelihood is ordinal, its cutpoints and the latent numbers come first, and the noise stays as it is;
    `loss` is minus the mean log-likelihood of a rating, and `taken` says whether the cutpoints moved.
    """
    key, *keys = jax.random.split(state.key, 6)
    if data.places is None:
        draw = sample_sides(tuple(keys[:4]), state.draw, data, kernel=kernel)
        noise, info = sample_noise(keys[4], draw.params, data.ratings, kernel=kernel)
        return State(draw.replace(noise=noise), key), info
    draw, latent, info = sample_latent(keys[4], state.draw, data.ratings, kernel=kernel)
    draw = sample_sides(tuple(keys[:4]), draw, _written(data, data.places, latent), kernel=kernel)
    return State(draw, key), info


def sample_sides(keys: tuple[Key[Array, ""], ...], draw: Draw, data: Data, *, kernel: Kernel) -> Draw:
    """The draw with both sides' priors and rows drawn anew, given what the blocks hold in place of ratings."""
    model, features = draw.params, data.features
    user = sample_side(keys[0], model.user, draw.user, features.user)
    users = sample_table(keys[1], kernel, model, data.user, user, features.user, draw.noise)
    model = model.replace(user=users)
    item = sample_side(keys[2], model.item, draw.item, features.item)
    items = sample_table(keys[3], kernel, model.transpose(), data.item, item, features.item, draw.noise)
    return draw.replace(params=model.replace(item=items), user=user, item=item)


def sample_noise(
    key: Key[Array, ""], model: Params, ratings: Ratings, *, kernel: Kernel
) -> tuple[Float[Array, ""], Info]:
    """The precision of the noise, given the rows."""
    total = squares(model, kernel, ratings)
    rate = 1 + total / 2
    counted = jnp.concatenate([jnp.sign(ratings.weight), jnp.ones(2)])
    noise = half_squares(key, counted, rate) / rate
    return noise, {"loss": total / jnp.sum(ratings.weight), "noise": noise}


def sample_latent(
    key: Key[Array, ""], draw: Draw, ratings: Ratings, *, kernel: Kernel
) -> tuple[Draw, Float[Array, " n"], Info]:
    """The draw with new cutpoints, and the latent numbers of the ratings under these, given the rows."""
    key_cuts, key_latent = jax.random.split(key)
    predicted = predict(draw.params, kernel, ratings.user, ratings.item)
    old = cast(Ordinal, draw.likelihood)
    likelihood, value, taken = sample_cutpoints(key_cuts, old, predicted, old.level(ratings.rating), ratings.weight)
    latent = likelihood.draw_latent(key_latent, predicted, ratings.rating, ratings.weight)
    info = {"loss": -value / jnp.sum(ratings.weight), "noise": draw.noise, "taken": taken}
    return draw.replace(likelihood=likelihood), latent, info


def _written(data: Data, places: Places, rating: Float[Array, " n"]) -> Data:
    """The blocks with other numbers in place of the ratings."""

    def side(stacks: tuple[Block, ...], places: tuple[Int[Array, "g p w"], ...]) -> tuple[Block, ...]:
        return tuple(stack.replace(rating=rating[at]) for stack, at in zip(stacks, places, strict=True))

    return data.replace(user=side(data.user, places.user), item=side(data.item, places.item))


def row_priors(side: Population, features: Features | None, n: int) -> Table:
    """Prior mean of each of `n` rows."""
    mean = jax.tree.map(lambda m: jnp.broadcast_to(m, (n, *m.shape)), side.mean)
    return mean if features is None else mean + links.row_means(features, side.link)


def sample_table(
    key: Key[Array, ""],
    kernel: Kernel,
    model: Params,
    stacks: tuple[Block, ...],
    side: Population,
    features: Features | None,
    noise: Float[Array, ""],
) -> Table:
    """The users' table given the items; for the items pass `model.transpose()` and their stacks."""
    table = model.user
    means = row_priors(side, features, len(table))

    def sample(key_and_block: tuple[Array, Block]) -> Table:
        key, block = key_and_block
        start = table[block.rows]
        precision = jax.tree.map(lambda p, x: jnp.broadcast_to(p, x.shape), side.precision, start)
        given = block.replace(weight=noise * block.weight)
        problem = Problem(kernel, model.offset, model.item, given, means[block.rows], precision)
        return rows.sample_rows(key, problem, start, steps=1, cg_steps=CG_STEPS, tol=0.0)

    for at, stack in enumerate(stacks):
        keys = jax.random.split(jax.random.fold_in(key, at), stack.rows.shape[0])
        drawn = lax.map(sample, (keys, stack))
        table = table.put(stack.rows.ravel(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn))
    return table
