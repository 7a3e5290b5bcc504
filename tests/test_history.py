"""A history is what `changes` makes of its ratings, step by step, at a cost that does not grow with it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmf.data import changes
from jaxmf.data.history import History
from jaxmf.data.layers import RATIO, settled
from jaxmf.data.ratings import Ratings

COLUMNS = ("user", "item", "rating", "weight")


def drawn(rng, n, n_users=6, n_items=7) -> Ratings:
    """Ratings, pairs among them twice."""
    user, item = rng.integers(0, n_users, n).astype(np.int32), rng.integers(0, n_items, n).astype(np.int32)
    rating, weight = rng.random((2, n)).astype(np.float32)
    return Ratings(user, item, rating, weight, n_users, n_items)


def clicks(rng, n, n_users=6, n_items=7) -> Ratings:
    """Counted clicks, dislikes among them, and padding."""
    counts = {"rating": rng.integers(0, 2, n).astype(np.float32), "weight": rng.integers(0, 4, n).astype(np.float32)}
    return drawn(rng, n, n_users, n_items).replace(**counts)


def assert_same(one: Ratings, other: Ratings) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.n_users, one.n_items) == (other.n_users, other.n_items)


def stepped(rng, history: History, plain: Ratings) -> tuple[History, Ratings]:
    """Both after the same change."""
    match rng.integers(4):
        case 0:
            users, items = rng.integers(history.n_users, 12), rng.integers(history.n_items, 12)
            new = drawn(rng, rng.integers(8), users, items)
            return history.merged(new), changes.merge(plain, new)
        case 1:
            users, items = rng.integers(history.n_users, 12), rng.integers(history.n_items, 12)
            new = clicks(rng, rng.integers(20), users, items)
            return history.merged(new, add=True), changes.merge(plain, new, add=True)
        case 2:
            some = rng.permutation(len(plain))[: rng.integers(4)]
            pair = plain.user[some], plain.item[some]
            return history.without(*pair), changes.remove(plain, *pair)
        case _:
            users = rng.integers(0, plain.n_users, rng.integers(2))
            return history.without_users(users), changes.remove_users(plain, users)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), steps=st.integers(0, 12))
def test_every_change_is_that_of_changes(seed, n, steps):
    rng = np.random.default_rng(seed)
    plain = rng.choice([drawn, clicks])(rng, n)
    plain = changes.merge(plain.take(np.zeros(0, int)), plain)
    history = History(plain)
    for _ in range(steps):
        before, was = history, plain
        history, plain = stepped(rng, history, plain)
        assert_same(before.ratings, was)  # what a change was made of stays as it was
        assert len(history) == len(plain)
        users, items = rng.integers(0, plain.n_users, 3), rng.integers(0, plain.n_items, 2)
        of_users, of_items = np.isin(plain.user, users), np.isin(plain.item, items)
        assert_same(history.of_users(users), plain.take(of_users))
        assert_same(history.of_items(items), plain.take(of_items))
        assert_same(history.touching(users=users, items=items), plain.take(of_users | of_items))
    assert_same(history.ratings, plain)


def test_users_are_numbered_anew():
    ratings = changes.merge(drawn(np.random.default_rng(0), 0), drawn(np.random.default_rng(1), 30))
    kept = np.array([4, 1])
    left = History(ratings).take_users(kept)
    assert (left.n_users, len(left)) == (2, int(np.isin(ratings.user, kept).sum()))
    for place, user in enumerate(kept):
        theirs = ratings.take(ratings.user == user).replace(user=left.of_users([place]).user, n_users=2)
        assert_same(left.of_users([place]), theirs)
    assert len(History(ratings).take_users(np.zeros(0, int)).ratings) == 0


def test_what_nobody_rated_is_not_removed():
    history = History(drawn(np.random.default_rng(0), 0)).merged(drawn(np.random.default_rng(1), 1))
    (user,), (item,) = history.ratings.user, history.ratings.item
    left = history.without([user], [item])
    assert len(left) == len(left.ratings) == 0
    for pair in ((user, item), (user, 99), (99, item), (user, -1), (-1, item)):
        with pytest.raises(ValueError, match=f"user row {pair[0]} has not rated item row {pair[1]}"):
            left.without([pair[0]], [pair[1]])


@pytest.mark.parametrize("add", [False, True])
def test_what_is_large_is_shared_and_layers_are_few(add):
    """A hundred changes copy the base as often as a logarithm says, and no change copies it for itself alone."""
    rng = np.random.default_rng(0)
    history = History(changes.merge(drawn(rng, 0), drawn(rng, 20_000, 500, 500)))
    base = history._layers[0]
    for _ in range(100):
        new = drawn(rng, 5, 500, 500)
        history = history.merged(new, add=add)
        assert len(history._layers[-1]) == 5
        assert len(history._layers) <= 9
        assert history._layers[0] is base
    for _ in range(3):
        history = history.merged(drawn(rng, 6_000, 500, 500))
    forks = [history.merged(drawn(rng, 5, 500, 500)) for _ in range(2)]
    assert forks[0]._layers[0] is forks[1]._layers[0]


@given(st.lists(st.text(min_size=1), max_size=20))
def test_layers_keep_their_order_and_shrink(layers):
    joined = settled(layers, str.__add__)
    assert "".join(joined) == "".join(layers)
    assert all(len(one) >= RATIO * len(next_) for one, next_ in itertools.pairwise(joined))


def test_nothing_writes_to_a_history():
    history = History(drawn(np.random.default_rng(0), 5)).merged(drawn(np.random.default_rng(1), 3))
    for ratings in (history.ratings, history.of_users([0, 1, 2])):
        assert not any(getattr(ratings, name).flags.writeable for name in COLUMNS)
