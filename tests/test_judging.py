"""A ranking of all items: against scores of all pairs in NumPy, and against ir-measures."""

import ir_measures
import jax
import numpy as np
import pytest
from ir_measures import nDCG
from reference import random_ratings

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear
from jaxmf.model.model import Model
from jaxmf.model.params import init
from jaxmf.serving.judging import full_ranking


def case(seed=0, n_users=40, n_items=70, n=500):
    """A model, what was seen, and what is held out: nothing of the last users."""
    rng = np.random.default_rng(seed)
    ratings = random_ratings(rng, n_users, n_items, n)
    test = (rng.random(n) < 0.4) & (ratings.user < n_users - 5)
    model = Model(init(jax.random.key(seed), n_users, n_items, rank=4, scale=1.0), Linear())
    return model, ratings.take(~test), ratings.take(test)


def ranked(model, seen, users):
    """All of each user's unseen items, best first."""
    score = np.asarray(model.params.user.factors) @ np.asarray(model.params.item.factors).T
    score[seen.user, seen.item] = -np.inf
    order = np.argsort(-score, 1)
    return {user: order[user][np.isfinite(score[user][order[user]])] for user in users}


@pytest.mark.parametrize("seed", range(3))
def test_against_numpy_and_ir_measures(seed):
    model, seen, held_out = case(seed)
    cuts = (1, 5, 20, 100)  # the last is more than there are items
    found = full_ranking(model, seen, held_out, cuts=cuts, threshold=3.0)
    relevant = held_out.take(held_out.rating >= 3.0)
    users = np.unique(relevant.user)
    best = ranked(model, seen, users.tolist())
    judged = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(relevant.user, relevant.item, strict=True)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(-at)) for user in users for at, item in enumerate(best[user])
    ]
    assert found["users"] == len(users)
    for cut in cuts:
        recalls = []
        for user in users:
            theirs = relevant.item[relevant.user == user]
            recalls.append(np.isin(theirs, best[user][:cut]).sum() / min(cut, len(theirs)))
        assert found[f"recall{cut}"] == pytest.approx(np.mean(recalls), abs=1e-6)
        expected = ir_measures.calc_aggregate([nDCG @ cut], judged, run)[nDCG @ cut]
        assert found[f"ndcg{cut}"] == pytest.approx(expected, abs=1e-6)


def test_some_users_and_padding():
    model, seen, held_out = case()
    users = np.array([3, 7, 39, 0])  # one without anything held out
    some = full_ranking(model, seen, held_out, cuts=(10,), users=users)
    theirs = held_out.take(np.isin(held_out.user, users))
    assert some == pytest.approx(full_ranking(model, seen, theirs, cuts=(10,)))
    assert some["users"] == 3
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros(9, x.dtype)]), theirs)
    assert full_ranking(model, seen, padded, cuts=(10,)) == pytest.approx(some)


def test_what_was_seen_is_masked():
    model, seen, held_out = case()
    masked, whole = (full_ranking(model, given, held_out, cuts=(20,)) for given in (seen, None))
    assert masked["recall20"] > whole["recall20"]
    assert full_ranking(model, held_out, held_out, cuts=(70,))["recall70"] == 0


def test_nothing_held_out():
    model, seen, held_out = case()
    nothing = {"users": 0, "ndcg5": np.nan, "recall5": np.nan}
    for empty in (held_out.take(np.zeros(0, int)), held_out.replace(weight=0 * held_out.weight)):
        assert full_ranking(model, seen, empty, cuts=(5,)) == pytest.approx(nothing, nan_ok=True)
    assert full_ranking(model, seen, held_out, cuts=(5,), threshold=9.0) == pytest.approx(nothing, nan_ok=True)


def test_what_is_refused():
    model, seen, held_out = case()
    for cuts, words in (((), "name at least one"), ((0,), "a cut must be a whole")):
        with pytest.raises(ValueError, match=words):
            full_ranking(model, seen, held_out, cuts=cuts)
    stranger = Ratings(np.int32([40]), np.int32([0]), np.float32([1]), np.float32([1]), 41, 70)
    with pytest.raises(ValueError, match="user row 40"):
        full_ranking(model, seen, stranger)
