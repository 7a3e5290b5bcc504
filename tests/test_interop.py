"""Other libraries' arrays, by the formulas that they predict with."""

import numpy as np
import pytest

import jaxmf
from jaxmf.baselines import interop

RNG = np.random.default_rng(0)
USERS, ITEMS = RNG.normal(size=(5, 4)), RNG.normal(size=(7, 4))
USER_BIAS, ITEM_BIAS = RNG.normal(size=5), RNG.normal(size=7)
PLUS = USER_BIAS[:, None] + ITEM_BIAS


def check(params, expected) -> None:
    user, item = np.divmod(np.arange(35), 7)
    found = jaxmf.params.predict(params, jaxmf.kernels.Linear(), user, item)
    np.testing.assert_allclose(found.reshape(5, 7), expected, atol=1e-5)


def test_implicit():
    check(interop.from_implicit(USERS, ITEMS), USERS @ ITEMS.T)


def test_implicit_with_the_items_bias_last():
    users = np.column_stack([USERS, np.ones(5)])
    params = interop.from_implicit(users, np.column_stack([ITEMS, ITEM_BIAS]), item_bias_last=True)
    check(params, USERS @ ITEMS.T + ITEM_BIAS)
    assert params.item.rank == 4
    with pytest.raises(ValueError, match="last column is not 1 throughout"):
        interop.from_implicit(USERS, ITEMS, item_bias_last=True)


def test_lenskit():
    biases = {"user_biases": USER_BIAS, "item_biases": ITEM_BIAS}
    check(interop.from_lenskit(USERS, ITEMS, global_bias=3.5, **biases), 3.5 + PLUS + USERS @ ITEMS.T)
    check(interop.from_lenskit(USERS, ITEMS), USERS @ ITEMS.T)


def test_cmfrec():
    biases = {"user_bias": USER_BIAS, "item_bias": ITEM_BIAS}
    check(interop.from_cmfrec(USERS, ITEMS, glob_mean=3.5, **biases), 3.5 + PLUS + USERS @ ITEMS.T)
    a, b = np.column_stack([RNG.normal(size=(5, 2)), USERS]), np.column_stack([RNG.normal(size=(7, 3)), ITEMS])
    check(interop.from_cmfrec(a, b, k_user=2, k_item=3), USERS @ ITEMS.T)


@pytest.mark.parametrize(
    ("arrays", "settings", "words"),
    [
        ((USERS, ITEMS[:, :3]), {}, "users have 4 factors and items 3"),
        ((USERS[0], ITEMS), {}, r"user factors have shape \(4,\)"),
        ((USERS, ITEMS), {"item_bias": USER_BIAS}, r"item biases have shape \(5,\)"),
        ((USERS, ITEMS * np.nan), {}, "an? item's row is not finite"),
    ],
)
def test_what_is_no_model_is_refused(arrays, settings, words):
    with pytest.raises(ValueError, match=words):
        interop.from_factors(*arrays, **settings)
