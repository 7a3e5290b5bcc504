"""Kernel matrix factorisation in JAX whose users and items are updated online, in microseconds, without retraining."""

from importlib.metadata import PackageNotFoundError, version

from jaxmf import sharding
from jaxmf.baselines import interop, surprise, weighted_rating
from jaxmf.data import changes, datasets, features, histories, ratings, splits
from jaxmf.evaluation import convergence, metrics, ranking
from jaxmf.keeping import checkpoint
from jaxmf.model import kernels, likelihoods, links, objective, params, posterior, priors, problem, rows, tables
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.naming import name_functions
from jaxmf.online import asking, drift, fold_in, given, laplace, update
from jaxmf.serving import choosing, explain, judging, neighbours, recommend
from jaxmf.serving.recommender import Recommender
from jaxmf.training import als, evidence, gibbs, loop, notebook, rehearsal, sgd, tune
from jaxmf.training.loop import Fit, Watch

name_functions()

try:
    __version__ = version("jaxmf")
except PackageNotFoundError:  # read from its source, and not installed
    __version__ = "unknown"

__all__ = [
    "Fit",
    "Model",
    "Posterior",
    "Recommender",
    "Watch",
    "__version__",
    "als",
    "asking",
    "changes",
    "checkpoint",
    "choosing",
    "convergence",
    "datasets",
    "drift",
    "evidence",
    "explain",
    "features",
    "fold_in",
    "gibbs",
    "given",
    "histories",
    "interop",
    "judging",
    "kernels",
    "laplace",
    "likelihoods",
    "links",
    "loop",
    "metrics",
    "neighbours",
    "notebook",
    "objective",
    "params",
    "posterior",
    "priors",
    "problem",
    "ranking",
    "ratings",
    "recommend",
    "rehearsal",
    "rows",
    "sgd",
    "sharding",
    "splits",
    "surprise",
    "tables",
    "tune",
    "update",
    "weighted_rating",
]
