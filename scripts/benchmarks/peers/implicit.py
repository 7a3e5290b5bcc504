"""implicit's ALS: a reference for speed alone. It models whether a film was seen, and predicts no rating."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.task import CLICKS_RANK, SYNTHETIC, Clicked, Rounds, Task


def fold_in_single(task: Task) -> Rounds:
    """`recalculate_user` with one thread, which is faster for one user."""
    user, item, rating = task.ratings()
    model = AlternatingLeastSquares(factors=task.rank, random_state=0, num_threads=1)
    model.fit(sparse.csr_matrix((rating, (user, item)), (task.n_users, task.n_items)), show_progress=False)

    def call(at: int) -> object:
        items, ratings = task.new_user(at)
        return model.recalculate_user(0, sparse.csr_matrix((ratings, items, [0, len(items)]), (1, task.n_items)))

    return {"implicit recalculate_user, reference": lambda: 1e3 * task.p50(call)}


def clicks(task: Task) -> Rounds:
    """Sweeps of ALS with two threads, and the setting that did best on Epinions' test part of five."""

    def fit(of: Clicked, rank: int, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
        seen = sparse.csr_matrix((np.ones(len(of.user), np.float32), (of.user, of.item)), (of.n_users, of.n_items))
        settings = {"alpha": 10, "regularization": 1, "random_state": 0, "num_threads": 2}
        model = AlternatingLeastSquares(factors=rank, iterations=sweeps, **settings)
        with threadpool_limits(1, "blas"):
            model.fit(seen, show_progress=False)
        return model.user_factors, model.item_factors

    made_up = task.made_up()
    return {
        "implicit": task.sweeps(lambda sweeps: fit(task.clicked(), CLICKS_RANK, sweeps)),
        "implicit, synthetic": task.only_sweeps(lambda sweeps: fit(made_up, SYNTHETIC[-1], sweeps)),
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
