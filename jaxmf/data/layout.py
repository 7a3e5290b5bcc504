"""Where rows stand in blocks and their ratings in slots: numbers alone, found and filled in little memory.

Ratings are sorted by counting, in 4 bytes each, and go to their slots a part at a time, so that what stands beside the
blocks themselves does not grow with them.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy import sparse

from jaxmf.data.packing import block_sizes, pack_rows, ranges

CHUNK = 1 << 20
"""Ratings that are written at a time, or as many as the longest row has."""


class Sorted(NamedTuple):
    """Positions of ratings by row: row r's are `order[start[r] : start[r + 1]]`, in the order in which they came."""

    order: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " bounds"]

    @classmethod
    def by(cls, row: Int[np.ndarray, " n"], n_rows: int) -> "Sorted":
        """Ratings of these rows, sorted by counting: O(n + rows).

        Raises:
            ValueError: If a row is none of the table's.

        Example:
            >>> Sorted.by(np.array([2, 0, 2]), 3).order
            array([1, 0, 2], dtype=int32)
        """
        n = len(row)
        if n and not 0 <= row.min() <= row.max() < n_rows:
            bad = row[(row < 0) | (row >= n_rows)][0]
            raise ValueError(f"row {bad} is outside the table of {n_rows} rows: check the ratings, `ratings.check`")
        dtype = np.int32 if max(n, n_rows) < np.iinfo(np.int32).max else np.int64
        given = np.ones(n, bool), row.astype(dtype, copy=False), np.arange(n + 1, dtype=dtype)
        one_each = sparse.csr_array(given, shape=(n, n_rows)).tocsc()
        return cls(one_each.indices, one_each.indptr)

    def counts(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """How many ratings each of these rows has."""
        rows = rows.astype(np.int64, copy=False)  # one more than the largest of a narrow type is none of it
        return (self.start[rows + 1] - self.start[rows]).astype(np.int64)

    def chunks(
        self, rows: Int[np.ndarray, " rows"], first: Int[np.ndarray, " rows"]
    ) -> Iterator[tuple[Int[np.ndarray, " chunk"], Int[np.ndarray, " chunk"]]]:
        """Positions of these rows' ratings with the slots that they go to, those of a row from its `first` on."""
        count = self.counts(rows)
        last = np.cumsum(count)
        cuts = np.searchsorted(last, np.arange(0, last[-1] if len(last) else 0, CHUNK), "right")
        for begin, end in itertools.pairwise((*cuts.tolist(), len(rows))):
            part = slice(begin, end)
            yield self.order[ranges(self.start[rows[part]], count[part])], ranges(first[part], count[part])


class Places(NamedTuple):
    """Where the rows of one stack stand in its blocks.

    Attributes:
        rows: The rows, positions among those wanted.
        block: Each row's block.
        place: Which of its block's rows it is.
        page: The first of its pages in the block.
        pages: How many it has.
        shape: The stack's: blocks, rows a block, pages a block.
    """

    rows: Int[np.ndarray, " rows"]
    block: Int[np.ndarray, " rows"]
    place: Int[np.ndarray, " rows"]
    page: Int[np.ndarray, " rows"]
    pages: Int[np.ndarray, " rows"]
    shape: tuple[int, int, int]


def places(needed: Int[np.ndarray, " rows"], most: int, ordinary: int) -> list[Places]:
    """The stacks of rows that need so many pages: those of `ordinary` rows packed, longer ones one row to a block.

    Args:
        needed: Pages of each row.
        most: Most pages that several rows are packed into.
        ordinary: Most pages of an ordinary row. The stacks of longer ones come by doublings of that.
    """
    return [
        _packed(np.flatnonzero(needed <= ordinary), needed, most)
        if size <= ordinary
        else _alone(np.flatnonzero((needed <= size) & (needed > size // 2)), needed, size)
        for size in block_sizes(needed, ordinary)
    ]


def _packed(rows: Int[np.ndarray, " rows"], needed: Int[np.ndarray, " all"], most: int) -> Places:
    pages = needed[rows]
    last = np.cumsum(pages)
    block = pack_rows(last, most)
    n_rows = np.bincount(block)
    first_row = np.cumsum(n_rows) - n_rows
    page = last - pages - (last - pages)[first_row][block]
    b, p = int(n_rows.max()), int((page + pages).max())
    if p > 1:  # of a lone row's pages XLA would make one long product, a sixth slower
        b = max(b, 2)
    return Places(rows, block, np.arange(len(rows)) - first_row[block], page, pages, (len(n_rows), b, p))


def _alone(rows: Int[np.ndarray, " rows"], needed: Int[np.ndarray, " all"], size: int) -> Places:
    first = np.zeros(len(rows), np.int64)
    return Places(rows, np.arange(len(rows)), first, first, needed[rows], (len(rows), 1, size))
