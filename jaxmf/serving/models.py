"""What a recommender asks of a model, point or posterior, where some of those who are asked about are strangers.

Rows are table rows, below 0 a stranger's.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from jaxmf.data.history import History
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Population, Posterior, Predictive, predictive
from jaxmf.model.tables import Table
from jaxmf.online.laplace import leverage
from jaxmf.serving.layered import Layered, at_prior_mean, rows_of
from jaxmf.serving.recommend import TopN, top_n

PAIRS = 8192
"""Pairs a program: what bounds the memory of a prediction."""

SAMPLE = 2000
"""Training ratings that the noise of a point estimate is measured on."""

LEFT = 0.1
"""Least share of the ratings that is taken to be unexplained by rows: a bound for fits that repeat their data."""


@runtime_checkable
class Rated(Protocol):
    """What knows the ratings of rows of either side, in the numbers of the tables."""

    def of_users(self, rows: ArrayLike, /) -> Ratings:
        """The ratings of these users."""
        ...

    def of_items(self, rows: ArrayLike, /) -> Ratings:
        """The ratings of these items."""
        ...


def predict(layered: Layered, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Predicted ratings, of a posterior their means."""
    return _in_parts(lambda u, i: _predict(layered, u, i), user, item)


def spread(layered: Layered, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Standard deviations of ratings under a posterior, noise included; a stranger's row is drawn from its prior."""
    drawn = _drawn_strangers(jax.random.key(0), layered.model)
    return _in_parts(lambda u, i: _predictive(layered, drawn, u, i).std, user, item)


def noise(model: Model, history: History) -> float:
    """Variance of a point model's noise, from the residuals of `SAMPLE` of the ratings.

    Each row's share of them, which its own ratings have explained away, is put back. One residual of the kernel's unit,
    or a sixth of its scale, is counted with them: nobody is certain who has seen a rating or two, and predicts those.
    """
    known = history.ratings.take(np.random.default_rng(0).permutation(np.flatnonzero(history.ratings.weight))[:SAMPLE])
    error = known.rating - predict(Layered.of(model), known.user, known.item)
    left = max(1 - float(np.mean(_leverage(model, history, known.user, known.item))), LEFT)
    kernel, weight = model.kernel, known.weight
    span = kernel.high - kernel.low
    one = max(float(kernel.unit), span / 6 if np.isfinite(span) else 0)
    return float((np.sum(weight * error**2) / left + weight.mean() * one**2) / (weight.sum() + weight.mean()))


def std(
    model: Model, history: Rated, noise: float, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Standard deviations of ratings under a point model: its noise, and what both rows leave open.

    The rows' is `jaxmf.online.laplace`'s; it costs the ratings of these users and items.
    """
    return np.sqrt(noise * (1 + _leverage(model, history, user, item))).astype(np.float32)


def best(layered: Layered, users: Int[np.ndarray, " b"], **settings: Any) -> TopN:  # noqa: ANN401 of `top_n`
    """Each user's best items."""
    return top_n(layered.model.with_users(_asked(layered, users)), np.arange(len(users)), **settings)


def _leverage(model: Model, history: Rated, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Variance from the users' rows and from the items', in units of the noise's."""
    n_users, n_items = len(model.params.user), len(model.params.item)
    theirs, of_items = history.of_users(user[user >= 0]), history.of_items(item[item >= 0])
    if (user < 0).any() or (item < 0).any():  # a stranger's row follows the last
        model = model.grown(n_users + 1, n_items + 1)
    user, item = np.where(user < 0, n_users, user), np.where(item < 0, n_items, item)
    sizes = {"n_users": len(model.params.user), "n_items": len(model.params.item)}
    from_items = leverage(model.transpose(), of_items.replace(**sizes).transpose(), item, user)
    return leverage(model, theirs.replace(**sizes), user, item) + from_items


def _in_parts(
    function: Callable[[AnyArray, AnyArray], Array], user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """`function` of many pairs, in parts whose sizes are few, so that few programs are compiled."""
    parts = [np.zeros(0, np.float32)]
    for at in range(0, len(user), PAIRS):
        pairs = [np.asarray(rows[at : at + PAIRS], np.int32) for rows in (user, item)]
        n = len(pairs[0])
        padded = [np.pad(rows, (0, (1 << (n - 1).bit_length()) - n)) for rows in pairs]
        parts.append(np.asarray(function(*padded))[:n])
    return np.concatenate(parts)


@jax.jit
def _asked(layered: Layered, users: Int[AnyArray, " b"]) -> Table:
    return layered.take(users, at_prior_mean(layered.model).user)


@jax.jit
def _predict(layered: Layered, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Array:
    pairs = jnp.arange(user.shape[0])
    return _of_pairs(layered, at_prior_mean(layered.model), user, item).predict(pairs, pairs)


@jax.jit
def _predictive(
    layered: Layered, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Predictive:
    pairs = jnp.arange(user.shape[0])
    return predictive(_of_pairs(layered, strangers, user, item), pairs, pairs)


def _of_pairs(
    layered: Layered, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Model | Posterior:
    """A model of the pairs' rows alone, row i of either side the i-th pair's."""
    items = rows_of(layered.model.params.item, item, strangers.item)
    of_items = layered.model.transpose().with_users(items).transpose()
    return of_items.with_users(layered.take(user, strangers.user))


@jax.jit
def _drawn_strangers(key: Key[Array, ""], model: Posterior) -> Params:
    """A stranger's row on either side under each draw, drawn from the prior."""

    def row(key: Key[Array, ""], side: Population) -> Table:
        keys = jax.tree.unflatten(jax.tree.structure(side.mean), jax.random.split(key))
        return jax.tree.map(
            lambda key, m, p: m + jax.random.normal(key, m.shape) * jax.lax.rsqrt(p), keys, side.mean, side.precision
        )

    key_user, key_item = jax.random.split(key)
    draws = model.draws
    return Params(row(key_user, draws.user), row(key_item, draws.item), draws.params.offset)
