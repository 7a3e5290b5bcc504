"""cmfrec: collective matrix factorisation by ALS, in C. Explicit model, without implicit features."""

import cmfrec
import numpy as np
from scipy import sparse

from benchmarks.clicking import Clicked, Settings, System
from benchmarks.task import Rounds, Task

REG = [5, 3, 12, 12, 12, 12]
"""Of the users' biases, the items', the users' factors, the items', and of two matrices that aren't used here."""


def fold_in_single(task: Task) -> Rounds:
    """`factors_warm`, bias included."""
    model = fitted(task, task.rank)

    def call(at: int) -> object:
        item, rating = task.new_user(at)
        return model.factors_warm(X_col=item, X_val=rating, return_bias=True)

    return {"cmfrec factors_warm": lambda: 1e3 * task.p50(call)}


def of_clicks(of: Clicked, settings: Settings, rank: int, sweeps: int) -> cmfrec.CMF_implicit:
    """The model of clicks, by conjugate gradients with two threads."""
    fixed = {"use_float": True, "nthreads": 2, "random_state": 0, "verbose": False}
    return cmfrec.CMF_implicit(k=rank, niter=sweeps, **fixed, **settings).fit(of.matrix().tocoo())


SYSTEM = System(
    "cmfrec",
    [{"alpha": alpha, "lambda_": reg} for alpha in (10.0, 30.0) for reg in (20.0, 60.0, 180.0, 540.0)],
    of_clicks,
    lambda model: (model.A_, model.B_),
)


def fold_in_batch(task: Task) -> Rounds:
    """`factors_multiple` of a CSR matrix, biases included."""
    model = fitted(task, task.rank)
    users, n = task.new_item.shape
    new = sparse.csr_matrix(
        (task.new_rating.ravel(), task.new_item.ravel(), np.arange(0, users * n + 1, n)), (users, task.n_items)
    )

    def call(_: int) -> object:
        return model.factors_multiple(new, return_bias=True)

    return {"cmfrec factors_multiple": lambda: 1e6 / users * task.p50(call, 20)}


def train(task: Task) -> Rounds:
    """The setting that does best on the data."""
    user, item, _ = task.hidden()
    return {"cmfrec explicit": lambda: task.trial(lambda: fitted(task, 40), lambda model: model.predict(user, item))}


def fitted(task: Task, rank: int) -> cmfrec.CMF:
    """A model of the training ratings."""
    user, item, rating = task.ratings()
    matrix = sparse.coo_matrix((rating, (user, item)), (task.n_users, task.n_items))
    return cmfrec.CMF(k=rank, lambda_=REG).fit(matrix)
