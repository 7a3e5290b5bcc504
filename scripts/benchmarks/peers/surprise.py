"""Surprise's SVD, with the setting that does best on the data."""

import pandas as pd
from surprise import SVD, Dataset, Reader

from benchmarks.task import Rounds, Task

TUNED = {"n_factors": 100, "n_epochs": 60, "lr_all": 0.01, "reg_all": 0.08, "init_std_dev": 0.05}


def train(task: Task) -> Rounds:
    """Wall time of `fit` alone."""
    frame = pd.DataFrame(task.ratings()._asdict())
    data = Dataset.load_from_df(frame, Reader(rating_scale=(task.low, task.high))).build_full_trainset()
    settings = TUNED | {"n_epochs": task.epochs(TUNED["n_epochs"])}
    user, item, _ = task.hidden()

    def predict(model: SVD) -> list[float]:
        return [model.predict(*pair).est for pair in zip(user, item, strict=True)]

    return {"Surprise SVD, tuned": lambda: task.trial(lambda: SVD(random_state=0, **settings).fit(data), predict)}
