"""A sweep of Gibbs sampling: a draw of every row, of their priors, of what features say, and of the noise.

Blocked: each row is one draw (`rows.sample_rows`), given the other side, and all rows of a side are drawn at once.
Bayesian matrix factorisation after Salakhutdinov & Mnih (ICML 2008), with a normal–gamma prior of each column in place
of their normal–Wishart, as in libFM and myFM: it needs no inverse of a matrix, and a factor's columns may be rotated
until they are uncorrelated. Prior means from features after Simm et al. (2017, Macau).
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Features, Sides
from jaxmf.data.histories import Block
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, params, rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params, predict
from jaxmf.model.posterior import Draw, Side
from jaxmf.model.tables import Table
from jaxmf.training import als
from jaxmf.training.hyper import half_squares, sample_side
from jaxmf.training.loop import Info

CG_STEPS = 8


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
    """The ratings in both directions, and the features of either side."""

    histories: als.Histories
    user: Features | None
    item: Features | None


def init(key: Key[Array, ""], ratings: Ratings, sides: Sides, *, kernel: Kernel, rank: int) -> State:
    """Items N(0, 0.1²), users 0, priors and noise at 1."""
    key, key_init = jax.random.split(key)
    mean = float(np.average(ratings.rating, weights=ratings.weight))
    start = params.init(key_init, ratings.n_users, ratings.n_items, rank, offset=kernel.offset(mean))
    start = start.replace(user=jax.tree.map(jnp.zeros_like, start.user))

    def side(features: Features | None) -> Side:
        n = 0 if features is None else features.n_features
        zero = Table(jnp.zeros(()), jnp.zeros(rank))
        link = Table(jnp.zeros(n), jnp.zeros((n, rank)))
        return Side(zero, jax.tree.map(jnp.ones_like, zero), link, jnp.ones(()))

    return State(Draw(start, side(sides.user), side(sides.item), jnp.ones(())), key)


def step(state: State, data: Data, *, kernel: Kernel) -> tuple[State, Info]:
    """One sweep: users' priors and rows, items' priors and rows, noise. Info's `loss` is the mean squared error."""
    key, *keys = jax.random.split(state.key, 6)
    old, model, noise = state.draw, state.draw.params, state.draw.noise
    user = sample_side(keys[0], model.user, old.user, data.user)
    users = sample_table(keys[1], kernel, model, data.histories.user, user, data.user, noise)
    model = model.replace(user=users)
    item = sample_side(keys[2], model.item, old.item, data.item)
    items = sample_table(keys[3], kernel, model.transpose(), data.histories.item, item, data.item, noise)
    model = model.replace(item=items)
    ratings = data.histories.ratings
    error = ratings.rating - predict(model, kernel, ratings.user, ratings.item)
    squares = jnp.sum(ratings.weight * error**2)
    rate = 1 + squares / 2
    counted = jnp.concatenate([jnp.sign(ratings.weight), jnp.ones(2)])
    noise = half_squares(keys[4], counted, rate) / rate
    info = {"loss": squares / jnp.sum(ratings.weight), "noise": noise}
    return State(Draw(model, user, item, noise), key), info


def row_priors(side: Side, features: Features | None, n: int) -> Table:
    """Prior mean of each of `n` rows."""
    mean = jax.tree.map(lambda m: jnp.broadcast_to(m, (n, *m.shape)), side.mean)
    return mean if features is None else mean + links.row_means(features, side.link)


def sample_table(
    key: Key[Array, ""],
    kernel: Kernel,
    model: Params,
    stacks: tuple[Block, ...],
    side: Side,
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
        return rows.sample_rows(
            key,
            kernel,
            model.offset,
            start,
            model.item,
            block.replace(weight=noise * block.weight),
            means[block.rows],
            precision,
            steps=1,
            cg_steps=CG_STEPS,
        )

    for at, stack in enumerate(stacks):
        keys = jax.random.split(jax.random.fold_in(key, at), stack.rows.shape[0])
        drawn = lax.map(sample, (keys, stack))
        table = table.put(stack.rows.ravel(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn))
    return table
