"""Histories of very different lengths as arrays of one shape: a row's ratings cut into pages.

A page holds `w` ratings of one row, the last one filled up with weight 0. A row's equations are the sum of its
pages' equations, so a page is all that the solver batches over: one shape serves a user with one rating and a film
with a million, and one compiled program a whole side.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.arrays import to_numbers, to_rows
from jaxmf.data.layout import Places, Sorted, places
from jaxmf.data.packing import even, page_width, pages_needed, ranges
from jaxmf.data.ratings import AnyArray, Ratings

Rows = TypeVar("Rows")

WIDTHS = (32, 8)
"""Page widths, widest first: wide pages are faster, narrow ones waste less where most rows are short."""

WASTE = 0.25
"""Share of padding that a wider page may cost."""

PAGES = 1024
"""Pages a block, and the most of a row that shares one."""

CACHED_PAGES = 128
"""Pages a block for many CG steps, as a fold-in takes: at rank 64 and 32 ratings a page 1 MiB of factors, which stay in
the cache of one CPU core."""

PADDING = np.iinfo(np.int32).max
"""The number of a row that is none."""


@no_type_check
class Block(struct.PyTreeNode):
    """`b` rows of one side and their ratings, in `p` pages of `w`.

    Where a field has one axis more in front (`g`), it is a stack of blocks of one shape.

    Attributes:
        rows: Table rows of the histories; padding has a number past any table's end, which a write drops.
        owner: Which of the `b` rows each page belongs to, ascending.
        other: Rows of the other side that were rated.
        rating: The ratings.
        weight: Their weights; 0 where there is no rating.
        alone: Whether each row has one page, of its own number: nothing is then spread over pages or summed.
        axis: The mesh axis over which each row's ratings are spread, some on every device: sums go over it too.
    """

    rows: Int[AnyArray, " b"]
    owner: Int[AnyArray, " p"]
    other: Int[AnyArray, "p w"]
    rating: Float[AnyArray, "p w"]
    weight: Float[AnyArray, "p w"]
    alone: bool = struct.field(pytree_node=False, default=False)
    axis: str | None = struct.field(pytree_node=False, default=None)

    def of_pages(self, rows: Rows) -> Rows:
        """What arrays of `b` rows hold, a page each."""
        return rows if self.alone else jax.tree.map(lambda x: x[self.owner], rows)

    def parts(self, size: int) -> "Block":
        """The same pages, those of this device, as a stack of blocks of `size` pages, each with all of the rows."""
        cut = self.owner.shape[0] // size
        pages = [x.reshape(cut, size, *x.shape[1:]) for x in (self.owner, self.other, self.rating, self.weight)]
        return Block(jnp.broadcast_to(self.rows, (cut, *self.rows.shape)), *pages)


def blocks(
    ratings: Ratings,
    rows: Int[np.ndarray, " b"] | None = None,
    *,
    width: int | None = None,
    pages: int = PAGES,
    ladder: bool = False,
) -> tuple[Block, ...]:
    """User histories as stacks of blocks; for item histories pass `ratings.transpose()`.

    The ordinary rows share one stack, whose blocks hold about the same number of pages each. Rows of more than
    `PAGES` pages come one to a block, in stacks of their own.

    Args:
        ratings: Ratings of the rows, in any order.
        rows: The users wanted, ascending; else every user. A user without ratings has one empty page.
        width: Ratings a page; else the widest of `WIDTHS` that wastes little.
        pages: Most pages that several rows are packed into, `PAGES` at most.
        ladder: Round the shapes up to powers of 4, or to `pages` where that is less, so that ever new sets of ratings
            meet few compiled shapes.
    """
    rows = np.arange(ratings.n_users) if rows is None else np.asarray(rows)
    side = Side(ratings, Sorted.by(np.asarray(ratings.user), ratings.n_users), rows)
    width = width or page_width(side.counts, WIDTHS, WASTE)
    stacks = []
    for one in side.places(width, pages):
        g, b, p = one.shape
        if ladder and p <= PAGES:
            b = p = pages if p <= pages < rung(p) else rung(p)
        stacks.append(stack_of([(side, one)], (g, b, p, width)))
    return tuple(stacks)


def joint_blocks(
    ratings: Ratings, *, pages: int = PAGES, positions: bool = False, even: bool = False
) -> tuple[Block, ...]:
    """Both sides' histories over one table that holds the users' rows and then the items'.

    Ordinary rows of both sides share one stack, so that one program of half the size serves both. The blocks are in the
    order of a sweep: all users, then all items, and none has rows of both.

    Args:
        ratings: The ratings.
        pages: As in `blocks`.
        positions: Have in `other` which rating it is instead of which row was rated.
        even: Make the shapes `even_shape`s, what is added being padding.

    Memory: 4 bytes a rating above the blocks, which take 12 a slot.
    """
    n_users = ratings.n_users
    sides = [
        Side(side, Sorted.by(np.asarray(side.user), side.n_users), np.arange(side.n_users), shift, beyond, positions)
        for side, shift, beyond in ((ratings, 0, n_users), (ratings.transpose(), n_users, 0))
    ]
    width = page_width(np.concatenate([side.counts for side in sides]), WIDTHS, WASTE)
    joint = [[(side, one) for one in side.places(width, pages)] for side in sides]
    ordinary = [part for side in joint for part in side if part[1].shape[2] <= PAGES]
    long_users, long_items = ([[part] for part in side if part[1].shape[2] > PAGES] for side in joint)
    stacks = []
    for parts in (*long_users, *([ordinary] if ordinary else []), *long_items):
        g, b, p = (np.array([one.shape for _, one in parts])).T
        shape = int(g.sum()), int(b.max()), int(p.max())
        stacks.append(stack_of(parts, (*(even_shape(*shape) if even else shape), width)))
    return tuple(stacks)


def packed_row(other: ArrayLike, rating: ArrayLike, weight: ArrayLike | float = 1.0) -> Int[np.ndarray, " packed"]:
    """One row's history as a single array, padded as `blocks` would: a request's cost is the arrays that it moves.

    The number of ratings, then the items, then the bits of the ratings and of their weights; `row_block` reads it.

    Raises:
        ValueError: If there are not as many ratings as items, or one of them, a weight or a row is no number.
    """
    other, rating, weight = to_rows(other, "item"), to_numbers(rating, "rating"), to_numbers(weight, "weight")
    n = len(other)
    if rating.shape != (n,) or weight.shape not in ((), (n,)):
        raise ValueError(
            f"{rating.size} ratings of {n} items, {weight.size} weights: give one rating an item, and a weight each or "
            "one for all"
        )
    if n and not -PADDING <= other.min() <= other.max() < PADDING:
        raise ValueError(f"item row {other[np.abs(other).argmax()]} is past the end of any table: rows count from 0")
    slots = WIDTHS[0] * rung(-(-n // WIDTHS[0]))
    packed = np.zeros(1 + 3 * slots, np.int32)
    packed[0] = n
    packed[1 : 1 + n] = other
    numbers = packed.view(np.float32)
    with np.errstate(over="ignore"):  # what float32 can't hold is infinite, and refused as such
        numbers[1 + slots : 1 + slots + n] = rating
        numbers[1 + 2 * slots : 1 + 2 * slots + n] = weight
    return packed


def unpacked(
    packed: Int[np.ndarray, " packed"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The items, ratings and weights of a `packed_row`."""
    parts = packed[1:].reshape(3, -1)[:, : packed[0]]
    return parts[0], parts[1].view(np.float32), parts[2].view(np.float32)


def row_block(packed: Int[AnyArray, " packed"], row: ScalarLike = 0) -> Block:
    """The block of one row, table row `row`, from its `packed_row`."""
    slots = packed.shape[0] // 3
    pages = (slots // WIDTHS[0], WIDTHS[0])
    other, *bits = jnp.asarray(packed[1:]).reshape(3, *pages)
    rating, weight = (lax.bitcast_convert_type(part, jnp.float32) for part in bits)
    return Block(jnp.asarray(row, jnp.int32)[None], jnp.zeros(pages[0], jnp.int32), other, rating, weight)


def rung(n: int) -> int:
    """`n` rounded up, so that there are few such numbers: to a power of 4 up to `PAGES`, to a power of 2 above.

    Example:
        >>> rung(1), rung(5), rung(5000)
        (1, 16, 8192)
    """
    bits = max(0, n - 1).bit_length()
    return 1 << (bits + bits % 2 if n <= PAGES else bits)


def ladder_shapes(ratings: int, rows: int) -> list[tuple[int, int]]:
    """Widths and pages of all blocks that `blocks(…, ladder=True)` makes of so many ratings and rows, or fewer.

    Rows of more than `PAGES` pages are left out.

    Example:
        >>> ladder_shapes(32, 1)
        [(32, 1), (32, 4), (8, 1), (8, 4), (8, 16)]
    """
    wide, narrow = WIDTHS
    # Pages are wide unless `WASTE` of them is padding, and a row fills all of its pages but one.
    most = {wide: int(ratings / (wide * (1 - WASTE))) + 1}
    most[narrow] = rows + min(ratings, int(rows * wide * (1 - WASTE) / WASTE)) // narrow
    ladder = (1, 4, 16, 64, CACHED_PAGES, 256, PAGES)
    return [
        (width, pages)
        for width in WIDTHS
        for below, pages in zip((0, *ladder), ladder, strict=False)
        if below < most[width]
    ]


def padded_share(stacks: tuple[Block, ...]) -> float:
    """Share of the slots that hold no rating (or one of weight 0)."""
    slots = sum(stack.weight.size for stack in stacks)
    return 1 - sum(int(np.count_nonzero(stack.weight)) for stack in stacks) / max(1, slots)


def padded(stack: Block, g: int) -> Block:
    """The stack on a device with `g` blocks, what is added being padding."""
    return _grown(jnp.pad, stack, g, stack.rows.shape[1], stack.owner.shape[1])


def even_shape(g: int, b: int, p: int) -> tuple[int, int, int]:
    """`even` numbers of blocks and pages, as many or a few more.

    Rows, whose number varies most between parts of the same data and which cost least, become a power of two.
    """
    return even(g), 1 << (b - 1).bit_length(), even(p, 16)


def evened(stack: Block) -> Block:
    """The stack on the host grown to its `even_shape`, what is added being padding."""
    return _grown(np.pad, stack, *even_shape(stack.rows.shape[0], stack.rows.shape[1], stack.owner.shape[1]))


def _grown(pad: Callable, stack: Block, g: int, b: int, p: int) -> Block:
    """The stack with so many blocks, rows and pages."""

    def grown(x: AnyArray, size: int, fill: int = 0) -> AnyArray:
        widths = [(0, g - len(x)), (0, size - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
        return pad(x, widths, constant_values=fill)

    pages = {name: grown(getattr(stack, name), p) for name in ("other", "rating", "weight")}
    return stack.replace(rows=grown(stack.rows, b, PADDING), owner=grown(stack.owner, p, b - 1), **pages)


class Side(NamedTuple):
    """A side's ratings, sorted by its rows, and the `rows` wanted.

    Attributes:
        shift: What is added to the number of a row in its table.
        beyond: What is added to that of a row that was rated.
        positions: Whether slots hold which rating it is instead of that row.
    """

    ratings: Ratings
    sorted: Sorted
    rows: np.ndarray
    shift: int = 0
    beyond: int = 0
    positions: bool = False

    @property
    def counts(self) -> np.ndarray:
        """Ratings of each row wanted."""
        return self.sorted.counts(self.rows)

    def places(self, width: int, most: int) -> list[Places]:
        """Where the rows stand in stacks of blocks of `most` pages."""
        return places(pages_needed(self.counts, width), most, PAGES)


def stack_of(parts: list[tuple[Side, Places]], shape: tuple[int, int, int, int]) -> Block:
    """A stack of so many blocks, of so many rows and pages of one width, that holds all parts, one after the other."""
    g, b, p, width = shape
    rows, owner = np.full((g, b), PADDING, np.int32), np.full((g, p), b - 1, np.int32)
    pages = np.zeros((g, p, width), np.int32), *np.zeros((2, g, p, width), np.float32)
    begin = 0
    for side, at in parts:
        block = begin + at.block
        rows[block, at.place] = side.rows[at.rows] + side.shift
        first = block * p + at.page
        owner.ravel()[ranges(first, at.pages)] = np.repeat(at.place, at.pages)
        other, rating, weight = (x.ravel() for x in pages)
        for source, slot in side.sorted.chunks(side.rows[at.rows], first * width):
            other[slot] = source if side.positions else np.asarray(side.ratings.item)[source].astype(int) + side.beyond
            rating[slot] = np.asarray(side.ratings.rating)[source]
            weight[slot] = np.asarray(side.ratings.weight)[source]
        begin += at.shape[0]
    return Block(rows, owner, *pages)
