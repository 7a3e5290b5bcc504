"""irspack: iALS in C++."""

import numpy as np
from irspack.recommenders import IALSRecommender

from benchmarks.clicking import Clicked, Settings, System, for_strangers, many_users, one_user, rows_of
from benchmarks.task import Rounds, Task


def fit(of: Clicked, settings: Settings, rank: int, sweeps: int) -> IALSRecommender:
    """A model, with two threads."""
    return IALSRecommender(
        of.matrix(), n_components=rank, train_epochs=sweeps, n_threads=2, random_seed=0, **settings
    ).learn()


SYSTEM = System(
    "irspack",
    [{"alpha0": alpha, "reg": reg} for alpha in (0.003, 0.01, 0.03, 0.1) for reg in (0.01, 0.03)],
    fit,
    lambda model: (model.get_user_embedding(), model.get_item_embedding()),
)


def clicks_one(task: Task) -> Rounds:
    """`compute_user_embedding` with its five steps of conjugate gradients."""
    model = for_strangers(task, SYSTEM)

    def call(items: np.ndarray) -> object:
        return model.compute_user_embedding(rows_of(items, model.n_items))

    return {"irspack compute_user_embedding": one_user(task, call)}


def clicks_many(task: Task) -> Rounds:
    """The same of many."""
    model = for_strangers(task, SYSTEM)
    return {"irspack compute_user_embedding": many_users(task, model.compute_user_embedding)}
