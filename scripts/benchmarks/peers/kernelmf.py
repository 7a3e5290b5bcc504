"""matrix-factorization's KernelMF: the kernel model of Rendle & Schmidt-Thieme, by SGD, in Numba."""

import time

import numpy as np
import pandas as pd
from matrix_factorization import KernelMF

from benchmarks.task import Round, Rounds, Task, Triples

SETTINGS = {"lr": 0.01, "reg": 0.08, "init_sd": 0.05, "verbose": 0}


def fold_in_single(task: Task) -> Rounds:
    """`update_users` with its default of 20 epochs, on the data's users and on many more."""
    n_users = task.size(100_000)
    at = np.arange(2 * n_users)
    crowd = Triples(at // 2, at % task.n_items, 3 + at % 2)

    def system(known: Triples) -> Round:
        model = fitted(task, *frames(known), rank=task.rank, epochs=1)
        updates = []
        for at in range(256):
            new_item, new_rating = task.new_user(at)
            updates.append(frames(Triples(np.full(len(new_item), n_users), new_item, new_rating)))
        return lambda: 1e3 * task.p50(lambda at: model.update_users(*updates[at % 256]))

    return {
        f"KernelMF.update_users, {task.n_users:,} users": system(task.ratings()),
        f"KernelMF.update_users, {n_users:,} users": system(crowd),
    }


def train(task: Task) -> Rounds:
    """The linear kernel, the best of its three on this data. Numba's compilation is apart."""
    known = frames(task.ratings())
    hidden, _ = frames(task.hidden())

    def fit(epochs: int) -> KernelMF:
        return fitted(task, *known, rank=100, epochs=epochs)

    start = time.perf_counter()
    fit(1)
    compile_seconds = time.perf_counter() - start

    def turn() -> dict[str, float]:
        score = task.trial(lambda: fit(task.epochs(60)), lambda model: model.predict(hidden))
        return score | {"compile_seconds": compile_seconds}

    return {"KernelMF linear": turn}


def fitted(task: Task, pairs: pd.DataFrame, rating: pd.Series, *, rank: int, epochs: int) -> KernelMF:
    """A model with the setting that does best on the data."""
    scale = {"min_rating": task.low, "max_rating": task.high}
    return KernelMF(n_factors=rank, n_epochs=epochs, kernel="linear", **scale, **SETTINGS).fit(pairs, rating)


def frames(triples: Triples) -> tuple[pd.DataFrame, pd.Series]:
    """Pairs and their ratings."""
    return pd.DataFrame({"user_id": triples.user, "item_id": triples.item}), pd.Series(triples.rating, dtype=float)
