"""Ratings are sorted by counting, and go to their slots however small the parts are that are written at a time."""

import jax
import numpy as np
import pytest

from jaxmf.data import datasets, histories, layout


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
