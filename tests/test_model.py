"""What travels together: the model's verbs, point and posterior alike, and how it is shown."""

import jax
import numpy as np
import pytest
from reference import flat

import jaxmf
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.priors import Prior, Priors

KEY = jax.random.key(0)
PRIORS = Priors(Prior(2.0, 0.5, 0.5), Prior(3.0, 0.7, 0.0))


@pytest.fixture(scope="module", params=["point", "posterior"])
def model(request, ratings):
    """A model whose features are both sides' implicit feedback."""
    both = jaxmf.features.implicit_sides(ratings)
    if request.param == "point":
        return jaxmf.als.fit(KEY, ratings, kernel=Linear(), rank=3, prior=PRIORS, features=both, epochs=3).model
    return jaxmf.gibbs.fit(KEY, ratings, rank=3, features=both, sweeps=12, burn=4, keep=6).posterior


def test_transposing_twice_is_nothing(model):
    back = model.transpose().transpose()
    assert jax.tree.structure(back) == jax.tree.structure(model)
    user, item = np.array([3, 7]), np.array([1, 2])
    np.testing.assert_array_equal(back.predict(user, item), model.predict(user, item))
    np.testing.assert_allclose(model.transpose().predict(item, user), model.predict(user, item), rtol=1e-6)


def test_what_users_are_solved_against_does_not_know_how_many_there_are(model):
    """One program serves any number of users: without them the models are of one shape."""
    few = model.take_users(np.arange(4))
    shapes = [jax.tree.map(np.shape, one.frozen()) for one in (model, few, few.grown(50, 0))]
    assert shapes[0] == shapes[1] == shapes[2]


def test_rows_are_added_at_0_and_taken_in_order(model):
    grown = model.grown(33, 45)
    assert (len(grown.params.user), len(grown.params.item)) == (33, 45)
    np.testing.assert_array_equal(flat(grown.params.user)[..., 30:, :], 0)
    np.testing.assert_array_equal(flat(grown.link())[..., 40:, :], 0)
    taken = grown.take_users(np.array([5, 2]))
    np.testing.assert_array_equal(flat(taken.params.user), flat(model.params.user)[..., [5, 2], :])
    np.testing.assert_array_equal(flat(taken.transpose().link()), flat(model.transpose().link())[..., [5, 2], :])
    assert model.grown(3, 4).params.user.bias.shape == model.params.user.bias.shape


def test_a_model_is_shown_in_words(ratings):
    fit = jaxmf.als.fit(KEY, ratings, kernel=Logistic(0.5, 5.0), rank=3, epochs=2)
    assert repr(fit.model) == "Model(30 users, 40 items, rank 3, Logistic(low=0.5, high=5.0))"
    assert repr(fit).startswith(f"Fit({fit.model!r}, 2 epochs in ")
    assert f"loss {fit.history['loss'][-1]:.4f}" in repr(fit)
    drawn = jaxmf.gibbs.fit(KEY, ratings, rank=2, sweeps=4, burn=1, keep=3)
    assert repr(drawn.posterior) == "Posterior(3 draws of 30 users, 40 items, rank 2, Linear())"
    assert repr(drawn).startswith("GibbsFit(Posterior(3 draws of ")
    assert "implicit feedback" in repr(fit.model.replace(implicit=(True, False)))


def test_a_picked_draw_predicts_as_it_did_in_the_posterior(model):
    if not isinstance(model, jaxmf.Posterior):
        pytest.skip("a point model has no draws")
    user, item = np.array([3, 7, 9]), np.array([1, 2, 39])
    each = np.asarray(jaxmf.posterior.ratings_of_draws(model, user, item))
    one = np.asarray(jaxmf.posterior.pick(KEY, model).predict(user, item))
    assert np.abs(each - one).max(1).min() < 1e-6


def test_the_package_says_its_version():
    assert jaxmf.__version__.count(".") == 2
