"""Kernel matrix factorisation in JAX whose users and items are updated online, in microseconds, without retraining."""

from jaxmf.baselines import surprise, weighted_rating
from jaxmf.data import changes, datasets, features, histories, ratings, splits
from jaxmf.evaluation import metrics
from jaxmf.model import kernels, likelihoods, objective, params, priors, rows, tables
from jaxmf.online import asking, drift, fold_in, posterior, update
from jaxmf.training import als, gibbs, loop, notebook, sgd
from jaxmf.training.loop import Fit, Watch

__all__ = [
    "Fit",
    "Watch",
    "als",
    "asking",
    "changes",
    "datasets",
    "drift",
    "features",
    "fold_in",
    "gibbs",
    "histories",
    "kernels",
    "likelihoods",
    "loop",
    "metrics",
    "notebook",
    "objective",
    "params",
    "posterior",
    "priors",
    "ratings",
    "rows",
    "sgd",
    "splits",
    "surprise",
    "tables",
    "update",
    "weighted_rating",
]
