"""Models of other libraries as a `Model` of the linear kernel: their arrays in, so that none of them is imported.

Their rows can then be folded into, ranked and kept here. A fold-in solves for this package's objective, under priors
that `adopt` finds in the ratings, and for models of clicks under those of the library's own objective.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import ScalarLike
from numpy.typing import ArrayLike

from jaxmf.baselines.adopting import Converted, adopt
from jaxmf.data.arrays import Frame, to_frame, to_numbers
from jaxmf.data.ids import Vocabulary
from jaxmf.model.kernels import Clicks, Linear
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import Prior, check
from jaxmf.model.tables import Table

__all__ = [
    "Bias",
    "Converted",
    "adopt",
    "from_cmfrec",
    "from_factors",
    "from_implicit",
    "from_irspack",
    "from_lenskit",
    "from_spark",
]


def from_factors(
    user_factors: ArrayLike,
    item_factors: ArrayLike,
    *,
    user_bias: ArrayLike | None = None,
    item_bias: ArrayLike | None = None,
    offset: ScalarLike = 0.0,
) -> Model:
    """The model offset + bᵤ + bᵢ + wᵤ·hᵢ of any library; biases are 0 where there are none.

    Raises:
        ValueError: If the factors are not two tables of one rank, or there is not one bias a row, or a number is not
            finite.

    Example:
        >>> model = from_factors([[1.0, 2.0]], [[3.0, 0.5]], item_bias=[0.25], offset=3.0)
        >>> model.predict(np.array([0]), np.array([0]))
        Array([7.25], dtype=float32)
    """
    user, item = _table(user_factors, user_bias, "user"), _table(item_factors, item_bias, "item")
    if user.rank != item.rank:
        raise ValueError(f"users have {user.rank} factors and items {item.rank}: give the two tables of one model")
    if not np.isfinite(offset):
        raise ValueError(f"offset must be finite, got {offset}: give the mean rating that the model adds, or 0")
    return Model(Params(user, item, jnp.float32(offset)), Linear())


def from_implicit(
    user_factors: ArrayLike,
    item_factors: ArrayLike,
    *,
    item_bias_last: bool = False,
    alpha: ScalarLike | None = None,
    regularization: ScalarLike = 0.01,
) -> Model:
    """A model of implicit: its score is wᵤ·hᵢ.

    A fold-in into its `AlternatingLeastSquares`, whose `alpha` is given, gives the row that `recalculate_user` does for
    the values of the matrix that it was fitted to, which are the clicks' weights.

    Args:
        user_factors: The fitted model's `user_factors`.
        item_factors: Its `item_factors`.
        item_bias_last: The last column is the items' bias, and 1 for users: `BayesianPersonalizedRanking`.
        alpha: That of an `AlternatingLeastSquares`.
        regularization: Likewise.

    Raises:
        ValueError: As `from_factors`, or if the users' last column is not 1 under `item_bias_last`, or `alpha` is not
            positive.
    """
    if alpha is not None:
        # Its objective over alpha: a pair's weight is its value, that of any other 1/alpha.
        kernel = Clicks(1 / _positive("alpha", alpha), "linear", doubly=False)
        prior = Prior(factor_reg=_positive("regularization", regularization) / alpha, power=0.0)
        return _of_clicks(user_factors, item_factors, kernel, prior)
    if not item_bias_last:
        return from_factors(user_factors, item_factors)
    user, item = _factors(user_factors, "user"), _factors(item_factors, "item")
    if not np.all(user[:, -1] == 1):
        raise ValueError("the users' last column is not 1 throughout: this is no model whose last column is a bias")
    return from_factors(user[:, :-1], item[:, :-1], item_bias=item[:, -1])


def from_irspack(
    user_factors: ArrayLike, item_factors: ArrayLike, *, alpha0: ScalarLike, reg: ScalarLike, nu: ScalarLike = 1.0
) -> Model:
    """A model of irspack's `IALSRecommender`, whose fold-ins are of clicks of the weights that it was fitted to.

    Args:
        user_factors: `trainer.core_trainer.user` of the fitted recommender.
        item_factors: Its `trainer.core_trainer.item`.
        alpha0: Its `alpha0`.
        reg: Its `reg`.
        nu: Its `nu`.

    Raises:
        ValueError: As `from_factors`, or if `alpha0` or `reg` is not positive, or `nu` not between 0 and 1.
    """
    prior = Prior(factor_reg=_positive("reg", reg), power=float(nu))
    return _of_clicks(user_factors, item_factors, Clicks(_positive("alpha0", alpha0), "linear", counts=True), prior)


def _of_clicks(user_factors: ArrayLike, item_factors: ArrayLike, kernel: Clicks, prior: Prior) -> Model:
    model = from_factors(user_factors, item_factors)
    return Model(model.params.counted(), kernel, check(prior))


def _positive(name: str, value: ScalarLike) -> float:
    if not 0 < float(value) < np.inf:
        raise ValueError(
            f"{name} must be positive and finite, got {value}: give the one that the model was fitted with"
        )
    return float(value)


@runtime_checkable
class Bias(Protocol):
    """What LensKit calls the `bias` of a `BiasedMFScorer`."""

    global_bias: ScalarLike
    user_biases: ArrayLike | None
    item_biases: ArrayLike | None


def from_lenskit(user_embeddings: ArrayLike, item_embeddings: ArrayLike, bias: Bias | None = None) -> Model:
    """A model of LensKit: global bias + bᵢ + bᵤ + wᵤ·hᵢ.

    Args:
        user_embeddings: The fitted scorer's `user_embeddings`. Given a user's ratings in a query, LensKit solves for
            the row anew unless the scorer's `user_embeddings` setting is "prefer".
        item_embeddings: Its `item_embeddings`.
        bias: Its `bias`, where it is a `BiasedMFScorer`.

    Raises:
        ValueError: As `from_factors`.
    """
    if bias is None:
        return from_factors(user_embeddings, item_embeddings)
    biases = {"user_bias": bias.user_biases, "item_bias": bias.item_biases, "offset": bias.global_bias}
    return from_factors(user_embeddings, item_embeddings, **biases)


def from_cmfrec(
    a: ArrayLike,
    b: ArrayLike,
    *,
    glob_mean: ScalarLike = 0.0,
    user_bias: ArrayLike | None = None,
    item_bias: ArrayLike | None = None,
    k_user: int = 0,
    k_item: int = 0,
) -> Model:
    """A model of cmfrec: mean + bᵤ + bᵢ + aᵤ·bᵢ over the columns that the ratings share.

    It is what its `topN`, and its `predict` of one pair, give; `predict` of several pairs (3.5.1) leaves out the last
    `k_main` columns, which it was trained with.

    Args:
        a: The fitted model's `A_`, whose rows are of the ids `user_mapping_`.
        b: Its `B_`, of `item_mapping_`.
        glob_mean: Its `glob_mean_`.
        user_bias: Its `user_bias_`, which is empty where it was fitted without.
        item_bias: Its `item_bias_`, likewise.
        k_user: Its first columns of `A_` that only describe users' side information.
        k_item: The same of `B_`.

    Raises:
        ValueError: As `from_factors`, or if no column is left behind the first `k_user` or `k_item`.
    """
    factors = _shared(a, k_user, "user"), _shared(b, k_item, "item")
    user_bias, item_bias = (None if bias is None or np.size(bias) == 0 else bias for bias in (user_bias, item_bias))
    return from_factors(*factors, user_bias=user_bias, item_bias=item_bias, offset=glob_mean)


def from_spark(
    user_factors: Frame, item_factors: Frame, *, alpha: ScalarLike | None = None, reg: ScalarLike = 0.1
) -> Converted:
    """A model of Spark's `ALS`, with its ids: its prediction is wᵤ·hᵢ.

    A fold-in into one of implicit preferences, whose `alpha` is given, gives Spark's own row where each click's weight
    is 1 + 1/alpha: Spark adds 1 to alpha times how often, and `Clicks` does not. Of more clicks than one of a pair the
    regularisation counts each, and Spark's counts the pair.

    Args:
        user_factors: The fitted model's `userFactors.toPandas()`: columns `id` and `features`.
        item_factors: Its `itemFactors.toPandas()`.
        alpha: Its `alpha`, where it was fitted with `implicitPrefs=True`.
        reg: Likewise its `regParam`.

    Raises:
        ValueError: As `from_factors`, or if a column is missing, an id comes twice, or `alpha` or `reg` is not
            positive.

    Example:
        >>> users, items = {"id": [7], "features": [[1.0, 2.0]]}, {"id": [3, 1], "features": [[3.0, 0.5], [1.0, 0.0]]}
        >>> model, _, known = from_spark(users, items)
        >>> model.predict(np.array([0]), known.encode([1]))
        Array([1.], dtype=float32)
    """
    (users, user), (items, item) = _of_frame(user_factors, "user"), _of_frame(item_factors, "item")
    if alpha is None:
        return Converted(from_factors(user, item), users, items)
    kernel = Clicks(1 / _positive("alpha", alpha), "linear", doubly=False)
    prior = Prior(factor_reg=_positive("reg", reg) / alpha, power=1.0)
    return Converted(_of_clicks(user, item, kernel, prior), users, items)


def _of_frame(frame: Frame, side: str) -> tuple[Vocabulary, np.ndarray]:
    """The ids and the factors of a frame of Spark's."""
    table = to_frame(frame)
    missing = {"id", "features"} - set(table.columns)
    if missing:
        raise ValueError(
            f"no column {min(missing)!r} in the frame of {side}s, which has {table.columns}: give the fitted model's "
            f"{side}Factors.toPandas()"
        )
    return Vocabulary(table["id"]), to_numbers(table["features"], f"{side} factors")


def _factors(factors: ArrayLike, side: str) -> np.ndarray:
    factors = np.asarray(factors, np.float32)
    if factors.ndim != 2:
        raise ValueError(f"{side} factors have shape {factors.shape}: give one row a {side}, one column a factor")
    return factors


def _shared(factors: ArrayLike, skipped: int, side: str) -> np.ndarray:
    factors = _factors(factors, side)
    if not 0 <= skipped < factors.shape[1]:
        raise ValueError(
            f"k_{side} must be from 0 to {factors.shape[1] - 1}, one less than the {side}s' columns, got {skipped}: "
            f"give the k_{side} that the model was made with"
        )
    return factors[:, skipped:]


def _table(factors: ArrayLike, bias: ArrayLike | None, side: str) -> Table:
    factors = _factors(factors, side)
    bias = np.zeros(len(factors), np.float32) if bias is None else np.asarray(bias, np.float32)
    if bias.shape != factors.shape[:1]:
        raise ValueError(f"{side} biases have shape {bias.shape}, the factors {factors.shape}: give one a row")
    if not (np.isfinite(factors).all() and np.isfinite(bias).all()):
        raise ValueError(f"a {side}'s row is not finite: its library has not fitted it; drop or fill the row")
    return Table(jnp.asarray(bias), jnp.asarray(factors))
