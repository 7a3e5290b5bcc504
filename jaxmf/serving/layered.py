"""A model whose users' rows change a few at a time: a fold-in costs the rows that it solves, and no copy of a table.

What was solved lies beside the large table, which all that grow from one model share; once there are √n such rows they
are written into a copy of it. A row below 0 is a stranger's, who stands at the prior mean.
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Int

from jaxmf.data.histories import PADDING, rung
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.online import fold_in

ROOM = 256
"""Least rows beside a table."""


@no_type_check
class Layered(struct.PyTreeNode):
    """A model, and users' rows that count before its own.

    Attributes:
        model: The model; its table of users may have room for more of them, rows of 0.
        rows: Which users' rows lie beside it, ascending; padding has a number past any table's end.
        beside: These rows, of a posterior under each draw.
    """

    model: Model | Posterior
    rows: Int[AnyArray, " m"]
    beside: Table

    @classmethod
    def of(cls, model: Model | Posterior) -> "Layered":
        """The model with nothing beside it."""
        m = room(int(np.sqrt(model.params.user.bias.shape[-1])))
        return cls(model, np.full(m, PADDING, np.int32), jax.tree.map(jnp.asarray, zeros(model, m)))

    def take(self, rows: Int[AnyArray, " b"], stranger: Table) -> Table:
        """The users' `rows`, and a `stranger`'s where the number is below 0."""
        at = jnp.minimum(jnp.searchsorted(self.rows, rows), len(self.beside) - 1)
        return self.beside.take(at).where(self.rows[at] == rows, rows_of(self.model.params.user, rows, stranger))

    def whole(self, n_users: int) -> Model | Posterior:
        """The model with a row for each of so many users: a copy, but where it is that already."""
        changed = self.rows[0] != PADDING
        if not changed and self.model.params.user.bias.shape[-1] == n_users:
            return self.model
        model = self.model.grown(n_users, 0)
        model = model.with_users(_put(model.params.user, self.rows, self.beside)) if changed else model
        return model if model.params.user.bias.shape[-1] == n_users else model.take_users(np.arange(n_users))

    def solved(self, ratings: Ratings, users: Int[np.ndarray, " b"], items: Int[np.ndarray, " c"]) -> "Layered":
        """With the rows of `users` and of `items`, both ascending, solved from all their ratings.

        Where no item is solved it costs these users' ratings; else the tables are copied.
        """
        if len(items):
            model = self.whole(ratings.n_users).grown(0, ratings.n_items)
            if len(users):
                return Layered.of(fold_in.fold_in(model, ratings, users=users, items=items))
            return Layered.of(fold_in.fold_in_items(model, ratings.take(np.isin(ratings.item, items)), items=items))
        size = rung(len(users))
        place = np.searchsorted(users, ratings.user).astype(np.int32)
        theirs = ratings.replace(user=place, n_users=size)
        alone = self.model.with_users(zeros(self.model, size))
        found = fold_in.fold_in_users(alone, theirs, users=np.arange(len(users)))
        return self.replace(model=self.model.advanced())._with(users, found.params.user)

    def filled(self, n_users: int) -> "Layered":
        """What it grows to once rows beside it are written into the table, and there are so many users."""
        grown = self.model.grown(room(n_users), 0)
        return Layered.of(grown.with_users(_put(grown.params.user, self.rows, self.beside)))

    def _with(self, users: Int[np.ndarray, " b"], values: Table) -> "Layered":
        """With the first `values` in the rows of `users`."""
        rows = np.union1d(self.rows[self.rows != PADDING], users)
        m = len(self.rows)
        if len(rows) <= m:
            new = np.isin(rows, users)
            at = np.where(new, m + np.searchsorted(users, rows), np.searchsorted(self.rows, rows))
            rows, at = (np.pad(x, (0, m - len(x)), constant_values=c) for x, c in ((rows, PADDING), (at, 0)))
            return self.replace(rows=rows.astype(np.int32), beside=_picked(self.beside, values, at))
        full = self.filled(int(rows[-1]) + 1).model
        padded = np.pad(users, (0, values.bias.shape[-1] - len(users)), constant_values=PADDING).astype(np.int32)
        return Layered.of(full.with_users(_put(full.params.user, padded, values)))


def room(n: int) -> int:
    """A power of two from `n` on, `ROOM` at least.

    Example:
        >>> room(3), room(257)
        (256, 512)
    """
    return max(ROOM, 1 << max(0, n - 1).bit_length())


def zeros(model: Model | Posterior, rows: int) -> Table:
    """So many rows of 0 as those of a model's users."""
    draws, rank = model.params.user.bias.shape[:-1], model.params.item.rank
    return Table(np.zeros((*draws, rows), np.float32), np.zeros((*draws, rows, rank), np.float32))


def at_prior_mean(model: Model | Posterior) -> Params:
    """A stranger's row on either side: the prior mean, of a posterior under each draw; of clicks the average row.

    The prior mean of clicks is somebody who clicks nothing, to whom all items are alike; to the average user those are
    best that are popular.
    """
    if isinstance(model, Posterior):
        return Params(model.draws.user.mean, model.draws.item.mean, model.params.offset)
    zero = jnp.zeros(model.params.item.rank)
    means = (zero if table.gram is None else table.gram.mean() for table in (model.params.user, model.params.item))
    user, item = (Table(jnp.zeros(()), mean) for mean in means)
    return Params(user, item, model.params.offset)


def rows_of(table: Table, rows: Int[AnyArray, " n"], stranger: Table) -> Table:
    """The rows of a table, of every draw, and a stranger's where the number is below 0."""
    own = Table(stranger.bias[..., None], stranger.factors[..., None, :])
    if not len(table):
        return own.take(np.zeros(len(rows), np.int32))
    return table.take(jnp.maximum(rows, 0)).where(rows >= 0, own)


@jax.jit
def _put(table: Table, rows: Int[AnyArray, " b"], values: Table) -> Table:
    return table.put(rows, values)


@jax.jit
def _picked(table: Table, values: Table, at: Int[AnyArray, " m"]) -> Table:
    """Rows of the one table and then of the other."""
    bias = jnp.concatenate([table.bias, values.bias], -1)
    return Table(bias, jnp.concatenate([table.factors, values.factors], -2)).take(at)
