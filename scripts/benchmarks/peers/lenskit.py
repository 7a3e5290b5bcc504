"""LensKit's BiasedMF: ALS on what biases leave, in Rust."""

import numpy as np
import pandas as pd
from lenskit.als import BiasedMFScorer
from lenskit.data import Dataset, ItemList, RecQuery, from_interactions_df
from lenskit.training import TrainingOptions

from benchmarks.task import Rounds, Task


def fold_in_single(task: Task) -> Rounds:
    """What scoring does first for a user who comes with ratings: bias and factors, no score."""
    model = fitted(task, dataset(task), task.rank)

    def call(at: int) -> object:
        item, rating = task.new_user(at)
        return model.new_user_embedding(None, ItemList(item_ids=item, rating=rating))

    return {"LensKit BiasedMF, at query time": lambda: 1e3 * task.p50(call)}


def train(task: Task) -> Rounds:
    """The setting that does best on the data."""
    data = dataset(task)
    return {
        "LensKit BiasedMF": lambda: task.trial(lambda: fitted(task, data, 50), lambda model: predicted(model, task))
    }


def predicted(model: BiasedMFScorer, task: Task) -> np.ndarray:
    """Predictions for the test ratings; of items without factors by the biases."""
    user, item, rating = task.hidden()
    out = np.empty_like(rating)
    for one in np.unique(user):
        at = user == one
        items = ItemList(item_ids=item[at])
        scores = model(RecQuery(user_id=one), items).scores()
        biases, _ = model.bias.compute_for_items(items, one)
        out[at] = np.where(np.isnan(scores), biases, scores)
    return out


def fitted(task: Task, data: Dataset, rank: int) -> BiasedMFScorer:
    """A model of the training ratings."""
    model = BiasedMFScorer(embedding_size=rank, epochs=task.epochs(20), regularization=0.1, damping=5.0)
    model.train(data, TrainingOptions(rng=0))
    return model


def dataset(task: Task) -> Dataset:
    """The training ratings as LensKit's."""
    user, item, rating = task.ratings()
    return from_interactions_df(pd.DataFrame({"user_id": user, "item_id": item, "rating": rating}))
