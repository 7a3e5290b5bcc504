"""The parameters of the model: two tables of one kind, and an offset."""

from functools import partial
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf.data.arrays import Column, to_rows
from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Kernel
from jaxmf.model.tables import Table

PART = 1 << 16
"""Pairs that are predicted at a time: the rows of these are what it takes, however many pairs there are."""


@no_type_check
class Params(struct.PyTreeNode):
    """A model: the users' table, the items' table, and the kernel's offset μ."""

    user: Table
    item: Table
    offset: Float[AnyArray, ""]

    def transpose(self) -> "Params":
        """The same model seen from the other side: items as users, users as items."""
        return Params(self.item, self.user, self.offset)

    def counted(self) -> "Params":
        """The same with each table's `gram`, which fold-ins of clicks need."""
        return _counted(self)

    def uncounted(self) -> "Params":
        """The same without."""
        return self.replace(user=self.user.replace(gram=None), item=self.item.replace(gram=None))


def init(
    key: Key[Array, ""], n_users: int, n_items: int, rank: int, *, offset: ScalarLike = 0.0, scale: float = 0.1
) -> Params:
    """Biases 0, factors N(0, `scale`²).

    Raises:
        ValueError: If `rank` is not positive.

    Example:
        >>> params = init(jax.random.key(0), n_users=3, n_items=5, rank=2)
        >>> params.item.factors.shape
        (5, 2)
    """
    if not rank >= 1:
        raise ValueError(f"rank must be 1 or more, got {rank}: it is the number of factors a row")
    user, item = _start(key, n_users, n_items, rank, scale)
    return Params(user, item, jnp.asarray(offset, jnp.float32))


@jax.jit
def _counted(params: Params) -> Params:
    return params.replace(user=params.user.counted(), item=params.item.counted())


@partial(jax.jit, static_argnames=("n_users", "n_items", "rank"))
def _start(key: Key[Array, ""], n_users: int, n_items: int, rank: int, scale: ScalarLike) -> tuple[Table, Table]:
    """Both tables, by one program and one call for noise: what that costs to compile is most of a short fit's start."""
    n = n_users + n_items
    return Table(jnp.zeros(n), scale * jax.random.normal(key, (n, rank))).cut(n_users)


def predict(params: Params, kernel: Kernel, user: Column, item: Column) -> Float[Array, " n"]:
    """Predicted ratings r̂ of the pairs (user, item), in the unit of the ratings; not clipped.

    Raises:
        ValueError: If a row on the host is not in its table. (On a device nothing raises: JAX takes the last row.)

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> params = init(jax.random.key(0), 3, 5, 2, offset=3.5, scale=0.0)
        >>> predict(params, Linear(), jnp.array([0, 2]), jnp.array([4, 1]))
        Array([3.5, 3.5], dtype=float32)
    """
    user, item = given_rows(user, params.user, "user"), given_rows(item, params.item, "item")
    if len(user) > PART:
        return _predict_parts(params, kernel, user, item)
    return jax.vmap(kernel, (0, 0, None))(params.user[user], params.item[item], params.offset)


@jax.jit
def _predict_parts(
    params: Params, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, " n"]:
    def of_pair(pair: tuple[Int[Array, ""], Int[Array, ""]]) -> Float[Array, ""]:
        return kernel(params.user[pair[0]], params.item[pair[1]], params.offset)

    return lax.map(of_pair, (user, item), batch_size=PART)


def given_rows(rows: Column, table: Table, side: str) -> Int[AnyArray, " n"]:
    """Rows of any kind on the host, checked, and those on a device as they are.

    Raises:
        ValueError: If one is no whole number, or not in the table.
    """
    if isinstance(rows, jax.Array):
        return rows
    rows = to_rows(rows, side)
    check_rows(rows, table, side)
    return rows.astype(np.int32)


def check_rows(rows: Int[AnyArray, " n"], table: Table, side: str) -> None:
    """Refuse rows on the host that are not in the table.

    Raises:
        ValueError: With the first such row.
    """
    if isinstance(rows, np.ndarray) and rows.size and not (rows.min() >= 0 and rows.max() < len(table)):
        bad = rows[(rows < 0) | (rows >= len(table))][0]
        raise ValueError(f"{side} row {bad} is not among the table's {len(table)} rows: fold the {side} in first")
