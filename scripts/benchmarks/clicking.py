"""Clicks: what every system is given of them, and its turns. Needs NumPy and SciPy alone."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from benchmarks.task import Round, Rounds, Score, Task

RANK, SWEEPS = 128, 16
"""Of models of the data's clicks."""
FEWER = 4
"""Sweeps of the fit that is taken off, so that what is done once is not counted."""
SYNTHETIC = (2_000_000, 100_000, 20_000, 64)
"""Pairs, users, items and rank of made-up clicks."""
PROFILE = 30
"""Clicks of a user who is folded in."""

Settings = Mapping[str, float]


class Clicked(NamedTuple):
    """Clicks as coordinates."""

    user: np.ndarray
    item: np.ndarray
    n_users: int
    n_items: int

    def matrix(self) -> sparse.csr_matrix:
        """Users × items, 1 where there was a click."""
        return sparse.csr_matrix(
            (np.ones(len(self.user), np.float32), (self.user, self.item)), (self.n_users, self.n_items)
        )


class System(NamedTuple):
    """A library of clicks.

    Attributes:
        name: Its name.
        trials: Settings to choose from, as many for every library.
        fit: (clicks, settings, rank, sweeps) → a model.
        factors: A model's users and items, whose products are the scores.
    """

    name: str
    trials: Sequence[Settings]
    fit: Callable[[Clicked, Settings, int, int], Any]
    factors: Callable[[Any], tuple[np.ndarray, np.ndarray]]

    def chosen(self, task: Task) -> Settings:
        """The settings that ranked the validation part best."""
        return self.trials[json.loads(task.chosen).get(self.name, 0)]


def clicks_trials(task: Task, system: System) -> Rounds:
    """A fit of each of the settings, without the validation part."""
    kept = clicked(task, task.clicks_kept)

    def trial(settings: Settings) -> Round:
        said = ", ".join(f"{name} {value:.3g}" for name, value in settings.items())
        return lambda: {"settings": said} | given(*system.factors(system.fit(kept, settings, rank(task), SWEEPS)))

    return {f"{system.name}, trial {at}": trial(one) for at, one in enumerate(system.trials[: task.trials])}


def clicks(task: Task, system: System) -> Rounds:
    """Seconds of a sweep and the factors that 16 of them give; and of one of many made-up clicks."""
    whole, many, settings = clicked(task), made_up(task), system.chosen(task)
    for of, width in ((whole, rank(task)), (many, SYNTHETIC[-1])):
        system.fit(of, settings, width, 1)  # what is compiled is compiled before

    def turn() -> Score:
        seconds, model = a_sweep(lambda count: system.fit(whole, settings, rank(task), count), (FEWER, SWEEPS))
        return {"sweep_seconds": seconds} | given(*system.factors(model))

    def large() -> Score:
        return {"sweep_seconds": a_sweep(lambda count: system.fit(many, settings, SYNTHETIC[-1], count), (1, FEWER))[0]}

    return {system.name: turn, f"{system.name}, made-up clicks": large}


def a_sweep(fit: Callable[[int], Any], counts: tuple[int, int]) -> tuple[float, Any]:
    """Seconds of one sweep, of fits of fewer and of more; and the model of more."""
    seconds, model = [], None
    for count in counts:
        start = time.perf_counter()
        model = fit(count)
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / (counts[1] - counts[0]), model


def given(users: np.ndarray, items: np.ndarray) -> dict[str, Any]:
    """The factors in a file, for the one judge that all have."""
    with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
        np.savez(file, users=np.asarray(users, np.float32), items=np.asarray(items, np.float32))
    return {"factors": file.name}


def rank(task: Task) -> int:
    """Of models of the data's clicks; few factors where all is tiny."""
    return 4 if task.quick else RANK


def clicked(task: Task, kept: np.ndarray | None = None) -> Clicked:
    """The training clicks, or those kept of them, in tables of all their users and items."""
    user, item = task.clicks.T
    kept = np.ones(len(user), bool) if kept is None else kept
    return Clicked(user[kept], item[kept], 1 + int(user.max()), 1 + int(item.max()))


def made_up(task: Task) -> Clicked:
    """As many clicks as `SYNTHETIC` says, of users and items as unequal as in the task's ratings."""
    pairs, users, items = (task.size(count) for count in SYNTHETIC[:3])
    rng = np.random.default_rng(0)
    known = task.ratings()
    shares = [popularity(column, rows) for column, rows in ((known.user, users), (known.item, items))]
    drawn = [rng.choice(len(share), 2 * pairs, p=share) for share in shares]
    code = np.unique(drawn[0].astype(np.int64) * items + drawn[1])
    user, item = np.divmod(rng.permutation(code)[:pairs], items)
    return Clicked(user.astype(np.int32), item.astype(np.int32), users, items)


def popularity(column: np.ndarray, rows: int) -> np.ndarray:
    """Shares of so many rows, as unequal as those of a column."""
    count = np.sort(np.bincount(column)[np.unique(column)])[::-1].astype(float)
    share = np.interp(np.linspace(0, 1, rows), np.linspace(0, 1, len(count)), count)
    return share / share.sum()


def strangers(task: Task) -> np.ndarray:
    """Items of 10,000 new users of made-up clicks, `PROFILE` each, all different within a row."""
    rng, n_items = np.random.default_rng(1), task.size(SYNTHETIC[2])
    return np.stack([rng.choice(n_items, PROFILE, replace=False) for _ in range(task.size(10_000))]).astype(np.int32)


def rows_of(items: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """New users as a matrix, a row each; of one user the items alone will do."""
    users, n = np.atleast_2d(items).shape
    return sparse.csr_matrix(
        (np.ones(users * n, np.float32), items.ravel(), np.arange(0, users * n + 1, n)), (users, n_items)
    )


def for_strangers(task: Task, system: System) -> Any:  # noqa: ANN401 a model of any library
    """A model of the made-up clicks that new users are folded into."""
    return system.fit(made_up(task), system.chosen(task), rank(task), 3)


def one_user(task: Task, call: Callable[[np.ndarray], object]) -> Round:
    """Milliseconds of a call for one new user, of the items."""
    items = strangers(task)
    return lambda: 1e3 * task.p50(lambda at: call(items[at % len(items)]))


def many_users(task: Task, call: Callable[[sparse.csr_matrix], object]) -> Round:
    """Microseconds a user of a call for 10,000 new users."""
    items = strangers(task)
    matrix = rows_of(items, task.size(SYNTHETIC[2]))
    return lambda: 1e6 / len(items) * task.p50(lambda _: call(matrix), 10)
