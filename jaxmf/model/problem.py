"""The row problem: what a row of one side is to explain, and where it stands before that."""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.histories import Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Clicks, Kernel
from jaxmf.model.tables import Gram, Table

SLIM = 32
"""Rank below which the factors of a page's slots stand with the slots side by side in memory: what a processor takes at
once is then whole, and a solve at rank 10 half as long. Above it turning them would cost more than it saves."""


def layout(rank: int) -> str:
    """The order of axes of pages `p`, slots `w` and factors `k`."""
    return "pkw" if rank < SLIM else "pwk"


@no_type_check
class Background(struct.PyTreeNode):
    """What the pairs of a row that nobody observed come to, xᵀGx: see `jaxmf.kernels.Clicks`.

    Attributes:
        matrix: G, the same for all rows, or its diagonal where the factors' axes are its own.
        weight: What these pairs weigh together.
        counts: Whether that counts in the n of a row's prior.
    """

    matrix: Float[Array, "k k"] | Float[Array, " k"]
    weight: Float[Array, ""]
    counts: bool = struct.field(pytree_node=False, default=False)

    def counted(self, weight: Float[Array, " b"]) -> Float[Array, " b"]:
        """The n of the prior of rows whose observed pairs weigh so much."""
        return weight + self.weight if self.counts else weight

    def times(self, factors: Float[Array, "b k"]) -> Float[Array, "b k"]:
        """G times rows."""
        return factors * self.matrix[None] if self.matrix.ndim == 1 else factors @ self.matrix

    def diagonal(self) -> Float[Array, " k"]:
        """G's diagonal."""
        return self.matrix if self.matrix.ndim == 1 else jnp.diagonal(self.matrix)


@no_type_check
class Problem(struct.PyTreeNode):
    """`b` small regression problems, a row each: the x that minimises Σ w (r − r̂)² + Σ Λ (x − m)² + xᵀGx.

    Attributes:
        kernel: What makes r̂ of a row and one of the other side.
        offset: Its offset μ.
        others: The other side's table, which is frozen.
        block: The rows' ratings r and weights w.
        mean: Prior means m: (`b`,) and (`b`, `k`).
        precision: Prior precisions Λ in units of a rating's: (`b`,), and (`b`, `k`) or (`b`, 1).
        background: What the pairs that nobody observed come to; `None` for ratings.
    """

    kernel: Kernel
    offset: Float[AnyArray, ""]
    others: Table
    block: Block
    mean: Table
    precision: Table
    background: Background | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def plain(self) -> "Problem":
        """The same problem of a linear kernel in units of 1, by which nothing has to be multiplied slot by slot."""
        unit, block = self.kernel.unit, self.block
        if isinstance(self.kernel, Clicks):  # in units of 1 as it is
            return self
        block = block.replace(rating=(block.rating - self.offset) / unit, weight=block.weight * unit**2)
        return self.replace(kernel=self.kernel.replace(unit=1.0), offset=0.0, block=block)

    def unseen(self, d: Table) -> Table:
        """G times a table."""
        if self.background is None:
            return jax.tree.map(jnp.zeros_like, d)
        return Table(jnp.zeros_like(d.bias), self.background.times(d.factors))

    def held(self, d: Table) -> Table:
        """What holds rows back, (Λ + G) times a table."""
        return d * self.precision + self.unseen(d)

    def predicted(self, x: Table, block: Block) -> Float[Array, "p w"]:
        """r̂ of each slot of `block`, the problem's own or a part of it, for the rows `x`."""
        return self.over_pages(self.kernel, block.of_pages(x), block)

    def losses(self, pages: Table, block: Block) -> Float[Array, " p"]:
        """Σ w (r − r̂)² of each page of `block`, for a row each."""
        return jnp.sum(block.weight * (block.rating - self.over_pages(self.kernel, pages, block)) ** 2, -1)

    def gradients(self, pages: Table, block: Block) -> tuple[Float[Array, "p w"], Table]:
        """r̂ of each slot of `block`, for a row a page, and its gradient by the row, factors in `layout`."""
        slot = Table(0, layout(self.others.rank).index("w") - 1)
        return self.over_pages(jax.value_and_grad(self.kernel), pages, block, (0, slot))

    def design(self, block: Block) -> tuple[Float[Array, "p w"], Table]:
        """r̂ of a row of zeros in each slot of `block`, and J, for a kernel that is linear in the row."""
        b, rank = block.weight.shape[0], self.others.rank
        zero = Table(jnp.zeros(b), jnp.zeros((b, rank)))
        slot = Table(0, layout(rank).index("w") - 1)
        j = self.over_pages(jax.grad(self.kernel), zero, block, slot)
        bare = self.replace(others=Table(self.others.bias, self.others.factors[:, :0]))
        return bare.over_pages(self.kernel, Table(zero.bias, zero.factors[:, :0]), block), j

    def over_pages(self, function, pages: Table, block: Block, out_axes=0):  # noqa: ANN001, ANN201 any function of a kernel's arguments
        """`function(row, other, offset)` of each slot of `block`, for a row a page."""
        others, axes = self.others[block.other], layout(self.others.rank)
        others = Table(others.bias, jnp.einsum(f"pwk->{axes}", others.factors))
        slot = Table(0, axes.index("w") - 1)
        pairs = jax.vmap(jax.vmap(function, (None, slot, None), out_axes), (0, 0, None))
        return pairs(pages, others, self.offset)


def background_of(kernel: Clicks, gram: Gram) -> Background:
    """What the pairs with all rows of the other side come to, of which these are the sums."""
    return Background(kernel.share * gram.matrix, kernel.share * gram.rows, kernel.counts)


def in_unit(block: Block, kernel: Kernel) -> Block:
    """The block with weights that count errors in the kernel's unit, of clicks with those that they count as."""
    if isinstance(kernel, Clicks):
        rating, weight = kernel.weighed(block.rating, block.weight)
        return block.replace(rating=rating, weight=weight)
    return block.replace(weight=block.weight / kernel.unit**2)


def of_row(
    kernel: Kernel,
    offset: ScalarLike,
    others: Table,
    rating: Float[AnyArray, " n"],
    weight: Float[AnyArray, " n"],
    mean: Table,
    precision: Table,
) -> Problem:
    """The problem of one row that rated all `n` rows of `others`; `mean` and `precision` are a scalar and (`k`,)."""
    n = rating.shape[0]
    block = Block(jnp.zeros(1, int), jnp.zeros(1, int), jnp.arange(n)[None], rating[None], weight[None])
    return Problem(kernel, offset, others, block, *jax.tree.map(lambda x: x[None], (mean, precision)))
