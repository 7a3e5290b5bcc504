"""Saving and loading a large recommender."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxmf
from benchmarks.jaxmf_ import fresh
from benchmarks.task import Rounds, Score, Task
from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.model.params import Params
from jaxmf.model.tables import Table
from jaxmf.serving.layered import Layered


def keep(task: Task) -> Rounds:
    """Seconds of a save and of a load, each in a process of its own; the most memory of either by that of the rows."""

    def turn() -> Score:
        with tempfile.TemporaryDirectory() as folder:
            saved, loaded = (fresh(one, task, Path(folder) / "kept") for one in (save, load))
        seconds = {"save_seconds": saved["seconds"], "load_seconds": loaded["seconds"]}
        peak = max(saved["peak_of_rows"], loaded["peak_of_rows"])
        return {"seconds": sum(seconds.values()), **seconds, "peak_of_rows": peak}

    return {"jaxmf": turn}


def save(task: Task, path: Path) -> Score:
    """Save the rows of 1,000,000 users and 50,000 items."""
    before, rng = peak_of_start(task), np.random.default_rng(0)
    n_users, n_items = task.size(1_000_000), task.size(50_000)

    def table(size: int) -> Table:
        return Table(np.zeros(size, np.float32), rng.standard_normal((size, task.rank), np.float32))

    rows = Params(table(n_users), table(n_items), np.float32(3.5))
    model = jaxmf.Model(rows, jaxmf.kernels.Linear())
    none, number = np.zeros(0, np.int32), np.zeros(0, np.float32)
    rec = jaxmf.Recommender(
        Layered.of(model),
        users=Vocabulary(np.arange(n_users)),
        items=Vocabulary(np.arange(n_items)),
        history=History(Ratings(none, none, number, number, n_users, n_items)),
        columns=Columns(),
        scale=(0.5, 5.0),
        frozen=(n_users, n_items),
    )
    return cost(task, lambda: rec.save(path), before)


def load(task: Task, path: Path) -> Score:
    """Load them."""
    before = peak_of_start(task)
    return cost(task, lambda: jax.block_until_ready(jaxmf.Recommender.load(path).model.params), before)


def peak_of_start(task: Task) -> float:
    """GB of a process that has kept something small, so that all is imported and started."""

    def small() -> None:
        with tempfile.TemporaryDirectory() as folder:
            jaxmf.checkpoint.save_state(Path(folder) / "small", jnp.ones(1))
            jaxmf.checkpoint.load_state(Path(folder) / "small", jnp.zeros(1))

    return task.timed(small)["peak_gb"]


def cost(task: Task, call: Callable[[], object], before: float) -> Score:
    """Seconds of a call, and the most memory so far, above that of the start, by the rows'."""
    score = task.timed(call)
    rows = 4 * (task.size(1_000_000) + task.size(50_000)) * (task.rank + 1) / 1e9
    return {"seconds": score["seconds"], "peak_of_rows": (score["peak_gb"] - before) / rows}
