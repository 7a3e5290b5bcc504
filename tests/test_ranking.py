"""Ranking metrics: against ir-measures, on small random lists and on MovieLens 100K."""

import ir_measures
import jax
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, Success, nDCG
from reference import random_ratings

from jaxmf.data import datasets
from jaxmf.data.ratings import Ratings
from jaxmf.evaluation import ranking
from jaxmf.model.kernels import Linear
from jaxmf.serving import recommend
from jaxmf.training import als


def oracle(top, held_out, threshold, n, users=None):
    """The same by ir-measures. It leaves out users without judgements, and is given those alone who have one."""
    users = np.arange(len(top)) if users is None else users
    relevant = held_out.take((held_out.rating >= threshold) & (held_out.weight > 0))
    judged = [
        ir_measures.Qrel(str(user), str(item), 1) for user, item in zip(relevant.user, relevant.item, strict=True)
    ]
    known = set(relevant.user.tolist())
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(-place))
        for user, row in zip(users, top, strict=True)
        if user in known
        for place, item in enumerate(row[:n])
        if item < held_out.n_items
    ]
    measures = [R @ n, P @ n, nDCG @ n, AP @ n, RR @ n, Success @ n]
    listed = {str(user) for user in users}
    found = ir_measures.calc_aggregate(measures, [one for one in judged if one.query_id in listed], run)
    return [found[measure] for measure in measures]


def lists(rng, users, items, n):
    return np.argsort(rng.random((users, items)), 1)[:, :n]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [1, 5, 10])
def test_against_ir_measures(seed, n):
    rng = np.random.default_rng(seed)
    held_out = random_ratings(rng, n_users=25, n_items=30, n=[5, 60, 200, 600][seed])
    top = lists(rng, 25, 30, 10)
    top[3, 4:] = 30  # a short list, and one of nothing
    top[5] = 30
    for threshold in (-np.inf, 4.0):
        found = ranking.ranking(top, held_out, threshold=threshold, n=n)
        np.testing.assert_allclose(found[1:], oracle(top, held_out, threshold, n), atol=1e-6)
        assert found.users == len(np.unique(held_out.user[held_out.rating >= threshold]))


def test_some_users_and_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    held_out, users = random_ratings(rng, 25, 30, 200), np.array([7, 24, 3, 11, 0])
    top = lists(rng, 5, 30, 8)
    whole = ranking.per_user(top, held_out, users=users)
    np.testing.assert_allclose(
        ranking.ranking(top, held_out, users=users)[1:], oracle(top, held_out, 0, 8, users), atol=1e-6
    )
    monkeypatch.setattr(ranking, "USERS", 2)
    jax.tree.map(np.testing.assert_array_equal, ranking.per_user(top, held_out, users=users), whole)


def test_movielens_100k(shared):
    folder = shared / "data" / "ml-100k"
    ratings, split = datasets.movielens_100k(folder).ratings, datasets.movielens_100k_folds(folder)["u1"]
    train, test = ratings.take(split.train), ratings.take(split.test)
    fit = als.fit(jax.random.key(0), train, kernel=Linear(), rank=8, epochs=5)
    top = recommend.top_n(fit.params, Linear(), np.arange(ratings.n_users), n=20, seen=train).item
    for n, threshold in ((10, 4.0), (20, 0.0)):
        found = ranking.ranking(top, test, threshold=threshold, n=n)
        np.testing.assert_allclose(found[1:], oracle(top, test, threshold, n), atol=1e-6)
    assert found.hit_rate > 0.2


def test_a_perfect_list_and_nothing_held_out():
    rng = np.random.default_rng(1)
    held_out = random_ratings(rng, 10, 30, 60)
    best = np.full((10, 30), 30)
    for user in range(10):
        theirs = held_out.item[held_out.user == user]
        best[user, : len(theirs)] = theirs
    found = ranking.ranking(best, held_out)
    assert (found.recall, found.ndcg, found.map, found.mrr, found.hit_rate) == pytest.approx((1, 1, 1, 1, 1))
    nothing = ranking.ranking(best, held_out, threshold=99.0)
    assert nothing.users == 0
    assert np.isnan(nothing[1:]).all()


def test_padding_and_repeated_ratings_are_inert():
    rng = np.random.default_rng(2)
    held_out, top = random_ratings(rng, 10, 30, 80), lists(rng, 10, 30, 5)
    twice = held_out.take(np.concatenate([np.arange(80), [3, 3, 9]]))
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros(40, x.dtype)]), twice)
    assert ranking.ranking(top, padded) == ranking.ranking(top, held_out)


def test_coverage_and_novelty():
    rng = np.random.default_rng(3)
    train, top = random_ratings(rng, 20, 30, 100), lists(rng, 20, 30, 4)
    top[2, 1:] = 30
    listed = top[top < 30]
    assert ranking.catalogue_coverage(top, 30) == len(set(listed.tolist())) / 30
    raters = np.array([max(1, (train.item == item).sum()) for item in listed])
    assert ranking.novelty(top, train) == pytest.approx(np.mean(-np.log2(raters / 20)))
    assert np.isnan(ranking.novelty(np.full((2, 3), 30), train))


@pytest.mark.parametrize(
    ("top", "settings", "message"),
    [
        ([[1, 1]], {}, "item row 1 is twice"),
        ([[1, -1]], {}, "item row -1"),
        ([[1, 2]], {"n": 3}, "n must be between 1 and the lists' length, 2, got 3"),
        ([[1, 2]], {"users": np.array([0, 1])}, "2 users of 1 lists"),
    ],
)
def test_what_is_refused(top, settings, message):
    one = np.ones(1, np.float32)
    held_out = Ratings(np.array([0]), np.array([1]), one, one, 2, 3)
    with pytest.raises(ValueError, match=message):
        ranking.ranking(np.array(top), held_out, **settings)
