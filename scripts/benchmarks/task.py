"""What every system is given, and how its answers are timed and judged. Needs NumPy alone."""

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Model = TypeVar("Model")
CLICKS_RANK = 128
"""Of models of clicks."""
SYNTHETIC = (2_000_000, 100_000, 20_000, 64)
"""Pairs, users, items and rank of made-up clicks."""
Score = dict[str, float]
Round = Callable[[], float | Score]
"""One turn of a system: measures once and returns the number, or several by name."""
Rounds = dict[str, Round]


class Catalogue(NamedTuple):
    """Factors of many users and items, and the items that each user has seen."""

    users: np.ndarray
    items: np.ndarray
    seen: np.ndarray


class Triples(NamedTuple):
    """Ratings as coordinates."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray


class Clicked(NamedTuple):
    """Clicks as coordinates."""

    user: np.ndarray
    item: np.ndarray
    n_users: int
    n_items: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set for all systems: ratings to train on and to test on, and new users to fold in.

    Attributes:
        train: Rows (user, item, rating) to train on.
        test: Rows to test on.
        in_time: Positions in `train` in order of time.
        new_item: Items that new users rated, (`users`, 32), all different within a row.
        new_rating: Their ratings.
        n_users: Number of users in `train` and `test`.
        n_items: Number of items.
        low: Lowest rating there is.
        high: Highest.
        clicks: Rows (user, item) of clicks to train on.
        clicks_hidden: Clicks to be ranked high.
        rank: Number of factors of the models that users are folded into.
        profile: Ratings of the user who is folded in alone.
        calls: Calls that are timed in a round.
        seconds: Wall time after which a round ends, whatever is left.
        quick: Whether all sizes are tiny.
    """

    train: np.ndarray
    test: np.ndarray
    in_time: np.ndarray
    new_item: np.ndarray
    new_rating: np.ndarray
    n_users: int
    n_items: int
    low: float
    high: float
    clicks: np.ndarray
    clicks_hidden: np.ndarray
    rank: int = 64
    profile: int = 20
    calls: int = 300
    seconds: float = 3.0
    quick: bool = False

    def save(self, path: Path) -> None:
        """Write the task to an NPZ file."""
        np.savez(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Task":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: array if array.ndim else array.item() for name, array in arrays.items()})

    def ratings(self) -> Triples:
        """The training ratings as columns: int32, int32, float32."""
        return _columns(self.train)

    def hidden(self) -> Triples:
        """The test ratings as columns."""
        return _columns(self.test)

    def new_user(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and ratings of one of 256 new users, so that no call repeats the one before."""
        at %= min(256, len(self.new_item))
        return self.new_item[at, : self.profile], self.new_rating[at, : self.profile]

    def catalogue(self) -> Catalogue:
        """100,000 users and 50,000 items, 20 of them seen by each user."""
        rng, users, items = np.random.default_rng(0), self.size(100_000), self.size(50_000)
        of_users, of_items = (0.3 * rng.standard_normal((rows, self.rank), np.float32) for rows in (users, items))
        return Catalogue(of_users, of_items, rng.integers(0, items, (users, 20), np.int32))

    def timed(self, call: Callable[[], object]) -> Score:
        """Seconds of a call, and the most memory that the process has had so far, in GB."""
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
        return {"seconds": seconds, "peak_gb": kilobytes * 1024 / 1e9}

    def epochs(self, count: int) -> int:
        """`count`, or few where all is tiny."""
        return max(1, count // 20) if self.quick else count

    def size(self, count: int) -> int:
        """`count`, or a hundredth of it where all is tiny."""
        return max(1, count // 100) if self.quick else count

    def p50(self, call: Callable[[int], object], calls: int | None = None) -> float:
        """Median seconds of `call(0)`, `call(1)` and so on, after three that aren't counted."""
        times, end = [], time.perf_counter() + self.seconds
        for at in range((calls or self.calls) + 3):
            start = time.perf_counter()
            call(at)
            times.append(time.perf_counter() - start)
            if start > end and at > 5:
                break
        return statistics.median(times[3:])

    def rmse(self, predicted: ArrayLike) -> float:
        """Error of predictions for `test`, clipped to the scale."""
        return float(np.sqrt(np.mean((np.clip(predicted, self.low, self.high) - self.hidden().rating) ** 2)))

    def clicked(self) -> "Clicked":
        """The clicks, and how many users and items they are of."""
        user, item = self.clicks.T
        return Clicked(user, item, 1 + int(user.max()), 1 + int(item.max()))

    def made_up(self) -> "Clicked":
        """As many clicks as `SYNTHETIC` says, of users and items as unequal as in the data."""
        pairs, users, items = (self.size(count) for count in SYNTHETIC[:3])
        rng, shares = np.random.default_rng(0), []
        for column, rows in zip(self.clicks.T, (users, items), strict=True):
            count = np.sort(np.bincount(column)[np.unique(column)])[::-1].astype(float)
            share = np.interp(np.linspace(0, 1, rows), np.linspace(0, 1, len(count)), count)
            shares.append(share / share.sum())
        drawn = [rng.choice(len(share), 2 * pairs, p=share) for share in shares]
        code = np.unique(drawn[0].astype(np.int64) * items + drawn[1])
        user, item = np.divmod(rng.permutation(code)[:pairs], items)
        return Clicked(user.astype(np.int32), item.astype(np.int32), users, items)

    def ranked(self, users: np.ndarray, items: np.ndarray) -> Score:
        """NDCG@10 and recall@20 of the hidden clicks by the product of factors, the training clicks left out."""
        known, hidden = self.clicks, self.clicks_hidden
        asked = np.unique(hidden[:, 0])
        discount, ndcg, recall = 1 / np.log2(np.arange(2, 12)), [], []
        for start in range(0, len(asked), 512):
            rows = asked[start : start + 512]
            score, relevant = users[rows] @ items.T, np.zeros((len(rows), len(items)), bool)
            for pairs, mark in ((known, None), (hidden, relevant)):
                of = pairs[np.isin(pairs[:, 0], rows)]
                at = np.searchsorted(rows, of[:, 0]), of[:, 1]
                if mark is None:
                    score[at] = -np.inf
                else:
                    mark[at] = True
            best = np.argsort(-score, 1, kind="stable")[:, :20]
            hit, n = np.take_along_axis(relevant, best, 1), relevant.sum(1)
            ndcg.append((hit[:, :10] @ discount) / np.cumsum(discount)[np.minimum(n, 10) - 1])
            recall.append(hit.sum(1) / np.minimum(n, 20))
        return {"ndcg10": float(np.concatenate(ndcg).mean()), "recall20": float(np.concatenate(recall).mean())}

    def sweeps(self, fit: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Round:
        """A round of a fit of so many sweeps: seconds of one, from fits of 4 and of 16, and how that one ranks."""

        def turn() -> Score:
            seconds = []
            for sweeps in (4, 16):
                start = time.perf_counter()
                factors = fit(sweeps)
                seconds.append(time.perf_counter() - start)
            return {"sweep_seconds": (seconds[1] - seconds[0]) / 12, **self.ranked(*factors)}

        return turn

    def only_sweeps(self, fit: Callable[[int], object]) -> Round:
        """Seconds of a sweep, from fits of 1 and of 4."""

        def turn() -> Score:
            seconds = []
            for sweeps in (1, 4):
                start = time.perf_counter()
                fit(sweeps)
                seconds.append(time.perf_counter() - start)
            return {"sweep_seconds": (seconds[1] - seconds[0]) / 3}

        return turn

    def trial(self, fit: Callable[[], Model], predict: Callable[[Model], ArrayLike]) -> Score:
        """Seconds of a fit and the error of what it predicts."""
        start = time.perf_counter()
        model = fit()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "compile_seconds": 0.0, "rmse": self.rmse(predict(model))}


def _columns(rows: np.ndarray) -> Triples:
    return Triples(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int32), rows[:, 2].astype(np.float32))
