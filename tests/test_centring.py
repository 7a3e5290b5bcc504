"""Implicit feedback is centred: known rows predict as they were trained, strangers are average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import KERNELS, flat

from jaxmf.data.features import Sides, dense, implicit_sides
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.online import fold_in
from jaxmf.training import als, evidence, gibbs

KEY = jax.random.key(0)
SUMS = [Linear(), Logistic(0.5, 5.0)]


@pytest.fixture
def sparse(ratings):
    """The ratings with two users and an item more, whom nobody has met."""
    return ratings.replace(n_users=ratings.n_users + 2, n_items=ratings.n_items + 1)


def both(fit, monkeypatch, module, name):
    """What a trainer returns, and the same before it is centred."""
    centred = fit()
    monkeypatch.setattr(module, name, lambda model, _: model)
    return centred, fit()


@pytest.mark.parametrize("kernel", SUMS)
def test_rated_rows_predict_as_they_were_trained(kernel, sparse, monkeypatch):
    def fit():
        return als.fit(KEY, sparse, kernel=kernel, rank=3, features=implicit_sides(sparse)).model

    centred, before = both(fit, monkeypatch, evidence, "centred_model")
    np.testing.assert_allclose(
        centred.predict(sparse.user, sparse.item), before.predict(sparse.user, sparse.item), atol=1e-4
    )
    assert np.abs(flat(centred.params.user) - flat(before.params.user)).max() > 0.005


@pytest.mark.parametrize("kernel", SUMS)
def test_a_stranger_is_the_average_row(kernel, sparse, monkeypatch):
    """Whose prior mean, in what was trained, is the users' mean √n times the ratings' mean of the link."""

    def fit():
        return als.fit(KEY, sparse, kernel=kernel, rank=3, features=implicit_sides(sparse)).model

    centred, before = both(fit, monkeypatch, evidence, "centred_model")
    typical = []
    for link, row, other in ((before.links.user, "user", "item"), (before.links.item, "item", "user")):
        n = np.bincount(getattr(sparse, row))
        said = flat(link)[getattr(sparse, other)].mean(0)
        typical.append(np.sqrt(n[n > 0]).mean() * said)
    (bias, *factors), items = typical[0], flat(before.params.item)[:-1]
    score = bias + items[:, 0] + items[:, 1:] @ np.array(factors, np.float32)
    unit = float(before.kernel.unit) if kernel.linear else 1.0
    score = before.params.offset + unit * score
    expected = score if kernel.linear else kernel.low + (kernel.high - kernel.low) * jax.nn.sigmoid(score)
    for stranger in (
        centred,
        fold_in.fold_in_users(centred, sparse, users=np.array([len(flat(centred.params.user)) - 1])),
    ):
        rows = np.full(len(items), sparse.n_users - 1)
        np.testing.assert_allclose(stranger.predict(rows, np.arange(len(items))), expected, atol=1e-4)
    strange_item = float(centred.predict(np.array([sparse.n_users - 1]), np.array([sparse.n_items - 1]))[0])
    grown = centred.grown(sparse.n_users, sparse.n_items + 1)
    assert strange_item == pytest.approx(
        float(grown.predict(np.array([sparse.n_users - 1]), np.array([sparse.n_items]))[0])
    )


def test_a_newcomer_s_prior_mean_leans_to_the_average(ratings, monkeypatch):
    """After n ratings it lacks √n̄ − √n of what the link says of whoever rates."""

    def fit():
        return als.fit(KEY, ratings, kernel=Linear(), rank=3, features=implicit_sides(ratings)).model

    centred, before = both(fit, monkeypatch, evidence, "centred_model")
    said = flat(before.links.user)[ratings.item].mean(0)
    average = np.sqrt(np.bincount(ratings.user)).mean() * said
    for n in (1, 4):
        items = np.arange(n)
        block = jax.tree.map(
            lambda x: jnp.asarray(x[0]),
            fold_in.blocks(
                ratings.take(items).replace(user=np.zeros(n, np.int32), item=items.astype(np.int32)), np.array([0])
            )[0],
        )
        now, then = (flat(model.problem(block).mean)[0] for model in (centred, before))
        np.testing.assert_allclose(now + average, then + average - np.sqrt(n) * said, atol=1e-5)


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if not isinstance(kernel, Linear | Logistic)])
def test_other_kernels_are_left_as_they_are(kernel, ratings, monkeypatch):
    def fit():
        return als.fit(KEY, ratings, kernel=kernel, rank=2, epochs=2, features=implicit_sides(ratings)).model

    centred, before = both(fit, monkeypatch, evidence, "centred_model")
    np.testing.assert_array_equal(flat(centred.params.user), flat(before.params.user))


def test_draws_of_rated_rows_are_as_they_were_and_strangers_average(sparse, monkeypatch):
    settings = {"rank": 2, "sweeps": 8, "burn": 2, "keep": 3, "features": implicit_sides(sparse)}
    centred, before = both(
        lambda: gibbs.fit(KEY, sparse, **settings).posterior, monkeypatch, gibbs, "centred_posterior"
    )
    known, new = slice(0, sparse.n_users - 2), slice(sparse.n_users - 2, None)
    np.testing.assert_array_equal(centred.params.user.factors[:, known], before.params.user.factors[:, known])
    more = centred.draws.user.mean.factors - before.draws.user.mean.factors
    n = np.bincount(sparse.user)
    said = np.asarray(before.draws.user.link.factors)[:, sparse.item].mean(1)
    np.testing.assert_allclose(more, np.sqrt(n).mean() * said, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        centred.params.user.factors[:, new], before.params.user.factors[:, new] + more[:, None], rtol=1e-5
    )
    assert jax.tree.map(np.shape, centred) == jax.tree.map(np.shape, before)


def test_a_side_whose_features_are_given_is_left_as_it_is(sparse, monkeypatch):
    """A row without ratings stays what its features say."""
    given = Sides(user=implicit_sides(sparse).user, item=dense(np.eye(sparse.n_items)[:, -2:]))

    def fit():
        return als.fit(KEY, sparse, kernel=Linear(), rank=2, features=given).model

    centred, before = both(fit, monkeypatch, evidence, "centred_model")
    np.testing.assert_array_equal(centred.params.item.factors, before.params.item.factors)
    np.testing.assert_array_equal(flat(centred.links.item), flat(before.links.item))
    assert (np.asarray(centred.params.user.factors)[:-2] != np.asarray(before.params.user.factors)[:-2]).all()
