"""What every system is given, and how its answers are timed and judged. Needs NumPy alone."""

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Model = TypeVar("Model")
Score = dict[str, float]
Round = Callable[[], float | Mapping[str, float | str]]
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
        clicks_kept: Which of them settings are tried on; the rest is the validation part.
        trials: Settings that every library of clicks may try.
        chosen: Which of its settings each library was best with, by its name, as JSON.
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
    clicks_kept: np.ndarray
    trials: int = 8
    chosen: str = "{}"
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

    def trial(self, fit: Callable[[], Model], predict: Callable[[Model], ArrayLike]) -> Score:
        """Seconds of a fit and the error of what it predicts."""
        start = time.perf_counter()
        model = fit()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "compile_seconds": 0.0, "rmse": self.rmse(predict(model))}


def _columns(rows: np.ndarray) -> Triples:
    return Triples(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int32), rows[:, 2].astype(np.float32))
