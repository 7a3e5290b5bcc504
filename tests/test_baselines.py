"""The weighted rating against the notebook's own code, and Surprise on our splits."""

import numpy as np
import pandas as pd
import pytest

from jaxmf.baselines import surprise, weighted_rating
from jaxmf.data import datasets, splits


def notebook_chart(films: pd.DataFrame) -> pd.DataFrame:
    """The seed's code, as it stands there."""
    C = films["vote_average"].mean()
    m = films["vote_count"].quantile(0.9)
    q_movies = films.copy().loc[films["vote_count"] >= m]

    def score(x, m=m, C=C):
        v = x["vote_count"]
        R = x["vote_average"]
        return (v / (v + m) * R) + (m / (m + v) * C)

    q_movies["score"] = q_movies.apply(score, axis=1)
    return q_movies.sort_values("score", ascending=False)


def test_the_movies_dataset_has_the_known_chart(shared):
    films = datasets.the_movies_metadata(shared / "data/the-movies-dataset")
    chart = weighted_rating.chart(films)
    assert pytest.approx(5.618207, abs=1e-6) == chart.C
    assert (chart.m, len(chart.films)) == (160, 4555)
    expected = notebook_chart(films)
    assert chart.films["score"].tolist() == pytest.approx(expected["score"].tolist())
    assert chart.films["title"].head(200).tolist() == expected["title"].head(200).tolist()
    assert int(films["id"].isna().sum()) == 3


def test_the_embedded_films_have_a_chart():
    chart = weighted_rating.chart(datasets.imdb_films())
    assert chart.films["score"].is_monotonic_decreasing
    assert (chart.films["vote_count"] >= chart.m).all()
    assert "Godfather, The" in chart.films["title"].head(10).tolist()


FILMS = pd.DataFrame({"vote_count": [5, 50], "vote_average": [9.0, 7.0]})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: weighted_rating.chart(FILMS, votes="n"), "no column 'n'"),
        (lambda: weighted_rating.chart(FILMS.iloc[:0]), "the frame is empty"),
        (
            lambda: weighted_rating.chart(FILMS, quantile=2.0),
            "quantile must be between 0 and 1, got 2.0: it is",
        ),
        (lambda: weighted_rating.chart(FILMS * np.nan), "m must be positive and finite, got nan"),
        (lambda: weighted_rating.chart(FILMS.assign(vote_average=[3.0, np.nan])), "average must be finite, got nan"),
        (lambda: weighted_rating.weighted_rating([1], [5], m=0, C=5), "m must be positive"),
        (lambda: weighted_rating.weighted_rating([1], [5], m=np.inf, C=5), "m must be positive and finite, got inf"),
        (lambda: weighted_rating.weighted_rating([1], [5], m=1, C=np.nan), "C must be finite, got nan: it is the mean"),
        (
            lambda: weighted_rating.weighted_rating([-1], [5], m=1, C=5),
            "votes must be 0 or more and finite, got -1.0: d",
        ),
        (lambda: weighted_rating.weighted_rating([1, np.nan], [5, 5], m=1, C=5), "votes must be .* got nan"),
        (lambda: weighted_rating.weighted_rating([1], [np.nan], m=1, C=5), "average must be finite, got nan"),
        (lambda: weighted_rating.weighted_rating([[1], [2]], [5, 5], m=1, C=5), r"\(2, 1\) votes for \(2,\) averages"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_surprise_on_our_splits(ratings):
    split = splits.k_fold(len(ratings))[0]
    score = surprise.evaluate(surprise.svd(), ratings, split)
    assert score == surprise.evaluate(surprise.svd(), ratings, split)._replace(fit_seconds=score.fit_seconds)
    assert 0 < score.mae < score.rmse < 2
    tuned = surprise.evaluate(surprise.svd(tuned=True), ratings, split)
    assert tuned.rmse < score.rmse
