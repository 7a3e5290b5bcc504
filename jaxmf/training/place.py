"""Where a run's state is while it runs."""

from typing import Any

from jaxmf.data.ratings import Ratings


class Place:
    """Where a run's state is between epochs: here, as a trainer starts and returns it."""

    def spread(self, state: Any) -> Any:  # noqa: ANN401 any state
        """The state where the run's epochs take it."""
        return state

    def gathered(self, state: Any) -> Any:  # noqa: ANN401 any state
        """The state back from there."""
        return state

    def pairs(self, ratings: Ratings) -> Ratings:
        """Ratings of the rows of a state that is there."""
        return ratings
