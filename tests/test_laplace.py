"""The spread of a point estimate's rows against the closed form in float64."""

import jax
import numpy as np
import pytest
from reference import KERNELS, flat, rating

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import Prior, Priors
from jaxmf.online import laplace

PRIOR = Priors(Prior(bias_reg=0.7, factor_reg=0.3, power=0.5), Prior(bias_reg=2.0, factor_reg=1.0, power=0.0))


@pytest.fixture(params=KERNELS, ids=lambda kernel: type(kernel).__name__)
def model(request, ratings):
    """Any parameters of a kernel: the closed form holds wherever they are."""
    params = jaxmf.params.init(jax.random.key(0), ratings.n_users, ratings.n_items, 3, offset=1.5, scale=0.3)
    return Model(params, request.param, PRIOR)


def closed_form(kernel, params: Params, ratings: Ratings, prior: Prior, user: int, item: int) -> float:
    """jᵀ(JᵀWJ + Λ)⁻¹j with derivatives by central differences."""
    x, items, offset = flat(params.user)[user].astype(float), flat(params.item).astype(float), float(params.offset)

    def gradient(rows: np.ndarray) -> np.ndarray:
        steps = 1e-5 * np.eye(len(x))
        return np.stack(
            [(rating(kernel, x + s, rows, offset) - rating(kernel, x - s, rows, offset)) / 2e-5 for s in steps], 1
        )

    own = ratings.take(ratings.user == user)
    big_j, n = gradient(items[own.item]), max(float(own.weight.sum()), 1.0)
    precision = np.array([prior.bias_reg, *[prior.factor_reg * n**prior.power] * params.user.rank])
    j = gradient(items[[item]])[0]
    return j @ np.linalg.solve(big_j.T @ (own.weight[:, None] * big_j) + np.diag(precision), j)


def test_it_is_the_closed_form_on_either_side(model, ratings):
    kernel, params = model.kernel, model.params
    user, item = np.array([0, 3, 3, 29]), np.array([1, 1, 5, 39])
    ratings = ratings.replace(weight=np.linspace(0.5, 2, len(ratings), dtype=np.float32))
    sides = [(model, ratings, user, item), (model.transpose(), ratings.transpose(), item, user)]
    for model, ratings, rows, others in sides:
        params, prior = model.params, model.priors
        found = laplace.leverage(model, ratings, rows, others)
        pairs = zip(rows, others, strict=True)
        expected = [closed_form(kernel, params, ratings, prior.user, *pair) for pair in pairs]
        np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_a_row_without_ratings_has_its_prior_variance(ratings):
    params = jaxmf.params.init(jax.random.key(0), 31, 40, 3)
    model = Model(params, Linear(), PRIOR)
    found = laplace.leverage(model, ratings.replace(n_users=31), np.array([30]), np.array([2]))
    expected = 1 / 0.7 + (np.asarray(params.item.factors[2]) ** 2).sum() / 0.3
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_a_part_is_a_part_of_the_whole(model, ratings, monkeypatch):
    whole = laplace.leverage(model, ratings, ratings.user, ratings.item)
    monkeypatch.setattr(laplace, "PAIRS", 64)
    np.testing.assert_allclose(laplace.leverage(model, ratings, ratings.user, ratings.item), whole, rtol=1e-4)


def test_no_pairs_have_no_leverage(model, ratings):
    none = np.zeros(0, np.int32)
    assert laplace.leverage(model, ratings, none, none).shape == (0,)
