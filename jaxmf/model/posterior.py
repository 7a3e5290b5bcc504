"""What a Bayesian fit leaves: draws of the whole model, and predictions as means over them."""

from collections.abc import Callable
from typing import NamedTuple, cast, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Kernel
from jaxmf.model.likelihoods import Gaussian, Likelihood, Ordinal
from jaxmf.model.params import Params, check_rows, predict
from jaxmf.model.tables import Table


@no_type_check
class Side(struct.PyTreeNode):
    """What a side's rows are drawn from: x ~ N(mean + F·link, 1/precision), a column each.

    Attributes:
        mean: Mean of each column: a scalar bias, `k` factors.
        precision: Precision of each column.
        link: A row a feature; no rows where there are no features.
        link_precision: Precision of the link's entries, in units of their column's.
    """

    mean: Table
    precision: Table
    link: Table
    link_precision: Float[Array, ""]


@no_type_check
class Draw(struct.PyTreeNode):
    """One draw of everything; with an axis more in front (`s`), a posterior of `s` draws.

    Attributes:
        params: Rows of both sides.
        user: What user rows are drawn from.
        item: What item rows are drawn from.
        noise: Precision of a rating of weight 1; 1 where the likelihood is ordinal, whose unit it is.
        likelihood: What a rating is, given the rows.
    """

    params: Params
    user: Side
    item: Side
    noise: Float[Array, ""]
    likelihood: Likelihood = Gaussian()

    def transpose(self) -> "Draw":
        """The same from the other side: items as users, users as items."""
        return self.replace(params=jax.vmap(Params.transpose)(self.params), user=self.item, item=self.user)

    def predict(self, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Float[Array, " n"]:
        """Expected ratings of the pairs (user, item) under one draw."""
        return self.likelihood.mean(predict(self.params, kernel, user, item), self.noise)


class Predictive(NamedTuple):
    """The predictive distribution of a rating, by its first two moments.

    Attributes:
        mean: Posterior mean of the rating; not clipped.
        std: Standard deviation of a rating, noise included.
        model_std: Standard deviation of the prediction alone: what more ratings would make smaller.
    """

    mean: Float[Array, " n"]
    std: Float[Array, " n"]
    model_std: Float[Array, " n"]


def predictive(posterior: Draw, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Predictive:
    """Mean and spread of the ratings of the pairs (user, item) over the draws.

    Raises:
        ValueError: If a row on the host is not in its table.

    Cost: a prediction a draw; memory that of one.
    """
    first = jax.tree.map(lambda x: x[0], posterior.params)
    check_rows(user, first.user, "user")
    check_rows(item, first.item, "item")
    return _predictive(posterior, kernel, jnp.asarray(user), jnp.asarray(item))


def moments(function: Callable[[PyTree], PyTree], draws: PyTree) -> tuple[PyTree, PyTree]:
    """Mean and variance over the draws of what `function` makes of each, in the memory of a few of its results.

    Sums are about the first draw's, so that the squares lose nothing to rounding.
    """
    centre = function(jax.tree.map(lambda x: x[0], draws))

    def add(sums: tuple, draw: PyTree) -> tuple[tuple, None]:
        away = jax.tree.map(jnp.subtract, function(draw), centre)
        return jax.tree.map(lambda total, x: total + x, sums, (away, jax.tree.map(jnp.square, away))), None

    zero = jax.tree.map(jnp.zeros_like, centre)
    n = len(jax.tree.leaves(draws)[0])
    mean, square = jax.tree.map(lambda total: total / n, lax.scan(add, (zero, zero), draws)[0])
    variance = jax.tree.map(lambda square, mean: jnp.maximum(square - mean**2, 0), square, mean)
    return jax.tree.map(jnp.add, centre, mean), variance


def ratings_of_draws(
    posterior: Draw, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, "s n"]:
    """Predicted ratings of the pairs (user, item) under each draw: for quantiles, and for Thompson sampling."""
    return lax.map(lambda draw: draw.predict(kernel, user, item), posterior)


def noise_variance(
    posterior: Draw, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, "..."]:
    """Variance of a rating about its expectation, the mean over the draws: one number, or one a pair (user, item)."""

    def of_draw(draw: Draw) -> Float[Array, "..."]:
        return draw.likelihood.variance(predict(draw.params, kernel, user, item), draw.noise)

    return lax.map(of_draw, posterior).mean(0)


def rounded(posterior: Draw, levels: Float[AnyArray, " levels"]) -> Draw:
    """A Gaussian posterior whose ratings are rounded to the nearest level: ordinal, the cutpoints halfway between.

    Raises:
        ValueError: If the posterior is ordinal.
    """
    if isinstance(posterior.likelihood, Ordinal):
        raise ValueError("the posterior is ordinal: its ratings are levels already")
    levels = jnp.broadcast_to(jnp.float32(levels), (*posterior.noise.shape, len(levels)))
    return posterior.replace(likelihood=Ordinal(levels, (levels[:, 1:] + levels[:, :-1]) / 2))


@jax.jit
def class_probabilities(
    posterior: Draw, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, "n levels"]:
    """Probability of each level for the pairs (user, item), the mean over the draws.

    Args:
        posterior: An ordinal posterior; a Gaussian one must be `rounded` to levels.
        kernel: The kernel.
        user: User rows.
        item: Item rows.

    Raises:
        ValueError: If the posterior is Gaussian.
    """
    if not isinstance(posterior.likelihood, Ordinal):
        raise ValueError("a Gaussian posterior has no classes: give it the levels with jaxmf.posterior.rounded")

    def add(total: Float[Array, "n levels"], draw: Draw) -> tuple[Float[Array, "n levels"], None]:
        predicted = predict(draw.params, kernel, user, item)
        return total + cast(Ordinal, draw.likelihood).probabilities(predicted, draw.noise), None

    zero = jnp.zeros((len(user), posterior.likelihood.levels.shape[-1]))
    return lax.scan(add, zero, posterior)[0] / posterior.noise.shape[0]


def pick(key: Key[Array, ""], posterior: Draw) -> Params:
    """The model of one draw, picked at random: what Thompson sampling acts on."""
    at = jax.random.randint(key, (), 0, posterior.noise.shape[0])
    return jax.tree.map(lambda x: x[at], posterior.params)


@jax.jit
def _predictive(posterior: Draw, kernel: Kernel, user: Int[Array, " n"], item: Int[Array, " n"]) -> Predictive:
    def of_draw(draw: Draw) -> tuple[Float[Array, " n"], Float[Array, "..."]]:
        predicted = predict(draw.params, kernel, user, item)
        return draw.likelihood.mean(predicted, draw.noise), draw.likelihood.variance(predicted, draw.noise)

    (mean, noise), (variance, _) = moments(of_draw, posterior)
    return Predictive(mean, jnp.sqrt(variance + noise), jnp.sqrt(variance))
