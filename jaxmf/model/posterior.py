"""What a Bayesian fit leaves: draws of the whole model, and predictions as means over them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxmf.data.arrays import Column
from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Kernel
from jaxmf.model.likelihoods import Gaussian, Likelihood, Ordinal
from jaxmf.model.links import Links
from jaxmf.model.model import Model, described, grown_links, unheard
from jaxmf.model.params import Params, given_rows, predict
from jaxmf.model.priors import Prior, Priors
from jaxmf.model.tables import Table, resized


@no_type_check
class Population(struct.PyTreeNode):
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
    """One draw of everything; in a `Posterior`, with an axis more in front (`s`).

    Attributes:
        params: Rows of both sides.
        user: What user rows are drawn from.
        item: What item rows are drawn from.
        noise: Precision of a rating of weight 1, the average over users; near 1 where the likelihood is ordinal, since
            most users' is its unit.
        likelihood: What a rating is, given the rows.
    """

    params: Params
    user: Population
    item: Population
    noise: Float[Array, ""]
    likelihood: Likelihood = Gaussian()

    def transpose(self) -> "Draw":
        """The same from the other side: items as users, users as items."""
        return self.replace(params=self.params.transpose(), user=self.item, item=self.user)

    def predict(self, kernel: Kernel, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Float[Array, " n"]:
        """Expected ratings of the pairs (user, item) under one draw."""
        return self.likelihood.mean(predict(self.params, kernel, user, item), self.noise)


@no_type_check
class Posterior(struct.PyTreeNode):
    """`s` draws of everything, which answer what a `Model` does: a prediction is a mean over them, a row is drawn anew.

    Attributes:
        draws: The draws.
        kernel: What makes a rating of two rows.
        key: Random key of the next fold-in's draws.
        implicit: Whether the users' features, and the items', are their implicit feedback; as in `Model`.
    """

    draws: Draw
    kernel: Kernel
    key: Key[Array, ""]
    implicit: tuple[bool, bool] = struct.field(pytree_node=False, default=(False, False))

    def __len__(self) -> int:
        return self.draws.noise.shape[0]

    def __repr__(self) -> str:
        return described("Posterior", self.params, self.kernel, self.implicit, f"{len(self)} draws of ")

    @property
    def params(self) -> Params:
        """The rows under every draw."""
        return self.draws.params

    def transpose(self) -> "Posterior":
        """The same seen from the other side: items as users, users as items."""
        return self.replace(draws=self.draws.transpose(), implicit=self.implicit[::-1])

    def frozen(self) -> "Posterior":
        """The posterior without the users' rows, whatever their number: what these are drawn against."""
        item = self.draws.item.replace(link=None)
        return self.replace(draws=self.draws.replace(params=self.params.replace(user=None), item=item))

    def with_users(self, table: Table) -> "Posterior":
        """The posterior with another table of users for each draw."""
        return self.replace(draws=self.draws.replace(params=self.params.replace(user=table)))

    def with_strangers(self, table: Table) -> "Posterior":
        """The posterior with a table of other users for each draw, as `Model.with_strangers`."""
        posterior = self.with_users(table)
        if not self.implicit[1]:
            return posterior
        return posterior.replace(draws=posterior.draws.replace(item=self.draws.item.replace(link=unheard(table))))

    def advanced(self) -> "Posterior":
        """The posterior with the key of the next fold-in."""
        return self.replace(key=jax.random.split(self.key, 1)[0])

    def take_users(self, kept: Int[AnyArray, " b"]) -> "Posterior":
        """The posterior with only the users `kept`, in this order."""
        item = self.draws.item
        item = item.replace(link=item.link.take(kept)) if self.implicit[1] else item
        params = self.params.replace(user=self.params.user.take(kept))
        return self.replace(draws=self.draws.replace(params=params, item=item))

    def grown(self, n_users: int, n_items: int) -> "Posterior":
        """The posterior with at least so many rows: new ones are 0, and so is what being rated by or of one says."""
        params = self.params.replace(user=resized(self.params.user, n_users), item=resized(self.params.item, n_items))
        links = grown_links(Links(self.draws.user.link, self.draws.item.link), self.implicit, n_users, n_items)
        user, item = self.draws.user.replace(link=links.user), self.draws.item.replace(link=links.item)
        return self.replace(draws=self.draws.replace(params=params, user=user, item=item))

    def link(self) -> Table | None:
        """The users' link under every draw; `None` where they have no features."""
        link = self.draws.user.link
        return link if link.bias.shape[1] else None

    def predict(self, user: Column, item: Column) -> Float[Array, " n"]:
        """Posterior means of the ratings of the pairs (user, item); not clipped.

        Raises:
            ValueError: If a row on the host is not in its table.
        """
        return predictive(self, user, item).mean


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


def predictive(posterior: Posterior, user: Column, item: Column) -> Predictive:
    """Mean and spread of the ratings of the pairs (user, item) over the draws.

    Raises:
        ValueError: If a row on the host is not in its table.

    Cost: a prediction a draw; memory that of one.
    """
    user, item = given_rows(user, posterior.params.user, "user"), given_rows(item, posterior.params.item, "item")
    return _predictive(posterior, jnp.asarray(user), jnp.asarray(item))


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


def ratings_of_draws(posterior: Posterior, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Float[Array, "s n"]:
    """Predicted ratings of the pairs (user, item) under each draw: for quantiles, and for Thompson sampling."""
    return lax.map(lambda draw: draw.predict(posterior.kernel, user, item), posterior.draws)


def noise_variance(posterior: Posterior, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Float[Array, "..."]:
    """Variance of a rating about its expectation, the mean over the draws: one number, or one a pair (user, item)."""

    def of_draw(draw: Draw) -> Float[Array, "..."]:
        return draw.likelihood.variance(predict(draw.params, posterior.kernel, user, item), draw.noise)

    return lax.map(of_draw, posterior.draws).mean(0)


def rounded(posterior: Posterior, levels: Float[AnyArray, " levels"]) -> Posterior:
    """A Gaussian posterior whose ratings are rounded to the nearest level: ordinal, the cutpoints halfway between.

    Raises:
        ValueError: If the posterior is ordinal.
    """
    if isinstance(posterior.draws.likelihood, Ordinal):
        raise ValueError("the posterior is ordinal: its ratings are levels already")
    levels = jnp.broadcast_to(jnp.float32(levels), (len(posterior), len(levels)))
    ordinal = Ordinal(levels, (levels[:, 1:] + levels[:, :-1]) / 2)
    return posterior.replace(draws=posterior.draws.replace(likelihood=ordinal))


@jax.jit
def class_probabilities(
    posterior: Posterior, user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]
) -> Float[Array, "n levels"]:
    """Probability of each level for the pairs (user, item), the mean over the draws.

    Args:
        posterior: An ordinal posterior; a Gaussian one must be `rounded` to levels.
        user: User rows.
        item: Item rows.

    Raises:
        ValueError: If the posterior is Gaussian.
    """
    if not isinstance(posterior.draws.likelihood, Ordinal):
        raise ValueError("a Gaussian posterior has no classes: give it the levels with jaxmf.posterior.rounded")

    def add(total: Float[Array, "n levels"], draw: Draw) -> tuple[Float[Array, "n levels"], None]:
        predicted = predict(draw.params, posterior.kernel, user, item)
        return total + cast(Ordinal, draw.likelihood).probabilities(predicted, draw.noise), None

    zero = jnp.zeros((len(user), posterior.draws.likelihood.levels.shape[-1]))
    return lax.scan(add, zero, posterior.draws)[0] / len(posterior)


def pick(key: Key[Array, ""], posterior: Posterior) -> Model:
    """One draw as a point model, picked at random: what Thompson sampling acts on.

    Fold in before the pick: a posterior's rows are drawn about each draw's own population, while the model's priors
    have no means, and of the precisions, in units of the noise's, one for all factors. A row that is folded into the
    model is drawn to 0, or to what its features say alone.
    """
    at = jax.random.randint(key, (), 0, len(posterior))
    draw = jax.tree.map(lambda x: x[at], posterior.draws)

    def prior(side: Population) -> Prior:
        noise = draw.noise * posterior.kernel.unit**2  # a model's errors, and so its priors, are in that unit
        reg = jax.tree.map(lambda precision: precision.mean() / noise, side.precision)
        return Prior(reg.bias, reg.factors, 0.0, side.link_precision)

    links = Links(draw.user.link, draw.item.link)
    return Model(draw.params, posterior.kernel, Priors(prior(draw.user), prior(draw.item)), links, posterior.implicit)


def thin(posterior: Posterior, draws: int) -> Posterior:
    """`draws` of the kept draws, evenly spaced: faster to fold in with, and rougher.

    Raises:
        ValueError: If `draws` is not between 1 and the number kept.
    """
    if not 1 <= draws <= len(posterior):
        raise ValueError(f"draws must be between 1 and the {len(posterior)} kept, got {draws}")
    return posterior.replace(draws=_thinned(posterior.draws, draws))


@partial(jax.jit, static_argnames="draws")
def _thinned(kept: Draw, draws: int) -> Draw:
    return jax.tree.map(lambda x: x[np.arange(draws) * x.shape[0] // draws], kept)


@jax.jit
def _predictive(posterior: Posterior, user: Int[Array, " n"], item: Int[Array, " n"]) -> Predictive:
    def of_draw(draw: Draw) -> tuple[Float[Array, " n"], Float[Array, "..."]]:
        predicted = predict(draw.params, posterior.kernel, user, item)
        return draw.likelihood.mean(predicted, draw.noise), draw.likelihood.variance(predicted, draw.noise)

    (mean, noise), (variance, _) = moments(of_draw, posterior.draws)
    return Predictive(mean, jnp.sqrt(variance + noise), jnp.sqrt(variance))
