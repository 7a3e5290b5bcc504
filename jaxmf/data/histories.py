"""Histories of very different lengths as arrays of one shape: a row's ratings cut into pages.

A page holds `w` ratings of one row, the last one filled up with weight 0. A row's equations are the sum of its
pages' equations, so a page is all that the solver batches over: one shape serves a user with one rating and a film
with a million, and one compiled program a whole side.
"""

from typing import NamedTuple, TypeVar, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.arrays import to_numbers, to_rows
from jaxmf.data.packing import block_sizes, even, pack_rows, page_width
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
    """

    rows: Int[AnyArray, " b"]
    owner: Int[AnyArray, " p"]
    other: Int[AnyArray, "p w"]
    rating: Float[AnyArray, "p w"]
    weight: Float[AnyArray, "p w"]
    alone: bool = struct.field(pytree_node=False, default=False)

    def of_pages(self, rows: Rows) -> Rows:
        """What arrays of `b` rows hold, a page each."""
        return rows if self.alone else jax.tree.map(lambda x: x[self.owner], rows)

    def parts(self, size: int) -> "Block":
        """The same pages as a stack of blocks of `size` pages, each with all of the rows."""
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
    local = np.full(ratings.n_users, -1)
    local[rows] = np.arange(len(rows))
    user = local[np.asarray(ratings.user)]
    order = np.argsort(user, kind="stable")
    order = order[np.searchsorted(user[order], 0) :]
    count = np.bincount(user[order], minlength=len(rows))
    width = width or page_width(count, WIDTHS, WASTE)
    needed = np.maximum(1, -(-count // width))
    stacks = []
    for size in block_sizes(needed, PAGES):
        chosen = np.flatnonzero(needed <= PAGES if size <= PAGES else (needed <= size) & (needed > size // 2))
        stacks.append(
            _stack(_Sorted(ratings, rows, order, count, needed, width), chosen, size, most=pages, ladder=ladder)
        )
    return tuple(stacks)


def joint_blocks(ratings: Ratings, *, pages: int = PAGES, positions: bool = False) -> tuple[Block, ...]:
    """Both sides' histories over one table that holds the users' rows and then the items'.

    Ordinary rows of both sides share one stack, so that one program of half the size serves both. The blocks are in the
    order of a sweep: all users, then all items, and none has rows of both. `pages` as in `blocks`; with `positions`,
    `other` is which rating it is instead of which row was rated.
    """
    n_users, n_rows = ratings.n_users, ratings.n_users + ratings.n_items
    by_user = ratings.replace(item=np.asarray(ratings.item) + n_users, n_users=n_rows, n_items=n_rows)
    counts = np.bincount(ratings.user, minlength=n_users), np.bincount(ratings.item, minlength=ratings.n_items)
    width = page_width(np.concatenate(counts), WIDTHS, WASTE)
    sides = by_user, by_user.transpose()
    if positions:
        sides = tuple(side.replace(item=np.arange(len(ratings)), n_items=len(ratings)) for side in sides)
    users = blocks(sides[0], np.arange(n_users), width=width, pages=pages)
    items = blocks(sides[1], np.arange(n_users, n_rows), width=width, pages=pages)
    ordinary = [stack for stack in (*users, *items) if stack.owner.shape[1] <= PAGES]
    long_users, long_items = ([stack for stack in side if stack.owner.shape[1] > PAGES] for side in (users, items))
    return (*long_users, *([_joined(ordinary)] if ordinary else []), *long_items)


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


def evened(stack: Block) -> Block:
    """The stack on the host with `even` numbers of blocks and pages, what is added being padding.

    Rows, whose number varies most between parts of the same data and which cost least, become a power of two.
    """
    (g, b), p = stack.rows.shape, stack.owner.shape[1]
    return _grown(stack, even(g), 1 << (b - 1).bit_length(), even(p, 16))


def filled(ratings: Ratings, n: int) -> Ratings:
    """Ratings on the host filled up to `n` with ratings of weight 0."""
    more = n - len(ratings)
    columns = {name: np.asarray(getattr(ratings, name)) for name in ("user", "item", "rating", "weight")}
    return ratings.replace(**{name: np.pad(column, (0, more)) for name, column in columns.items()})


def _grown(stack: Block, g: int, b: int, p: int) -> Block:
    """The stack with so many blocks, rows and pages, what is added being padding."""

    def grown(x: np.ndarray, size: int, fill: int) -> np.ndarray:
        widths = [(0, g - len(x)), (0, size - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
        return np.pad(x, widths, constant_values=fill)

    pages = [grown(x, p, 0) for x in (stack.other, stack.rating, stack.weight)]
    return Block(grown(stack.rows, b, PADDING), grown(stack.owner, p, b - 1), *pages)


def _joined(stacks: list[Block]) -> Block:
    """Stacks of one page width as one."""
    b, p = (
        max(shape) for shape in zip(*((stack.rows.shape[1], stack.owner.shape[1]) for stack in stacks), strict=True)
    )
    alike = [_grown(stack, len(stack.rows), b, p) for stack in stacks]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *alike)


class _Sorted(NamedTuple):
    """Ratings and their `order` by row: how many ratings and `pages` of one `width` each of the `rows` has."""

    ratings: Ratings
    rows: np.ndarray
    order: np.ndarray
    counts: np.ndarray
    pages: np.ndarray
    width: int


def _stack(of: _Sorted, chosen: np.ndarray, size: int, *, most: int, ladder: bool) -> Block:
    """The `chosen` rows in blocks of one shape: rows of at most `PAGES` pages packed, longer ones one to a block."""
    ratings, rows, order, count, pages, width = of
    last = np.cumsum(pages[chosen])
    block = pack_rows(last, most) if size <= PAGES else np.arange(len(chosen))
    g = int(block[-1]) + 1
    first_row = np.searchsorted(block, np.arange(g))
    n_rows = np.bincount(block)
    n_pages = np.bincount(block, weights=pages[chosen]).astype(int)
    b, p = int(n_rows.max()), int(n_pages.max()) if size <= PAGES else size
    if 1 < p <= PAGES:  # of a lone row's pages XLA would make one long product, a sixth slower
        b = max(b, 2)
    if ladder and size <= PAGES:
        b = p = most if p <= most < rung(p) else rung(p)

    out_rows = np.full((g, b), PADDING, np.int32)
    slot = np.arange(len(chosen)) - first_row[block]
    out_rows[block, slot] = rows[chosen]
    page_block = np.repeat(block, pages[chosen])
    page = np.arange(last[-1]) - (np.cumsum(n_pages) - n_pages)[page_block]
    owner = np.full((g, p), b - 1, np.int32)
    owner[page_block, page] = np.repeat(slot, pages[chosen])

    start = np.cumsum(count) - count
    member = np.repeat(np.arange(len(chosen)), count[chosen])
    position = np.arange(len(member)) - np.repeat(np.cumsum(count[chosen]) - count[chosen], count[chosen])
    source = order[start[chosen][member] + position]
    first_page = last - pages[chosen]
    flat = first_page[member] + position // width
    where = (page_block[flat], page[flat], position % width)
    other = np.zeros((g, p, width), np.int32)
    rating, weight = np.zeros((2, g, p, width), np.float32)
    other[where] = np.asarray(ratings.item)[source]
    rating[where] = np.asarray(ratings.rating)[source]
    weight[where] = np.asarray(ratings.weight)[source]
    return Block(out_rows, owner, other, rating, weight)
