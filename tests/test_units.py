"""Ratings in another unit, a·r + c: the same rows, and predictions in that unit."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from reference import KERNELS, flat

import jaxmf
from jaxmf.model.kernels import Linear, unit_of
from jaxmf.online.laplace import leverage

pytestmark = pytest.mark.optax

KEY = jax.random.key(0)
METHODS = {
    "als": {"epochs": 6},
    "sgd": {"epochs": 6, "batch_size": 100},
    "gibbs": {"sweeps": 12, "burn": 4, "keep": 4},
}
MOVES = [(4.0, -3.0), (0.25, 0.0), (20.0, 100.0)]


def moved(ratings, a, c):
    return ratings.replace(rating=(a * np.asarray(ratings.rating) + c).astype(np.float32))


def moved_kernel(kernel, a, c):
    """The kernel whose scale moves with the ratings."""
    ends = {name: a * getattr(kernel, name) + c for name in ("low", "high") if not isinstance(kernel, Linear)}
    return dataclasses.replace(kernel, **ends)


def close(found, expected, a):
    np.testing.assert_allclose(found, expected, atol=2e-3 * a, rtol=2e-4)


@pytest.fixture(
    scope="module", params=[(m, k) for m in METHODS for k in KERNELS], ids=lambda p: f"{p[0]}-{type(p[1]).__name__}"
)
def fits(request, ratings):
    """A trainer's models of the same ratings in several units, the plain ones first."""
    method, kernel = request.param

    def fit(a, c):
        found = getattr(jaxmf, method).fit(
            KEY, moved(ratings, a, c), kernel=moved_kernel(kernel, a, c), rank=3, **METHODS[method]
        )
        return found.posterior if method == "gibbs" else found.model

    return [fit(a, c) for a, c in [(1.0, 0.0), *MOVES]]


@pytest.mark.parametrize("move", range(len(MOVES)))
def test_predictions_and_spreads_move_with_the_ratings(fits, ratings, move):
    (a, c), plain, other = MOVES[move], fits[0], fits[1 + move]
    user, item = np.divmod(np.arange(ratings.n_users * ratings.n_items), ratings.n_items)
    close(other.predict(user, item), a * plain.predict(user, item) + c, a)
    np.testing.assert_allclose(flat(other.params.item), flat(plain.params.item), atol=3e-3, rtol=1e-3)
    if isinstance(plain, jaxmf.posterior.Posterior):
        of = jaxmf.posterior.predictive
        close(of(other, user, item).std, a * np.asarray(of(plain, user, item).std), a)
        return
    share = [
        leverage(model, moved(ratings, *by), user[:40], item[:40]) for model, by in ((plain, (1, 0)), (other, (a, c)))
    ]
    np.testing.assert_allclose(share[1], share[0], atol=1e-4, rtol=2e-3)


@pytest.mark.parametrize("move", range(len(MOVES)))
def test_folded_in_users_do(fits, ratings, move):
    (a, c), plain, other = MOVES[move], fits[0], fits[1 + move]
    items, given = np.array([1, 5, 8]), np.array([4.0, 2.5, 5.0], np.float32)
    here = jaxmf.fold_in.fold_in_user(plain, items, given)
    there = jaxmf.fold_in.fold_in_user(other, items, a * given + c)
    user, item = np.zeros(ratings.n_items, int), np.arange(ratings.n_items)
    close(there.predict(user, item), a * here.predict(user, item) + c, a)


@pytest.mark.parametrize("kernel", ["linear", "logistic"])
def test_a_recommender_does(ratings, kernel, tmp_path):
    """Predictions, spreads and lists, also after a save and a load."""
    frame = pd.DataFrame({"user": ratings.user, "item": ratings.item, "rating": np.asarray(ratings.rating)})
    other = frame.assign(rating=4 * frame["rating"] - 3)
    recs = [jaxmf.Recommender.fit(one, kernel=kernel, rank=3, epochs=5) for one in (frame, other)]
    recs[1].save(tmp_path / "model")
    recs[1] = jaxmf.Recommender.load(tmp_path / "model")
    asked = frame[["user", "item"]].head(50)
    close(recs[1].predict(asked), 4 * recs[0].predict(asked) - 3, 4)
    np.testing.assert_allclose(recs[1].predict_std(asked), 4 * recs[0].predict_std(asked), rtol=1e-2)
    lists = [rec.recommend(frame["user"].unique()[:10].tolist(), n=3) for rec in recs]
    pd.testing.assert_frame_equal(lists[0][["user", "item", "rank"]], lists[1][["user", "item", "rank"]])


def test_the_unit_is_the_ratings_standard_deviation(ratings):
    rating = np.asarray(ratings.rating, np.float64)
    assert unit_of(ratings) == pytest.approx(rating.std(), rel=1e-6)
    twice = ratings.replace(weight=np.where(rating > 3, 2, 1).astype(np.float32))
    repeated = np.repeat(rating, np.where(rating > 3, 2, 1))
    assert unit_of(twice) == pytest.approx(repeated.std(), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.3, 1e6])
@pytest.mark.parametrize("method", METHODS)
def test_constant_ratings_are_predicted(ratings, method, value):
    same = ratings.replace(rating=np.full(len(ratings), value, np.float32))
    assert unit_of(same) == 1
    fit = getattr(jaxmf, method).fit(KEY, same, kernel=Linear(), rank=2, **METHODS[method])
    model = fit.posterior if method == "gibbs" else fit.model
    tolerance = {"als": 1e-3, "sgd": 0.05, "gibbs": 0.5}[method]
    np.testing.assert_allclose(model.predict(ratings.user, ratings.item), value, atol=tolerance, rtol=1e-5)
