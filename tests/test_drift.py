"""The replay that measures drift."""

import jax
import numpy as np
import pytest

from jaxmf.model.kernels import Linear
from jaxmf.model.priors import Prior
from jaxmf.online import drift
from jaxmf.training import als

PRIOR = Prior(0.5, 0.5, 0.0)


def fit(ratings):
    return als.fit(jax.random.key(0), ratings, kernel=Linear(), rank=3, prior=PRIOR, epochs=8).model


def test_replay(ratings):
    order = np.random.default_rng(0).permutation(len(ratings))
    result = drift.replay(fit, ratings.take(order), fraction=0.5, parts=3)
    assert result.seen.tolist() == [84, 167, 250]
    assert all(np.isfinite(values).all() and len(values) == 3 for values in result[1:])
    assert result.stale[0] == pytest.approx(result.online[0]) == pytest.approx(result.refit[0], abs=1e-4)
    assert result.online[1:].mean() < result.stale[1:].mean()
    assert np.abs(result.online - result.refit).max() < 0.2


def test_a_replay_without_a_start_is_refused(ratings):
    for settings in ({"fraction": 1.0}, {"fraction": 0.001, "parts": 5}):
        with pytest.raises(ValueError, match="the start and every part need a rating"):
            drift.replay(fit, ratings, **settings)
