"""One table of promises over every kernel and every trainer."""

import jax
import numpy as np
import pytest
from reference import KERNELS, flat

import jaxmf
from jaxmf.data import splits

pytestmark = pytest.mark.optax

KEY = jax.random.key(1)
TRAINERS = {"sgd": {"epochs": 60, "batch_size": 100}, "als": {"epochs": 10}}


@pytest.fixture(
    scope="module", params=[(m, k) for m in TRAINERS for k in KERNELS], ids=lambda p: f"{p[0]}-{type(p[1]).__name__}"
)
def fitted(request, ratings):
    """A trainer and a kernel, fitted on four fifths of the ratings."""
    method, kernel = request.param
    split = splits.k_fold(len(ratings))[0]
    train, test = ratings.take(split.train), ratings.take(split.test)

    def fit(key=KEY):
        prior = jaxmf.priors.Prior(bias_reg=0.5, factor_reg=0.5, power=0.5)
        return getattr(jaxmf, method).fit(key, train, kernel=kernel, rank=3, prior=prior, **TRAINERS[method])

    return fit, fit(), kernel, train, test


def test_it_beats_the_mean(fitted):
    _, result, _, train, test = fitted
    predicted = result.model.predict(test.user, test.item)
    mean = np.full(len(test), train.rating.mean())
    assert jaxmf.metrics.rmse(predicted, test.rating) < 0.95 * jaxmf.metrics.rmse(mean, test.rating)


def test_the_loss_falls(fitted):
    _, result, *_ = fitted
    assert np.isfinite(result.history["loss"]).all()
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_a_seed_gives_the_same_model_again(fitted):
    fit, result, *_ = fitted
    np.testing.assert_array_equal(flat(fit().model.params.user), flat(result.model.params.user))
    assert (flat(fit(jax.random.key(2)).model.params.user) != flat(result.model.params.user)).any()


def test_predictions_of_a_bounded_kernel_are_on_its_scale(fitted):
    _, result, kernel, train, _ = fitted
    if type(kernel).__name__ != "Logistic":
        pytest.skip("not bounded")
    user, item = np.divmod(np.arange(train.n_users * train.n_items), train.n_items)
    predicted = result.model.predict(user, item)
    assert (predicted >= kernel.low).all()
    assert (predicted <= kernel.high).all()


def test_fold_in_of_strangers_beats_the_item_biases(fitted):
    _, result, _, train, test = fitted
    model = result.model
    stranger = model.with_users(jax.tree.map(np.zeros_like, model.params.user))
    folded = jaxmf.fold_in.fold_in_users(stranger, train)

    def error(model):
        return jaxmf.metrics.rmse(model.predict(test.user, test.item), test.rating)

    assert error(folded) < error(stranger)
