"""myFM: Bayesian factorisation machines by Gibbs sampling, in C++."""

import myfm
import numpy as np
from scipy import sparse

from benchmarks.task import Rounds, Task, Triples


def train(task: Task) -> Rounds:
    """Rank 10, 100 iterations, users and items a group each."""
    known, hidden, groups = task.ratings(), task.hidden(), [task.n_users, task.n_items]

    def one_hot(triples: Triples) -> sparse.csr_matrix:
        n = len(triples.user)
        columns = np.stack([triples.user, task.n_users + triples.item], 1).ravel()
        return sparse.csr_matrix((np.ones(2 * n), columns, np.arange(0, 2 * n + 1, 2)), (n, sum(groups)))

    def fit() -> myfm.MyFMRegressor:
        model = myfm.MyFMRegressor(rank=10, random_seed=0)
        return model.fit(one_hot(known), known.rating, n_iter=task.epochs(100), group_shapes=groups)

    return {"myFM": lambda: task.trial(fit, lambda model: model.predict(one_hot(hidden)))}
