"""Why an item: which of the user's own ratings pull its score up, and which down."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, ScalarLike

from jaxmf.data.histories import packed_row, row_block
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.equations import over_pages
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params, check_rows
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides
from jaxmf.model.tables import Table
from jaxmf.online.update import check_fold_in, solve_block


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


def explain(
    params: Params, kernel: Kernel, ratings: Ratings, item: int, *, prior: Prior | Priors = DEFAULT, points: int = 8
) -> Explanation:
    """How much each of one user's ratings pulls the score of an item up or down.

    Let r⁰ be what a user without ratings would be predicted for the rated items, and r the ratings given. The fold-in
    turns either into a score, and the contribution of rating j is

        (rⱼ − r⁰ⱼ) · ∫₀¹ ∂score/∂rⱼ (r⁰ + t(r − r⁰)) dt,

    integrated gradients (Sundararajan et al. 2017) through the differentiable fold-in. They sum to score − baseline.
    For the linear kernel the derivative is constant and the sum exact; for the others the integral is taken at `points`
    points.

    Args:
        params: The model; its user table is not looked at.
        kernel: Its kernel.
        ratings: The ratings of the one user.
        item: Row of the item to explain.
        prior: The prior of both sides, or one each; the one the model was trained with.
        points: Points of the integral for a kernel that is not linear.

    Raises:
        ValueError: If there are ratings of several users, or a rating or an item does not fit the model.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> items = Table(jnp.zeros(2), jnp.ones((2, 1)))
        >>> one = np.ones(1, np.float32)
        >>> liked = Ratings(np.array([0]), np.array([0]), 5 * one, one, n_users=1, n_items=2)
        >>> why = explain(Params(items, items, jnp.float32(3.0)), Linear(), liked, 1, prior=Prior(1.0, 1.0))
        >>> f"{why.score:.3f} = {why.baseline:.3f} + {why.contribution[0]:.3f}"
        '4.333 = 3.000 + 1.333'
    """
    check_fold_in(params, kernel, ratings)
    check_rows(np.array([item]), params.item, "item")
    if len(np.unique(ratings.user)) > 1:
        raise ValueError(f"ratings of {len(np.unique(ratings.user))} users: explain one user at a time")
    packed = packed_row(ratings.item, ratings.rating, ratings.weight)
    points = 1 if kernel.linear else points
    score, baseline, contribution = _explain(
        kernel, params.offset, params.item, packed, item, both_sides(prior).user, points
    )
    return Explanation(float(score), float(baseline), np.asarray(contribution)[: len(ratings)])


@partial(jax.jit, static_argnames="points")
def _explain(
    kernel: Kernel,
    offset: ScalarLike,
    items: Table,
    packed: Int[AnyArray, " packed"],
    item: ScalarLike,
    prior: Prior,
    points: int,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " slots"]]:
    block = row_block(packed)

    def score(rating: Float[Array, "p w"]) -> Float[Array, ""]:
        row = solve_block(kernel, offset, items, block.replace(rating=rating), prior, steps=32, cg_steps=4 * items.rank)
        return kernel(row[0], items[item], offset)

    stranger = Table(jnp.zeros(()), jnp.zeros(items.rank))
    pages = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(block.owner), *x.shape)), stranger)
    unmoved = over_pages(kernel)(pages, items[block.other], offset)
    away = block.rating - unmoved
    at, share = (jnp.asarray(x, jnp.float32) for x in np.polynomial.legendre.leggauss(points))

    def slope(given: tuple) -> Float[Array, "p w"]:
        t, weight = given
        return weight * jax.grad(score)(unmoved + t * away)

    slopes = lax.map(slope, ((1 + at) / 2, share / 2))
    return score(block.rating), kernel(stranger, items[item], offset), (away * slopes.sum(0)).ravel()
