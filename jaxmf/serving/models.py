"""What a recommender answers from: one set of parameters, or draws of them. Both answer the same few questions.

Rows are table rows; a row below 0 is a stranger's, who stands at the prior mean.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.histories import blocks
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import links
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.links import Links
from jaxmf.model.params import Params, predict
from jaxmf.model.posterior import Draw, Predictive, Side, predictive
from jaxmf.model.priors import Priors
from jaxmf.model.tables import Table
from jaxmf.online import fold_in
from jaxmf.online.laplace import leverage
from jaxmf.online.posterior import draw_stacks
from jaxmf.online.update import resized
from jaxmf.serving.recommend import TopN, top_n, top_n_of_draws

PAIRS = 8192
"""Pairs a program: what bounds the memory of a prediction."""

SAMPLE = 2000
"""Training ratings that the noise of a point estimate is measured on."""

LEFT = 0.1
"""Least share of the ratings that is taken to be unexplained by rows: a bound for fits that repeat their data."""

ROUNDS = 4
"""Sweeps over touched rows where both sides are new to each other."""


@no_type_check
class Point(struct.PyTreeNode):
    """One set of parameters, from SGD or ALS.

    Attributes:
        params: The rows.
        kernel: The kernel.
        prior: The prior of both sides, which rows are solved under.
        links: What a side's implicit feedback says of its rows; without rows where it has no features.
    """

    params: Params
    kernel: Kernel
    prior: Priors
    links: Links

    def predict(self, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Predicted ratings."""
        return _in_parts(lambda u, i: _predict(self.params, self.kernel, u, i), user, item)

    def std(
        self, ratings: Ratings, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Standard deviations of ratings: the noise's, and what the two rows leave open (`jaxmf.online.laplace`).

        The noise is estimated from the residuals of `SAMPLE` of the training ratings, each row's share of which its own
        ratings have explained away.
        """
        some = np.random.default_rng(0).permutation(np.flatnonzero(ratings.weight))[:SAMPLE]
        known = ratings.take(some)
        error = known.rating - self.predict(known.user, known.item)
        left = max(1 - float(np.mean(self._leverage(ratings, known.user, known.item))), LEFT)
        noise = np.average(error**2, weights=known.weight) / left
        return np.sqrt(noise * (1 + self._leverage(ratings, user, item))).astype(np.float32)

    def _leverage(self, ratings: Ratings, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Variance from the users' rows and from the items', in units of the noise's."""
        n_users, n_items = len(self.params.user), len(self.params.item)
        params = self.params
        if (user < 0).any() or (item < 0).any():  # a stranger's row follows the last
            params = Params(resized(params.user, n_users + 1), resized(params.item, n_items + 1), params.offset)
        ratings = ratings.replace(n_users=len(params.user), n_items=len(params.item))
        user, item = np.where(user < 0, n_users, user), np.where(item < 0, n_items, item)
        of_users = leverage(params, self.kernel, ratings, user, item, prior=self.prior)
        flipped = (params.transpose(), self.kernel, ratings.transpose(), item, user)
        return of_users + leverage(*flipped, prior=self.prior.transpose())

    def fold_in(self, ratings: Ratings, users: Int[np.ndarray, " b"], items: Int[np.ndarray, " c"]) -> "Point":
        """The model with the rows of `users` and of `items` solved from their ratings; tables grow to the ratings'."""
        grown = _grown_links(self.links, ratings.n_users, ratings.n_items)
        of_users, of_items = (ratings.take(np.isin(*pair)) for pair in ((ratings.user, users), (ratings.item, items)))
        mean_user = _means_of_feedback(grown.user, of_users, users)
        mean_item = _means_of_feedback(grown.item, of_items.transpose(), items)
        if len(users) and len(items):
            settings = {"users": users, "items": items, "prior": self.prior, "means": (mean_user, mean_item)}
            params = fold_in.fold_in(self.params, self.kernel, ratings, **settings)
        elif len(users):
            settings = {"users": users, "prior": self.prior, "means": mean_user}
            params = fold_in.fold_in_users(self.params, self.kernel, of_users, **settings)
        else:
            settings = {"items": items, "prior": self.prior, "means": mean_item}
            params = fold_in.fold_in_items(self.params, self.kernel, of_items, **settings)
        return self.replace(params=params, links=grown)

    def take_users(self, kept: Int[np.ndarray, " b"]) -> "Point":
        """The model with only the users `kept`, in this order."""
        item = self.links.item[kept] if len(self.links.item) else self.links.item
        return self.replace(
            params=self.params.replace(user=self.params.user[kept]), links=self.links._replace(item=item)
        )

    def best(self, users: Int[np.ndarray, " b"], **settings: Any) -> TopN:  # noqa: ANN401 those of `top_n`
        """Each user's best items."""
        zero = Table(jnp.zeros(()), jnp.zeros(self.params.item.rank))
        asked = self.replace(params=self.params.replace(user=rows_of(self.params.user, users, zero)))
        return top_n(asked.params, self.kernel, np.arange(len(users)), **settings)


@no_type_check
class Posterior(struct.PyTreeNode):
    """Draws of everything, from Gibbs sampling.

    Attributes:
        draws: The kept draws. Where a side has features, they are its implicit feedback.
        kernel: The kernel.
        key: Random key of the next fold-in's draws.
    """

    draws: Draw
    kernel: Kernel
    key: Key[Array, ""]

    @property
    def params(self) -> Params:
        """The rows of every draw."""
        return self.draws.params

    def predict(self, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Posterior means of the ratings."""
        return _in_parts(lambda u, i: _predictive(self.draws, self.kernel, _means(self.draws), u, i).mean, user, item)

    def std(
        self,
        _: Ratings,
        user: Int[np.ndarray, " n"],
        item: Int[np.ndarray, " n"],
    ) -> Float[np.ndarray, " n"]:
        """Predictive standard deviations, noise included; a stranger's row is drawn from its prior."""
        drawn = _strangers(jax.random.key(0), self.draws)
        return _in_parts(lambda u, i: _predictive(self.draws, self.kernel, drawn, u, i).std, user, item)

    def fold_in(self, ratings: Ratings, users: Int[np.ndarray, " b"], items: Int[np.ndarray, " c"]) -> "Posterior":
        """The posterior with the rows of `users` and of `items` drawn from their ratings; tables grow to the ratings'.

        Where both are new to each other the two sides are drawn in turn, as in training.
        """
        check_ratings(self.kernel, np.asarray(ratings.rating))
        key, *keys = jax.random.split(self.key, 1 + 2 * ROUNDS)
        draws = _grown(self.draws, ratings.n_users, ratings.n_items)
        for at in range(ROUNDS if len(users) and len(items) else 1):
            if len(items):
                flipped = (draws.transpose(), self.kernel, ratings.transpose(), items)
                draws = _drawn(keys[2 * at], *flipped).transpose()
            if len(users):
                draws = _drawn(keys[2 * at + 1], draws, self.kernel, ratings, users)
        return self.replace(draws=draws, key=key)

    def take_users(self, kept: Int[np.ndarray, " b"]) -> "Posterior":
        """The posterior with only the users `kept`, in this order."""
        take = lambda tables: jax.tree.map(lambda x: x[:, kept], tables)  # noqa: E731
        params, item = self.params, self.draws.item
        link = take(item.link) if item.link.bias.shape[1] else item.link
        return self.replace(
            draws=self.draws.replace(params=params.replace(user=take(params.user)), item=item.replace(link=link))
        )

    def best(self, users: Int[np.ndarray, " b"], **settings: Any) -> TopN:  # noqa: ANN401 those of `top_n`
        """Each user's best items."""
        user = jax.vmap(rows_of, (0, None, 0))(self.params.user, users, self.draws.user.mean)
        asked = self.replace(draws=self.draws.replace(params=self.params.replace(user=user)))
        return top_n_of_draws(asked.draws, self.kernel, np.arange(len(users)), **settings)


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
    """The rows of a table, and a stranger's where the number is below 0."""

    def pick(column: Float[AnyArray, "..."], own: Float[AnyArray, "..."]) -> Float[Array, "..."]:
        if not len(column):
            return jnp.broadcast_to(own[None], (len(rows), *own.shape))
        known = (rows >= 0).reshape(-1, *[1] * (column.ndim - 1))
        return jnp.where(known, column[jnp.maximum(rows, 0)], own[None])

    return jax.tree.map(pick, table, stranger)


def _pairs_of(params: Params, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Params:
    """A model of the pairs' rows alone, row i of either side the i-th pair's."""
    return params.replace(
        user=rows_of(params.user, user, strangers.user), item=rows_of(params.item, item, strangers.item)
    )


@jax.jit
def _predict(params: Params, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Array:
    zero = Table(jnp.zeros(()), jnp.zeros(params.user.rank))
    pairs = jnp.arange(user.shape[0])
    return predict(_pairs_of(params, Params(zero, zero, params.offset), user, item), kernel, pairs, pairs)


@jax.jit
def _predictive(
    draws: Draw, kernel: Kernel, strangers: Params, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Predictive:
    local = jax.vmap(_pairs_of, (0, 0, None, None))(draws.params, strangers, user, item)
    pairs = jnp.arange(user.shape[0])
    return predictive(draws.replace(params=local), kernel, pairs, pairs)


def _means(draws: Draw) -> Params:
    """A stranger's row on either side under each draw: the prior mean."""
    return Params(draws.user.mean, draws.item.mean, draws.params.offset)


@jax.jit
def _strangers(key: Key[Array, ""], draws: Draw) -> Params:
    """A stranger's row on either side under each draw, drawn from the prior."""

    def row(key: Key[Array, ""], side: Side) -> Table:
        keys = jax.tree.unflatten(jax.tree.structure(side.mean), jax.random.split(key))
        return jax.tree.map(
            lambda key, m, p: m + jax.random.normal(key, m.shape) * jax.lax.rsqrt(p), keys, side.mean, side.precision
        )

    key_user, key_item = jax.random.split(key)
    return Params(row(key_user, draws.user), row(key_item, draws.item), draws.params.offset)


def _drawn(key: Key[Array, ""], draws: Draw, kernel: Kernel, ratings: Ratings, users: Int[np.ndarray, " b"]) -> Draw:
    """The draws with the rows of `users` drawn from their ratings, whatever the size of the tables."""
    stacks = jax.tree.map(jnp.asarray, blocks(ratings.take(np.isin(ratings.user, users)), users, ladder=True))
    table = draws.params.user
    drawn = draw_stacks(key, draws, kernel, stacks, implicit=draws.user.link.bias.shape[1] > 0)
    for stack, rows in zip(stacks, drawn, strict=True):
        values = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1, *x.shape[3:]), rows)
        table = jax.vmap(Table.put, (0, None, 0))(table, stack.rows.ravel(), values)
    return draws.replace(params=draws.params.replace(user=table))


def _means_of_feedback(link: Table, ratings: Ratings, rows: Int[np.ndarray, " b"]) -> Table | None:
    """Prior means of all users, for the `rows` what their implicit feedback says; none where there is no link to it."""
    if not (len(link) and len(rows)):
        return None
    stacks = jax.tree.map(jnp.asarray, blocks(ratings, rows, ladder=True))
    return links.feedback_means(stacks, link, ratings.n_users)


def _grown_links(grown: Links, n_users: int, n_items: int) -> Links:
    """The links of implicit feedback with a row for each row of the other side; as they are without features."""
    return Links(
        *(resized(link, size) if len(link) else link for link, size in zip(grown, (n_items, n_users), strict=True))
    )


def _grown(draws: Draw, n_users: int, n_items: int) -> Draw:
    """The draws with tables of so many rows; implicit feedback has a column for each row of the other side."""
    users, items = (jax.vmap(lambda table, size=size: resized(table, size)) for size in (n_users, n_items))
    params = draws.params.replace(user=users(draws.params.user), item=items(draws.params.item))
    user, item = draws.user, draws.item
    if user.link.bias.shape[1]:
        user = user.replace(link=items(user.link))
    if item.link.bias.shape[1]:
        item = item.replace(link=users(item.link))
    return draws.replace(params=params, user=user, item=item)
