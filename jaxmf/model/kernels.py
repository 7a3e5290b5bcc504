"""How a user's row and an item's row make a rating: r̂ = a + c·K(row u, row i), and the unit of their errors.

The four kernels of Rendle & Schmidt-Thieme (RecSys 2008, §3.1–3.2). A kernel is one function of one pair, and has no
derivative written out: whatever is written here can be trained by every trainer and folded in.

Every kernel has a `unit`, which a fit sets to the standard deviation of its training ratings: errors count in it, and
rows are free of the ratings' unit. Ratings in other units then give the same rows, and predictions in those units.
"""

import math
from typing import ClassVar, Protocol, no_type_check, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.ratings import Ratings
from jaxmf.model.clicks import Clicks
from jaxmf.model.tables import Table

SAME = 1e-6
"""Share of the largest rating below which ratings differ by rounding alone."""


@runtime_checkable
class Kernel(Protocol):
    """A function of one pair of rows; its settings are its fields."""

    linear: ClassVar[bool]
    """Whether r̂ is linear in either row, so that one step of the solve is exact."""

    @property
    def unit(self) -> ScalarLike:
        """What errors are measured in, so that a prior's numbers mean the same on any scale."""
        ...

    @property
    def low(self) -> float:
        """Smallest rating that the kernel can fit; −inf where it has none."""
        ...

    @property
    def high(self) -> float:
        """Largest rating that the kernel can fit; inf where it has none."""
        ...

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:
        """Rating of one pair: `row` and `other` are single rows (a scalar bias, `k` factors)."""
        ...

    def offset(self, mean: float) -> float:
        """The offset μ with which two rows of zeros give the rating `mean`."""
        ...

    def replace(self, **updates: ScalarLike) -> "Kernel":
        """The kernel with some fields changed: with the unit of its training ratings, for one."""
        ...


@no_type_check
class Linear(struct.PyTreeNode):
    """r̂ = μ + unit·(bᵤ + bᵢ + wᵤ·hᵢ): biased matrix factorisation.

    Example:
        >>> Linear().offset(3.5)
        3.5
    """

    unit: ScalarLike = struct.field(default=1.0, repr=False)

    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf
    linear: ClassVar[bool] = True

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:
        """r̂ of one pair."""
        return jnp.multiply(self.unit, row.bias + other.bias + row.factors @ other.factors) + offset

    def offset(self, mean: float) -> float:
        """μ = the mean."""
        return mean


@no_type_check
class Logistic(struct.PyTreeNode):
    """r̂ = low + (high − low)·σ(μ + bᵤ + bᵢ + wᵤ·hᵢ): never outside the scale.

    Example:
        >>> round(Logistic(1.0, 5.0).offset(3.0), 6)
        0.0
    """

    low: float = struct.field(pytree_node=False)
    high: float = struct.field(pytree_node=False)
    unit: ScalarLike = struct.field(default=1.0, repr=False)
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_scale(self)

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:
        """r̂ of one pair."""
        score = offset + row.bias + other.bias + row.factors @ other.factors
        return self.low + (self.high - self.low) * jax.nn.sigmoid(score)

    def offset(self, mean: float) -> float:
        """μ = logit of the mean on the scale."""
        share = np.clip((mean - self.low) / (self.high - self.low), 0.01, 0.99)
        return float(np.log(share / (1 - share)))


@no_type_check
class Polynomial(struct.PyTreeNode):
    """r̂ = low + μ·(1 + bᵤ + bᵢ + wᵤ·hᵢ)^degree, with μ the mean above `low`.

    The paper's K = (1 + w·h)^d, with the biases inside and scaled so that rows of zeros give the mean.

    Example:
        >>> Polynomial(1.0, 5.0, degree=2).offset(3.5)
        2.5
    """

    low: float = struct.field(pytree_node=False)
    high: float = struct.field(pytree_node=False)
    degree: int = struct.field(pytree_node=False, default=2)
    unit: ScalarLike = struct.field(default=1.0, repr=False)
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_scale(self)
        if not (self.degree >= 1 and self.degree == int(self.degree)):
            raise ValueError(f"degree must be a whole number of 1 or more, got {self.degree}")

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:
        """r̂ of one pair."""
        score = 1 + row.bias + other.bias + row.factors @ other.factors
        return self.low + score**self.degree * offset

    def offset(self, mean: float) -> float:
        """μ = the mean above `low`, and never 0: it multiplies the kernel."""
        return max(mean - self.low, 0.01 * (self.high - self.low))


@no_type_check
class RBF(struct.PyTreeNode):
    """r̂ = μ + unit·(bᵤ + bᵢ) + (high − low)·(exp(−γ‖wᵤ−hᵢ‖²) − exp(−γ‖wᵤ‖² − γ‖hᵢ‖²)).

    The paper's K = exp(−γ‖w−h‖²) less its value for factors at a right angle: where either row is zero the kernel
    is silent and the biases, which stand outside it, are the prediction.

    Example:
        >>> RBF(1.0, 5.0).offset(3.5)
        3.5
    """

    low: float = struct.field(pytree_node=False)
    high: float = struct.field(pytree_node=False)
    gamma: float = struct.field(pytree_node=False, default=0.5)
    unit: ScalarLike = struct.field(default=1.0, repr=False)
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_scale(self)
        if not 0 < self.gamma < np.inf:
            raise ValueError(f"gamma must be positive and finite, got {self.gamma}: it is the kernel's inverse width")

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:
        """r̂ of one pair."""
        apart = jnp.sum(row.factors**2) + jnp.sum(other.factors**2)
        near = jnp.exp(-self.gamma * apart) * jnp.expm1(2 * self.gamma * (row.factors @ other.factors))
        return jnp.multiply(self.unit, row.bias + other.bias) + (self.high - self.low) * near + offset

    def offset(self, mean: float) -> float:
        """μ = the mean."""
        return mean


def for_range(low: ScalarLike, high: ScalarLike, kind: str = "logistic") -> Kernel:
    """The kernel of a kind for ratings from `low` to `high`; the logistic one is the default everywhere.

    Raises:
        ValueError: If there is no such kind, or the scale is empty.

    Example:
        >>> for_range(0.5, 5.0)
        Logistic(low=0.5, high=5.0)
    """
    kinds = {
        "clicks": lambda *_: Clicks(),
        "linear": lambda *_: Linear(),
        "logistic": Logistic,
        "polynomial": Polynomial,
        "rbf": RBF,
    }
    if kind not in kinds:
        raise ValueError(f"kernel must be one of {sorted(kinds)}, got {kind!r}")
    return kinds[kind](float(low), float(high))


def unit_of(ratings: Ratings) -> np.float32:
    """The standard deviation of the ratings, with their weights; 1 where they are all the same."""
    rating, weight = np.asarray(ratings.rating, np.float64), np.asarray(ratings.weight, np.float64)
    spread = math.sqrt(np.average((rating - np.average(rating, weights=weight)) ** 2, weights=weight))
    return np.float32(spread if spread > SAME * np.abs(rating).max() else 1.0)


def refuse_clicks(kernel: Kernel, trainer: str) -> None:
    """Refuse `Clicks` where a trainer minimises over the observed pairs alone.

    Raises:
        ValueError: With the trainer's name.
    """
    if isinstance(kernel, Clicks):
        raise ValueError(
            f"{trainer} learns from observed pairs alone, and of clicks the unobserved ones are most of what is known: "
            "fit them by als, and fold in"
        )


def check_ratings(kernel: Kernel, rating: Float[np.ndarray, " n"]) -> None:
    """Raise where a rating is not finite or outside the kernel's scale.

    Raises:
        ValueError: With the first such rating and the scale.
    """
    if not rating.size:
        return
    lowest, highest = rating.min(), rating.max()
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        value = rating[~np.isfinite(rating)][0]
        raise ValueError(f"rating {value}: every rating must be a finite number; drop or mend it")
    if lowest < kernel.low or highest > kernel.high:
        value = lowest if lowest < kernel.low else highest
        raise ValueError(
            f"rating {value} is outside the kernel's scale [{kernel.low}, {kernel.high}]: "
            "widen the kernel's `low` and `high`, or mend the rating"
        )


def _check_scale(kernel: Kernel) -> None:
    if not -np.inf < kernel.low < kernel.high < np.inf:
        raise ValueError(
            f"low must be below high and both finite, got low={kernel.low}, high={kernel.high}: "
            "they are the ends of the rating scale"
        )
