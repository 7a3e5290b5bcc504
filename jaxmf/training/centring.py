"""Implicit feedback centred: a row without any is the average row, and one with little leans to it.

Trained, a row's prior mean is F·L with F = 1/√n at what it rated, so that of a row without feedback it is 0: somebody
who rates nothing, as nobody does who was trained on. What the link says of whoever rates at all, L̄ = Σ p L with p the
ratings' shares, is √n·L̄ in it. A newcomer's n says how new they are, and not how active. So it is taken out of the
link, and every row is given what an average one has of it: the prior mean becomes √n̄·L̄ + Σ (L − L̄)/√n.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.links import Links
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Population, Posterior
from jaxmf.model.tables import Table

ADDITIVE = (Linear, Logistic)
"""Kernels of the sum of offset, biases and the factors' product."""


def centred_model(model: Model, ratings: Ratings) -> Model:
    """A model that predicts the same of rows that were rated, and whose strangers are average.

    Its rows are counted from the average ones. With w = w' + c and h = h' + d the score has w'·h' + w'·d + c·h' + c·d,
    of which the last three are the users' biases', the items' and the offset's. So it takes a kernel whose score is
    a sum; a model of another kernel is left as it is.
    """
    if model.links is None or not isinstance(model.kernel, ADDITIVE):
        return model
    params, links, of_items = model.params, model.links, ratings.transpose()
    user_link, of_user = _centred(links.user, ratings, model.implicit[0])
    item_link, of_item = _centred(links.item, of_items, model.implicit[1])
    users = _counted(params.user, of_user, ratings) if model.implicit[0] else params.user
    items = _counted(params.item, of_item, of_items) if model.implicit[1] else params.item
    unit = model.kernel.unit if model.kernel.linear else 1.0
    constant = of_user.bias + of_item.bias + of_user.factors @ of_item.factors
    params = Params(
        users.replace(bias=users.bias + users.factors @ of_item.factors),
        items.replace(bias=items.bias + items.factors @ of_user.factors),
        params.offset + jnp.multiply(unit, constant),
    )
    return model.replace(params=params, links=Links(user_link, item_link))


def centred_posterior(posterior: Posterior, ratings: Ratings) -> Posterior:
    """A posterior of the same rows, and whose strangers are average under every draw."""
    draws, params, of_items = posterior.draws, posterior.params, ratings.transpose()
    user, users = _drawn(draws.user, params.user, ratings, posterior.implicit[0])
    item, items = _drawn(draws.item, params.item, of_items, posterior.implicit[1])
    return posterior.replace(draws=draws.replace(params=params.replace(user=users, item=items), user=user, item=item))


def _counted(table: Table, typical: Table, ratings: Ratings) -> Table:
    """The users' rows from the average row on; those without ratings are 0, the average."""
    away = table - jax.tree.map(lambda x: x[None], typical)
    return away.where(_rated(ratings), jax.tree.map(jnp.zeros_like, away))


def _drawn(side: Population, table: Table, ratings: Ratings, implicit: bool) -> tuple[Population, Table]:
    """The users' population and rows; those without ratings were drawn about another mean."""
    link, typical = _centred(side.link, ratings, implicit)
    lacking = jnp.where(_rated(ratings), 0.0, 1.0)[None]
    more = Table(typical.bias[:, None] * lacking, typical.factors[:, None] * lacking[..., None])
    return side.replace(link=link, mean=side.mean + typical), table + more


def _centred(link: Table, ratings: Ratings, implicit: bool) -> tuple[Table, Table]:
    """The users' link less what it says of whoever rates, and what the average user has of that; of every draw."""
    if not implicit:
        return link, Table(jnp.zeros(link.bias.shape[:-1]), jnp.zeros((*link.factors.shape[:-2], link.rank)))
    counts = np.asarray(ratings.weight) > 0
    share = np.bincount(ratings.item, counts, ratings.n_items) / counts.sum()
    n = np.bincount(ratings.user, counts, ratings.n_users)
    active = np.float32(np.sqrt(n[n > 0]).mean())
    bias = jnp.einsum("i,...i->...", jnp.float32(share), link.bias)
    factors = jnp.einsum("i,...ik->...k", jnp.float32(share), link.factors)
    less = Table(link.bias - bias[..., None], link.factors - factors[..., None, :])
    return less, Table(active * bias, active * factors)


def _rated(ratings: Ratings) -> Bool[np.ndarray, " users"]:
    """Which users have a rating."""
    return np.bincount(ratings.user, np.asarray(ratings.weight) > 0, ratings.n_users) > 0
