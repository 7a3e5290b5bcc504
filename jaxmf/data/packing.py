"""How rows of very different lengths are dealt into blocks: numbers alone, of ratings, pages and rows."""

import bisect
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def page_width(count: Int[np.ndarray, " rows"], widths: Sequence[int], waste: float) -> int:
    """The first of the `widths`, widest first, that leaves at most that share of pages empty; else the last.

    Example:
        >>> page_width(np.array([31, 64]), (32, 8), 0.25), page_width(np.array([5, 6]), (32, 8), 0.25)
        (32, 8)
    """

    def empty(width: int) -> float:
        return 1 - count.sum() / max(1, pages_needed(count, width).sum() * width)

    return next((width for width in widths if empty(width) <= waste), widths[-1])


def pages_needed(count: Int[np.ndarray, " rows"], width: int) -> Int[np.ndarray, " rows"]:
    """Pages of `width` ratings that rows of so many fill; a row without a rating has an empty one.

    Example:
        >>> pages_needed(np.array([0, 8, 9]), 8)
        array([1, 1, 2])
    """
    return np.maximum(1, -(-count // width))


def block_sizes(pages: Int[np.ndarray, " rows"], ordinary: int) -> list[int]:
    """Upper bounds of pages a block: one for rows of the `ordinary` size, then the doublings that longer rows need.

    Example:
        >>> block_sizes(np.array([3, 1024, 1025, 5000]), 1024)
        [1024, 2048, 8192]
    """
    sizes = [ordinary] if (pages <= ordinary).any() else []
    size = 2 * ordinary
    while size // 2 < pages.max(initial=0):
        if ((pages <= size) & (pages > size // 2)).any():
            sizes.append(size)
        size *= 2
    return sizes


def pack_rows(last: Int[np.ndarray, " rows"], most: int) -> Int[np.ndarray, " rows"]:
    """Block of each row: consecutive rows, at most `most` pages a block, as few blocks as that takes, evenly filled.

    Args:
        last: Running total of the rows' pages.
        most: Pages a block; as many as the longest row has where that is more.

    Example:
        >>> pack_rows(np.array([3, 5, 6, 9]), 5)
        array([0, 0, 1, 1])
    """

    def fill(capacity: int) -> np.ndarray:
        cuts = [0]
        while cuts[-1] < len(last):
            before = last[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(int(np.searchsorted(last, before + capacity, "right")))
        return np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))

    longest = int(np.diff(last, prepend=0).max())
    most = max(most, longest)
    fewest = fill(most)[-1]
    even = max(longest, -(-int(last[-1]) // int(fewest + 1)))
    capacities = range(even, most + 1)
    return fill(capacities[bisect.bisect_left(capacities, -fewest, key=lambda capacity: -fill(capacity)[-1])])


def even(n: int, part: int = 32) -> int:
    """`n` rounded up by one `part`-th at most, a power of two: sizes of much the same data come out as one.

    Example:
        >>> even(80_003), even(80_004), even(7)
        (81920, 81920, 7)
    """
    step = max(1, (1 << n.bit_length()) // (2 * part))
    return -(-n // step) * step


def ranges(start: Int[np.ndarray, " rows"], count: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " n"]:
    """start, start + 1, … of each row, `count` of them, one row after the other.

    Example:
        >>> ranges(np.array([7, 0]), np.array([2, 3]))
        array([7, 8, 0, 1, 2])
    """
    return np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
