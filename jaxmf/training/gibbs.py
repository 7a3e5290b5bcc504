"""Gibbs sampling: the posterior of every row, of their priors, of what features say, and of the noise.

Blocked: each row is one draw (`rows.sample_rows`), given the other side, and all rows of a side are drawn at once.
Bayesian matrix factorisation after Salakhutdinov & Mnih (ICML 2008), with a normal–gamma prior of each column in place
of their normal–Wishart, as in libFM and myFM: it needs no inverse of a matrix, and a factor's columns may be rotated
until they are uncorrelated. Prior means from features after Simm et al. (2017, Macau).
"""

from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.features import Features
from jaxmf.data.features import implicit as feedback
from jaxmf.data.histories import Block
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, params, rows
from jaxmf.model.kernels import Kernel, Linear
from jaxmf.model.params import Params, predict
from jaxmf.model.posterior import Draw, Side
from jaxmf.model.tables import Table
from jaxmf.training import als, loop
from jaxmf.training.hyper import gamma, sample_side
from jaxmf.training.loop import Info, Watch

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


class Sides(NamedTuple):
    """Features of either side, where there are any."""

    user: Features | None = None
    item: Features | None = None


def implicit(ratings: Ratings) -> Sides:
    """Implicit feedback on both sides: SVD++, and SVD++ flipped."""
    return Sides(feedback(ratings), feedback(ratings.transpose()))


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
    noise = gamma(keys[4], 1 + jnp.sum(ratings.weight > 0) / 2, 1 + squares / 2)
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


@no_type_check
class Chain(struct.PyTreeNode):
    """A chain with what it has gathered: kept draws, and the running mean of the validation part's predictions.

    Attributes:
        state: The chain's state.
        kept: Draws kept so far, in order; the rest zeros.
        total: Sum of predictions of the validation part over the sweeps since burn-in.
        sweep: Sweeps done.
    """

    state: State
    kept: Draw
    total: Float[Array, " n"]
    sweep: Int[Array, ""]
    burn: int = struct.field(pytree_node=False)

    @property
    def params(self) -> Params:
        """The last draw's rows."""
        return self.state.draw.params


class GibbsFit(NamedTuple):
    """What `fit` returns.

    Attributes:
        posterior: The kept draws, stacked.
        history: Per sweep: `loss`, the noise precision `noise`, and the running mean's `rmse` on the validation part.
        seconds: Wall time of training, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
        predicted: Mean over all sweeps since burn-in of the validation part's predictions; not clipped.
    """

    posterior: Draw
    history: dict[str, np.ndarray]
    seconds: float
    compile_seconds: float
    predicted: np.ndarray


def fit(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel = Linear(),
    rank: int = 10,
    sides: Sides | None = None,
    sweeps: int = 300,
    burn: int = 50,
    keep: int = 40,
    watch: Watch = Watch(),
) -> GibbsFit:
    """Fit by Gibbs sampling.

    Args:
        key: Random key of the chain.
        ratings: Training ratings, on the host.
        kernel: The kernel; for the linear one every row's draw is exact.
        rank: Number of factors.
        sides: Features of either side; for SVD++ on both, `implicit(ratings)`.
        sweeps: Sweeps in all.
        burn: Sweeps that are forgotten.
        keep: Draws to keep of the rest, evenly spaced: the posterior that is returned, and folded in with.
        watch: Validation, progress. The validation part's predictions are averaged over every sweep since burn-in.

    Raises:
        ValueError: If a setting or a rating is out of range.

    Example:
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> fit(jax.random.key(0), ratings, rank=2, sweeps=20, burn=10, keep=5).posterior.noise.shape
        (5,)
    """
    loop.check(ratings, kernel, rank, sweeps, watch)
    if not 0 <= burn < sweeps:
        raise ValueError(f"burn must be between 0 and the {sweeps} sweeps, got {burn}: some must be left")
    if not 1 <= keep <= sweeps - burn:
        raise ValueError(f"keep must be between 1 and the {sweeps - burn} sweeps after burn-in, got {keep}")
    sides = sides or Sides()
    for name, features, size in zip(Sides._fields, sides, (ratings.n_users, ratings.n_items), strict=True):
        if features is not None and features.n_rows != size:
            raise ValueError(f"the {name} features have {features.n_rows} rows, the ratings {size}: give a row each")
    if watch.patience is not None:
        raise ValueError(f"patience={watch.patience}: a chain has no best sweep to stop at; set `sweeps` instead")
    state = init(key, ratings, sides, kernel=kernel, rank=rank)
    kept = jax.tree.map(lambda x: jnp.zeros((keep, *x.shape), x.dtype), state.draw)
    n = 0 if watch.validation is None else len(watch.validation)
    chain = Chain(state, kept, jnp.zeros(n), jnp.int32(0), burn)

    def epoch(chain: Chain, data: tuple[Data, Ratings | None]) -> tuple[Chain, Info]:
        state, info = step(chain.state, data[0], kernel=kernel)
        after = chain.sweep + 1 - burn
        # The draws kept are those nearest to every (sweeps − burn)/keep-th; a slot past the end is not written.
        slot = jnp.where(after > 0, after * keep // (sweeps - burn) - 1, keep)
        fresh = (after * keep // (sweeps - burn)) > ((after - 1) * keep // (sweeps - burn))
        slot = jnp.where(fresh & (slot >= 0), slot, keep)
        kept = jax.tree.map(lambda all, one: all.at[slot].set(one, mode="drop"), chain.kept, state.draw)
        total = chain.total
        if data[1] is not None:
            predicted = predict(state.draw.params, kernel, data[1].user, data[1].item)
            total += jnp.where(after > 0, predicted, 0)
        return chain.replace(state=state, kept=kept, total=total, sweep=chain.sweep + 1), info

    data = Data(als.histories(ratings), *sides)
    chain, log = loop.run(
        chain,
        jax.tree.map(jnp.asarray, (data, watch.validation)),
        epoch,
        ratings=ratings,
        kernel=kernel,
        epochs=sweeps,
        watch=watch,
        remedy="standardise the features",
        rmse=_running_rmse,
    )
    predicted = np.asarray(chain.total) / (sweeps - burn)
    return GibbsFit(chain.kept, log.history, log.seconds, log.compile_seconds, predicted)


def _running_rmse(chain: Chain, kernel: Kernel, validation: Ratings, low: float, high: float) -> Float[Array, ""]:
    """RMSE of the running mean, and before the first sweep after burn-in of the last draw."""
    count = chain.sweep - chain.burn
    last = predict(chain.params, kernel, validation.user, validation.item)
    predicted = jnp.where(count > 0, chain.total / jnp.maximum(count, 1), last)
    squares = (validation.rating - jnp.clip(predicted, low, high)) ** 2
    return jnp.sqrt(jnp.sum(validation.weight * squares) / jnp.sum(validation.weight))
