"""Histories sorted by length: a row a page, as wide as the row is long.

Nothing is then spread over a row's pages and summed up again. It costs a program a width, and suits half-sweeps that
take few steps a row.
"""

import itertools

import numpy as np

from jaxmf.data.histories import PADDING, WIDTHS, Block, blocks, evened
from jaxmf.data.packing import even
from jaxmf.data.ratings import Ratings

LENGTHS = (8, 16, 32, 64, 128)
"""Widths of a page: a row has the first that holds it. Finer ones waste fewer slots, and gained nothing."""

SLOTS = 8192
"""Slots a block: at rank 64 2 MiB of factors, which stay in the cache of two CPU cores."""


def by_length(ratings: Ratings) -> tuple[Block, ...]:
    """User histories on the host as stacks of blocks, of even sizes; for item histories pass `ratings.transpose()`.

    Users without a rating are left out, those of more than the last of `LENGTHS` have `histories.blocks`.
    """
    order = np.argsort(ratings.user, kind="stable")
    count = np.bincount(ratings.user, minlength=ratings.n_users)
    first = np.cumsum(count) - count
    stacks = []
    for below, width in itertools.pairwise((0, *LENGTHS)):
        rows = np.flatnonzero((below < count) & (count <= width))
        if len(rows):
            real = np.arange(width) < count[rows, None]
            slots = order[np.where(real, first[rows, None] + np.arange(width), 0)]
            columns = [np.where(real, np.asarray(x)[slots], 0) for x in (ratings.item, ratings.rating, ratings.weight)]
            stacks.append(_stacked(rows, columns))
    long = np.flatnonzero(count > LENGTHS[-1])
    paged = blocks(ratings, long, pages=SLOTS // WIDTHS[0]) if len(long) else ()
    return (*stacks, *map(evened, paged))


def _stacked(rows: np.ndarray, columns: list[np.ndarray]) -> Block:
    """Rows of one width as a stack of blocks."""
    n, width = columns[0].shape
    p = min(SLOTS // width, even(n, 16))
    g = even(-(-n // p), 8)

    def stacked(x: np.ndarray, dtype: type, fill: int = 0) -> np.ndarray:
        rest = [(0, g * p - n), *[(0, 0)] * (x.ndim - 1)]
        return np.pad(x.astype(dtype), rest, constant_values=fill).reshape(g, p, *x.shape[1:])

    other, rating, weight = columns
    return Block(
        stacked(rows, np.int32, PADDING),
        np.broadcast_to(np.arange(p, dtype=np.int32), (g, p)),
        stacked(other, np.int32),
        stacked(rating, np.float32),
        stacked(weight, np.float32),
        alone=True,
    )
