"""Posterior draws against closed forms, the sampler's ingredients, and the posterior fold-in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Problem, flat, random_ratings, rating, table

import jaxmf
from jaxmf.data import features as feature_data
from jaxmf.data import histories, splits
from jaxmf.model import links, rows
from jaxmf.model import posterior as online
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.params import Params
from jaxmf.model.posterior import Population, Posterior
from jaxmf.model.tables import Table
from jaxmf.online import fold_in, update
from jaxmf.training import gibbs, hyper, sampler

KEY = jax.random.key(0)


def draws_of(problem: Problem, kernel, count: int, **settings):
    """`count` draws of one row, as rows of (bias, factors)."""
    given = problem.of(kernel)

    @jax.jit
    @jax.vmap
    def draw(key):
        return rows.sample_rows(key, given, given.mean, **settings)

    return flat(draw(jax.random.split(KEY, count)))[:, 0]


@pytest.mark.parametrize("n", [0, 3, 20])
def test_sample_rows_has_the_closed_form_mean_and_covariance(n):
    problem = Problem.random(np.random.default_rng(n), n=n, k=3)
    x = np.concatenate([np.ones((n, 1)), problem.others[:, 1:]], 1)
    precision = x.T @ (problem.weight[:, None] * x) + np.diag(problem.precision)
    error = problem.rating - problem.offset - problem.others[:, 0]
    mean = np.linalg.solve(precision, x.T @ (problem.weight * error) + problem.precision * problem.mean)
    covariance = np.linalg.inv(precision)
    draws = draws_of(problem, Linear(), 20_000)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(draws.mean(0), mean, atol=4 * spread.max() / np.sqrt(20_000))
    correlation = (np.cov(draws.T) - covariance) / np.outer(spread, spread)
    assert np.abs(correlation).max() < 0.05


def test_a_nonlinear_draw_is_near_the_laplace_approximation():
    kernel = Logistic(0.5, 5.0)
    rng = np.random.default_rng(5)
    problem = Problem.random(rng, n=200, k=2)
    truth = rating(kernel, np.array([0.2, 0.7, -0.5]), problem.others, problem.offset)
    weight = 20 * problem.weight
    problem = problem._replace(rating=truth + rng.normal(size=200) / np.sqrt(weight), weight=weight)
    mode = problem.solve(kernel)
    steps = 1e-4 * np.eye(3)
    jacobian = [problem.residuals(kernel, mode + d) - problem.residuals(kernel, mode - d) for d in steps]
    jacobian = np.array(jacobian) / 2e-4
    expected = np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T)))
    draws = draws_of(problem, kernel, 4000, steps=10)
    np.testing.assert_allclose(draws.mean(0), mode, atol=0.2 * expected.max())
    np.testing.assert_allclose(draws.std(0), expected, rtol=0.15)


def dense_of(features, n_rows, n_features):
    """The matrix F, by multiplying with the identity."""
    eye = Table(jnp.zeros(n_features), jnp.eye(n_features))
    return np.asarray(links.row_means(features, eye).factors).reshape(n_rows, n_features)


def test_features_in_both_directions_are_one_matrix(ratings):
    features = feature_data.implicit(ratings)
    matrix = dense_of(features, 30, 40)
    expected = np.zeros((30, 40))
    expected[ratings.user, ratings.item] = 1
    expected /= np.sqrt(np.maximum(expected.sum(1, keepdims=True), 1))
    np.testing.assert_allclose(matrix, expected, rtol=1e-5)
    x = np.random.default_rng(0).normal(size=(30, 4))
    np.testing.assert_allclose(flat(links.feature_sums(features, table(x))), expected.T @ x, rtol=1e-3, atol=1e-4)


def test_dense_and_multi_hot_features():
    values = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, -1.0]])
    np.testing.assert_allclose(dense_of(feature_data.dense(values), 2, 3), values)
    features, names = feature_data.multi_hot([["b", "a"], ["b"], []])
    assert names == ["a", "b"]
    np.testing.assert_allclose(dense_of(features, 3, 2), [[0.5**0.5] * 2, [0, 1], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0], [0], [np.nan], 1, 1), "feature value nan"),
        (([0], [3], [1.0], 1, 2), "feature 3 is outside the 1 × 2 matrix"),
        (([-1], [0], [1.0], 1, 2), "row -1 is outside the 1 × 2 matrix"),
    ],
)
def test_bad_features_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        feature_data.sparse(*(np.asarray(value) if isinstance(value, list) else value for value in arguments))


def test_solve_link_is_ridge_regression(ratings):
    features = feature_data.implicit(ratings)
    matrix = dense_of(features, 30, 40).astype(float)
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(30, 3)), rng.normal(size=(40, 3))
    expected = np.linalg.solve(matrix.T @ matrix + 0.7 * np.eye(40), matrix.T @ x + noise)
    start = table(rng.normal(size=(40, 3)))
    one, ridge = Table(jnp.ones(30), jnp.ones((30, 1))), Table(jnp.float32(0.7), jnp.float32(0.7))
    rest = table(x - matrix @ flat(start))
    found = links.solve_link(features, rest, one, ridge, start, steps=80, noise=table(noise))
    np.testing.assert_allclose(flat(found), expected, rtol=1e-3, atol=1e-3)


def test_sample_side_has_the_normal_gamma_posterior():
    """Means and precisions of a column, against the conjugate formulas, over many draws; unrated rows say nothing."""
    x = np.random.default_rng(2).normal(0.7, 2.0, size=(50, 3))
    rows, rated = np.concatenate([x, np.full((7, 3), 100.0)]), jnp.repeat(jnp.array([1.0, 0.0]), jnp.array([50, 7]))
    zero, one = table(np.zeros(3)), table(np.ones(3))
    side = Population(zero, one, Table(jnp.zeros(0), jnp.zeros((0, 2))), jnp.ones(()))
    sample = jax.jit(jax.vmap(lambda key: hyper.sample_side(key, table(rows), side, rated, None)))
    drawn = sample(jax.random.split(KEY, 8000))
    mean, precision = flat(drawn.mean), flat(drawn.precision)
    shape, rate = 1 + 25, 1 + (((x - x.mean(0)) ** 2).sum(0) + 50 / 51 * x.mean(0) ** 2) / 2
    np.testing.assert_allclose(precision.mean(0), shape / rate, rtol=0.02)
    np.testing.assert_allclose(precision.std(0), np.sqrt(shape) / rate, rtol=0.05)
    np.testing.assert_allclose(mean.mean(0), 50 / 51 * x.mean(0), atol=0.02)
    np.testing.assert_allclose(mean.var(0), rate / (shape - 1) / 51, rtol=0.08)


def test_sample_precise_has_the_gamma_posterior():
    """Each user's precision against the conjugate formula, with weights; a user without ratings is one of the prior."""
    user, error = np.array([0, 0, 0, 1, 3]), np.array([0.1, -0.3, 0.2, 2.0, 0.0], np.float32)
    ratings = jaxmf.ratings.Ratings(user, np.zeros(5, int), error, np.array([1, 2, 1, 1, 0], np.float32), 4, 1)
    zero = jaxmf.params.Params(table(np.zeros((4, 3))), table(np.zeros((1, 3))), jnp.zeros(()))
    draw = online.Draw(zero, None, None, jnp.float32(5.0))
    sample = jax.jit(jax.vmap(lambda key: sampler.sample_precise(key, draw, ratings, kernel=Linear())))
    drawn = np.asarray(sample(jax.random.split(KEY, 20000)))
    n = np.array([3, 1, 0, 0])
    squares = 5 * np.array([0.01 + 2 * 0.09 + 0.04, 4, 0, 0])
    shape, rate = (sampler.ALIKE + n) / 2, (sampler.ALIKE + squares) / 2
    np.testing.assert_allclose(drawn.mean(0), shape / rate, rtol=0.02)
    np.testing.assert_allclose(drawn.std(0), np.sqrt(shape) / rate, rtol=0.04)


def test_users_of_different_noise_are_told_apart():
    """Two users' ratings out of three carry a noise of .2, the others' of 1, and so the chain says."""
    rng = np.random.default_rng(5)
    user, item = np.divmod(np.arange(60 * 40), 40)
    truth = rng.normal(size=60)[user] + rng.normal(size=40)[item]
    spread = np.where(user % 3 == 0, 1.0, 0.2)
    noisy = (truth + spread * rng.normal(size=len(user))).astype(np.float32)
    ratings = jaxmf.ratings.Ratings(user, item, noisy, np.ones(len(user), np.float32), 60, 40)
    state, data = gibbs.init(KEY, ratings, kernel=Linear(), rank=2), sampler.data_of(ratings)
    for _ in range(30):
        state, _ = jax.jit(gibbs.step)(state, data, kernel=Linear())
    spreads = 1 / np.sqrt(np.asarray(state.precise * state.draw.noise))
    assert np.median(spreads[::3]) == pytest.approx(1.0, rel=0.25)
    assert np.median(np.delete(spreads, np.s_[::3])) == pytest.approx(0.2, rel=0.15)
    noise = state.told(ratings.weight, ratings.user).noise
    assert 1 / float(noise) == pytest.approx((spreads[user] ** 2).mean(), rel=1e-3)
    assert 1 / float(noise) == pytest.approx((spread**2).mean(), rel=0.3)


@pytest.fixture(scope="module", params=["none", "implicit"])
def fitted(request):
    """A chain on ratings whose noise is known (.3, and rounding), and the ratings it has not seen."""
    ratings = random_ratings(np.random.default_rng(3), n_users=60, n_items=50, n=1500)
    split = splits.k_fold(len(ratings))[0]
    train, test = ratings.take(split.train), ratings.take(split.test)
    features = jaxmf.features.implicit_sides(train) if request.param == "implicit" else jaxmf.features.Sides()
    watch = jaxmf.Watch(validation=test)
    result = gibbs.fit(KEY, train, rank=3, features=features, sweeps=160, burn=60, keep=50, watch=watch)
    return request.param == "implicit", result, train, test


def test_the_sampler_finds_the_structure_and_the_noise(fitted):
    _, result, train, test = fitted
    predicted = online.predictive(result.posterior, test.user, test.item)
    rmse = jaxmf.metrics.rmse(predicted.mean, test.rating)
    assert rmse < 0.65 * jaxmf.metrics.rmse(np.full(len(test), train.rating.mean()), test.rating)
    assert jaxmf.metrics.rmse(result.predicted, test.rating) == pytest.approx(rmse, abs=0.02)
    assert result.history["rmse"][-1] == pytest.approx(rmse, abs=0.03)
    inside = np.abs(np.asarray(predicted.mean) - test.rating) <= 1.645 * np.asarray(predicted.std)
    assert 0.84 <= inside.mean() <= 0.96
    assert (predicted.model_std < predicted.std).all()


def test_kept_draws_are_the_chain_s(fitted):
    _, result, *_ = fitted
    noise, kept = result.history["noise"][:, 0], np.asarray(result.posterior.draws.noise)
    np.testing.assert_allclose(kept, noise[60 + 2 * np.arange(50) + 1])


def test_predictive_is_the_moments_of_the_draws(fitted):
    _, result, _, test = fitted
    each = np.asarray(online.ratings_of_draws(result.posterior, test.user, test.item), np.float64)
    found = online.predictive(result.posterior, test.user, test.item)
    np.testing.assert_allclose(found.mean, each.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.model_std, each.std(0), rtol=2e-2, atol=1e-3)
    variance = each.var(0) + np.mean(1 / np.asarray(result.posterior.draws.noise))
    np.testing.assert_allclose(found.std, np.sqrt(variance), rtol=1e-2)


def test_posterior_fold_in_of_a_stranger_is_near_the_posterior_of_the_member(fitted):
    """A training user taken for a stranger: the same ratings, the same predictions, and none the more certain."""
    implicit, result, train, test = fitted
    members = np.arange(20)
    mine = train.take(train.user < 20)
    features = feature_data.implicit(mine) if implicit else None
    folded = fold_in.fold_in_users(result.posterior, mine, users=members)
    given = fold_in.fold_in_users(result.posterior, mine, users=members, features=features)
    np.testing.assert_allclose(flat(given.params.user), flat(folded.params.user), atol=1e-3)
    asked = test.take(test.user < 20)
    before, after = (online.predictive(p, asked.user, asked.item) for p in (result.posterior, folded))
    assert np.abs(np.asarray(before.mean) - np.asarray(after.mean)).mean() < 0.12
    assert np.asarray(after.std).mean() == pytest.approx(np.asarray(before.std).mean(), rel=0.1)
    untouched = jax.tree.map(lambda x: x[:, 20:], folded.params.user)
    np.testing.assert_array_equal(
        flat(untouched), flat(jax.tree.map(lambda x: x[:, 20:], result.posterior.params.user))
    )


def test_one_user_is_the_batch(fitted):
    _, result, train, _ = fitted
    mine = train.take(train.user == 4)
    one = fold_in.fold_in_user(result.posterior, mine.item, mine.rating).params.user
    batch = fold_in.fold_in_users(result.posterior.replace(key=jax.random.key(9)), mine).params.user
    spread = flat(batch)[:, 4].std(0)
    np.testing.assert_allclose(flat(one)[:, 0].mean(0), flat(batch)[:, 4].mean(0), atol=1.0 * spread.max())
    few = fold_in.fold_in_user(online.thin(result.posterior, 7), mine.item, mine.rating)
    assert len(few) == 7
    assert few.params.user.bias.shape == (7, 1)
    (stack,) = histories.blocks(mine, np.array([4]), ladder=True)
    (many,) = update.solve_stacks(result.posterior.frozen(), (stack,))
    np.testing.assert_allclose(flat(many)[:, 0].mean(0), flat(batch)[:, 4].mean(0), atol=1.0 * spread.max())


def test_a_user_without_ratings_is_drawn_from_the_prior(fitted):
    _, result, train, _ = fitted
    none = train.take(np.zeros(0, int))
    folded = fold_in.fold_in_user(result.posterior, none.item, none.rating)
    expected = flat(result.posterior.draws.user.mean).mean(0)
    spread = (1 / np.sqrt(flat(result.posterior.draws.user.precision))).mean(0)
    np.testing.assert_allclose(flat(folded.params.user)[:, 0].mean(0), expected, atol=4 * spread.max() / np.sqrt(50))


def test_items_are_users_from_the_other_side(fitted):
    _, result, train, _ = fitted
    mine = train.take(train.item < 5)
    one = fold_in.fold_in_items(result.posterior, mine)
    two = fold_in.fold_in_users(result.posterior.transpose(), mine.transpose())
    np.testing.assert_array_equal(flat(one.params.item), flat(two.params.user))


def test_a_seed_gives_the_same_chain(ratings):
    one, two, other = (
        gibbs.fit(jax.random.key(seed), ratings, rank=2, sweeps=6, burn=2, keep=2).posterior for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(flat(one.params.user), flat(two.params.user))
    assert (flat(one.params.user) != flat(other.params.user)).any()


def test_what_is_predicted_is_never_looked_at(ratings):
    """Other validation ratings, the same chain and the same predictions of them."""
    split = splits.k_fold(len(ratings))[0]
    train, test = ratings.take(split.train), ratings.take(split.test)
    other = test.replace(rating=np.full_like(test.rating, 0.5))
    settings = {"rank": 2, "features": jaxmf.features.implicit_sides(train), "sweeps": 12, "burn": 2, "keep": 4}
    one, two = (gibbs.fit(KEY, train, **settings, watch=jaxmf.Watch(validation=hidden)) for hidden in (test, other))
    np.testing.assert_array_equal(one.predicted, two.predicted)


@pytest.fixture(scope="module")
def chains():
    """Two chains, and a few pairs to predict."""
    ratings = random_ratings(np.random.default_rng(3), n_users=60, n_items=50, n=1500)
    fit = gibbs.fit(
        jax.random.split(KEY), ratings, rank=3, sweeps=200, burn=100, keep=100, watch=jaxmf.Watch(validation=ratings)
    )
    return fit, np.arange(30), np.arange(30)


def test_chains_agree_and_what_disagrees_is_seen(chains):
    fit, user, item = chains
    assert fit.history["noise"].shape == (200, 2)
    assert (fit.history["noise"][-1, 0] != fit.history["noise"][-1, 1]).all()
    found = jaxmf.convergence.convergence(fit, user, item)
    assert (found.r_hat[:2] < 1.1).all()
    assert (found.ess > 4).all()
    draws = fit.posterior.draws
    far = fit._replace(posterior=fit.posterior.replace(draws=draws.replace(noise=draws.noise.at[:50].multiply(3))))
    assert jaxmf.convergence.convergence(far, user, item).r_hat["noise precision"] > 1.5


def test_one_chain_cannot_disagree(fitted):
    _, result, *_ = fitted
    with pytest.raises(ValueError, match="50 draws of 1 chains: agreement needs two chains or more"):
        jaxmf.convergence.convergence(result, np.arange(3), np.arange(3))


def test_predictions_are_means_over_all_chains(chains):
    fit, *_ = chains
    ratings = random_ratings(np.random.default_rng(3), n_users=60, n_items=50, n=1500)
    kept = online.predictive(fit.posterior, ratings.user, ratings.item).mean
    np.testing.assert_allclose(fit.predicted, kept, atol=0.3)
    assert np.abs(fit.predicted - np.asarray(kept)).mean() < 0.05


def test_mirrored_draws_stay_draws_and_their_mean_is_the_posterior_s(chains):
    """Against equal draws of the items a pair's mean is the row's posterior mean, up to the steps of the solve."""
    fit, *_ = chains
    draws = jax.tree.map(lambda x: jnp.repeat(x[:1], 20, 0), fit.posterior.draws)
    one = fit.posterior.replace(draws=draws)
    item, rating = np.array([3, 8, 20]), np.array([4.0, 2.0, 3.5])
    drawn = flat(fold_in.fold_in_user(one, item, rating).params.user)[:, 0]
    means = (drawn[::2] + drawn[1::2]) / 2
    np.testing.assert_allclose(means, np.broadcast_to(means[0], means.shape), atol=1e-3)
    assert drawn[::2].std(0).min() > 0.02


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"burn": 10}, "burn must be between 0 and the 10 sweeps, got 10"),
        (
            {"burn": 2, "keep": 9},
            "a multiple of the 1 chains and at most their 8 sweeps after burn-in, got 9",
        ),
        ({"burn": 2, "keep": 3, "key": jax.random.split(KEY)}, "keep must be a multiple of the 2 chains"),
        ({"burn": 2, "key": jax.random.split(KEY, 0)}, "no key: a chain needs one"),
        ({"rank": 0}, "rank must be 1 or more"),
        ({"kernel": Logistic(2.0, 3.0)}, "outside the kernel's scale"),
    ],
)
def test_bad_settings_are_refused(settings, words, ratings):
    with pytest.raises(ValueError, match=words):
        gibbs.fit(ratings=ratings, **({"key": KEY, "sweeps": 10} | settings))


def test_bad_fold_ins_are_refused(fitted):
    _, result, train, _ = fitted
    other = feature_data.dense(np.ones((60, 2)))
    with pytest.raises(ValueError, match="pass the same kind of features"):
        fold_in.fold_in_users(result.posterior, train, features=other)
    with pytest.raises(ValueError, match=r"draws must be between 1 and the 50 kept, got 51"):
        online.thin(result.posterior, 51)
    with pytest.raises(ValueError, match="item row 50 is not among the table's 50 rows"):
        fold_in.fold_in_user(result.posterior, np.array([50]), np.array([3.0]))


def test_transposing_a_posterior_twice_is_nothing(fitted):
    _, result, *_ = fitted
    back = result.posterior.transpose().transpose()
    assert isinstance(back, Posterior)
    assert isinstance(back.params, Params)
    jax.tree.map(np.testing.assert_array_equal, back.draws, result.posterior.draws)
