"""Kernels: offsets, refusals, and their formulas against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference import KERNELS, table

from jaxmf.model import kernels
from jaxmf.model.kernels import RBF, Linear, Logistic, Polynomial


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_formula(kernel):
    rng = np.random.default_rng(8)
    x, others = 0.5 * rng.normal(size=4), 0.5 * rng.normal(size=(6, 4))
    ours = jax.vmap(kernel, (None, 0, None))(table(x), table(others), jnp.float32(1.2))
    np.testing.assert_allclose(ours, reference.rating(kernel, x, others, 1.2), rtol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_rows_of_zeros_give_the_mean(kernel):
    zero = table(np.zeros(4))
    assert float(kernel(zero, zero, jnp.float32(kernel.offset(3.4)))) == pytest.approx(3.4, abs=1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_users_and_items_are_alike(kernel):
    rng = np.random.default_rng(9)
    a, b = table(rng.normal(size=4)), table(rng.normal(size=4))
    assert float(kernel(a, b, jnp.float32(1))) == pytest.approx(float(kernel(b, a, jnp.float32(1))), rel=1e-5)


def test_rbf_of_an_empty_row_is_its_biases():
    some, empty = table(np.array([0.3, 1.0, -2.0])), table(np.array([0.2, 0.0, 0.0]))
    assert float(RBF(1.0, 5.0)(some, empty, jnp.float32(3))) == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Logistic(5.0, 1.0), "low must be below high"),
        (lambda: RBF(1.0, 1.0), "low must be below high"),
        (lambda: Polynomial(1.0, np.inf), "both finite"),
        (lambda: Polynomial(1.0, 5.0, degree=0), "degree must be a whole number"),
        (lambda: RBF(1.0, 5.0, gamma=-1.0), "gamma must be positive"),
        (lambda: kernels.for_range(1, 5, "sigmoid"), "kernel must be one of"),
        (lambda: kernels.for_range(3, 3), "low must be below high"),
        (lambda: kernels.check_ratings(Logistic(1.0, 5.0), np.array([3.0, 5.5])), "rating 5.5 is outside"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_linear_kernel_has_no_scale():
    kernels.check_ratings(Linear(), np.array([-1e9, 1e9]))
    assert kernels.for_range(1, 5, "linear") == Linear()
