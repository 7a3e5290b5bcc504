"""Parameters: initial values, predictions, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import KERNELS, flat, rating

from jaxmf.model import params


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_predict(kernel):
    model = params.init(jax.random.key(0), 5, 7, 3, offset=1.3, scale=0.4)
    user, item = np.array([0, 4, 2]), np.array([6, 0, 3])
    found = params.predict(model, kernel, user, item)
    expected = [
        rating(kernel, flat(model.user)[u], flat(model.item)[[i]], 1.3)[0] for u, i in zip(user, item, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(params.predict)(model, kernel, user, item), found, rtol=1e-6)
    np.testing.assert_allclose(params.predict(model.transpose(), kernel, item, user), found, rtol=1e-5)


def test_no_pairs():
    model = params.init(jax.random.key(0), 5, 7, 3)
    assert params.predict(model, KERNELS[0], np.zeros(0, int), np.zeros(0, int)).shape == (0,)


def test_init_is_as_promised():
    model = params.init(jax.random.key(0), 500, 800, 20, scale=0.2)
    assert not model.user.bias.any()
    assert float(jnp.std(model.item.factors)) == pytest.approx(0.2, rel=0.05)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="rank must be 1 or more, got 0"):
        params.init(jax.random.key(0), 5, 7, 0)
    model = params.init(jax.random.key(0), 5, 7, 3)
    with pytest.raises(ValueError, match="user row -1 is not among the table's 5 rows"):
        params.predict(model, KERNELS[0], np.array([-1]), np.array([0]))
    with pytest.raises(ValueError, match="item row 7 is not among the table's 7 rows"):
        params.predict(model, KERNELS[0], np.array([0]), np.array([7]))
