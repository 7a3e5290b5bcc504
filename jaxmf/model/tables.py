"""A table of rows: what users and items are alike."""

from collections.abc import Callable
from functools import partial
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxmf.data.ratings import AnyArray


@no_type_check
class Gram(struct.PyTreeNode):
    """What all rows of a table come to: Σ yyᵀ and Σ y of their factors, and how many of them are not 0.

    A write changes it by what it changes, O(rows written · k²), whatever the size of the table.
    """

    matrix: Float[Array, "k k"]
    total: Float[Array, " k"]
    rows: Float[Array, ""]

    @classmethod
    def of(cls, factors: Float[AnyArray, "rows k"]) -> "Gram":
        """That of all these rows."""
        with jax.default_matmul_precision("highest"):
            matrix = factors.T @ factors
        return cls(matrix, factors.sum(0), (factors != 0).any(-1).sum(dtype=factors.dtype))

    def mean(self) -> Float[Array, " k"]:
        """The average row."""
        return self.total / jnp.maximum(self.rows, 1)

    def changed(self, before: Float[Array, "b k"], after: Float[Array, "b k"]) -> "Gram":
        """With rows `after` in place of those `before`."""
        return jax.tree.map(lambda x, less, more: x + (more - less), self, Gram.of(before), Gram.of(after))


@no_type_check
class Table(struct.PyTreeNode):
    """One side of the model, users or items: a bias and `k` factors a row. A posterior's has an axis more in front.

    Attributes:
        bias: The biases.
        factors: The factors.
        gram: What the rows come to, where the other side's clicks need it: `put` keeps it.
    """

    bias: Float[Array, " rows"]
    factors: Float[Array, "rows k"]
    gram: Gram | None = None

    def __len__(self) -> int:
        return self.bias.shape[-1]

    def __getitem__(self, rows: Int[AnyArray, "..."]) -> "Table":
        return Table(self.bias[rows], self.factors[rows])

    def __add__(self, other: "Table") -> "Table":
        return Table(self.bias + other.bias, self.factors + other.factors)

    def __sub__(self, other: "Table") -> "Table":
        return Table(self.bias - other.bias, self.factors - other.factors)

    def __mul__(self, other: "Table") -> "Table":
        return Table(self.bias * other.bias, self.factors * other.factors)

    def __truediv__(self, other: "Table") -> "Table":
        return Table(self.bias / other.bias, self.factors / other.factors)

    def where(self, chosen: Bool[AnyArray, " rows"], other: "Table") -> "Table":
        """Each row where it is `chosen`, else the other table's; of every draw."""
        return Table(jnp.where(chosen, self.bias, other.bias), jnp.where(chosen[:, None], self.factors, other.factors))

    def scale(self, by: Float[AnyArray, " rows"]) -> "Table":
        """Each row times a number of its own."""
        return Table(by * self.bias, by[:, None] * self.factors)

    def dot(self, other: "Table") -> Float[Array, " rows"]:
        """Inner product of each row with the other table's."""
        return self.bias * other.bias + jnp.sum(self.factors * other.factors, -1)

    def matrix(self) -> Float[Array, "rows c"]:
        """Bias and factors as one array, the bias first."""
        return jnp.concatenate([self.bias[:, None], self.factors], 1)

    @classmethod
    def of_matrix(cls, rows: Float[AnyArray, "rows c"]) -> "Table":
        """The table whose `matrix` it is."""
        return cls(rows[:, 0], rows[:, 1:])

    def take(self, rows: Int[AnyArray, " b"]) -> "Table":
        """The `rows`, of every draw."""
        return Table(self.bias[..., rows], self.factors[..., rows, :])

    def put(self, rows: Int[AnyArray, " b"], values: "Table") -> "Table":
        """The table with `values` in `rows`, of every draw; rows past its end are padding and dropped."""
        gram = self.gram
        if gram is not None:
            real = (rows < len(self))[:, None]
            before, values = self._read(rows, values)
            gram = gram.changed(*(jnp.where(real, x, 0.0) for x in (before, values.factors)))
        return Table(
            self.bias.at[..., rows].set(values.bias, mode="drop"),
            self.factors.at[..., rows, :].set(values.factors, mode="drop"),
            gram,
        )

    def _read(self, rows: Int[AnyArray, " b"], values: "Table") -> tuple[Float[Array, "b k"], "Table"]:
        """The factors that `values` take the place of, 0 where nobody has written, and `values` themselves.

        They come out of one branch, so that all is read before anything is written: else XLA would copy the table.
        """

        def both() -> tuple[Array, Table]:
            return jnp.nan_to_num(self.factors[rows]), values

        nothing = jax.tree.map(jnp.zeros_like, values)
        return lax.cond(jnp.any(rows < len(self)), both, lambda: (nothing.factors, nothing))

    def counted(self) -> "Table":
        """The table with its `gram`."""
        numbers = jnp if isinstance(self.factors, jax.Array) else np
        return self.replace(gram=Gram.of(numbers.nan_to_num(self.factors)))

    def join(self, other: "Table") -> "Table":
        """The table with the rows of `other` after its own."""
        return Table(jnp.concatenate([self.bias, other.bias]), jnp.concatenate([self.factors, other.factors]))

    def cut(self, n: int) -> tuple["Table", "Table"]:
        """The first `n` rows, and the rest."""
        return Table(self.bias[:n], self.factors[:n]), Table(self.bias[n:], self.factors[n:])

    @property
    def rank(self) -> int:
        """Number of factors, `k`."""
        return self.factors.shape[-1]


def unwritten(table: Table) -> Bool[np.ndarray, " rows"]:
    """Which rows are reserved (`jaxmf.update.reserve`) and nobody has written: NaN, in any draw."""
    nan = np.isnan(np.asarray(table.bias))
    return np.any(nan.reshape(-1, nan.shape[-1] or 1), 0)[: nan.shape[-1]]


def resized(table: Table, rows: int, *, value: float = 0.0) -> Table:
    """The table with rows of `value` appended up to `rows` rows, or as it is where it has them; 0 is the prior mean."""
    if rows <= len(table):
        return table
    return _padded(table, rows, value) if isinstance(table.bias, jax.Array) else _with_rows(np.pad, table, rows, value)


@partial(jax.jit, static_argnames=("rows", "value"))
def _padded(table: Table, rows: int, value: float) -> Table:
    return _with_rows(jnp.pad, table, rows, value)


def _with_rows(pad: Callable, table: Table, rows: int, value: float) -> Table:
    def grown(x: AnyArray, axis: int) -> AnyArray:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, rows - x.shape[axis])
        return pad(x, widths, constant_values=value)

    return Table(grown(table.bias, -1), grown(table.factors, -2), table.gram)
