"""Ranking metrics: against ir-measures, on small random lists and on MovieLens 100K."""

import collections

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
    judged = [one for one in judged if one.query_id in listed]
    found = ir_measures.calc_aggregate(measures, judged, run)
    recall, *others = [found[measure] for measure in measures]
    return [recall, capped(judged, run, n), *others]


def capped(judged, run, n):
    """Recall over min(n, relevant), of ir-measures' precision: hits/n of each user."""
    total = collections.Counter(query for query, _ in {(one.query_id, one.doc_id) for one in judged})
    hits = {one.query_id: n * one.value for one in ir_measures.iter_calc([P @ n], judged, run)}
    return sum(hits[query] / min(n, relevant) for query, relevant in total.items()) / (len(total) or np.nan)


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
        found = ranking.ranking(ranking.judgements(top, held_out, threshold=threshold, n=n))
        np.testing.assert_allclose(found[1:], oracle(top, held_out, threshold, n), atol=1e-6)
        assert found.users == len(np.unique(held_out.user[held_out.rating >= threshold]))


def test_some_users_and_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    held_out, users = random_ratings(rng, 25, 30, 200), np.array([7, 24, 3, 11, 0])
    top = lists(rng, 5, 30, 8)
    lists_of_users = ranking.judgements(top, held_out, users=users)
    whole = ranking.per_user(lists_of_users)
    np.testing.assert_allclose(ranking.ranking(lists_of_users)[1:], oracle(top, held_out, 0, 8, users), atol=1e-6)
    monkeypatch.setattr(ranking, "USERS", 2)
    jax.tree.map(np.testing.assert_array_equal, ranking.per_user(lists_of_users), whole)


def test_movielens_100k(shared):
    folder = shared / "data" / "ml-100k"
    ratings, split = datasets.movielens_100k(folder).ratings, datasets.movielens_100k_folds(folder)["u1"]
    train, test = ratings.take(split.train), ratings.take(split.test)
    fit = als.fit(jax.random.key(0), train, kernel=Linear(), rank=8, epochs=5)
    top = recommend.top_n(fit.model, np.arange(ratings.n_users), n=20, seen=train).item
    for n, threshold in ((10, 4.0), (20, 0.0)):
        found = ranking.ranking(ranking.judgements(top, test, threshold=threshold, n=n))
        np.testing.assert_allclose(found[1:], oracle(top, test, threshold, n), atol=1e-6)
    assert found.hit_rate > 0.2


def test_a_perfect_list_and_nothing_held_out():
    rng = np.random.default_rng(1)
    held_out = random_ratings(rng, 10, 30, 60)
    best = np.full((10, 30), 30)
    for user in range(10):
        theirs = held_out.item[held_out.user == user]
        best[user, : len(theirs)] = theirs
    found = ranking.ranking(ranking.judgements(best, held_out))
    assert (found.recall, found.ndcg, found.map, found.mrr, found.hit_rate) == pytest.approx((1, 1, 1, 1, 1))
    assert ranking.ranking(ranking.judgements(best, held_out, n=2)).capped_recall == 1
    nothing = ranking.ranking(ranking.judgements(best, held_out, threshold=99.0))
    assert nothing.users == 0
    assert np.isnan(nothing[1:]).all()


def test_at_cuts_against_ir_measures():
    rng = np.random.default_rng(7)
    held_out, top = random_ratings(rng, 25, 60, 300), lists(rng, 25, 60, 40)
    top[4, 3:] = 60
    found = ranking.at_cuts(ranking.judgements(top, held_out, threshold=3.0), cuts=(1, 10, 40))
    assert list(found) == ["users", "ndcg1", "recall1", "ndcg10", "recall10", "ndcg40", "recall40"]
    for cut in (1, 10, 40):
        _, recall, _, ndcg, *_ = oracle(top, held_out, 3.0, cut)
        assert (found[f"recall{cut}"], found[f"ndcg{cut}"]) == pytest.approx((recall, ndcg), abs=1e-6)
    nothing = ranking.at_cuts(ranking.judgements(top, held_out, threshold=99.0), cuts=(5,))
    assert nothing == pytest.approx({"users": 0, "ndcg5": np.nan, "recall5": np.nan}, nan_ok=True)
    for cuts, words in (
        ((41,), "a cut of 41 in lists of 40 items"),
        ((0,), "a cut must be a whole number of 1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            ranking.at_cuts(ranking.judgements(top, held_out), cuts)


def test_padding_and_repeated_ratings_are_inert():
    rng = np.random.default_rng(2)
    held_out, top = random_ratings(rng, 10, 30, 80), lists(rng, 10, 30, 5)
    twice = held_out.take(np.concatenate([np.arange(80), [3, 3, 9]]))
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros(40, x.dtype)]), twice)
    assert ranking.ranking(ranking.judgements(top, padded)) == ranking.ranking(ranking.judgements(top, held_out))


def test_coverage_and_novelty():
    rng = np.random.default_rng(3)
    train, top = random_ratings(rng, 20, 30, 100), lists(rng, 20, 30, 4)
    top[2, 1:] = 30
    listed = top[top < 30]
    assert ranking.catalogue_coverage(top, 30) == len(set(listed.tolist())) / 30
    raters = np.array([max(1, (train.item == item).sum()) for item in listed])
    assert ranking.novelty(top, train) == pytest.approx(np.mean(-np.log2(raters / 20)))
    assert np.isnan(ranking.novelty(np.full((2, 3), 30), train))


def rated(train, side, row):
    return int(((getattr(train, side) == row) & (train.weight > 0)).sum())


def test_by_profile_size_against_loops():
    rng = np.random.default_rng(4)
    train, held_out = random_ratings(rng, 25, 30, 150), random_ratings(rng, 25, 30, 60)
    top, edges = lists(rng, 25, 30, 8), (0, 3, 6, 8)
    frame = ranking.by_profile_size(ranking.judgements(top, held_out, threshold=3.0, n=6), train, edges=edges)
    assert list(frame.columns) == ["from", "to", "n", *ranking.Ranking._fields[1:]]
    sizes = np.array([rated(train, "user", user) for user in range(25)])
    for line in frame.to_dict("records"):
        theirs = np.flatnonzero((sizes >= line["from"]) & (sizes < line["to"]))
        expected = ranking.ranking(ranking.judgements(top[theirs], held_out, threshold=3.0, n=6, users=theirs))
        assert list(line.values())[2:] == pytest.approx(list(expected), abs=1e-6)
    whole = ranking.ranking(ranking.judgements(top, held_out, threshold=3.0, n=6))
    assert frame["n"].sum() == whole.users
    assert np.average(frame["ndcg"], weights=frame["n"]) == pytest.approx(whole.ndcg)


@pytest.mark.parametrize("users", [None, np.array([7, 24, 3, 7])])
def test_by_popularity_against_loops(users):
    rng = np.random.default_rng(5)
    train, held_out = random_ratings(rng, 25, 30, 150), random_ratings(rng, 25, 30, 200)
    top = lists(rng, 25 if users is None else 4, 30, 8)
    top[2, 3:] = 31  # a short list
    found = []
    for user, row in zip(np.arange(25) if users is None else users, top.tolist(), strict=True):
        for item in set(held_out.item[(held_out.user == user) & (held_out.rating >= 3)].tolist()):
            place = row.index(item) + 1 if item in row[:6] else np.inf
            found.append((rated(train, "item", item), place < np.inf, 1 / np.log2(place + 1), 1 / place))
    found = np.array(found)
    twice = held_out.take(np.concatenate([np.arange(200), [3, 3, 9]]))
    judged = ranking.judgements(top, twice, threshold=3.0, n=6, users=users)
    frame = ranking.by_popularity(judged, train, edges=(0, 3, 6))
    assert list(frame.columns) == ["from", "to", "n", "recall", "gain", "reciprocal_rank"]
    assert frame["n"].sum() == len(found)
    for line in frame.to_dict("records"):
        inside = found[(found[:, 0] >= line["from"]) & (found[:, 0] < line["to"])]
        assert list(line.values())[2:] == pytest.approx([len(inside), *inside[:, 1:].mean(0)])


def test_breakdowns_of_nothing():
    some = random_ratings(np.random.default_rng(6), 4, 30, 20)
    top = lists(np.random.default_rng(6), 4, 30, 3)
    for breakdown in (ranking.by_profile_size, ranking.by_popularity):
        assert not len(breakdown(ranking.judgements(top, some, threshold=99.0), some))
        assert not len(breakdown(ranking.judgements(top[:0], some), some))


HELD_OUT = Ratings(np.array([0]), np.array([1]), np.ones(1, np.float32), np.ones(1, np.float32), 2, 3)


@pytest.mark.parametrize(
    ("top", "settings", "message"),
    [
        ([[1, 1]], {}, "item row 1 is twice"),
        ([[1, -1]], {}, "item row -1"),
        ([[1, 2]], {"n": 3}, "n must be between 1 and the lists' length, 2, got 3"),
        ([[1, 2]], {"n": 1.5}, "n must be a whole number, got 1.5"),
        ([[1, 2]], {"n": np.nan}, "n must be between 1 and the lists' length, 2, got nan"),
        ([[1, 2]], {"users": np.array([0, 1])}, "2 users of 1 lists"),
        ([[1, 2]], {"users": [-1]}, "user row -1 is not among the 2 users"),
        ([[1, 2]], {"users": [99]}, "user row 99 is not among the 2 users"),
        ([[1, 2]], {"users": [np.nan]}, "user row nan is not among the 2 users"),
        ([[1], [2], [0]], {}, "user row 2 is not among the 2 users"),
        ([[1.0, 2.0]], {}, "the lists hold float64 such as 1.0: item rows are whole numbers"),
        ([[np.nan, 2.0]], {}, "the lists hold float64 such as nan: item rows are whole numbers"),
        ([1, 2], {}, r"lists of shape \(2,\): give a row a user"),
        ([[1, 2]], {"threshold": np.nan}, "threshold nan: it must be a number"),
    ],
)
def test_what_is_refused(top, settings, message):
    with pytest.raises(ValueError, match=message):
        ranking.judgements(top, HELD_OUT, **settings)


def test_ratings_that_are_refused():
    nan, nobody = HELD_OUT.replace(rating=np.float32([np.nan])), HELD_OUT.take(np.zeros(0, int)).replace(n_users=0)
    with pytest.raises(ValueError, match="rating nan: every rating must be a finite number"):
        ranking.judgements([[1, 2]], nan)
    with pytest.raises(ValueError, match="rating nan: every rating must be a finite number"):
        ranking.novelty([[1, 2]], nan)
    with pytest.raises(ValueError, match="ratings of 0 users"):
        ranking.novelty([[1, 2]], nobody)


@pytest.mark.parametrize(
    ("top", "n_items", "message"),
    [
        ([[1, 2]], 0, "n_items must be a whole number of 1 or more, got 0"),
        ([1, 2], 3, r"lists of shape \(2,\)"),
        ([[1, -2]], 3, "item row -2: rows are 0 or more"),
        ([[0.5]], 3, "the lists hold float64 such as 0.5"),
    ],
)
def test_catalogues_that_are_refused(top, n_items, message):
    with pytest.raises(ValueError, match=message):
        ranking.catalogue_coverage(top, n_items)
