"""The kernel of clicks, whose objective has a term for what nobody observed."""

from typing import ClassVar, Literal, no_type_check

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.data.settings import check_choice
from jaxmf.model.tables import Table

Confidence = Literal["log", "linear", "once"]

BACKGROUND = 16.0
"""What all pairs weigh as 0, in units of what is observed. On validation parts of Epinions and of MovieLens 100K 8 to
32 are alike, though one has fifteen times the other's density."""

LEAST = 1e-6
"""Least share of its weight that a pair keeps beside the background which it takes the place of: what is exact in
float32, and keeps its target where the two are the same."""


@no_type_check
class Clicks(struct.PyTreeNode):
    """r̂ = wᵤ·hᵢ, which is to be 1 where a user clicked and 0 where not: implicit feedback by weighted least squares.

    What was not observed is one more term of the objective (Hu, Koren & Volinsky 2008; Rendle et al. 2022, eq. 2):
    Σ w (r − r̂)² over the observed pairs + `background`·Σ r̂² over *all* pairs + priors. Observed are clicks, r = 1, and
    dislikes, r = 0. There are no biases: a column of item biases made NDCG@10 on validation parts .1321 → .1166
    (Epinions) and .2189 → .2151 (MovieLens 100K).

    Attributes:
        background: Weight of the 0 of every pair, observed or not, beside the weight 1 of a click; where there is none
            a fit gives all pairs together `BACKGROUND` times what is observed.
        confidence: What a pair's weight, how often it was seen, counts as: as it is ("linear"), log₂(1 + weight)
            ("log"), or 1 ("once").
        doubly: Whether an observed pair carries the background's 0 besides its own weight, as in Rendle et al., or
            its weight alone, as in Hu et al., which must not be below the background.
        counts: Whether the n of a row's prior counts the background of its pairs too, as in Rendle et al.

    Example:
        >>> Clicks(background=0.2)
        Clicks(background=0.2, confidence='log', doubly=True, counts=False)
    """

    background: ScalarLike | None = None
    confidence: str = struct.field(pytree_node=False, default="log")
    doubly: bool = struct.field(pytree_node=False, default=True)
    counts: bool = struct.field(pytree_node=False, default=False)
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("confidence", self.confidence, Confidence)

    @property
    def share(self) -> Float[Array, ""]:
        """The background as a number.

        Raises:
            ValueError: If it has none.
        """
        if self.background is None:
            raise ValueError("background is not set: give one, Clicks(0.1), where no fit measures it")
        return jnp.asarray(self.background, jnp.float32)

    @property
    def unit(self) -> ScalarLike:
        """1: clicks are free of units."""
        return 1.0

    @property
    def low(self) -> float:
        """A dislike."""
        return 0.0

    @property
    def high(self) -> float:
        """A click."""
        return 1.0

    def __call__(self, row: Table, other: Table, offset: ScalarLike) -> Float[Array, ""]:  # noqa: ARG002 always 0
        """r̂ of one pair."""
        return row.factors @ other.factors

    def offset(self, mean: float) -> float:  # noqa: ARG002 any kernel's argument
        """0: a row of zeros is somebody who clicks nothing."""
        return 0.0

    def measured(self, ratings: Ratings) -> "Clicks":
        """The kernel with the background that suits these clicks, where it has none."""
        if self.background is not None:
            return self
        _, weight = self.replace(doubly=True).weighed(ratings.rating, ratings.weight)
        pairs = max(1, ratings.n_users) * max(1, ratings.n_items)
        return self.replace(background=BACKGROUND * float(np.sum(weight)) / pairs)

    def weighed(
        self, rating: Float[AnyArray, "..."], weight: Float[AnyArray, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """What ratings and weights count as beside the background of all pairs; weights of 0 stay 0."""
        rating, weight = jnp.asarray(rating), self._counted(weight)
        if self.doubly:
            return rating, weight
        # c (r − r̂)² = w (r′ − r̂)² + w₀ r̂² + constant, with w = c − w₀ and r′ = r·c/w.
        more = jnp.maximum(weight - self.share, LEAST * weight)
        return jnp.where(weight > 0, rating * weight / jnp.where(weight > 0, more, 1.0), 0.0), more

    def check(self, weight: Float[AnyArray, " n"]) -> None:
        """Refuse weights that can't take the background's place.

        Raises:
            ValueError: With the first of them.
        """
        if self.doubly:
            return
        counted = np.asarray(self._counted(weight))
        below = (counted > 0) & (counted < (1 - LEAST) * float(self.share))
        if below.any():
            at = int(below.argmax())
            raise ValueError(
                f"weight {np.asarray(weight)[at]} counts {counted[at]:.4g}, below the background "
                f"{float(self.share):.4g} whose place it takes: give heavier clicks, a smaller background, or "
                "doubly=True"
            )

    def _counted(self, weight: Float[AnyArray, "..."]) -> Float[Array, "..."]:
        counted = {"linear": lambda w: w, "log": lambda w: jnp.log2(1 + w), "once": jnp.sign}[self.confidence]
        return jnp.asarray(counted(jnp.asarray(weight)))
