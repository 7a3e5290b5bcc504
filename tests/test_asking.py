"""Scores from a posterior: against the formulas, and against what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import random_ratings

import jaxmf
from jaxmf.model import posterior
from jaxmf.online import asking, fold_in
from jaxmf.training import gibbs

KEY = jax.random.key(0)
ITEMS = np.arange(40)


@pytest.fixture(scope="module")
def drawn():
    ratings = random_ratings(np.random.default_rng(3), n_users=50, n_items=40, n=900)
    return gibbs.fit(KEY, ratings, rank=3, sweeps=80, burn=30, keep=50).posterior


def test_upper_bound(drawn):
    predicted = posterior.predictive(drawn, np.full(40, 7), ITEMS)
    np.testing.assert_allclose(asking.upper_bound(drawn, 7, ITEMS, width=0.0), predicted.mean, rtol=1e-5)
    wide = asking.upper_bound(drawn, 7, ITEMS, width=2.0)
    np.testing.assert_allclose(wide, predicted.mean + 2 * predicted.model_std, rtol=1e-5)


def test_thompson_is_one_of_the_draws(drawn):
    each = posterior.ratings_of_draws(drawn, jnp.full(40, 7), jnp.asarray(ITEMS))
    scores = [np.asarray(asking.thompson(jax.random.key(seed), drawn, 7, ITEMS)) for seed in range(30)]
    away = [np.abs(np.asarray(each) - score).max(1) for score in scores]
    assert max(distance.min() for distance in away) < 1e-5
    chosen = {int(distance.argmin()) for distance in away}
    assert len(chosen) > 15


def test_information_is_its_formula(drawn):
    each = np.asarray(posterior.ratings_of_draws(drawn, jnp.full(40, 7), jnp.asarray(ITEMS)), np.float64)
    covariance = np.cov(each.T, bias=True)
    noise = np.mean(1 / np.asarray(drawn.draws.noise, np.float64))
    expected = (covariance**2).sum(1) / (np.diag(covariance) + noise)
    np.testing.assert_allclose(asking.information(drawn, 7, jnp.asarray(ITEMS)), expected, rtol=1e-2)


def test_information_about_targets_is_the_closed_form(drawn):
    """With the items known and the user's row Gaussian: the trace that one more rating takes from its covariance."""
    first = drawn.replace(draws=jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), drawn.draws))
    params = drawn.params.replace(item=first.params.item, offset=first.params.offset)
    known = drawn.replace(draws=drawn.draws.replace(params=params, noise=first.draws.noise))
    ask, targets = np.array([3, 8, 21, 30]), np.array([5, 8, 33])
    row = np.asarray(jax.vmap(jaxmf.tables.Table.matrix)(known.params.user)[:, 7], np.float64)
    precision = np.linalg.inv(np.cov(row.T, bias=True))
    factors = np.column_stack([np.ones(40), np.asarray(known.params.item.factors[0], np.float64)]) * known.kernel.unit

    def variance(precision: np.ndarray) -> float:
        return np.einsum("nk,kl,nl->", factors[targets], np.linalg.inv(precision), factors[targets])

    told = [variance(precision + float(known.draws.noise[0]) * np.outer(factors[one], factors[one])) for one in ask]
    found = asking.information(known, 7, ask, targets=targets)
    np.testing.assert_allclose(found, variance(precision) - np.array(told), rtol=1e-3)
    every = asking.information(known, 7, ask, targets=ask)
    np.testing.assert_allclose(asking.information(known, 7, ask), every, rtol=1e-5)
    np.testing.assert_array_equal(asking.information(known, 7, ask, targets=ask[:0]), 0)


def test_asking_lowers_the_variance_more_where_it_says_so(drawn):
    """Of a stranger: the spread after an answer to the best question is below that after the worst."""
    stranger = fold_in.fold_in_user(drawn, np.zeros(0, int), np.zeros(0))
    value = np.asarray(asking.information(stranger, 0, jnp.asarray(ITEMS)))
    spread = []
    for item in (value.argmax(), value.argmin()):
        told = fold_in.fold_in_user(drawn, np.array([item]), np.array([3.0]))
        predicted = posterior.predictive(told, np.zeros(40, int), ITEMS)
        spread.append(float(jnp.sum(predicted.model_std**2)))
    assert spread[0] < spread[1]
