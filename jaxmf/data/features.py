"""Features of rows, sparse: which films a user rated, which genres a film has, any table.

A row's features are stored as its ratings are, in pages, so that features times a matrix is one gather and one sum.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
from flax import struct
from numpy.typing import ArrayLike

from jaxmf.data.arrays import Column, check_lengths, to_numbers, to_rows, to_table, to_values
from jaxmf.data.histories import Block, blocks, evened
from jaxmf.data.ratings import Ratings, check
from jaxmf.data.settings import check_whole


@no_type_check
class Features(struct.PyTreeNode):
    """A sparse matrix F of rows × features, in both directions.

    Attributes:
        by_row: The features of each row, as stacks of blocks: `other` is the feature, `rating` its value.
        by_feature: The rows of each feature, likewise.
        n_rows: Number of rows.
        n_features: Number of features.
        implicit: Whether they are the rows' implicit feedback, which their ratings tell.
    """

    by_row: tuple[Block, ...]
    by_feature: tuple[Block, ...]
    n_rows: int = struct.field(pytree_node=False)
    n_features: int = struct.field(pytree_node=False)
    implicit: bool = struct.field(pytree_node=False, default=False)


class Sides(NamedTuple):
    """Features of either side, where there are any."""

    user: Features | None = None
    item: Features | None = None

    @property
    def implicit(self) -> tuple[bool, bool]:
        """Which sides' are implicit feedback."""
        return self.user is not None and self.user.implicit, self.item is not None and self.item.implicit


def sparse(row: Column, feature: Column, value: Column, n_rows: int, n_features: int) -> Features:
    """Features from coordinates.

    Raises:
        ValueError: If there is not one value a coordinate, a value is not finite, or a coordinate is outside it.
    """
    row, feature, value = to_rows(row, "row"), to_rows(feature, "feature"), to_numbers(value, "feature value")
    check_lengths({"row": row, "feature": feature, "value": value})
    n_rows = check_whole("n_rows", n_rows, least=0, meaning="the number of rows")
    n_features = check_whole("n_features", n_features, least=0, meaning="the number of features")
    large = ~(np.abs(value) <= np.finfo(np.float32).max)
    if large.any():
        raise ValueError(f"feature value {value[large][0]}: every value must be finite; fill or drop it")
    for name, index, size in (("row", row, n_rows), ("feature", feature, n_features)):
        if index.size and not (index.min() >= 0 and index.max() < size):
            bad = index[(index < 0) | (index >= size)][0]
            raise ValueError(f"{name} {bad} is outside the {n_rows} × {n_features} matrix")
    row, feature, value = row.astype(np.int32), feature.astype(np.int32), value.astype(np.float32)
    entries = Ratings(row, feature, value, np.ones(len(value), np.float32), n_rows, n_features)
    by_row, by_feature = (tuple(map(evened, blocks(one))) for one in (entries, entries.transpose()))
    return Features(by_row, by_feature, n_rows, n_features)


def dense(table: ArrayLike) -> Features:
    """Features from a dense table, rows × features: an array, a frame, or lists.

    Raises:
        ValueError: If it is no table of finite numbers.
    """
    table = to_table(table, "feature table")
    row, feature = np.nonzero(table)
    return sparse(row, feature, table[row, feature], *table.shape)


def implicit(ratings: Ratings) -> Features:
    """Users' implicit feedback: 1/√n at each of the n items that a user rated, whatever the rating.

    With it in the prior's mean the model is SVD++ (Koren 2008). For items (the users who rated it, "flipped") pass
    `ratings.transpose()`. A rating of weight 0 does not count, and its feature is 0.

    Example:
        >>> ratings = Ratings(np.array([0, 0]), np.array([1, 2]), np.array([4.0, 2.0]), np.ones(2), 3, 5)
        >>> features = implicit(ratings)
        >>> features.n_rows, features.n_features, f"{features.by_row[0].rating.max():.3f}"
        (3, 5, '0.707')
    """
    check(ratings)
    counts = np.asarray(ratings.weight) > 0
    n = np.bincount(ratings.user, counts, minlength=ratings.n_users)
    value = np.where(counts, 1 / np.sqrt(np.maximum(n, 1))[np.asarray(ratings.user)], 0)
    return sparse(ratings.user, ratings.item, value, ratings.n_users, ratings.n_items).replace(implicit=True)


def implicit_sides(ratings: Ratings) -> Sides:
    """Implicit feedback of both sides: SVD++, and SVD++ flipped."""
    return Sides(implicit(ratings), implicit(ratings.transpose()))


def check_rows(features: Sides, n_users: int, n_items: int) -> None:
    """Refuse features that are not of the tables' rows.

    Raises:
        ValueError: If a side's features have another number of rows than its table.
    """
    for name, side, size in zip(Sides._fields, features, (n_users, n_items), strict=True):
        if side is not None and side.n_rows != size:
            raise ValueError(f"the {name} features have {side.n_rows} rows, the ratings {size}: give a row each")


def multi_hot(labels: Column) -> tuple[Features, list[str]]:
    """Labels of each row (genres of a film) as features 1/√(labels of the row), and their names in column order.

    Raises:
        ValueError: If a row is no list of labels, such as a text that still has to be split, or a label is no text.

    Example:
        >>> features, names = multi_hot([["Drama"], [], ["Comedy", "Drama"]])
        >>> names, features.n_rows
        (['Comedy', 'Drama'], 3)
    """
    labels = [_labels(row, at) for at, row in enumerate(to_values(labels, "labels"))]
    names = sorted({label for row in labels for label in row})
    column = {name: at for at, name in enumerate(names)}
    row = np.repeat(np.arange(len(labels)), [len(row) for row in labels])
    feature = np.array([column[label] for row in labels for label in row], np.int32)
    value = np.repeat([1 / np.sqrt(max(1, len(row))) for row in labels], [len(row) for row in labels])
    return sparse(row, feature, value, len(labels), len(names)), names


def _labels(row: Any, at: int) -> list[str]:  # noqa: ANN401 whatever was given
    several = isinstance(row, list | tuple | set | frozenset) or (isinstance(row, np.ndarray) and row.ndim)
    if several and all(isinstance(label, str) for label in row):
        return sorted(row) if isinstance(row, set | frozenset) else list(row)
    raise ValueError(f"labels of row {at} are {row!r:.80}: give a list of texts a row, [] where it has none")
