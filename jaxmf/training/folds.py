"""All folds as one: the same ratings under other weights, 0 where a rating is held out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, no_type_check

import jax
import numpy as np
from flax import struct
from jaxtyping import Float, Int

from jaxmf.data.features import Sides, check_rows
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.data.splits import Split
from jaxmf.model.kernels import Kernel, unit_of
from jaxmf.model.objective import Weights
from jaxmf.training import als
from jaxmf.training.als import Histories

Tree = TypeVar("Tree")

PAGES = 256
"""Pages a block: at rank 32 and 32 ratings a page 1 MiB of factors, since each core has fits of its own to cache."""


@no_type_check
class Fold(struct.PyTreeNode):
    """What a fold changes in the histories of all ratings; folds are stacked along an axis in front.

    Attributes:
        weight: The ratings' weights in training.
        held: What is held out, filled up with weight 0.
        n: Total weight of each row's training ratings.
        blocks: Weights of the pages of both sides' histories.
        offset: The kernel's offset at the training ratings' mean.
        unit: The kernel's unit, the training ratings' standard deviation.
        low: The smallest training rating.
        high: The largest.
        features: What is known of the rows.
    """

    weight: Float[AnyArray, " n"]
    held: Ratings
    n: Weights
    blocks: tuple[Float[AnyArray, "g p w"], ...]
    offset: Float[AnyArray, ""]
    unit: Float[AnyArray, ""]
    low: Float[AnyArray, ""]
    high: Float[AnyArray, ""]
    features: Sides


class Known(NamedTuple):
    """What a trainer is given of a fold: its ratings, and the same as histories."""

    ratings: Ratings
    histories: Histories


class Data(NamedTuple):
    """All ratings, their histories, and the stacked folds."""

    ratings: Ratings
    histories: Histories
    folds: Fold

    def of(self, fold: Int[AnyArray, ""]) -> tuple[Known, Fold]:
        """What is known in one fold."""
        one = jax.tree.map(lambda x: x[fold], self.folds)
        pairs = zip(self.histories.blocks, one.blocks, strict=True)
        blocks = tuple(stack.replace(weight=weight) for stack, weight in pairs)
        return Known(self.ratings.replace(weight=one.weight), Histories(one.n, blocks, one.features)), one


def gather(ratings: Ratings, folds: Sequence[Split], kernel: Kernel, features: Callable[[Ratings], Sides]) -> Data:
    """Ratings and folds on the host as what the program takes; `features` gives those of a fold's ratings.

    Raises:
        ValueError: If there is no fold, one trains on nothing, holds nothing out, holds out what it trains on or points
            outside the ratings, or the features don't fit.
    """
    if not len(folds):
        raise ValueError("no fold: give one split or more, from `splits.k_fold` or `splits.hold_out`")
    for at, split in enumerate(folds):
        _check(at, split, ratings)
    held = max(len(split.test) for split in folds)
    each = [_fold(ratings, split, kernel, held, features) for split in folds]
    shapes = [[leaf.shape for leaf in jax.tree.leaves(fold.features)] for fold in each]
    if any(of_fold != shapes[0] for of_fold in shapes):
        raise ValueError(
            "the features of two folds differ in number, and one program serves all folds: give every rating one, 0 "
            "where its weight is 0, as `features.implicit` does"
        )
    return Data(ratings, als.histories(ratings, pages=PAGES), stacked(each))


def _check(at: int, split: Split, ratings: Ratings) -> None:
    """Refuse a fold that can't be trained on or measured."""
    for where, does in ((np.asarray(split.train), "trains on"), (np.asarray(split.test), "holds out")):
        if where.dtype.kind not in "iu":
            raise ValueError(
                f"fold {at} {does} positions of type {where.dtype}, and they are whole numbers: of a mask give "
                "`np.flatnonzero(mask)`"
            )
        outside = where[(where < 0) | (where >= len(ratings))]
        if len(outside):
            raise ValueError(
                f"fold {at} {does} position {outside[0]}, and the ratings' positions are 0 to {len(ratings) - 1}: "
                "split these ratings, `splits.k_fold(len(ratings))`"
            )
        if not np.any(ratings.weight[where]):
            raise ValueError(
                f"fold {at} {does} no rating with a weight above 0: give it some, or fewer folds (`splits.k_fold`)"
            )
    both = np.intersect1d(split.train, split.test)
    if len(both):
        raise ValueError(
            f"fold {at} holds out {len(both)} of the ratings that it trains on, the first at position {both[0]}: give "
            "each rating to one part, as `splits.k_fold` does"
        )


def _fold(ratings: Ratings, split: Split, kernel: Kernel, n_held: int, features: Callable[[Ratings], Sides]) -> Fold:
    weight = np.zeros(len(ratings), np.float32)
    weight[split.train] = np.asarray(ratings.weight)[split.train]
    held = ratings.take(np.resize(split.test, n_held))
    held = held.replace(weight=np.where(np.arange(n_held) < len(split.test), held.weight, np.float32(0)))
    rating = np.asarray(ratings.rating)
    seen = rating[weight > 0]
    train = ratings.replace(weight=weight)
    sides = features(train)
    check_rows(sides, ratings.n_users, ratings.n_items)
    every = als.histories(train, pages=PAGES)
    pages = tuple(stack.weight for stack in every.blocks)
    offset = kernel.offset(float(np.average(rating, weights=weight)))
    offset, unit, low, high = np.array([offset, unit_of(train), seen.min(), seen.max()], np.float32)
    return Fold(weight, held, every.n, pages, offset, unit, low, high, sides)


def stacked(trees: Sequence[Tree]) -> Tree:
    """Trees of one kind as one, along an axis in front."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
