"""Ours, of clicks."""

import jax
import numpy as np

import jaxmf
from benchmarks.task import CLICKS_RANK, SYNTHETIC, Clicked, Rounds, Task
from jaxmf.data.ratings import Ratings

CLICKS = jaxmf.kernels.Clicks()


def clicks(task: Task) -> Rounds:
    """Sweeps of ALS for clicks, with the package's own settings; what is compiled is compiled before."""

    def fit(of: Clicked, rank: int, sweeps: int) -> jaxmf.Fit:
        one = np.ones(len(of.user), np.float32)
        return jaxmf.als.fit(
            jax.random.key(0), Ratings(*of[:2], one, one, *of[2:]), kernel=CLICKS, rank=rank, epochs=sweeps
        )

    def factors(sweeps: int) -> tuple[np.ndarray, np.ndarray]:
        params = fit(task.clicked(), CLICKS_RANK, sweeps).model.params
        return np.asarray(params.user.factors), np.asarray(params.item.factors)

    made_up = task.made_up()
    for of, rank in ((task.clicked(), CLICKS_RANK), (made_up, SYNTHETIC[-1])):
        fit(of, rank, 1)
    return {
        "jaxmf": task.sweeps(factors),
        "jaxmf, synthetic": task.only_sweeps(lambda sweeps: fit(made_up, SYNTHETIC[-1], sweeps)),
    }
