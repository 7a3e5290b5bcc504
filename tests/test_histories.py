"""Blocks hold every rating once, in bounded shapes, with little padding."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmf.data import datasets, histories, lengths
from jaxmf.data.ratings import Ratings


def ratings_with(counts, seed=0):
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    n = len(user)
    return Ratings(
        user,
        np.arange(n, dtype=np.int32),
        rng.uniform(1, 5, n).astype(np.float32),
        np.ones(n, np.float32),
        len(counts),
        max(n, 1),
    )


def unpack(stacks):
    """(row, other, rating) of every real slot."""
    found = []
    for stack in stacks:
        for at in range(len(stack.rows)):
            block = jax.tree.map(lambda x: x[at], stack)  # noqa: B023
            page, slot = np.nonzero(block.weight)
            assert (np.diff(block.owner) >= 0).all()
            found += zip(block.rows[block.owner[page]], block.other[page, slot], block.rating[page, slot], strict=True)
    return sorted(found)


def rows_of(stacks, n_users):
    rows = np.concatenate([stack.rows.ravel() for stack in stacks])
    return np.sort(rows[rows < n_users])


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 33, 200]), min_size=1, max_size=30),
    width=st.sampled_from([None, 4, 32]),
    ladder=st.booleans(),
)
def test_every_rating_once_and_every_row_once(counts, width, ladder):
    ratings = ratings_with(counts)
    stacks = histories.blocks(ratings, width=width, ladder=ladder)
    assert unpack(stacks) == sorted(zip(ratings.user, ratings.item, ratings.rating, strict=True))
    np.testing.assert_array_equal(rows_of(stacks, len(counts)), np.arange(len(counts)))


def test_only_the_rows_wanted():
    ratings = ratings_with([3, 5, 0, 9])
    stacks = histories.blocks(ratings, np.array([1, 2]))
    assert {row for row, *_ in unpack(stacks)} == {1}
    np.testing.assert_array_equal(rows_of(stacks, 4), [1, 2])


def test_long_rows_have_stacks_of_their_own(monkeypatch):
    monkeypatch.setattr(histories, "PAGES", 8)
    ratings = ratings_with([3, 700, 40, 300, 2])
    stacks = histories.blocks(ratings, width=8)
    assert unpack(stacks) == sorted(zip(ratings.user, ratings.item, ratings.rating, strict=True))
    assert [stack.owner.shape for stack in stacks] == [(1, 7), (1, 64), (1, 128)]


def test_blocks_are_bounded():
    stacks = histories.blocks(ratings_with([40] * 3000))
    (stack,) = stacks
    assert stack.owner.shape[1] <= histories.PAGES
    assert histories.padded_share(stacks) < 0.4


def test_a_ladder_has_few_shapes():
    shapes = set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = rng.geometric(1 / rng.integers(1, 60), rng.integers(1, 40))
        shapes |= {stack.weight.shape[1:] for stack in histories.blocks(ratings_with(counts), ladder=True)}
    assert len(shapes) <= 12


@pytest.mark.parametrize("n", [0, 1, 32, 33, 500])
def test_by_length_holds_every_rating_once_a_row_a_page(n):
    ratings = ratings_with([n, 0, 1, 8, 9, 129, *[3] * 2000])
    stacks = lengths.by_length(ratings)
    assert unpack(stacks) == sorted(zip(ratings.user, ratings.item, ratings.rating, strict=True))
    np.testing.assert_array_equal(rows_of(stacks, ratings.n_users), np.flatnonzero(np.bincount(ratings.user)))
    assert [stack.alone for stack in stacks] == [True] * (len(stacks) - 1) + [False]
    assert lengths.by_length(ratings_with([])) == ()


@pytest.mark.parametrize("n", [0, 1, 32, 33, 500])
def test_one_row_is_its_block(n):
    ratings = ratings_with([n])
    block = histories.row_block(histories.packed_row(ratings.item, ratings.rating))
    stack = jax.tree.map(lambda x: np.asarray(x)[None], block)
    assert unpack([stack]) == sorted(zip(ratings.user, ratings.item, ratings.rating, strict=True))


def test_little_padding_on_movielens():
    ratings = datasets.movielens_small().ratings
    stacks = histories.blocks(ratings) + histories.blocks(ratings.transpose())
    assert histories.padded_share(stacks) <= 0.35


def test_joint_blocks_hold_each_rating_from_both_sides_users_first():
    ratings = ratings_with([40, 0, 3, 1, 70])
    stacks = histories.joint_blocks(ratings)
    n = ratings.n_users
    from_users = [(u, i + n, r) for u, i, r in zip(ratings.user, ratings.item, ratings.rating, strict=True)]
    assert unpack(stacks) == sorted(from_users + [(i, u, r) for u, i, r in from_users])
    rows = [block[block < histories.PADDING] for stack in stacks for block in stack.rows]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(n + ratings.n_items))
    assert all((block < n).all() or (block >= n).all() for block in rows)


def test_joint_blocks_keep_users_before_items_however_long_a_row(monkeypatch):
    monkeypatch.setattr(histories, "PAGES", 4)
    ratings = ratings_with([200, 1, 2])
    stacks = histories.joint_blocks(ratings)
    rows = np.concatenate([block[block < histories.PADDING] for stack in stacks for block in stack.rows])
    assert (rows[:3] < 3).all()
    assert sorted(rows) == list(range(3 + ratings.n_items))
    assert histories.joint_blocks(ratings_with([]).replace(n_items=0)) == ()


def test_little_padding_in_joint_blocks_of_movielens():
    assert histories.padded_share(histories.joint_blocks(datasets.movielens_small().ratings)) <= 0.35
