"""What a rating is, given what the rows predict: a number with noise on it, or one of ordered steps."""

from typing import ClassVar, Protocol, no_type_check, runtime_checkable

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import log_ndtr, ndtr, ndtri
from jaxtyping import Array, Float, Int, ScalarLike

from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Kernel

FAR = 1e3
"""Where the outermost steps end: with infinity itself there would be 0 · ∞."""

SMALLEST = 2.0**-23
"""The smallest quantile that is drawn: float32's next one is 0."""

TAIL = -10.0
"""Below this, in standard deviations, Φ and its inverse run out of float32's range."""


@runtime_checkable
class Likelihood(Protocol):
    """How ratings are distributed about predictions, whose noise has a precision."""

    latent: ClassVar[bool]
    """Whether rows are fitted to latent numbers, drawn anew in every sweep, in place of the ratings."""

    def check(self, rating: Float[np.ndarray, " n"], kernel: Kernel) -> None:
        """Refuse ratings, or a kernel, that the likelihood is not made for.

        Raises:
            ValueError: With the first such rating.
        """
        ...

    def start(self, ratings: Ratings) -> "Likelihood":
        """Where a chain begins.

        Raises:
            ValueError: If the ratings can't teach what the likelihood has to learn.
        """
        ...

    def mean(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:
        """Expected rating."""
        ...

    def variance(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:
        """Variance of the rating about its mean: one number for all, or one each."""
        ...


@no_type_check
class Gaussian(struct.PyTreeNode):
    """r ~ N(r̂, 1/(noise · w)): a rating is a number, and what is predicted is its mean."""

    latent: ClassVar[bool] = False

    def check(self, rating: Float[np.ndarray, " n"], kernel: Kernel) -> None:
        """Refuse nothing: any finite rating will do."""

    def start(self, ratings: Ratings) -> "Gaussian":  # noqa: ARG002
        """Itself: there is nothing to learn but the noise."""
        return self

    def mean(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:  # noqa: ARG002
        """r̂."""
        return predicted

    def variance(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:  # noqa: ARG002
        """That of the noise, one number."""
        return jnp.asarray(1 / noise)


@no_type_check
class Ordinal(struct.PyTreeNode):
    """Ordered probit: r is level j where c_{j−1} < z < c_j, with z ~ N(r̂, 1/(noise · w)).

    So P(r = level j) = Φ(c_j − r̂) − Φ(c_{j−1} − r̂) for noise and weight 1. The distances between the steps are learnt:
    from 4.5 to 5 stars may be further than from 3 to 3.5. With an axis more in front (`s`), one of each draw.

    Attributes:
        levels: The steps, ascending: the ratings there are.
        cutpoints: c, ascending, one fewer than levels; none before a fit.

    Example:
        >>> likelihood = Ordinal(jnp.array([1.0, 2.0, 3.0]), jnp.array([-1.0, 1.0]))
        >>> [f"{share:.3f}" for share in likelihood.probabilities(jnp.array([0.0]))[0]]
        ['0.159', '0.683', '0.159']
    """

    levels: Float[AnyArray, " levels"]
    cutpoints: Float[AnyArray, " cuts"] = struct.field(default_factory=lambda: np.zeros(0, np.float32))

    latent: ClassVar[bool] = True

    def check(self, rating: Float[np.ndarray, " n"], kernel: Kernel) -> None:
        """Refuse levels that are no scale, ratings that are no level, and kernels with a scale of their own."""
        levels = np.asarray(self.levels)
        real = levels.dtype.kind in "biuf"
        if not (
            real and levels.ndim == 1 and len(levels) >= 2 and np.isfinite(levels).all() and (np.diff(levels) > 0).all()
        ):
            raise ValueError(f"levels must be 2 or more ascending numbers, got {levels}: np.unique(ratings.rating)")
        foreign = ~np.isin(np.float32(rating), np.float32(levels))
        if foreign.any():
            raise ValueError(f"rating {rating[foreign.argmax()]} is none of the levels {levels}: add it to them")
        if not (kernel.linear and np.isinf([kernel.low, kernel.high]).all()):
            raise ValueError(
                f"an ordinal likelihood needs the linear kernel, got {kernel}: the cutpoints are the scale"
            )

    def start(self, ratings: Ratings) -> "Ordinal":
        """Cutpoints at the probit of the levels' cumulative shares; every level must have ratings."""
        levels = np.asarray(self.levels, np.float32)
        count = np.bincount(np.searchsorted(levels, ratings.rating), ratings.weight, len(levels))
        if not count.all():
            raise ValueError(
                f"level {levels[count.argmin()]} has no rating: nothing tells how wide it is; leave it out"
            )
        share = np.cumsum(count)[:-1] / count.sum()
        return self.replace(levels=jnp.asarray(levels), cutpoints=ndtri(jnp.asarray(share, jnp.float32)))

    def level(self, rating: Float[AnyArray, "..."]) -> Int[Array, "..."]:
        """Which level each rating is, from 0."""
        return jnp.searchsorted(self.levels, rating, method="compare_all")

    def ends(
        self, predicted: Float[Array, "..."], level: Int[Array, "..."], precision: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Both ends of a level, as standard deviations of z from r̂."""
        edges = jnp.pad(self.cutpoints, 1, constant_values=(-FAR, FAR))
        scale = jnp.sqrt(precision)
        return scale * (edges[level] - predicted), scale * (edges[level + 1] - predicted)

    def draw_latent(
        self,
        u: Float[Array, "..."],
        predicted: Float[Array, "..."],
        rating: Float[Array, "..."],
        precision: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """Draws of z given the ratings and r̂: normal numbers truncated to the levels (Albert & Chib 1993).

        Args:
            u: Their quantiles, uniform from 0 to 1.
            predicted: r̂.
            rating: The ratings.
            precision: noise · w; where it is 0 there is no rating.
        """
        precision = jnp.where(precision > 0, precision, 1)
        low, high = self.ends(predicted, self.level(rating), precision)
        return predicted + truncated_normal(jnp.clip(u, SMALLEST, 1 - SMALLEST), low, high) / jnp.sqrt(precision)

    def probabilities(self, predicted: Float[Array, "..."], noise: ScalarLike = 1.0) -> Float[Array, "... levels"]:
        """Probability of each level, for a rating of weight 1."""
        cutpoints = self.cutpoints.reshape(*[1] * predicted.ndim, -1)
        below = ndtr(jnp.sqrt(noise) * (cutpoints - predicted[..., None]))
        return jnp.diff(jnp.pad(below, [(0, 0)] * predicted.ndim + [(1, 0)]), axis=-1, append=1.0)

    def mean(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:
        """Σ levelⱼ·pⱼ."""
        return self.probabilities(predicted, noise) @ self.levels

    def variance(self, predicted: Float[Array, "..."], noise: ScalarLike) -> Float[Array, "..."]:
        """Σ (levelⱼ − mean)²·pⱼ."""
        p = self.probabilities(predicted, noise)
        away = self.levels.reshape(*[1] * predicted.ndim, -1) - (p @ self.levels)[..., None]
        return jnp.sum(p * away**2, -1)


def truncated_normal(
    u: Float[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The quantile `u`, between 0 and 1, of a standard normal number between `low` and `high`.

    By the inverse of Φ, on the side of 0 where Φ is small and has all its digits. Where both ends are further
    out than `TAIL`, exp(−x²/2) is integrated as if it were exp(−x²/2) times the size of x, which is off by 1/x².
    """
    mirrored = low + high > 0
    low, high, u = (jnp.where(mirrored, a, b) for a, b in ((-high, low), (-low, high), (1 - u, u)))
    below = ndtr(low)
    inside = ndtri(below + u * (ndtr(high) - below))
    outside = -jnp.sqrt(high**2 - 2 * jnp.log(u + (1 - u) * jnp.exp((high**2 - low**2) / 2)))
    x = jnp.clip(jnp.where(high < TAIL, outside, inside), low, high)
    return jnp.where(mirrored, -x, x)


def log_mass(low: Float[Array, "..."], high: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(Φ(high) − Φ(low)), however far out; NaN where they are not in order."""
    mirrored = low + high > 0
    low, high = jnp.where(mirrored, -high, low), jnp.where(mirrored, -low, high)
    above = log_ndtr(high)
    return above + jnp.log1p(-jnp.exp(log_ndtr(low) - above))
