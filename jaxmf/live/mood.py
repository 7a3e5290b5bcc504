"""How somebody rates just now: what a user's last ratings said beyond the model, and for how long that counts.

Errors of predictions that are made before each rating is learnt come in runs: whoever has just been harder to please
than the model thought is likely to be so at the next item. Row solves, to which all ratings of a user are alike, don't
follow that. So each user has one number more, m, which an error e shows: from one rating to the next

    m′ = ρm + N(0, (1 − ρ²)sσ²),   e = m + N(0, σ²),

and its expectation is the Kalman filter's (Kalman 1960), a step an event; the noise σ² cancels.
"""

import numpy as np
from jaxtyping import Float, Int

KEEP, SHARE = 0.95, 0.1
"""ρ and s. Chosen on the first fifths of MovieLens 100K and of latest-small, by a point model."""


class Mood:
    """A number a user, and how sure it is.

    Attributes:
        level: m after each user's last rating, in the unit of ratings.
        share: Its variance, as a share of the noise's.

    Example:
        >>> mood = Mood(rows=2)
        >>> for _ in range(3):
        ...     mood.learn(1, error=1.0, weight=1.0)
        >>> mood.expected(np.array([0, 1, -1])).round(2)
        array([0.  , 0.21, 0.  ], dtype=float32)
    """

    def __init__(self, rows: int = 0) -> None:
        """Of so many users who have not rated yet."""
        self.level, self.share = np.zeros(rows, np.float32), np.full(rows, SHARE, np.float32)

    def grow(self, rows: int) -> None:
        """Make room for so many users."""
        more = rows - len(self.level)
        if more > 0:
            self.level, self.share = np.pad(self.level, (0, more)), np.pad(self.share, (0, more), constant_values=SHARE)

    def expected(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """What the users' next ratings are expected to be above the model's prediction; 0 for a row below 0."""
        return np.where(rows < 0, np.float32(0), np.float32(KEEP) * self.level[rows])

    def learn(self, row: int, error: float, weight: float) -> None:
        """A user rated, `error` above what the model alone had predicted."""
        share = KEEP**2 * self.share[row] + (1 - KEEP**2) * SHARE
        before, gain = KEEP * self.level[row], share * weight / (share * weight + 1)
        self.level[row], self.share[row] = before + gain * (error - before), (1 - gain) * share

    def take(self, rows: Int[np.ndarray, " b"]) -> "Mood":
        """Of these users, in this order."""
        taken = Mood()
        taken.level, taken.share = self.level[rows], self.share[rows]
        return taken
