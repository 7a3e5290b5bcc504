"""Priors from the data: what is found is what the data were made with, whatever their unit; and so for newcomers."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxmf
from jaxmf.data.features import Sides, dense, implicit_sides
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Logistic, unit_of
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.training import als, evidence, loop, rehearsal, sgd
from jaxmf.training.evidence import Task

KEY = jax.random.key(0)


def made(*, users=300, items=200, each=30, spread=(0.5, 0.8), noise=0.6, taste=0.0, seed=0):
    """Ratings about 3 with biases of these deviations, one factor of this size, and noise."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    item = np.concatenate([rng.choice(items, each, replace=False) for _ in range(users)])
    rating = 3 + rng.normal(0, spread[0], users)[user] + rng.normal(0, spread[1], items)[item]
    rating += taste * rng.normal(size=users)[user] * rng.normal(size=items)[item] + rng.normal(0, noise, len(user))
    columns = (user.astype(np.int32), item.astype(np.int32), rating.astype(np.float32))
    return Ratings(*columns, np.ones(len(user), np.float32), users, items)


def task(ratings, kernel=Linear(), rank=4, **settings):
    return Task(KEY, ratings, kernel.replace(unit=unit_of(ratings)), rank, **settings)


def numbers(priors):
    return np.array([[prior.bias_reg, prior.factor_reg, prior.power, prior.link_reg] for prior in priors])


def test_the_spreads_are_those_the_ratings_were_made_with():
    found = evidence.spreads(made(), 2.0)
    assert np.sqrt(found) * 2 == pytest.approx((0.5, 0.8, 0.6), rel=0.1)


def test_rows_without_ratings_say_nothing_of_the_spread():
    ratings = made()
    more = ratings.replace(n_users=5000, n_items=900)
    assert evidence.spreads(more, 1.0) == pytest.approx(evidence.spreads(ratings, 1.0))


def test_a_rating_of_weight_2_is_two_ratings():
    ratings = made(users=40)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), ratings)
    assert evidence.spreads(ratings.replace(weight=2 * ratings.weight), 1.0) == pytest.approx(
        evidence.spreads(twice, 1.0)
    )


@pytest.mark.parametrize("rating", [[3.0], [3.0, 3.0, 3.0]])
def test_few_ratings_leave_the_default(rating):
    n = len(rating)
    few = Ratings(
        np.arange(n, dtype=np.int32), np.zeros(n, np.int32), np.float32(rating), np.ones(n, np.float32), n + 1, 2
    )
    np.testing.assert_allclose(numbers(evidence.find(task(few)).priors), numbers(DEFAULT), rtol=0.3)
    assert np.isfinite(als.fit(KEY, few, kernel=Linear(), rank=2).model.params.user.bias).all()


@pytest.mark.parametrize("kernel", [Linear(), Logistic(-4.0, 10.0)])
def test_the_prior_is_free_of_the_ratings_unit(kernel):
    ratings = made(taste=0.5)
    other = ratings.replace(rating=4 * ratings.rating - 3)
    moved = kernel if kernel.linear else Logistic(4 * kernel.low - 3, 4 * kernel.high - 3)
    one, two = (evidence.find(task(data, of)).priors for data, of in ((ratings, kernel), (other, moved)))
    np.testing.assert_allclose(numbers(two), numbers(one), rtol=1e-2)


def test_factors_are_held_where_there_is_no_taste_and_let_go_where_there_is():
    none, much = (
        evidence.find(task(made(taste=taste, noise=noise))).priors for taste, noise in ((0.0, 1.0), (1.0, 0.3))
    )
    assert none.user.factor_reg >= DEFAULT.user.factor_reg > 2 * much.user.factor_reg
    ratio = np.array([prior.factor_reg for prior in much]) / [prior.factor_reg for prior in DEFAULT]
    assert ratio[0] == pytest.approx(ratio[1])  # one number for both


def test_a_found_prior_predicts_better_than_the_default():
    ratings, rows = made(taste=1.0, noise=0.3), np.random.default_rng(1).random(9000) < 0.2
    train, test = ratings.take(~rows), ratings.take(rows)

    def error(prior):
        model = als.fit(KEY, train, kernel=Linear(), rank=4, prior=prior).model
        return jaxmf.metrics.rmse(model.predict(test.user, test.item), test.rating)

    assert error(None) < 0.95 * error(DEFAULT)


def test_the_path_costs_no_more_than_a_fit_and_compiles_its_program_alone(monkeypatch):
    sweeps, run = [], loop.run

    def counted(*arguments):
        sweeps.append(arguments[3].epochs)
        return run(*arguments)

    monkeypatch.setattr(loop, "run", counted)
    ratings = made(taste=0.5)
    before = loop.program.cache_info().misses
    fit = als.fit(KEY, ratings, kernel=Linear(), rank=5, epochs=12)
    assert sum(sweeps[:-1]) <= sweeps[-1] == 12
    assert loop.program.cache_info().misses == before + 2  # the sweep, and the error of what is held out
    assert fit.prior == fit.model.priors != DEFAULT


@pytest.mark.optax
@pytest.mark.parametrize("trainer", [als, sgd])
def test_a_given_prior_is_taken_as_it_is(trainer):
    prior = Prior(2.0, 3.0, 0.25)
    fit = trainer.fit(KEY, made(users=20), kernel=Linear(), rank=2, prior=prior, epochs=2)
    assert fit.prior == Priors(prior, prior)


@pytest.mark.optax
def test_als_and_sgd_find_the_same():
    ratings = made(users=100, taste=0.5)
    one, two = (trainer.fit(KEY, ratings, kernel=Linear(), rank=3).prior for trainer in (als, sgd))
    assert one == two


def test_implicit_feedback_does_not_tell_what_is_held_out():
    ratings = made(users=30, items=20, each=5)
    weight = np.where(np.arange(150) % 3, ratings.weight, 0).astype(np.float32)
    seen = evidence.of_seen(implicit_sides(ratings), ratings.replace(weight=weight))
    (block,) = seen.user.by_row
    assert np.sum(np.asarray(block.rating) > 0) == 100
    given = Sides(dense(np.ones((30, 2))))
    assert evidence.of_seen(given, ratings) == given


def test_a_recommender_keeps_the_prior_and_folds_in_by_it(tmp_path):
    ratings = made(users=60, taste=0.5)
    frame = {"user": ratings.user, "item": ratings.item, "rating": ratings.rating}
    rec = jaxmf.Recommender.fit(pd.DataFrame(frame), rank=3)
    rec.save(tmp_path / "kept")
    kept = jaxmf.Recommender.load(tmp_path / "kept").model.priors
    np.testing.assert_allclose(numbers(kept), numbers(rec.model.priors))
    assert kept.user.bias_reg != DEFAULT.user.bias_reg


def moody(seed=0):
    """Ratings whose users are in another mood in their first ten, and their order."""
    ratings = made(users=150, each=40, seed=seed)
    place = np.tile(np.arange(40), 150)
    mood = np.random.default_rng(seed).normal(0, 1.0, 150)[ratings.user]
    return ratings.replace(rating=(ratings.rating + np.where(place < 10, mood, 0)).astype(np.float32)), place


def test_newcomers_biases_are_held_where_first_ratings_mislead():
    ratings, place = moody()
    in_order, at_random = (
        rehearsal.new_users(KEY, ratings, kernel=Linear(), rank=2, order=order).priors for order in (place, None)
    )
    assert in_order.user.bias_reg > 1.5 * at_random.user.bias_reg
    assert in_order.item == at_random.item == evidence.find(task(ratings, rank=2)).priors.item
    assert in_order.user.power == 0


def test_a_steady_newcomer_s_bias_is_held_as_much_as_the_evidence_says():
    ratings = made(users=300, taste=0.0)
    found = rehearsal.new_users(KEY, ratings, kernel=Linear(), rank=2, order=np.arange(len(ratings))).priors
    assert found.user.bias_reg == pytest.approx(evidence.find(task(ratings)).priors.user.bias_reg, rel=0.35)


@pytest.mark.parametrize("kind", ["none", "implicit", "given"])
def test_the_rehearsal_s_gradient_is_its_error_s_slope(kind):
    ratings, place = moody()
    sides = {"none": Sides(), "implicit": implicit_sides(ratings), "given": Sides(dense(np.eye(150)[:, :3]))}[kind]
    of = task(ratings, rank=2, features=sides)
    rehearsed, _ = rehearsal._rehearsed(of, evidence.Found(DEFAULT), place)
    at, step = jnp.log(jnp.array([4.0, 4.0])), 0.02
    value, slope = rehearsal._error(at, rehearsed)
    assert 0 < value < 2
    for axis in range(2):
        aside = step * jnp.eye(2)[axis]
        expected = (rehearsal._error(at + aside, rehearsed)[0] - rehearsal._error(at - aside, rehearsed)[0]) / (
            2 * step
        )
        assert slope[axis] == pytest.approx(float(expected), rel=0.05, abs=2e-5)


def test_too_few_users_rehearse_nothing():
    ratings = made(users=20)
    assert (
        rehearsal.new_users(KEY, ratings, kernel=Linear(), rank=2).priors == evidence.find(task(ratings, rank=2)).priors
    )


def test_an_order_of_another_length_is_refused():
    with pytest.raises(ValueError, match="columns of different lengths"):
        rehearsal.new_users(KEY, made(users=20), kernel=Linear(), order=np.arange(3))
