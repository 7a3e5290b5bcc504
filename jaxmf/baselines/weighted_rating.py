"""IMDb's weighted rating: a film's mean vote, drawn to the mean of all films the fewer its votes are."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, ScalarLike
from numpy.typing import ArrayLike


class Chart(NamedTuple):
    """A chart of films and the two numbers behind it.

    Attributes:
        films: The films that qualify, best first, with a column `score`.
        C: Mean vote over all films.
        m: Votes a film needs to qualify.
    """

    films: pd.DataFrame
    C: float
    m: float


def weighted_rating(votes: ArrayLike, average: ArrayLike, *, m: ScalarLike, C: ScalarLike) -> Float[np.ndarray, " n"]:
    """v/(v+m)·R + m/(v+m)·C: the posterior mean of a film's vote, if C is the prior mean and m its weight in votes.

    Args:
        votes: Votes v of each film.
        average: Mean vote R of each film.
        m: Weight of the prior, in votes.
        C: Mean vote over all films.

    Raises:
        ValueError: If a number is not finite, `m` not positive, votes negative, or there is not an average a film.

    Example:
        >>> weighted_rating([100.0, 0.0], [8.0, 10.0], m=100, C=6.0)
        array([7., 6.])
    """
    votes, average = np.asarray(votes, float), np.asarray(average, float)
    if votes.shape != average.shape:
        raise ValueError(f"{votes.shape} votes for {average.shape} averages: give one of either a film")
    if not 0 < float(m) < np.inf:
        raise ValueError(f"m must be positive and finite, got {m}: it is the weight of the mean of all films, in votes")
    if not np.isfinite(float(C)):
        raise ValueError(f"C must be finite, got {C}: it is the mean vote over all films")
    bad = ~((votes >= 0) & (votes < np.inf))
    if bad.any():
        raise ValueError(f"votes must be 0 or more and finite, got {votes[bad][0]}: drop the film, or count its votes")
    bad = ~np.isfinite(average)
    if bad.any():
        raise ValueError(f"average must be finite, got {average[bad][0]}: drop the film, or give it C without votes")
    return votes / (votes + m) * average + m / (votes + m) * C


def chart(
    films: pd.DataFrame, *, votes: str = "vote_count", average: str = "vote_average", quantile: float = 0.9
) -> Chart:
    """Films with at least the `quantile` of all films' votes, by weighted rating.

    A film whose votes are missing does not qualify, and a number that is missing counts neither in C nor in m.

    Raises:
        ValueError: If a column is missing, there is no film, the quantile is not between 0 and 1, or a film that
            qualifies has no average.

    Example:
        >>> films = pd.DataFrame({"title": list("abc"), "vote_count": [5, 90, 40], "vote_average": [9.0, 7.0, 8.0]})
        >>> chart(films, quantile=0.5).films["title"].tolist()
        ['c', 'b']
    """
    missing = [name for name in (votes, average) if name not in films]
    if missing:
        raise ValueError(f"no column {missing[0]!r} among {list(films)}: name the columns with votes= and average=")
    if not len(films):
        raise ValueError("the frame is empty: a chart needs at least one film")
    if not 0 <= quantile <= 1:
        raise ValueError(
            f"quantile must be between 0 and 1, got {quantile}: it is the share of films left out; 0 takes all"
        )
    C, m = float(films[average].mean()), float(films[votes].quantile(quantile))
    best = films[films[votes] >= m]
    best = best.assign(score=weighted_rating(best[votes], best[average], m=m, C=C))
    return Chart(best.sort_values("score", ascending=False), C, m)
