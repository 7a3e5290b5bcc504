"""Explanations: what they sum to, and what the closed form says."""

import jax
import numpy as np
import pandas as pd
import pytest
from reference import KERNELS, flat, random_ratings, table

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Polynomial
from jaxmf.model.links import Links
from jaxmf.model.model import Model
from jaxmf.model.params import init
from jaxmf.model.posterior import Draw, Posterior
from jaxmf.model.priors import DEFAULT, Prior, Priors
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


def of(params, kernel, link=None):
    """The model, of implicit feedback where there is a link of users."""
    links = None if link is None else Links(link, table(np.zeros((0, 5))))
    return Model(params, kernel, Priors(PRIOR, PRIOR), links, (link is not None, False))


def folded(model, ratings, item):
    one = fold_in.fold_in_user(model, ratings.item, ratings.rating, weight=ratings.weight)
    return float(one.predict(np.array([0]), np.array([item]))[0])


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("n", [1, 5, 40])
def test_contributions_and_baseline_sum_to_the_score(params, kernel, n):
    ratings = history(n)
    model = of(params, kernel)
    why = explain.explain(model, ratings, 7)
    assert why.contribution.shape == (n,)
    # The cubic kernel's row turns sharply on the way where there are as few ratings as numbers to fit.
    sharp = isinstance(kernel, Polynomial) and n == 5
    assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=0.1 if sharp else 1e-3)
    if n != 5:
        assert why.score == pytest.approx(folded(model, ratings, 7), abs=1e-3)


def link_to(kernel, seed=5):
    """A link of implicit feedback, smaller where the kernel turns sharply."""
    rng, scale = np.random.default_rng(seed), 0.1 if isinstance(kernel, Polynomial) else 0.5
    return table(scale * rng.normal(size=(ITEMS, 5)))


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
    link = link_to(Linear()) if with_links else None
    said = flat(link)[ratings.item] * (ratings.weight > 0)[:, None] / np.sqrt(11) if with_links else 0 * rated
    voices = rated * (ratings.weight * left)[:, None] + said @ precision
    expected = features[7] @ np.linalg.solve(a, voices.T)
    why = explain.explain(of(params, Linear(), link), ratings, 7)
    np.testing.assert_allclose(why.contribution, expected, atol=1e-4)
    assert why.baseline == pytest.approx(float(params.offset) + items[7, 0], abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_implicit_feedback_is_part_of_the_sum(params, kernel):
    ratings, model = history(20), of(params, kernel, link_to(kernel))
    why = explain.explain(model, ratings, 7)
    assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=1e-3)
    assert why.baseline == explain.explain(of(params, kernel), ratings, 7).baseline
    assert why.score == pytest.approx(folded(model, ratings, 7), abs=1e-3)


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
        why = explain.explain(model, theirs, int(item))
        assert why.score == pytest.approx(float(model.predict(np.array([user]), np.array([item]))[0]), abs=1e-4)
        assert why.baseline + why.contribution.sum() == pytest.approx(why.score, abs=1e-3)


def test_without_a_rating_the_score_is_what_the_others_say(params):
    """For the linear kernel a contribution is what the score would lose were the rating what a stranger's would be."""
    ratings = history(9)
    model = of(params, Linear())
    why = explain.explain(model, ratings, 7)
    unmoved = float(params.offset) + float(params.item.bias[ratings.item[4]])
    changed = ratings.replace(rating=np.where(np.arange(9) == 4, np.float32(unmoved), ratings.rating))
    lost = why.score - folded(model, changed, 7)
    assert lost == pytest.approx(float(why.contribution[4]), abs=1e-3)


def test_no_ratings_and_what_is_refused(params):
    model, none = of(params, Linear()), history(3).take(np.zeros(0, int))
    for without in (model, of(params, Linear(), link_to(Linear()))):
        why = explain.explain(without, none, 7)
        assert why.score == pytest.approx(why.baseline)
        assert len(why.contribution) == 0
    with pytest.raises(ValueError, match="item row 60 is not among"):
        explain.explain(model, history(3), ITEMS)
    one = np.ones(2, np.float32)
    two = Ratings(np.array([0, 1]), np.array([0, 1]), one, one, 2, ITEMS)
    with pytest.raises(ValueError, match="ratings of 2 users"):
        explain.explain(model, two, 7)
    genres = of(params, Linear(), link_to(Linear())[np.arange(19)]).replace(implicit=(False, False))
    with pytest.raises(ValueError, match="features of users that are not their implicit feedback"):
        explain.explain(genres, history(3), 7)
    with pytest.raises(ValueError, match="points must be a whole number of 1 or more, got 0"):
        explain.explain(model, history(3), 7, points=0)
    with pytest.raises(ValueError, match="bias_reg of the user prior must be positive"):
        explain.explain(model.replace(priors=DEFAULT._replace(user=Prior(bias_reg=0.0))), history(3), 7)


@pytest.mark.usefixtures("unchecked")
def test_draws_have_no_one_prediction(params):
    draws = jax.tree.map(lambda x: x[None], params)
    posterior = Posterior(Draw(draws, None, None, np.ones(1)), Linear(), KEY)
    with pytest.raises(ValueError, match=r"1 draws of .* has no one prediction to take apart.*jaxmf.posterior.pick"):
        explain.explain(posterior, history(3), 7)
