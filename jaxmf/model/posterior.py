"""What a Bayesian fit leaves: draws of the whole model, and predictions as means over them."""

from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Kernel
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
        noise: Precision of a rating of weight 1.
    """

    params: Params
    user: Side
    item: Side
    noise: Float[Array, ""]

    def transpose(self) -> "Draw":
        """The same from the other side: items as users, users as items."""
        return Draw(jax.vmap(Params.transpose)(self.params), self.item, self.user, self.noise)


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


def ratings_of_draws(
    posterior: Draw, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, "s n"]:
    """Predicted ratings of the pairs (user, item) under each draw: for quantiles, and for Thompson sampling."""
    return lax.map(lambda params: predict(params, kernel, user, item), posterior.params)


def pick(key: Key[Array, ""], posterior: Draw) -> Params:
    """The model of one draw, picked at random: what Thompson sampling acts on."""
    at = jax.random.randint(key, (), 0, posterior.noise.shape[0])
    return jax.tree.map(lambda x: x[at], posterior.params)


@jax.jit
def _predictive(posterior: Draw, kernel: Kernel, user: Int[Array, " n"], item: Int[Array, " n"]) -> Predictive:
    def add(sums: tuple, draw: Draw) -> tuple[tuple, None]:
        total, squares = sums
        away = predict(draw.params, kernel, user, item) - centre
        return (total + away, squares + away**2), None

    # About the first draw, so that the squares lose nothing to rounding.
    centre = predict(jax.tree.map(lambda x: x[0], posterior.params), kernel, user, item)
    (total, squares), _ = lax.scan(add, (jnp.zeros_like(centre), jnp.zeros_like(centre)), posterior)
    draws = posterior.noise.shape[0]
    mean = total / draws
    variance = jnp.maximum(squares / draws - mean**2, 0)
    return Predictive(centre + mean, jnp.sqrt(variance + jnp.mean(1 / posterior.noise)), jnp.sqrt(variance))
