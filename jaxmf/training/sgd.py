"""Stochastic gradient descent over Optax, at a cost a step that does not depend on the size of the tables."""

import functools
import math
from collections.abc import Callable
from types import EllipsisType
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf import sharding
from jaxmf.data.features import Sides, check_rows
from jaxmf.data.ratings import Ratings, filled
from jaxmf.model import links, objective, params
from jaxmf.model.kernels import Kernel, refuse_clicks, unit_of
from jaxmf.model.links import Links
from jaxmf.model.objective import Means, Weights
from jaxmf.model.params import Params
from jaxmf.model.priors import Prior, Priors, both_sides
from jaxmf.model.tables import Table
from jaxmf.training import evidence, loop
from jaxmf.training.evidence import Task
from jaxmf.training.loop import Fit, Info, Watch

REMEDY = "lower the learning rate, or raise `factor_reg`"

LEARNING_RATE = 2e-2
"""Adam's at the start of a run."""


@no_type_check
class State(struct.PyTreeNode):
    """What SGD carries from step to step."""

    params: Params
    optimizer: optax.OptState
    key: Key[Array, ""]
    links: Links


def default_optimizer(
    epochs: ScalarLike, n: int, batch_size: int, *, learning_rate: ScalarLike = LEARNING_RATE
) -> optax.GradientTransformation:
    """Adam with a cosine decay to 0 over the run, whose length and learning rate may be traced values."""
    of_share = optax.cosine_decay_schedule(learning_rate, 1)
    steps = epochs * math.ceil(n / batch_size)
    return optax.adam(lambda step: of_share(step / steps))


def init(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int,
    optimizer: optax.GradientTransformation,
    features: Sides = Sides(),
) -> State:
    """Factors N(0, 0.1²), 0 in rows without ratings; biases and links 0; the offset where zeros give the mean."""
    mean = float(np.average(ratings.rating, weights=ratings.weight))

    def draw(key: Key[Array, ""]) -> Params:
        return params.init(key, ratings.n_users, ratings.n_items, rank, offset=kernel.offset(mean))

    return start(key, draw, objective.weights(ratings), optimizer=optimizer, features=features)


def start(
    key: Key[Array, ""],
    draw: Callable[[Key[Array, ""]], Params],
    n: Weights,
    *,
    optimizer: optax.GradientTransformation,
    features: Sides = Sides(),
) -> State:
    """The first state from whatever model `draw` gives for a key, 0 in rows without ratings."""
    key, key_init = jax.random.split(key)
    model = draw(key_init)
    # No step touches a row without ratings: it is its prior mean from the start.
    model = model.replace(user=model.user.scale(jnp.sign(n.user)), item=model.item.scale(jnp.sign(n.item)))
    return State(model, optimizer.init((model.user, model.item)), key, links.init(features, model.user.rank))


def step(
    state: State,
    batch: Ratings,
    n: Weights,
    *,
    kernel: Kernel,
    prior: Prior | Priors,
    optimizer: optax.GradientTransformation,
    means: Means | None = None,
) -> tuple[State, Info]:
    """One update of the rows that the batch touches, and of the optimizer's state of those rows, and of no other.

    The rows are gathered, stepped as a small model, and put back: O(b·k) whatever the size of the tables. Moments of
    rows that are not in the batch wait (as in "lazy" Adam); the optimizer's step count is everyone's.

    Args:
        state: The state; donate it.
        batch: `b` ratings; weight 0 is padding.
        n: How much each row is rated in all, from `objective.weights`.
        kernel: The kernel.
        prior: The prior of both sides, or one each.
        optimizer: An Optax optimizer whose update of a row looks at no other row.
        means: Prior means of the tables' rows; else 0.
    """
    size = batch.user.shape[0]
    users, user = jnp.unique(batch.user, return_inverse=True, size=size, fill_value=len(state.params.user))
    items, item = jnp.unique(batch.item, return_inverse=True, size=size, fill_value=len(state.params.item))
    local = batch.replace(user=user, item=item)
    priors = both_sides(prior)
    near = None if means is None else Means(means.user[users], means.item[items])
    tables = (state.params.user, state.params.item)
    rows = (Table(users, users), Table(items, items))
    # Leaves that belong to no row, such as Adam's step count, are addressed whole.
    rows_state = optax.tree.map_params(
        optimizer, lambda _, rows: rows, state.optimizer, rows, transform_non_params=lambda _: ...
    )

    def loss(small: tuple[Table, Table]) -> Float[Array, ""]:
        model = Params(*small, state.params.offset)
        return objective.batch_loss(model, kernel, local, priors, n.user[batch.user], n.item[batch.item], near)

    def gather(rows: Int[Array, " b"] | EllipsisType, leaf: Array) -> Array:
        return leaf[rows]

    def scatter(rows: Int[Array, " b"] | EllipsisType, leaf: Array, new: Array) -> Array:
        return leaf.at[rows].set(new, mode="drop")

    small = jax.tree.map(gather, rows, tables)
    small_state = jax.tree.map(gather, rows_state, state.optimizer)
    value, grads = jax.value_and_grad(loss)(small)
    updates, small_state = optimizer.update(grads, small_state, small)
    user_table, item_table = jax.tree.map(scatter, rows, tables, optax.apply_updates(small, updates))
    new = state.replace(
        params=Params(user_table, item_table, state.params.offset),
        optimizer=jax.tree.map(scatter, rows_state, state.optimizer, small_state),
    )
    return new, {"loss": value}


def shuffled(key: Key[Array, ""], ratings: Ratings, batch_size: int) -> Ratings:
    """The ratings in a new random order, cut into batches (a leading axis); the last is filled up with weight 0."""
    n = ratings.rating.shape[0]
    steps = math.ceil(n / batch_size)
    order = jax.random.permutation(key, n)
    filled = jnp.resize(order, (steps, batch_size))
    real = (jnp.arange(steps * batch_size) < n).reshape(steps, batch_size)
    batches = ratings.take(filled)
    return batches.replace(weight=jnp.where(real, batches.weight, 0))


def prior_means(state: State, features: Sides) -> Means | None:
    """What the links say of each row, where there are features."""
    if features == Sides():
        return None
    return links.both_means(features, state.links, state.params)


def linked(state: State, features: Sides, n: Weights, priors: Priors) -> State:
    """The state with the links found anew from the rows; a row without ratings is its prior mean."""
    model, old = state.params, state.links
    new = Links(
        links.most_probable(features.user, model.user, priors.user, n.user, old.user),
        links.most_probable(features.item, model.item, priors.item, n.item, old.item),
    )
    state = state.replace(links=new)
    means = prior_means(state, features)
    if means is None:
        return state
    model = model.replace(user=model.user.where(n.user > 0, means.user), item=model.item.where(n.item > 0, means.item))
    return state.replace(params=model)


def epoch(
    state: State,
    data: tuple[Ratings, Weights, Priors, Sides],
    *,
    kernel: Kernel,
    batch_size: int,
    optimizer: optax.GradientTransformation,
) -> tuple[State, Info]:
    """One pass over the ratings in a new random order, then the links anew."""
    ratings, n, priors, features = data
    key, key_order = jax.random.split(state.key)
    means = prior_means(state, features)

    def one(state: State, batch: Ratings) -> tuple[State, Info]:
        return step(state, batch, n, kernel=kernel, prior=priors, optimizer=optimizer, means=means)

    state, info = lax.scan(one, state.replace(key=key), shuffled(key_order, ratings, batch_size))
    return linked(state, features, n, priors), {"loss": info["loss"].mean()}


class Pass(NamedTuple):
    """One pass with these settings, for `loop.run`."""

    batch_size: int
    optimizer: optax.GradientTransformation

    def __call__(
        self, state: State, data: tuple[Ratings, Weights, Priors, Sides], kernel: Kernel
    ) -> tuple[State, Info]:
        """The state after it."""
        return epoch(state, data, kernel=kernel, batch_size=self.batch_size, optimizer=self.optimizer)


@functools.lru_cache(maxsize=64)
def _default_optimizer(epochs: int, batches: int) -> optax.GradientTransformation:
    """The default one for so many batches an epoch, the same each time, since a program is of its optimizer."""
    return default_optimizer(epochs, batches, 1)


def fit(  # noqa: PLR0913 a trainer
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int = 32,
    prior: Prior | Priors | None = None,
    features: Sides = Sides(),
    epochs: int = 20,
    batch_size: int = 1024,
    optimizer: optax.GradientTransformation | None = None,
    watch: Watch = Watch(),
) -> Fit:
    """Fit by minibatch SGD, the ratings in a new random order every epoch.

    Args:
        key: Random key of the start and of the order.
        ratings: Training ratings.
        kernel: The kernel.
        rank: Number of factors.
        prior: The prior of both sides, or one each; else `jaxmf.evidence.find` finds it in the ratings, by sweeps of
            ALS, which has the same objective.
        features: Features of either side's rows, whose link is found from the rows after every epoch.
        epochs: Passes over the ratings.
        batch_size: Ratings a step.
        optimizer: Any row-wise Optax optimizer, schedules included; else `default_optimizer`. A run that is kept is not
            told from one with another optimizer of yours: Optax's have no names.
        watch: Validation, early stopping, progress.

    Raises:
        ValueError: If a setting or a rating is out of range, or the loss stops being finite.

    Example:
        >>> from jaxmf.model.kernels import Logistic
        >>> from jaxmf.data.ratings import Ratings
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> result = fit(jax.random.key(0), ratings, kernel=Logistic(1.0, 5.0), rank=2, epochs=30)
        >>> bool(result.history["loss"][-1] < result.history["loss"][0])
        True
    """
    refuse_clicks(kernel, "sgd")
    sharding.refuse("SGD")
    loop.check(ratings, kernel, rank, epochs, watch)
    if not batch_size >= 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    check_rows(features, ratings.n_users, ratings.n_items)
    kernel = kernel.replace(unit=unit_of(ratings))
    task = Task(key, ratings, kernel, rank, features, progress=watch.progress)
    found = evidence.given_or_found(prior, task)
    batch_size = min(batch_size, len(ratings))
    own = optimizer is not None
    settings = {"prior": found.told, "features": features, "batch_size": batch_size, "own_optimizer": own}
    optimizer = optimizer or _default_optimizer(epochs, math.ceil(len(ratings) / batch_size))
    state = init(key, ratings, kernel=kernel, rank=rank, optimizer=optimizer, features=features)

    whole = filled(ratings, batch_size * math.ceil(len(ratings) / batch_size))
    data = (whole, objective.weights(ratings), found.priors, features)
    of = loop.Run(ratings, kernel, epochs, REMEDY, settings, loop.rmse)
    state, log = loop.run(state, data, Pass(batch_size, optimizer), of, watch)
    return found.fit(state, ratings, kernel, features, log)
