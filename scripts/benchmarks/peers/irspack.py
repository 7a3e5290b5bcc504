"""irspack's iALS, with the setting that did best on Epinions' test part at rank 128 of eight."""

import numpy as np
from irspack.recommenders import IALSRecommender
from scipy import sparse

from benchmarks.task import CLICKS_RANK, SYNTHETIC, Clicked, Rounds, Task


def clicks(task: Task) -> Rounds:
    """Sweeps of iALS with two threads."""

    def fit(of: Clicked, rank: int, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
        seen = sparse.csr_matrix((np.ones(len(of.user), np.float32), (of.user, of.item)), (of.n_users, of.n_items))
        settings = {"alpha0": 0.1, "reg": 0.01, "n_threads": 2, "random_seed": 0}
        model = IALSRecommender(seen, n_components=rank, train_epochs=sweeps, **settings).learn()
        return model.trainer.core_trainer.user, model.trainer.core_trainer.item

    made_up = task.made_up()
    return {
        "irspack": task.sweeps(lambda sweeps: fit(task.clicked(), CLICKS_RANK, sweeps)),
        "irspack, synthetic": task.only_sweeps(lambda sweeps: fit(made_up, SYNTHETIC[-1], sweeps)),
    }
