"""Draws of an ordinal likelihood's cutpoints, given what is predicted, with the latent numbers integrated out.

Given the latent numbers a cutpoint could move only between two of them, and the more ratings, the less (Cowles 1996).
Without them its distribution is concave on the log scale and near a normal one, so a Newton step with noise on it is
nearly a draw from it, and Metropolis & Hastings see to the rest (Qi & Minka 2002).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmf.model.likelihoods import Ordinal, log_mass

SPREAD = 10.0
"""Prior: ordered cutpoints of N(0, SPREAD²): far wider than what ratings leave open."""

WIDER = 1.25
"""How much wider the proposal is than the normal distribution, in variance: it makes a way in from afar acceptable."""


class _Normal(NamedTuple):
    """The normal distribution that the log-posterior looks like from a point, as moves from there.

    Its precision is tridiagonal, and L·diag(pivot)·Lᵀ with a unit bidiagonal L.

    Attributes:
        log_mass: The log-likelihood at the point, a rating each.
        move: Its mean: the Newton step.
        pivot: Pivots.
        ratio: L below its diagonal, a 0 in front.
    """

    log_mass: Float[Array, " n"]
    move: Float[Array, " cuts"]
    pivot: Float[Array, " cuts"]
    ratio: Float[Array, " cuts"]

    def log_density(self, move: Float[Array, " cuts"]) -> Float[Array, ""]:
        """Up to a constant."""
        away = move - self.move
        root = away + _after(self.ratio) * _after(away)
        return jnp.sum(jnp.log(self.pivot) - self.pivot * root**2 / WIDER) / 2


def sample_cutpoints(
    key: Key[Array, ""],
    likelihood: Ordinal,
    predicted: Float[Array, " n"],
    level: Int[Array, " n"],
    weight: Float[Array, " n"],
) -> tuple[Ordinal, Float[Array, ""], Bool[Array, ""]]:
    """The likelihood with new cutpoints, the log-likelihood before, and whether the proposal was taken.

    Args:
        key: Random key.
        likelihood: The likelihood; its noise has precision 1.
        predicted: r̂ of the ratings.
        level: The ratings' levels.
        weight: The ratings' weights.
    """
    key_move, key_accept = jax.random.split(key)
    cuts = likelihood.cutpoints
    here = _normal(likelihood, predicted, level, weight)
    noise = jax.random.normal(key_move, cuts.shape) * lax.rsqrt(here.pivot / WIDER)
    move = here.move + _back(here.ratio, noise)
    proposal = likelihood.replace(cutpoints=cuts + move)
    there = _normal(proposal, predicted, level, weight)
    gain = jnp.sum(there.log_mass - here.log_mass) + jnp.sum(cuts**2 - proposal.cutpoints**2) / (2 * SPREAD**2)
    ratio = gain + there.log_density(-move) - here.log_density(move)
    ordered = jnp.all(jnp.diff(proposal.cutpoints) > 0)
    taken = ordered & (jnp.log(jax.random.uniform(key_accept)) < ratio)
    new = likelihood.replace(cutpoints=jnp.where(taken, proposal.cutpoints, cuts))
    return new, here.log_mass.sum(), taken


def _normal(
    likelihood: Ordinal, predicted: Float[Array, " n"], level: Int[Array, " n"], weight: Float[Array, " n"]
) -> _Normal:
    rated = weight > 0
    precision = jnp.where(rated, weight, 1)
    low, high = likelihood.ends(predicted, level, precision)
    log_p = log_mass(low, high)
    at_low, at_high = (jnp.exp(jax.scipy.stats.norm.logpdf(x) - log_p) for x in (low, high))
    scale = jnp.sqrt(precision)
    derivatives = [
        scale * at_low,
        scale * at_high,
        precision * at_low * (at_low - low),
        precision * at_high * (at_high + high),
        precision * at_low * at_high,
    ]
    sums = jnp.zeros((5, len(likelihood.levels))).at[:, level].add(jnp.where(rated, jnp.stack(derivatives), 0))
    gradient = sums[1, :-1] - sums[0, 1:] - likelihood.cutpoints / SPREAD**2
    diagonal = sums[3, :-1] + sums[2, 1:] + 1 / SPREAD**2
    pivot, ratio, forward = _eliminated(diagonal, jnp.pad(-sums[4, 1:-1], (1, 0)), gradient)
    return _Normal(jnp.where(rated, log_p, 0), _back(ratio, forward / pivot), pivot, ratio)


def _eliminated(
    diagonal: Float[Array, " cuts"], beside: Float[Array, " cuts"], rhs: Float[Array, " cuts"]
) -> tuple[Float[Array, " cuts"], Float[Array, " cuts"], Float[Array, " cuts"]]:
    """Pivots, ratios and L⁻¹·rhs of a tridiagonal matrix, by elimination (Thomas)."""

    def one(before: tuple, row: tuple) -> tuple[tuple, tuple]:
        (pivot, done), (diagonal, beside, rhs) = before, row
        ratio = beside / pivot
        now = diagonal - ratio * beside, rhs - ratio * done
        return now, (now[0], ratio, now[1])

    return lax.scan(one, (jnp.ones(()), jnp.zeros(())), (diagonal, beside, rhs))[1]


def _back(ratio: Float[Array, " cuts"], x: Float[Array, " cuts"]) -> Float[Array, " cuts"]:
    """L⁻ᵀx."""

    def one(after: Array, row: tuple) -> tuple[Array, Array]:
        ratio, x = row
        found = x - ratio * after
        return found, found

    return lax.scan(one, jnp.zeros(()), (_after(ratio), x), reverse=True)[1]


def _after(x: Float[Array, " cuts"]) -> Float[Array, " cuts"]:
    """Each one's next, and 0 after the last."""
    return jnp.append(x[1:], 0)
