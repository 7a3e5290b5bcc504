"""Changes of ratings: what stays, what goes, and that rows follow."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmf.data import changes
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings, from_columns, from_frame

USERS, ITEMS = Vocabulary([0, 1]), Vocabulary([1, 3])


def some(pairs, rating, n_users=4, n_items=5):
    user, item = np.array(pairs, np.int32).reshape(-1, 2).T
    return Ratings(user, item, np.array(rating, np.float32), np.ones(len(user), np.float32), n_users, n_items)


def as_dict(ratings):
    return dict(
        zip(zip(ratings.user.tolist(), ratings.item.tolist(), strict=True), ratings.rating.tolist(), strict=True)
    )


@settings(deadline=None)
@given(
    old=st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 4)), st.integers(1, 5)),
    new=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(1, 5)), max_size=12),
)
def test_merge_is_a_dictionary_s_update(old, new):
    merged = changes.merge(
        some(list(old), list(old.values())), some([pair[:2] for pair in new], [r for *_, r in new], 6, 7)
    )
    assert as_dict(merged) == old | {(user, item): rating for user, item, rating in new}
    assert len(merged) == len(as_dict(merged))
    assert (merged.n_users, merged.n_items) == (6, 7)


def test_merge_keeps_weights_with_their_ratings():
    old, new = some([(0, 0), (1, 1)], [3, 4]), some([(0, 0)], [5])
    merged = changes.merge(old, new.replace(weight=np.float32([0.5])))
    assert merged.weight[merged.user == 0].tolist() == [0.5]


@settings(deadline=None)
@given(
    old=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), max_size=12),
    new=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1), st.integers(0, 3)), max_size=12),
)
def test_merge_adds_what_is_rated_alike(old, new):
    def of(events):
        ratings = some([event[:2] for event in events], [event[2] for event in events])
        return ratings.replace(weight=np.array([event[3] for event in events], np.float32))

    expected = {}
    for pair in dict.fromkeys(event[:2] for event in (old + new)[::-1]):
        theirs = [event[2:] for event in old + new if event[:2] == pair]
        counting = [event for event in theirs if event[1]] or theirs
        expected[pair] = counting[-1][0], sum(weight for rating, weight in counting if rating == counting[-1][0])
    merged = changes.merge(of(old), of(new), add=True)
    rows = zip(merged.user.tolist(), merged.item.tolist(), strict=True)
    found = dict(zip(rows, zip(merged.rating.tolist(), merged.weight.tolist(), strict=True), strict=True))
    assert found == expected
    assert [*found] == [*expected][::-1]  # in the order of their last
    assert merged.weight.dtype == np.float32


def test_added_clicks_are_the_frame_s_sum():
    events = {"user": [0, 1, 0, 0], "item": [3, 3, 3, 1], "rating": [1, 1, 1, 0], "w": [2, 1, 3, 1]}
    whole = from_frame(events, weight="w", duplicates="sum").ratings
    parts = [
        from_columns(pd.DataFrame(events).iloc[part], Columns(weight="w"), users=USERS, items=ITEMS).ratings
        for part in (slice(0, 2), slice(2, 4))
    ]
    merged = changes.merge(*parts, add=True)
    assert as_dict(merged) == as_dict(whole)
    np.testing.assert_array_equal(merged.weight, whole.weight)


def test_remove():
    left = changes.remove(some([(0, 0), (1, 1), (1, 2)], [3, 4, 5]), [1], [1])
    assert as_dict(left) == {(0, 0): 3, (1, 2): 5}
    with pytest.raises(ValueError, match="user row 1 has not rated item row 1"):
        changes.remove(left, [0, 1], [0, 1])


def test_remove_users():
    left = changes.remove_users(some([(0, 0), (1, 1), (1, 2)], [3, 4, 5]), [1, 3])
    assert as_dict(left) == {(0, 0): 3}
    assert left.n_users == 4


def test_time_decay():
    np.testing.assert_allclose(changes.time_decay(np.array([0, 5, 20]), 10, now=10), [0.5, 2**-0.5, 1])
    assert changes.time_decay(np.zeros(0), 10).shape == (0,)
    with pytest.raises(ValueError, match="half_life must be positive, got 0"):
        changes.time_decay(np.zeros(1), 0)
