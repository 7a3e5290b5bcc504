"""implicit's ALS: a reference for speed alone. It models whether a film was seen, and predicts no rating."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.clicking import (
    Clicked,
    Settings,
    System,
    for_strangers,
    made_up,
    many_users,
    one_user,
    rank,
    rows_of,
)
from benchmarks.task import Rounds, Task


def fold_in_single(task: Task) -> Rounds:
    """`recalculate_user` with one thread, which is faster for one user."""
    user, item, rating = task.ratings()
    model = AlternatingLeastSquares(factors=task.rank, random_state=0, num_threads=1)
    model.fit(sparse.csr_matrix((rating, (user, item)), (task.n_users, task.n_items)), show_progress=False)

    def call(at: int) -> object:
        items, ratings = task.new_user(at)
        return model.recalculate_user(0, sparse.csr_matrix((ratings, items, [0, len(items)]), (1, task.n_items)))

    return {"implicit recalculate_user, reference": lambda: 1e3 * task.p50(call)}


def fit(of: Clicked, settings: Settings, rank: int, sweeps: int, threads: int = 2) -> AlternatingLeastSquares:
    """A model of clicks, with one thread of BLAS in each of its own, as implicit advises."""
    model = AlternatingLeastSquares(factors=rank, iterations=sweeps, random_state=0, num_threads=threads, **settings)
    with threadpool_limits(1, "blas"):
        model.fit(of.matrix(), show_progress=False)
    return model


SYSTEM = System(
    "implicit",
    [{"alpha": alpha, "regularization": reg} for alpha in (10, 30) for reg in (20, 60, 180, 540)],
    fit,
    lambda model: (model.user_factors, model.item_factors),
)


def clicks_one(task: Task) -> Rounds:
    """`recalculate_user` with one thread, which is faster for one user."""
    model = fit(made_up(task), SYSTEM.chosen(task), rank(task), 3, threads=1)

    def call(items: np.ndarray) -> object:
        return model.recalculate_user(0, rows_of(items, len(model.item_factors)))

    return {"implicit recalculate_user": one_user(task, call)}


def clicks_many(task: Task) -> Rounds:
    """The same of many, with two threads."""
    model = for_strangers(task, SYSTEM)
    return {
        "implicit recalculate_user": many_users(task, lambda new: model.recalculate_user(np.arange(new.shape[0]), new))
    }


def recommend(task: Task) -> Rounds:
    """`recommend` with two threads, and one of BLAS in each, as implicit advises."""
    known = task.catalogue()
    model = AlternatingLeastSquares(factors=task.rank, num_threads=2)
    model.user_factors, model.item_factors = known.users, known.items
    users, each = known.seen.shape
    seen = sparse.csr_matrix(
        (np.ones(known.seen.size, np.float32), known.seen.ravel(), np.arange(0, known.seen.size + 1, each)),
        (users, len(known.items)),
    )

    def call() -> object:
        with threadpool_limits(1, "blas"):
            return model.recommend(np.arange(users), seen, N=10)

    return {"implicit": lambda: task.timed(call)}
