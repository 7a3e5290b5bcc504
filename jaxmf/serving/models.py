"""What a recommender asks of a model, point or posterior, where some of those who are asked about are strangers.

Rows are table rows; a row below 0 is a stranger's, who stands at the prior mean.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Population, Posterior, Predictive, predictive
from jaxmf.model.tables import Table
from jaxmf.online import fold_in
from jaxmf.online.laplace import leverage
from jaxmf.serving.recommend import TopN, top_n

Fitted = TypeVar("Fitted", Model, Posterior)

PAIRS = 8192
"""Pairs a program: what bounds the memory of a prediction."""

SAMPLE = 2000
"""Training ratings that the noise of a point estimate is measured on."""

LEFT = 0.1
"""Least share of the ratings that is taken to be unexplained by rows: a bound for fits that repeat their data."""


def predict(
    model: Model | Posterior, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Predicted ratings, of a posterior their means."""
    strangers = at_prior_mean(model)
    return _in_parts(lambda u, i: _predict(model, strangers, u, i), user, item)


def std(
    model: Model | Posterior, ratings: Ratings, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Standard deviations of ratings, noise included.

    A posterior's are its own, a stranger's row drawn from its prior. A point model's are the noise's, and what the two
    rows leave open (`jaxmf.online.laplace`); the noise is estimated from the residuals of `SAMPLE` of the training
    ratings, each row's share of which its own ratings have explained away.
    """
    if isinstance(model, Posterior):
        drawn = _drawn_strangers(jax.random.key(0), model)
        return _in_parts(lambda u, i: _predictive(model, drawn, u, i).std, user, item)
    some = np.random.default_rng(0).permutation(np.flatnonzero(ratings.weight))[:SAMPLE]
    known = ratings.take(some)
    error = known.rating - predict(model, known.user, known.item)
    left = max(1 - float(np.mean(_leverage(model, ratings, known.user, known.item))), LEFT)
    noise = np.average(error**2, weights=known.weight) / left
    return np.sqrt(noise * (1 + _leverage(model, ratings, user, item))).astype(np.float32)


def solved(model: Fitted, ratings: Ratings, users: Int[np.ndarray, " b"], items: Int[np.ndarray, " c"]) -> Fitted:
    """The model with the rows of `users` and of `items` solved from their ratings; tables grow to the ratings'."""
    model = model.grown(ratings.n_users, ratings.n_items)
    if len(users) and len(items):
        return fold_in.fold_in(model, ratings, users=users, items=items)
    if len(items):
        return fold_in.fold_in_items(model, ratings.take(np.isin(ratings.item, items)), items=items)
    return fold_in.fold_in_users(model, ratings.take(np.isin(ratings.user, users)), users=users)


def best(model: Model | Posterior, users: Int[np.ndarray, " b"], **settings: Any) -> TopN:  # noqa: ANN401 of `top_n`
    """Each user's best items."""
    asked = rows_of(model.params.user, users, at_prior_mean(model).user)
    return top_n(model.with_users(asked), np.arange(len(users)), **settings)


def at_prior_mean(model: Model | Posterior) -> Params:
    """A stranger's row on either side: the prior mean, of a posterior under each draw."""
    if isinstance(model, Posterior):
        return Params(model.draws.user.mean, model.draws.item.mean, model.params.offset)
    zero = Table(jnp.zeros(()), jnp.zeros(model.params.item.rank))
    return Params(zero, zero, model.params.offset)


def _leverage(model: Model, ratings: Ratings, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Variance from the users' rows and from the items', in units of the noise's."""
    n_users, n_items = len(model.params.user), len(model.params.item)
    if (user < 0).any() or (item < 0).any():  # a stranger's row follows the last
        model = model.grown(n_users + 1, n_items + 1)
    ratings = ratings.replace(n_users=len(model.params.user), n_items=len(model.params.item))
    user, item = np.where(user < 0, n_users, user), np.where(item < 0, n_items, item)
    of_items = leverage(model.transpose(), ratings.transpose(), item, user)
    return leverage(model, ratings, user, item) + of_items


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


def rows_of(table: Table, rows: Int[AnyArray, " n"], stranger: Table) -> Table:
    """The rows of a table, of every draw, and a stranger's where the number is below 0."""
    own = Table(stranger.bias[..., None], stranger.factors[..., None, :])
    if not len(table):
        return own.take(np.zeros(len(rows), np.int32))
    known, found = rows >= 0, table.take(jnp.maximum(rows, 0))
    return Table(jnp.where(known, found.bias, own.bias), jnp.where(known[:, None], found.factors, own.factors))


def _of_pairs(model: Fitted, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Fitted:
    """A model of the pairs' rows alone, row i of either side the i-th pair's."""
    model = model.with_users(rows_of(model.params.user, user, strangers.user)).transpose()
    return model.with_users(rows_of(model.params.user, item, strangers.item)).transpose()


@jax.jit
def _predict(
    model: Model | Posterior, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Array:
    pairs = jnp.arange(user.shape[0])
    return _of_pairs(model, strangers, user, item).predict(pairs, pairs)


@jax.jit
def _predictive(
    model: Posterior, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Predictive:
    pairs = jnp.arange(user.shape[0])
    return predictive(_of_pairs(model, strangers, user, item), pairs, pairs)


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
