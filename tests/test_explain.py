"""Explanations: what they sum to, and what the closed form says."""

import jax
import numpy as np
import pytest
from reference import KERNELS, random_ratings

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Polynomial
from jaxmf.model.params import Params, init, predict
from jaxmf.model.priors import Prior
from jaxmf.online import fold_in
from jaxmf.serving import explain

KEY, ITEMS = jax.random.key(0), 60
PRIOR = Prior(1.0, 0.7, 0.0)


@pytest.fixture(scope="module")
def params():
    params = init(KEY, 3, ITEMS, 4, offset=1.2, scale=0.5)
    return params.replace(item=params.item.replace(bias=0.2 * jax.random.normal(KEY, (ITEMS,))))


def history(n, seed=0):
    return random_ratings(np.random.default_rng(seed), n_users=1, n_items=ITEMS, n=n)


def folded(params, kernel, ratings, item):
    user = fold_in.fold_in_user(params, kernel, ratings.item, ratings.rating, weight=ratings.weight, prior=PRIOR)
    return float(predict(Params(user, params.item, params.offset), kernel, np.array([0]), np.array([item]))[0])


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("n", [1, 5, 40])
def test_contributions_and_baseline_sum_to_the_score(params, kernel, n):
    ratings = history(n)
    why = explain.explain(params, kernel, ratings, 7, prior=PRIOR)
    assert why.contribution.shape == (n,)
    # The cubic kernel's row turns sharply on the way where there are as few ratings as numbers to fit.
    sharp = isinstance(kernel, Polynomial) and n == 5
    assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=0.1 if sharp else 1e-3)
    if n != 5:
        assert why.score == pytest.approx(folded(params, kernel, ratings, 7), abs=1e-3)


def test_the_linear_kernel_has_a_closed_form(params):
    """φᵢᵀA⁻¹φⱼ wⱼ(rⱼ − μ − bⱼ), in float64."""
    ratings = history(12)
    ratings = ratings.replace(weight=np.linspace(0.5, 2, 12, dtype=np.float32))
    items = np.asarray(params.item.matrix(), np.float64)
    features = np.column_stack([np.ones(ITEMS), items[:, 1:]])
    rated = features[ratings.item]
    a = (rated * ratings.weight[:, None]).T @ rated + np.diag([1.0] + 4 * [0.7])
    left = ratings.rating - float(params.offset) - items[ratings.item, 0]
    expected = (features[7] @ np.linalg.solve(a, rated.T)) * ratings.weight * left
    why = explain.explain(params, Linear(), ratings, 7, prior=PRIOR)
    np.testing.assert_allclose(why.contribution, expected, atol=1e-4)
    assert why.baseline == pytest.approx(float(params.offset) + items[7, 0], abs=1e-6)


def test_without_a_rating_the_score_is_what_the_others_say(params):
    """For the linear kernel a contribution is what the score would lose were the rating what a stranger's would be."""
    ratings = history(9)
    why = explain.explain(params, Linear(), ratings, 7, prior=PRIOR)
    unmoved = float(params.offset) + float(params.item.bias[ratings.item[4]])
    changed = ratings.replace(rating=np.where(np.arange(9) == 4, np.float32(unmoved), ratings.rating))
    lost = why.score - folded(params, Linear(), changed, 7)
    assert lost == pytest.approx(float(why.contribution[4]), abs=1e-3)


def test_no_ratings_and_what_is_refused(params):
    why = explain.explain(params, Linear(), history(3).take(np.zeros(0, int)), 7, prior=PRIOR)
    assert why.score == pytest.approx(why.baseline)
    assert len(why.contribution) == 0
    with pytest.raises(ValueError, match="item row 60 is not among"):
        explain.explain(params, Linear(), history(3), ITEMS)
    one = np.ones(2, np.float32)
    two = Ratings(np.array([0, 1]), np.array([0, 1]), one, one, 2, ITEMS)
    with pytest.raises(ValueError, match="ratings of 2 users"):
        explain.explain(params, Linear(), two, 7)
