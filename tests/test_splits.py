"""Splits: parts that cover everything once, in the order that is promised."""

import math
from fractions import Fraction

import numpy as np
import pytest

from jaxmf.data import splits
from jaxmf.data.ratings import Ratings

USER = np.array([2, 0, 0, 1, 0, 1, 2, 2, 2, 0])
ITEM = np.arange(10) % 7
TIME = np.array([5, 1, 9, 4, 3, 3, 2, 2, 8, 9])

NOBODY = Ratings(*np.zeros((2, 0), np.int32), *np.zeros((2, 0), np.float32), n_users=3, n_items=4)

LATE = np.where(np.arange(10) == 4, np.nan, TIME)


def assert_parts(n, *parts):
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


def test_k_fold_tests_every_rating_once():
    folds = splits.k_fold(103, 5, seed=1)
    assert_parts(103, *[fold.test for fold in folds])
    for fold in folds:
        assert_parts(103, *fold)


def test_k_fold_is_the_anchors_protocol():
    expected = np.array_split(np.random.default_rng(0).permutation(100), 5)[0]
    np.testing.assert_array_equal(splits.k_fold(100)[0].test, expected)


def test_hold_out():
    split = splits.hold_out(50, 0.3, seed=2)
    assert_parts(50, *split)
    assert len(split.test) == 15
    np.testing.assert_array_equal(split.test, splits.hold_out(50, 0.3, seed=2).test)


def test_by_time_tests_on_the_latest():
    split = splits.by_time(TIME, 0.3)
    assert_parts(10, *split)
    assert TIME[split.train].max() <= TIME[split.test].min()


def test_leave_last_n():
    split = splits.leave_last_n(USER, TIME, 2)
    assert_parts(10, *split)
    assert np.bincount(USER[split.test], minlength=3).tolist() == [2, 0, 2]
    for user in (0, 2):
        theirs = split.train[USER[split.train] == user], split.test[USER[split.test] == user]
        assert TIME[theirs[0]].max() <= TIME[theirs[1]].min()


def test_new_users_reveals_the_start_of_histories():
    rng = np.random.default_rng(0)
    user, item, time = rng.integers(0, 20, 500), rng.integers(0, 90, 500), rng.integers(0, 30, 500)
    split = splits.new_users(user, item, time, 0.2, at_most=8, seed=3)
    assert_parts(500, split.train, split.reveal, split.test)
    assert len(split.users) == 4
    assert not np.isin(user[split.train], split.users).any()
    for held in split.users:
        shown, hidden = split.reveal[user[split.reveal] == held], split.test[user[split.test] == held]
        assert len(shown) == min(8, (user == held).sum() // 2)
        order = np.lexsort((item[np.r_[shown, hidden]], time[np.r_[shown, hidden]]))
        np.testing.assert_array_equal(order, np.arange(len(order)))


def test_new_users_may_reveal_nothing():
    split = splits.new_users(USER, ITEM, TIME, 0.4, at_most=0)
    assert not len(split.reveal)
    assert_parts(10, split.train, split.test)


@pytest.mark.parametrize("revealed", [0.8, 0.5, 0.01])
def test_strong_generalisation_reveals_a_share_of_each_user_s_items(revealed):
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 40, 900), rng.integers(0, 60, 900)  # some pairs more than once
    split = splits.strong_generalisation(user, item, 0.3, revealed=revealed, seed=3)
    assert_parts(900, split.train, split.reveal, split.test)
    assert len(split.users) == 12
    assert not np.isin(user[split.train], split.users).any()
    for held in split.users:
        shown, hidden = (np.unique(item[part][user[part] == held]) for part in (split.reveal, split.test))
        assert not np.intersect1d(shown, hidden).size
        assert len(shown) == math.ceil(Fraction(str(revealed)) * (len(shown) + len(hidden)))


def test_strong_generalisation_does_not_depend_on_the_order_and_does_on_the_seed():
    rng = np.random.default_rng(1)
    user, item = np.divmod(rng.choice(20 * 30, 300, replace=False), 30)
    order = rng.permutation(300)
    split, shuffled = (
        splits.strong_generalisation(*given, 0.5) for given in ((user, item), (user[order], item[order]))
    )
    for part, same in zip(split[:3], shuffled[:3], strict=True):
        np.testing.assert_array_equal(np.sort(order[same]), part)
    other = splits.strong_generalisation(user, item, 0.5, seed=1)
    assert set(other.test.tolist()) != set(split.test.tolist())
    tested = [len(part) for part in (split.test, other.test)]
    assert all(0.12 * 150 < n < 0.21 * 150 for n in tested)


def test_users_of_few_items_are_tested_on_none():
    user, item = np.repeat([0, 1], [4, 5]), np.arange(9)
    for seed in range(4):
        split = splits.strong_generalisation(user, item, 0.5, seed=seed)
        assert len(split.test) == split.users[0]  # none of user 0's four, and one of user 1's five


def interactions(rng, n_users, n_items, n) -> Ratings:
    user, item = np.divmod(rng.choice(n_users * n_items, n, replace=False), n_items)
    weight = rng.integers(0, 2, n).astype(np.float32)
    return Ratings(user.astype(np.int32), item.astype(np.int32), np.ones(n, np.float32), weight, n_users, n_items)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_negatives_are_what_the_user_left(seed):
    rng = np.random.default_rng(seed)
    ratings = interactions(rng, 20, 30, [0, 100, 590][seed])
    users = np.array([3, 0, 19, 3])
    found = splits.sampled_negatives(ratings, users, count=12, seed=seed)
    assert found.shape == (4, 12)
    for row, user in zip(found, users, strict=True):
        left = np.setdiff1d(np.arange(30), ratings.item[(ratings.user == user) & (ratings.weight > 0)])
        drawn = row[row < 30]
        assert len(drawn) == len(np.unique(drawn)) == min(12, len(left))
        assert np.isin(drawn, left).all()
        assert (row[len(drawn) :] == 30).all()
        np.testing.assert_array_equal(row, splits.sampled_negatives(ratings, [user], count=12, seed=seed)[0])


def test_every_item_left_is_drawn_as_often():
    ratings = interactions(np.random.default_rng(0), 2_000, 12, 12_000)
    found = splits.sampled_negatives(ratings, np.arange(2_000), count=2, seed=5)
    asked = np.zeros((2_000, 12), bool)
    seen = ratings.weight > 0
    asked[ratings.user[seen], ratings.item[seen]] = True
    expected = np.where(asked, 0, np.minimum(1, 2 / np.maximum(1, (~asked).sum(1, keepdims=True))))
    times = np.bincount(found[found < 12], minlength=12)
    variance = (expected * (1 - expected)).sum(0)
    assert (np.abs(times - expected.sum(0)) < 4 * np.sqrt(variance)).all()


def test_negatives_of_a_user_who_left_nothing_and_of_nobody():
    everything = interactions(np.random.default_rng(0), 1, 5, 5).replace(weight=np.ones(5, np.float32))
    assert splits.sampled_negatives(everything, [0], count=3).tolist() == [[5, 5, 5]]
    assert splits.sampled_negatives(everything, []).shape == (0, 100)


def test_anchors_new_users(shared):
    from jaxmf.data import datasets

    data = datasets.the_movies_dataset(shared / "data/the-movies-dataset")
    split = splits.new_users(data.ratings.user, data.ratings.item, data.timestamp)
    assert [len(part) for part in split] == [81_932, 4_547, 13_525, 134]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: splits.k_fold(10, 1), "folds must be a whole number of 2 or more, got 1"),
        (lambda: splits.k_fold(10, 2.5), "folds must be a whole number of 2 or more, got 2.5"),
        (lambda: splits.k_fold(10, np.nan), "folds must be a whole number of 2 or more, got nan"),
        (lambda: splits.k_fold(3, 4), "folds must be between 2"),
        (lambda: splits.hold_out(3, 0.1), "at least one on either side"),
        (lambda: splits.by_time(TIME, 1.0), "at least one on either side"),
        (lambda: splits.hold_out(10, np.nan), "fraction must be between 0 and 1, got nan"),
        (lambda: splits.hold_out(10, np.inf), "fraction must be between 0 and 1, got inf"),
        (lambda: splits.new_users(USER, ITEM, TIME, -0.5), "fraction must be between 0 and 1, got -0.5"),
        (lambda: splits.leave_last_n(USER, TIME, 0), "count must be a whole number of 1 or more, got 0"),
        (lambda: splits.leave_last_n(USER, TIME, np.nan), "count must be a whole number of 1 or more, got nan"),
        (lambda: splits.leave_last_n(USER, TIME, 1.5), "count must be a whole number of 1 or more, got 1.5"),
        (lambda: splits.leave_last_n(USER, TIME, np.inf), "count must be a whole number of 1 or more, got inf"),
        (lambda: splits.new_users(USER, ITEM, TIME, at_most=-1), "at_most must be a whole number of 0 or more, got -1"),
        (lambda: splits.new_users(USER, ITEM, TIME, at_most=2.5), "at_most must be a whole number of 0 or more"),
        (lambda: splits.by_time(LATE, 0.3), "time nan of rating 4: a split by time needs every rating's"),
        (lambda: splits.by_time(LATE.astype("datetime64[s]"), 0.3), "time NaT of rating 4"),
        (lambda: splits.leave_last_n(USER, LATE), "time nan of rating 4"),
        (lambda: splits.new_users(USER, ITEM, LATE), "time nan of rating 4"),
        (lambda: splits.strong_generalisation(USER, ITEM, 1.5), "fraction must be between 0 and 1, got 1.5"),
        (lambda: splits.strong_generalisation(USER, ITEM, revealed=1.0), "revealed must be between 0 and 1, got 1.0"),
        (lambda: splits.strong_generalisation(USER, ITEM[:3]), "columns of different lengths"),
        (lambda: splits.sampled_negatives(NOBODY, [0, 4]), "user row 4 is not among the 3 users"),
        (lambda: splits.sampled_negatives(NOBODY, [-1]), "user row -1 is not among the 3 users"),
        (lambda: splits.sampled_negatives(NOBODY, [0], count=0), "count must be a whole number of 1 or more, got 0"),
        (lambda: splits.sampled_negatives(NOBODY, [0], seed=-1), "seed must be a whole number of 0 or more, got -1"),
    ],
)
def test_bad_settings_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
