"""Splits: parts that cover everything once, in the order that is promised."""

import numpy as np
import pytest

from jaxmf.data import splits

USER = np.array([2, 0, 0, 1, 0, 1, 2, 2, 2, 0])
ITEM = np.arange(10) % 7
TIME = np.array([5, 1, 9, 4, 3, 3, 2, 2, 8, 9])

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
    ],
)
def test_bad_settings_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
