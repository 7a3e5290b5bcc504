"""Ratings are sorted by counting, and go to their slots however small the parts are that are written at a time."""

import jax
import numpy as np
import pytest

from jaxmf.data import datasets, histories, layout
from jaxmf.data.ratings import Ratings


@pytest.mark.parametrize("n", [0, 1, 500])
def test_sorting_by_counting_is_a_stable_sort(n):
    row = np.random.default_rng(n).integers(0, 40, n)
    found = layout.Sorted.by(row, 41)
    np.testing.assert_array_equal(found.order, np.argsort(row, kind="stable"))
    np.testing.assert_array_equal(found.counts(np.arange(41)), np.bincount(row, minlength=41))


@pytest.mark.parametrize("even", [False, True])
def test_blocks_are_the_same_written_a_few_ratings_at_a_time(even, monkeypatch):
    ratings = datasets.movielens_small().ratings
    whole = histories.joint_blocks(ratings, even=even)
    monkeypatch.setattr(layout, "CHUNK", 100)
    jax.tree.map(np.testing.assert_array_equal, histories.joint_blocks(ratings, even=even), whole)


def test_rows_of_narrow_types_are_counted():
    row = np.array([127, 127, 3], np.int8)
    found = layout.Sorted.by(row, 128)
    np.testing.assert_array_equal(found.counts(np.array([3, 127], np.int8)), [1, 2])
    ratings = Ratings(row, np.array([200, 1, 2], np.int16), np.ones(3, np.float32), np.ones(3, np.float32), 128, 201)
    (stack,) = histories.joint_blocks(ratings)
    assert sorted(stack.other[stack.weight > 0]) == [3, 127, 127, 129, 130, 328]


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_outside_the_table_is_refused(row):
    with pytest.raises(ValueError, match=f"row {row} is outside the table of 3 rows"):
        layout.Sorted.by(np.array([0, row, 1]), 3)
