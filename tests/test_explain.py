"""Explanations: what they sum to, and what the closed form says."""

import jax
import numpy as np
import pandas as pd
import pytest
from reference import KERNELS, flat, random_ratings, table

from jaxmf.data.features import implicit
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Polynomial
from jaxmf.model.links import Links, row_means
from jaxmf.model.params import Params, init, predict
from jaxmf.model.priors import DEFAULT, Prior
from jaxmf.online import fold_in
from jaxmf.serving import explain
from jaxmf.serving.recommender import Recommender

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


NONE = Links(table(np.zeros((0, 5))), table(np.zeros((0, 5))))


def link_to(kernel, seed=5):
    """A link of implicit feedback, smaller where the kernel turns sharply."""
    rng, scale = np.random.default_rng(seed), 0.1 if isinstance(kernel, Polynomial) else 0.5
    return NONE._replace(user=table(scale * rng.normal(size=(ITEMS, 5))))


@pytest.mark.parametrize("with_links", [False, True])
def test_the_linear_kernel_has_a_closed_form(params, with_links):
    """φᵢᵀA⁻¹(φⱼ wⱼ(rⱼ − μ − bⱼ) + Λ lⱼ/√n), in float64; a rating of weight 0 says nothing."""
    ratings = history(12)
    ratings = ratings.replace(weight=np.linspace(0, 2, 12, dtype=np.float32))
    items = np.asarray(params.item.matrix(), np.float64)
    features = np.column_stack([np.ones(ITEMS), items[:, 1:]])
    rated = features[ratings.item]
    precision = np.diag([1.0] + 4 * [0.7])
    a = (rated * ratings.weight[:, None]).T @ rated + precision
    left = ratings.rating - float(params.offset) - items[ratings.item, 0]
    links = link_to(Linear()) if with_links else NONE
    said = flat(links.user)[ratings.item] * (ratings.weight > 0)[:, None] / np.sqrt(11) if with_links else 0 * rated
    voices = rated * (ratings.weight * left)[:, None] + said @ precision
    expected = features[7] @ np.linalg.solve(a, voices.T)
    why = explain.explain(params, Linear(), ratings, 7, prior=PRIOR, links=links)
    np.testing.assert_allclose(why.contribution, expected, atol=1e-4)
    assert why.baseline == pytest.approx(float(params.offset) + items[7, 0], abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_implicit_feedback_is_part_of_the_sum(params, kernel):
    ratings, links = history(20), link_to(kernel)
    why = explain.explain(params, kernel, ratings, 7, prior=PRIOR, links=links)
    assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=1e-3)
    assert why.baseline == explain.explain(params, kernel, ratings, 7, prior=PRIOR).baseline
    means = row_means(implicit(ratings), links.user)
    model = fold_in.fold_in_users(params, kernel, ratings, prior=PRIOR, means=means)
    assert why.score == pytest.approx(float(predict(model, kernel, np.array([0]), np.array([7]))[0]), abs=1e-3)


@pytest.mark.parametrize("with_feedback", [False, True])
def test_the_score_is_the_recommenders(with_feedback):
    data = random_ratings(np.random.default_rng(0), n_users=40, n_items=ITEMS, n=900)
    frame = pd.DataFrame({"user": data.user, "item": data.item, "rating": data.rating})
    rec = Recommender.fit(frame, rank=4, implicit=with_feedback, seed=0)
    new = history(9, seed=3)
    rec = rec.fold_in(pd.DataFrame({"user": 99, "item": new.item, "rating": new.rating}))
    model, user = rec.model, int(rec.users.encode([99])[0])
    theirs = rec.ratings.take(rec.ratings.user == user)
    for item in rec.items.encode([7, 30]):
        why = explain.explain(model.params, model.kernel, theirs, int(item), prior=model.prior, links=model.links)
        assert why.score == pytest.approx(float(model.predict(np.array([user]), np.array([item]))[0]), abs=1e-4)
        assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=1e-3)


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
    none = explain.explain(params, Linear(), history(3).take(np.zeros(0, int)), 7, links=link_to(Linear()))
    assert none.score == pytest.approx(none.baseline)
    with pytest.raises(ValueError, match="item row 60 is not among"):
        explain.explain(params, Linear(), history(3), ITEMS)
    one = np.ones(2, np.float32)
    two = Ratings(np.array([0, 1]), np.array([0, 1]), one, one, 2, ITEMS)
    with pytest.raises(ValueError, match="ratings of 2 users"):
        explain.explain(params, Linear(), two, 7)
    draws = jax.tree.map(lambda x: x[None], params)
    with pytest.raises(ValueError, match=r"parameters of 1 draws.*take a draw's"):
        explain.explain(draws, Linear(), history(3), 7)
    short = NONE._replace(user=link_to(Linear()).user[np.arange(19)])
    with pytest.raises(ValueError, match="link of 19 rows for 60 items: explain knows implicit feedback"):
        explain.explain(params, Linear(), history(3), 7, links=short)
    with pytest.raises(ValueError, match="points must be 1 or more, got 0"):
        explain.explain(params, Linear(), history(3), 7, points=0)
    with pytest.raises(ValueError, match="bias_reg of the user prior must be positive"):
        explain.explain(params, Linear(), history(3), 7, prior=DEFAULT._replace(user=Prior(bias_reg=0.0)))
