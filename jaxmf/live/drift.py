"""How well a model that lives foresees what it is told next, at first and lately."""

import numpy as np
from jaxtyping import Float

WINDOW = 500
"""Ratings that an error is the mean of: it is then known to some 3 %."""


class Drift:
    """Root mean square errors of predictions, each made before its rating was learnt.

    Attributes:
        seen: Ratings so far.

    Example:
        >>> drift = Drift()
        >>> drift.first, drift.last
        (None, None)
        >>> drift.add(np.float32([3, -4, 0, 0]))
        >>> drift.first, drift.last
        (2.5, 2.5)
        >>> drift.add(np.ones(WINDOW, np.float32))
        >>> round(drift.first, 2), drift.last
        (1.02, 1.0)
    """

    def __init__(self) -> None:
        self.seen = 0
        self._first, self._last = np.zeros((2, WINDOW))

    def add(self, errors: Float[np.ndarray, " n"]) -> None:
        """Ratings have been learnt that were this far above what was expected of them."""
        squares, begin = np.square(errors, dtype=float), min(self.seen, WINDOW)
        fits = squares[: WINDOW - begin]
        self._first[begin : begin + len(fits)] = fits
        kept = squares[-WINDOW:]
        self.seen += len(squares)
        self._last[np.arange(self.seen - len(kept), self.seen) % WINDOW] = kept

    @property
    def first(self) -> float | None:
        """The error of the first ratings, of none yet `None`."""
        return self._of(self._first)

    @property
    def last(self) -> float | None:
        """The error of the last ones, likewise."""
        return self._of(self._last)

    def _of(self, squares: Float[np.ndarray, " window"]) -> float | None:
        seen = min(self.seen, WINDOW)
        return float(np.sqrt(squares[:seen].mean())) if seen else None
