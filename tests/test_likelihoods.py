"""Ordered steps: truncated normals against SciPy, cutpoints against the truth, what a posterior says of ratings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from reference import flat, random_ratings
from scipy.special import log_ndtr

import jaxmf
from jaxmf.data import splits
from jaxmf.data.ratings import Ratings
from jaxmf.model import likelihoods, posterior
from jaxmf.model.kernels import Logistic
from jaxmf.model.likelihoods import Gaussian, Ordinal
from jaxmf.online import asking, fold_in
from jaxmf.training import cutpoints, gibbs

KEY = jax.random.key(0)
LEVELS = np.arange(1, 11, dtype=np.float32) / 2
FAR = likelihoods.FAR

INTERVALS = [(-1, 0.5), (-FAR, -2), (3, 3.1), (2, FAR), (-FAR, FAR), (5.5, 6), (-9, -8.5), (-7, FAR)]
BEYOND = [(12, FAR), (-20, -19.5), (-FAR, -30)]


@pytest.mark.parametrize("ends", INTERVALS + BEYOND)
def test_truncated_normal_is_scipy_s(ends):
    low, high = ends
    u = np.linspace(1e-3, 1 - 1e-3, 999, dtype=np.float32)
    found = likelihoods.truncated_normal(jnp.asarray(u), jnp.full(999, float(low)), jnp.full(999, float(high)))
    law = scipy.stats.truncnorm(low, high)
    assert (np.diff(found) >= 0).all()
    tolerance = (1e-3 if ends in INTERVALS else 5e-2) * law.std()
    np.testing.assert_allclose(found, law.ppf(u.astype(float)), atol=tolerance, rtol=1e-6)


@pytest.mark.parametrize("ends", INTERVALS)
def test_latent_numbers_have_the_moments_of_a_truncated_normal(ends):
    low, high = ends
    predicted, precision = 0.3, 2.0
    cuts = predicted + np.clip(np.array([low, high]), -FAR / 4, FAR / 4) / np.sqrt(precision)
    likelihood = Ordinal(jnp.arange(3.0), jnp.float32(cuts))
    n = 40_000
    z = likelihood.draw_latent(
        jax.random.uniform(KEY, (n,)), jnp.full(n, predicted), jnp.ones(n), jnp.full(n, precision)
    )
    law = scipy.stats.truncnorm(low, high, loc=predicted, scale=precision**-0.5)
    np.testing.assert_allclose(z.mean(), law.mean(), atol=4 * law.std() / np.sqrt(n) + 1e-6)
    np.testing.assert_allclose(z.std(), law.std(), rtol=0.03)
    assert np.isfinite(z).all()


def test_log_mass_is_right_however_far_out():
    low = np.array([-1.0, -FAR, 3.0, 2.0, 12.0, -40.0, 0.0])
    high = np.array([0.5, -2.0, 3.1, FAR, FAR, -39.9, 1e-2])
    near, far = np.minimum(low, -high), np.minimum(high, -low)  # the mirror image where that is further left
    expected = log_ndtr(far) + np.log1p(-np.exp(log_ndtr(near) - log_ndtr(far)))
    np.testing.assert_allclose(likelihoods.log_mass(jnp.float32(low), jnp.float32(high)), expected, rtol=2e-4)


def ordinal_sample(rng, cuts, n=20_000):
    """Predictions, the levels of ratings of them, and the levels' number."""
    predicted = rng.normal(size=n)
    return predicted, np.searchsorted(cuts, predicted + rng.normal(size=n)), len(cuts) + 1


def chain_of_cutpoints(predicted, level, weight, start, sweeps):
    @jax.jit
    def run(likelihood):
        def one(likelihood, key):
            new, _, taken = cutpoints.sample_cutpoints(
                key, likelihood, jnp.float32(predicted), jnp.asarray(level), jnp.float32(weight)
            )
            return new, (new.cutpoints, taken)

        return jax.lax.scan(one, likelihood, jax.random.split(KEY, sweeps))[1]

    return map(np.asarray, run(start))


@pytest.mark.parametrize("cuts", [[0.3], [-1.5, 0.2, 1.1], [-2.2, -2.0, -1.4, -1.0, -0.2, 0.1, 0.9, 1.3, 2.4]])
def test_cutpoints_are_recovered_from_the_levels_shares(cuts):
    predicted, level, levels = ordinal_sample(np.random.default_rng(len(cuts)), np.array(cuts))
    weight, zero = np.ones(len(level)), np.zeros(len(level), int)
    start = Ordinal(np.arange(levels)).start(Ratings(zero, zero, level.astype(float), weight, n_users=1, n_items=1))
    assert np.abs(start.cutpoints - np.array(cuts)).max() > 0.05
    drawn, taken = chain_of_cutpoints(predicted, level, weight, start, 600)
    drawn = drawn[100:]
    assert taken[100:].mean() > 0.7
    assert (np.diff(drawn, axis=1) > 0).all()
    assert (np.abs(drawn.mean(0) - cuts) < 4 * drawn.std(0)).all()
    assert (drawn.std(0) < 0.06).all()


def test_cutpoints_have_their_posterior():
    """Against the grid, for two levels and few ratings, where it is far from a normal distribution."""
    predicted, level, weight = np.array([0.5, -1.0, 2.0, 0.0]), np.array([1, 1, 1, 0]), np.array([1.0, 2.0, 0.5, 0.0])
    grid = np.linspace(-30, 10, 8001)
    mass = np.sqrt(weight[:3]) * (predicted[:3] - grid[:, None])
    density = np.exp(log_ndtr(mass).sum(1) - grid**2 / (2 * cutpoints.SPREAD**2))
    density /= density.sum()
    mean = grid @ density
    drawn, taken = chain_of_cutpoints(predicted, level, weight, Ordinal(jnp.arange(2.0), jnp.zeros(1)), 20_000)
    assert taken.mean() > 0.3
    np.testing.assert_allclose(drawn.mean(), mean, atol=0.5)
    np.testing.assert_allclose(drawn.std(), np.sqrt((grid - mean) ** 2 @ density), rtol=0.1)


def test_a_rare_level_is_no_obstacle():
    predicted, level, _ = ordinal_sample(np.random.default_rng(1), np.array([-1.0, 0.998, 1.0, 2.5]), n=2000)
    assert 1 <= (level == 2).sum() < 5
    weight, zero = np.ones(2000), np.zeros(2000, int)
    start = Ordinal(np.arange(5)).start(Ratings(zero, zero, level.astype(float), weight, n_users=1, n_items=1))
    drawn, taken = chain_of_cutpoints(predicted, level, weight, start, 1000)
    assert taken.mean() > 0.3
    assert (np.diff(drawn, axis=1) > 0).all()
    np.testing.assert_allclose(drawn[200:].mean(0), [-1, 1, 1, 2.5], atol=0.15)


def test_probabilities_sum_to_one_and_the_expectation_is_on_the_scale():
    cuts = np.linspace(-3, 2, 9)
    likelihood = Ordinal(jnp.asarray(LEVELS), jnp.float32(cuts))
    predicted = np.array([-50.0, -4.0, 0.0, 0.7, 9.0, 50.0])
    below = scipy.stats.norm.cdf(np.sqrt(2.5) * (cuts - predicted[:, None]))
    expected = np.diff(below, axis=-1, prepend=0, append=1)
    p = likelihood.probabilities(jnp.float32(predicted), 2.5)
    np.testing.assert_allclose(p, expected, atol=1e-6)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    mean = likelihood.mean(jnp.float32(predicted), 2.5)
    assert (mean >= 0.5).all()
    assert (mean <= 5).all()
    np.testing.assert_allclose(mean, expected @ LEVELS, rtol=1e-6)
    variance = expected @ LEVELS**2 - (expected @ LEVELS) ** 2
    np.testing.assert_allclose(likelihood.variance(jnp.float32(predicted), 2.5), variance, atol=1e-5)


@pytest.fixture(scope="module")
def fitted():
    """Two chains on ratings of an ordinal kind, and the ratings that they have not seen."""
    ratings = random_ratings(np.random.default_rng(3), n_users=60, n_items=50, n=1500)
    split = splits.k_fold(len(ratings))[0]
    train, test = ratings.take(split.train), ratings.take(split.test)
    settings = {"rank": 3, "sweeps": 160, "burn": 60, "keep": 50, "watch": jaxmf.Watch(validation=test)}
    result = gibbs.fit(jax.random.split(KEY), train, likelihood=Ordinal(LEVELS), **settings)
    return result, train, test


@pytest.fixture(scope="module")
def gaussian(fitted):
    """The same ratings as numbers."""
    return gibbs.fit(KEY, fitted[1], rank=2, sweeps=20, burn=10, keep=5).posterior


def test_the_default_likelihood_is_the_gaussian(fitted, gaussian):
    other = gibbs.fit(KEY, fitted[1], likelihood=Gaussian(), rank=2, sweeps=20, burn=10, keep=5).posterior
    jax.tree.map(np.testing.assert_array_equal, gaussian.draws, other.draws)


def test_the_sampler_predicts_ratings_and_states_their_spread(fitted):
    result, train, test = fitted
    predicted = posterior.predictive(result.posterior, test.user, test.item)
    rmse = jaxmf.metrics.rmse(predicted.mean, test.rating)
    assert rmse < 0.65 * jaxmf.metrics.rmse(np.full(len(test), train.rating.mean()), test.rating)
    assert jaxmf.metrics.rmse(result.predicted, test.rating) == pytest.approx(rmse, abs=0.02)
    assert result.history["rmse"][-1] == pytest.approx(rmse, abs=0.03)
    assert result.history["taken"].mean() > 0.3
    assert ((result.posterior.draws.noise > 0.4) & (result.posterior.draws.noise < 1.5)).all()  # most users' is 1
    assert 0.5 <= np.min(predicted.mean) <= np.max(predicted.mean) <= 5
    inside = np.abs(np.asarray(predicted.mean) - test.rating) <= 1.645 * np.asarray(predicted.std)
    assert 0.82 <= inside.mean() <= 0.98


def test_predictive_is_the_moments_of_the_class_probabilities(fitted):
    result, _, test = fitted
    p = np.asarray(posterior.class_probabilities(result.posterior, test.user, test.item), float)
    predicted = posterior.predictive(result.posterior, test.user, test.item)
    each = posterior.ratings_of_draws(result.posterior, test.user, test.item)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(predicted.mean, p @ LEVELS, rtol=1e-4)
    variance = (p * (LEVELS - (p @ LEVELS)[:, None]) ** 2).sum(1)
    np.testing.assert_allclose(predicted.std, np.sqrt(variance), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(predicted.model_std, each.std(0), rtol=2e-2, atol=1e-3)
    noise = posterior.noise_variance(result.posterior, test.user, test.item)
    np.testing.assert_allclose(noise, predicted.std**2 - predicted.model_std**2, rtol=1e-3, atol=1e-4)


def test_rounding_a_gaussian_posterior_gives_the_masses_of_its_normals(fitted, gaussian):
    test = fitted[2]
    found = posterior.class_probabilities(posterior.rounded(gaussian, LEVELS), test.user, test.item)
    mean = np.asarray(posterior.ratings_of_draws(gaussian, test.user, test.item), float)[..., None]
    scale = np.asarray(gaussian.draws.noise, float)[:, None, None] ** -0.5
    below = scipy.stats.norm.cdf(LEVELS[:-1] + 0.25, mean, scale)
    np.testing.assert_allclose(found, np.diff(below, axis=-1, prepend=0, append=1).mean(0), atol=1e-5)


def test_ordinal_is_likelier_than_gaussian_on_steps_of_uneven_width():
    """Ratings whose steps are far from even: the probability of the held-out steps tells, and the error too."""
    rng = np.random.default_rng(6)
    ratings = random_ratings(rng, n_users=60, n_items=50, n=1500)
    steps = np.float32([1, 2, 3, 4, 5])
    ratings = ratings.replace(rating=steps[np.searchsorted([1.0, 1.5, 2.0, 4.0], ratings.rating)])
    split = splits.k_fold(len(ratings))[0]
    train, test = ratings.take(split.train), ratings.take(split.test)
    found = {}
    for likelihood in (Gaussian(), Ordinal(steps)):
        fit = gibbs.fit(KEY, train, rank=3, likelihood=likelihood, sweeps=160, burn=60, keep=50).posterior
        classes = fit if likelihood.latent else posterior.rounded(fit, steps)
        p = np.asarray(posterior.class_probabilities(classes, test.user, test.item))
        found[likelihood.latent] = jaxmf.metrics.log_likelihood_of_classes(p, steps, test.rating)
    assert found[True] > found[False] + 0.1


def test_a_stranger_is_folded_in_near_the_member(fitted):
    result, train, test = fitted
    mine, asked = train.take(train.user < 20), test.take(test.user < 20)
    folded = fold_in.fold_in_users(result.posterior, mine)
    before, after = (posterior.predictive(p, asked.user, asked.item) for p in (result.posterior, folded))
    assert np.abs(np.asarray(before.mean) - np.asarray(after.mean)).mean() < 0.12
    assert np.asarray(after.std).mean() == pytest.approx(np.asarray(before.std).mean(), rel=0.1)
    np.testing.assert_array_equal(flat(folded.params.user)[:, 20:], flat(result.posterior.params.user)[:, 20:])


def test_one_user_is_the_batch(fitted):
    result, train, _ = fitted
    mine = train.take(train.user == 4)
    one = fold_in.fold_in_user(result.posterior, mine.item, mine.rating).params.user
    batch = fold_in.fold_in_users(result.posterior, mine).params.user
    spread = flat(batch)[:, 4].std(0)
    np.testing.assert_allclose(flat(one)[:, 0].mean(0), flat(batch)[:, 4].mean(0), atol=spread.max())


def test_a_user_without_ratings_is_drawn_from_the_prior(fitted):
    result, train, _ = fitted
    none = train.take(np.zeros(0, int))
    folded = fold_in.fold_in_user(result.posterior, none.item, none.rating)
    expected = flat(result.posterior.draws.user.mean).mean(0)
    spread = (1 / np.sqrt(flat(result.posterior.draws.user.precision))).mean(0)
    np.testing.assert_allclose(flat(folded.params.user)[:, 0].mean(0), expected, atol=4 * spread.max() / np.sqrt(50))


def test_asking_has_the_unit_of_ratings(fitted):
    result, *_ = fitted
    worth = asking.information(result.posterior, 3, np.arange(50))
    assert worth.shape == (50,)
    assert (worth > 0).all()
    score = asking.upper_bound(result.posterior, 3, np.arange(50), width=0.0)
    assert 0.5 <= score.min() <= score.max() <= 5


def test_ratings_of_weight_zero_are_nothing(ratings):
    """Neither to cutpoints nor to rows: in any number, with any rating."""
    more = ratings.take(np.r_[np.arange(500), np.arange(50)])
    more = more.replace(weight=np.where(np.arange(550) < 500, 1, 0).astype(np.float32))
    level = np.searchsorted(LEVELS, more.rating)
    likelihood = Ordinal(LEVELS).start(more)
    np.testing.assert_array_equal(likelihood.cutpoints, Ordinal(LEVELS).start(ratings).cutpoints)
    predicted = jax.random.normal(KEY, (550,))
    sample = cutpoints.sample_cutpoints
    one, value, _ = sample(KEY, likelihood, predicted, jnp.asarray(level), jnp.asarray(more.weight))
    two, other, _ = sample(KEY, likelihood, predicted[:500], jnp.asarray(level[:500]), jnp.ones(500))
    np.testing.assert_allclose(one.cutpoints, two.cutpoints, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("levels", "settings", "words"),
    [
        (LEVELS[1:], {}, r"rating 0.5 is none of the levels"),
        ([*LEVELS, 6], {}, r"level 6.0 has no rating"),
        ([3.0], {}, "levels must be 2 or more ascending numbers"),
        ([3.0, 3.0], {}, "levels must be 2 or more ascending numbers"),
        (LEVELS, {"kernel": Logistic(0.5, 5.0)}, "an ordinal likelihood needs the linear kernel"),
    ],
)
def test_bad_settings_are_refused(levels, settings, words, ratings):
    with pytest.raises(ValueError, match=words):
        gibbs.fit(KEY, ratings, likelihood=Ordinal(np.array(levels)), **settings)


def test_bad_questions_are_refused(fitted, gaussian):
    result, train, _ = fitted
    with pytest.raises(ValueError, match=r"rating 3.25 is none of the levels"):
        fold_in.fold_in_user(result.posterior, np.array([0]), np.array([3.25]))
    wrong = train.take([0]).replace(rating=np.float32([3.25]))
    with pytest.raises(ValueError, match=r"rating 3.25 is none of the levels"):
        fold_in.fold_in_users(result.posterior, wrong)
    with pytest.raises(ValueError, match="the posterior is ordinal"):
        posterior.rounded(result.posterior, LEVELS)
    with pytest.raises(ValueError, match="a Gaussian posterior has no classes"):
        posterior.class_probabilities(gaussian, np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match=r"rating 3.25 is none of the levels"):
        jaxmf.metrics.log_likelihood_of_classes(np.full((1, 10), 0.1), LEVELS, np.array([3.25]))
