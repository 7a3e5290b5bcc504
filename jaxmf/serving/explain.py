"""Why an item: which of the user's own ratings pull its score up, and which down."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, ScalarLike

from jaxmf.data.arrays import to_rows
from jaxmf.data.histories import Block, packed_row, row_block
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.data.settings import check_whole
from jaxmf.model import rows
from jaxmf.model.links import feedback
from jaxmf.model.model import Model
from jaxmf.model.params import check_rows
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.online.update import check_fold_in


class Explanation(NamedTuple):
    """A score as a sum: `baseline` and a `contribution` a rating.

    What is left of `score` after them is the integral's error: nothing for the linear kernel.

    Attributes:
        score: r̂ of the item for the user, folded in from the ratings with as many steps as that takes.
        baseline: r̂ for a user without ratings.
        contribution: How much each of the user's ratings moves it, in the order given and in the unit of the ratings.
    """

    score: float
    baseline: float
    contribution: Float[np.ndarray, " n"]


def explain(model: Model | Posterior, ratings: Ratings, item: int, *, points: int = 8) -> Explanation:
    """How much each of one user's ratings pulls the score of an item up or down.

    Let r⁰ be what a user without ratings would be predicted for the rated items, and r the ratings given. With implicit
    feedback a rating speaks twice: through the solve, and through which item it is of, by its share mⱼ = lⱼ/√n of the
    prior's mean m = Σ mⱼ, where lⱼ is the item's row of the link. The fold-in turns ratings and mean into a score, and
    the contribution of rating j is what both of its voices do,

        ∫₀¹ (rⱼ − r⁰ⱼ)·∂score/∂rⱼ + mⱼ·∂score/∂m dt, taken at r⁰ + t(r − r⁰) and t·m,

    integrated gradients (Sundararajan et al. 2017) through the differentiable fold-in. They sum to score − baseline.
    For the linear kernel the derivatives are constant and the sum exact; for the others the integral is taken at
    `points` points.

    The score is the fold-in's, as a recommender's is for users whom it has folded in. A row as training left it is of
    the items and links before their last step: on MovieLens latest-small .001 stars from it, .008 with feedback.

    Args:
        model: The model; its user table is not looked at. Features of another kind than implicit feedback are not
            explained.
        ratings: The ratings of the one user.
        item: Row of the item to explain.
        points: Points of the integral for a kernel that is not linear.

    Raises:
        ValueError: If there are ratings of several users, a rating or an item does not fit the model, the parameters
            are draws, or the users' link has not a row an item.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import Params
        >>> from jaxmf.model.priors import Prior, Priors
        >>> items = Table(jnp.zeros(2), jnp.ones((2, 1)))
        >>> one = np.ones(1, np.float32)
        >>> liked = Ratings(np.array([0]), np.array([0]), 5 * one, one, n_users=1, n_items=2)
        >>> priors = Priors(Prior(1.0, 1.0), Prior(1.0, 1.0))
        >>> why = explain(Model(Params(items, items, jnp.float32(3.0)), Linear(), priors), liked, 1)
        >>> f"{why.score:.3f} = {why.baseline:.3f} + {why.contribution[0]:.3f}"
        '4.333 = 3.000 + 1.333'
    """
    model = _checked(model, points)
    check_fold_in(model, ratings)
    (row,) = to_rows([item], "item")
    check_rows(np.array([row]), model.params.item, "item")
    if len(np.unique(ratings.user)) > 1:
        raise ValueError(f"ratings of {len(np.unique(ratings.user))} users: explain one user at a time")
    packed = packed_row(ratings.item, ratings.rating, ratings.weight)
    points = 1 if model.kernel.linear else points
    score, baseline, contribution = _explain(model.frozen(), packed, np.int32(row), points)
    return Explanation(float(score), float(baseline), np.asarray(contribution)[: len(ratings)])


def _checked(model: Model | Posterior, points: int) -> Model:
    if isinstance(model, Posterior):
        raise ValueError(
            f"{model!r} has no one prediction to take apart: explain one draw of it, `jaxmf.posterior.pick`, or fit by "
            "als or sgd"
        )
    if model.link() is not None and not model.implicit[0]:
        raise ValueError(
            "the model was trained with features of users that are not their implicit feedback, and explain knows that "
            "alone: explain a model without them"
        )
    check_whole("points", points, least=1, meaning="the number of points that the integral is taken at")
    return model


@partial(jax.jit, static_argnames="points")
def _explain(
    frozen: Model, packed: Int[AnyArray, " packed"], item: ScalarLike, points: int
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " slots"]]:
    kernel, offset, items, block = frozen.kernel, frozen.params.offset, frozen.params.item, row_block(packed)
    said = _shares(block, frozen.link(), items.rank)

    def row(rating: Float[Array, "p w"], mean: Table, start: Table) -> Table:
        problem = frozen.problem(block.replace(rating=rating), mean)
        return rows.solve_rows(problem, start, steps=32, cg_steps=4 * items.rank)

    def score(rating: Float[Array, "p w"], mean: Table, start: Table) -> Float[Array, ""]:
        return kernel(row(rating, mean, start)[0], items[item], offset)

    stranger = Table(jnp.zeros(()), jnp.zeros(items.rank))
    unmoved = jax.vmap(jax.vmap(lambda other: kernel(stranger, items[other], offset)))(block.other)
    away, mean = block.rating - unmoved, jax.tree.map(lambda x: x.sum((0, 1))[None], said)
    at, share = (jnp.asarray(x, jnp.float32) for x in np.polynomial.legendre.leggauss(points))

    # From the row itself backwards, each from the one before: a row of several minima stays in its own.
    def slope(start: Table, t: ScalarLike) -> tuple[Table, tuple[Float[Array, "p w"], Table]]:
        given = unmoved + t * away, jax.tree.map(lambda x: t * x, mean)
        here = row(*given, start)
        return here, jax.grad(score, (0, 1))(*given, here)

    whole = row(block.rating, mean, mean)
    _, slopes = lax.scan(slope, whole, (1 + at[::-1]) / 2)
    of_rating, of_mean = jax.tree.map(lambda x: jnp.tensordot(share[::-1] / 2, x, 1), slopes)
    spoken = said.bias * of_mean.bias[0] + said.factors @ of_mean.factors[0]
    return (
        kernel(whole[0], items[item], offset),
        kernel(stranger, items[item], offset),
        (away * of_rating + spoken).ravel(),
    )


def _shares(block: Block, link: Table | None, rank: int) -> Table:
    """What each slot says of the row's prior mean, (`p`, `w`) and (`p`, `w`, `k`); 0 without a link."""
    if link is None:
        return Table(jnp.zeros_like(block.rating), jnp.zeros((*block.rating.shape, rank)))
    value = feedback(block).rating
    return Table(value * link.bias[block.other], value[..., None] * link.factors[block.other])
