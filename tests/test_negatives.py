"""One held-out item among negatives: against a loop, with ties, padding and what is no number."""

import jax
import numpy as np
import pytest
from reference import random_ratings

from jaxmf.data import splits
from jaxmf.data.ratings import Ratings
from jaxmf.evaluation import negatives as module
from jaxmf.evaluation.ranking import among_negatives
from jaxmf.model.kernels import Linear
from jaxmf.model.model import Model
from jaxmf.model.params import init
from jaxmf.model.tables import Table


def case(seed=0, n_users=30, n_items=40, count=12):
    """A model, one held-out item a user, and negatives."""
    rng = np.random.default_rng(seed)
    ratings = random_ratings(rng, n_users, n_items, 500)
    split = splits.leave_last_n(ratings.user, rng.random(500))
    held_out = ratings.take(split.test)
    sampled = splits.sampled_negatives(ratings, held_out.user, count=count, seed=seed)
    return Model(init(jax.random.key(seed), n_users, n_items, rank=4, scale=1.0), Linear()), held_out, sampled


def places(model, held_out, sampled):
    """Place of each held-out item, by sorting."""
    found = []
    for user, item, row in zip(held_out.user, held_out.item, sampled, strict=True):
        items = np.r_[item, row[row < held_out.n_items]]
        score = np.asarray(model.predict(np.full(len(items), user), items))
        found.append(1 + (score[1:] >= score[0]).sum())
    return np.array(found)


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 3), (2, 10), (3, 99)])
def test_against_a_loop(seed, n):
    model, held_out, sampled = case(seed)
    sampled[2, 5:] = sampled[7] = held_out.n_items  # a short row, and one of nothing
    place = places(model, held_out, sampled)
    found = among_negatives(model, held_out, sampled, n=n)
    assert found.users == len(held_out) == 30
    assert found.hit_rate == pytest.approx((place <= n).mean())
    assert found.ndcg == pytest.approx(np.where(place <= n, 1 / np.log2(place + 1), 0).mean())


def test_blocks_and_padding_are_inert(monkeypatch):
    model, held_out, sampled = case()
    whole = among_negatives(model, held_out, sampled, n=3)
    monkeypatch.setattr(module, "PAIRS", 13 * 7)
    assert among_negatives(model, held_out, sampled, n=3) == pytest.approx(whole)
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros(5, x.dtype)]), held_out)
    rows = np.concatenate([sampled, np.zeros((5, 12), np.int32)])
    assert among_negatives(model, padded, rows, n=3) == pytest.approx(whole)
    order = np.random.default_rng(0).permutation(30)
    assert among_negatives(model, held_out.take(order), sampled[order], n=3) == pytest.approx(whole)


def test_a_tie_counts_against_the_model():
    model, held_out, sampled = case()
    same = model.replace(params=init(jax.random.key(0), 30, 40, rank=4, scale=0.0))
    assert among_negatives(same, held_out, sampled, n=12) == (30, 0, 0)
    assert among_negatives(same, held_out, sampled, n=13) == pytest.approx((30, 1, 1 / np.log2(14)))


def test_nothing_held_out_and_what_is_no_number():
    model, held_out, sampled = case()
    none = among_negatives(model, held_out.take(np.zeros(0, int)), sampled[:0])
    assert none == pytest.approx((0, np.nan, np.nan), nan_ok=True)
    items = model.params.item
    wrong = Table(items.bias.at[int(held_out.item[0])].set(np.nan), items.factors)
    broken = model.replace(params=model.params.replace(item=wrong))
    assert np.isnan(among_negatives(broken, held_out, sampled)[1:]).all()


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (lambda rows: rows[1:], {}, r"negatives of shape \(29, 12\) and type int32 of 30 held-out items"),
        (lambda rows: rows[0], {}, r"negatives of shape \(12,\)"),
        (lambda rows: rows * 1.0, {}, "type float64"),
        (lambda rows: rows - 99, {}, "item row -"),
        (lambda rows: rows, {"n": 0}, "n must be a whole number of 1 or more, got 0"),
    ],
)
def test_what_is_refused(change, settings, words):
    model, held_out, sampled = case()
    with pytest.raises(ValueError, match=words):
        among_negatives(model, held_out, change(sampled), **settings)


def test_a_model_that_knows_beats_one_that_does_not():
    """Chance is at place j with the same probability for all j: a hit rate of 10/101 among 100."""
    rng = np.random.default_rng(0)
    user = np.arange(2_000, dtype=np.int32)
    one = np.ones(2_000, np.float32)
    held_out = Ratings(user, rng.integers(0, 300, 2_000).astype(np.int32), one, one, 2_000, 300)
    sampled = splits.sampled_negatives(held_out, user)
    model = Model(init(jax.random.key(0), 2_000, 300, rank=4, scale=1.0), Linear())
    assert among_negatives(model, held_out, sampled).hit_rate == pytest.approx(10 / 101, abs=0.025)
