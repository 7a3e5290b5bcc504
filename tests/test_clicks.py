"""Clicks: the row with its background against float64, the objective, the Gram matrix, and every door of the update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import flat

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model import rows
from jaxmf.model.kernels import Clicks
from jaxmf.model.priors import Prior, Priors
from jaxmf.model.tables import Gram, Table
from jaxmf.training import clicks, spread

KEY = jax.random.key(0)
PRIORS = Priors(Prior(factor_reg=0.02, power=1.0), Prior(factor_reg=0.05, power=0.5, extra=3.0))


def random_clicks(rng, n_users=30, n_items=20, n=200):
    """Clicks with counts, some dislikes among them, of popular items more."""
    pair = rng.choice(n_users * n_items, n, replace=False, p=popular(n_users, n_items))
    user, item = np.divmod(pair, n_items)
    liked = (rng.random(n) < 0.9).astype(np.float32)
    return Ratings(
        user.astype(np.int32), item.astype(np.int32), liked, rng.integers(1, 6, n).astype(np.float32), n_users, n_items
    )


def popular(n_users, n_items):
    share = np.tile(1 / np.arange(1, n_items + 1), n_users)
    return share / share.sum()


def count(kernel, weight):
    """What a weight counts as, in float64."""
    weight = np.asarray(weight, np.float64)
    return {"linear": weight, "log": np.log2(1 + weight), "once": np.sign(weight)}[kernel.confidence]


def oracle(kernel, prior, others, item, rating, weight):
    """(YᵀWY + w₀G + λI)⁻¹ YᵀWr in float64; rows of 0 are no rows of the other side."""
    y = np.asarray(others, np.float64)
    w, seen, w0 = count(kernel, weight), y[item], float(kernel.background)
    n = w.sum() + kernel.counts * w0 * np.any(y != 0, 1).sum() + float(prior.extra)
    reg = float(prior.factor_reg) * max(n, 1) ** float(prior.power)
    a = (seen.T * w) @ seen + w0 * y.T @ y + reg * np.eye(y.shape[1])
    return np.linalg.solve(a, seen.T @ (w * rating))


def objective(kernel, priors, user, item, given):
    """The objective as it stands, in float64, with N the rows that have a click."""
    u, v = np.asarray(user, np.float64), np.asarray(item, np.float64)
    r, w, w0 = u @ v.T, count(kernel, given.weight), float(kernel.background)
    total = (w * (given.rating - r[given.user, given.item]) ** 2).sum() + w0 * (r**2).sum()
    for x, other, row, prior in ((u, v, given.user, priors.user), (v, u, given.item, priors.item)):
        n = np.bincount(row, w, len(x)) + kernel.counts * w0 * np.any(other != 0, 1).sum() + prior.extra
        total += (prior.factor_reg * np.maximum(n, 1) ** prior.power * (x**2).sum(1)).sum()
    return total


@pytest.fixture(scope="module")
def given():
    return random_clicks(np.random.default_rng(0))


@pytest.fixture(scope="module", params=["linear", "log", "once"])
def fitted(request, given):
    """A model of clicks, with the kernel it is of."""
    kernel = Clicks(0.2, request.param, counts=request.param == "log")
    return jaxmf.als.fit(KEY, given, kernel=kernel, rank=4, prior=PRIORS, epochs=8)


def of_user(given, user):
    theirs = given.user == user
    return given.item[theirs], given.rating[theirs], given.weight[theirs]


def test_a_fold_in_is_the_row_of_least_squares_with_its_background(fitted, given):
    model = fitted.model
    found = jaxmf.fold_in.fold_in_users(model, given).params.user
    for user in np.unique(given.user):
        expected = oracle(model.kernel, PRIORS.user, model.params.item.factors, *of_user(given, user))
        np.testing.assert_allclose(found.factors[user], expected, rtol=2e-5, atol=2e-6)
    assert not np.any(found.bias)


def test_one_user_and_items_are_folded_in_alike(fitted, given):
    model = fitted.model
    items, liked, times = of_user(given, 3)
    alone = jaxmf.fold_in.fold_in_user(model, items, liked, weight=times)
    expected = oracle(model.kernel, PRIORS.user, model.params.item.factors, items, liked, times)
    np.testing.assert_allclose(alone.params.user.factors[0], expected, rtol=2e-5, atol=2e-6)
    of_item = jaxmf.fold_in.fold_in_items(model, given, items=np.array([5])).params.item.factors[5]
    expected = oracle(model.kernel, PRIORS.item, model.params.user.factors, *of_user(given.transpose(), 5))
    np.testing.assert_allclose(of_item, expected, rtol=2e-5, atol=2e-6)


def test_no_half_sweep_raises_the_objective(given):
    kernel = Clicks(0.2)
    state, data = clicks.init(KEY, given, rank=4), clicks.histories(given, kernel, spread.Here())
    losses = [objective(kernel, PRIORS, *(table.factors for table in (state.params.user, state.params.item)), given)]
    model = state.params
    for _ in range(5):
        for side in ("user", "item"):
            turn = (lambda x: x) if side == "user" else (lambda x: x.transpose())
            half = clicks.half_sweep(
                turn(model),
                Gram.of(turn(model).item.factors),
                getattr(data, side),
                kernel=kernel,
                prior=getattr(PRIORS, side),
                cg_steps=1,
            )
            model = turn(half[0])
            losses.append(objective(kernel, PRIORS, model.user.factors, model.item.factors, given))
    assert np.all(np.diff(losses) <= 1e-6 * losses[0])
    assert losses[-1] < 0.9 * losses[1]


def test_the_loss_is_the_objective_a_unit_of_weight(fitted, given):
    model = fitted.model
    total = objective(model.kernel, PRIORS, model.params.user.factors, model.params.item.factors, given)
    assert fitted.history["loss"][-1] == pytest.approx(total / count(model.kernel, given.weight).sum(), rel=1e-5)


def test_it_settles_where_a_plain_solver_does(given):
    """The objective's minimum along both sides' exact solves, in the axes that they start in."""
    kernel = Clicks(0.2)
    fit = jaxmf.als.fit(KEY, given, kernel=kernel, rank=4, prior=PRIORS, epochs=200, cg_steps=5)
    u, v = (np.asarray(table.factors, np.float64) for table in (fit.model.params.user, fit.model.params.item))
    before = objective(kernel, PRIORS, u, v, given)
    for _ in range(3):
        u = np.stack([oracle(kernel, PRIORS.user, v, *of_user(given, user)) for user in range(given.n_users)])
        v = np.stack(
            [oracle(kernel, PRIORS.item, u, *of_user(given.transpose(), item)) for item in range(given.n_items)]
        )
    assert objective(kernel, PRIORS, u, v, given) == pytest.approx(before, rel=1e-4)


def test_the_background_is_a_diagonal_in_its_own_axes(fitted, given):
    """The same row from the whole matrix and from its eigenvalues, in turned axes."""
    model = fitted.model
    (stack,) = jaxmf.histories.blocks(given)
    block = jax.tree.map(lambda x: x[0], stack)
    problem = model.problem(block)
    spectrum, axes = clicks.eigen(problem.background.matrix)
    turned = problem.replace(
        others=Table(problem.others.bias, problem.others.factors @ axes),
        background=problem.background.replace(matrix=jnp.maximum(spectrum, 0)),
    )
    straight, there = rows.solve_rows(problem, cg_steps=64), rows.solve_rows(turned, cg_steps=64)
    np.testing.assert_allclose(there.factors @ axes.T, straight.factors, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_have_the_background(fitted, given):
    model = fitted.model
    (stack,) = jaxmf.histories.blocks(given)
    problem = model.problem(jax.tree.map(lambda x: x[0], stack))
    found = rows.solve_rows(problem, cg_steps=64, tol=1e-6)
    slope = jax.grad(lambda x: rows.row_losses(problem, Table(found.bias, x)).sum())(found.factors)
    np.testing.assert_allclose(slope, np.zeros(slope.shape), atol=2e-4)

    def score(background):
        kernel = model.kernel.replace(background=background)
        with_it = jaxmf.Model(model.params, kernel, PRIORS).problem(problem_block)
        return rows.solve_rows(with_it, cg_steps=64).factors.sum()

    problem_block = jax.tree.map(lambda x: x[0], stack)
    slope, step = jax.grad(score)(jnp.float32(0.2)), 1e-2
    expected = (score(jnp.float32(0.2 + step)) - score(jnp.float32(0.2 - step))) / (2 * step)
    assert float(slope) == pytest.approx(float(expected), rel=2e-2)


def test_writes_keep_the_gram_matrix(fitted, given):
    """New users, more clicks, removed clicks, a removed user: by differences as counted anew."""
    model = fitted.model
    more = random_clicks(np.random.default_rng(1), n_users=45, n=150)
    known = jaxmf.changes.merge(given, more)
    for ratings, users in ((known, None), (known.take(known.user % 3 > 0), np.arange(45))):
        model = jaxmf.fold_in.fold_in_users(model, ratings, users=users)
        counted = Gram.of(model.params.user.factors)
        np.testing.assert_allclose(model.params.user.gram.matrix, counted.matrix, rtol=1e-4, atol=1e-4)
        assert model.params.user.gram.rows == counted.rows
    assert not np.any(model.params.user.factors[0])


def test_a_reserved_row_counts_as_none(fitted):
    table = jaxmf.update.reserve(fitted.model.params.user, 40)
    written = table.put(jnp.array([35]), Table(jnp.zeros(1), jnp.ones((1, 4))))
    assert written.gram.rows == fitted.model.params.user.gram.rows + 1
    np.testing.assert_allclose(written.gram.matrix, written.counted().gram.matrix, rtol=1e-5, atol=1e-5)


def test_without_a_gram_matrix_it_is_counted(fitted, given):
    bare = jaxmf.Model(fitted.model.params.uncounted(), fitted.model.kernel, PRIORS)
    found, expected = (jaxmf.fold_in.fold_in_users(model, given).params.user for model in (bare, fitted.model))
    np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-5, atol=1e-6)


def test_rows_without_clicks_are_zero_and_rank_nothing(given):
    wider = given.replace(n_users=33, n_items=22)
    model = jaxmf.als.fit(KEY, wider, kernel=Clicks(), rank=3, epochs=3).model
    assert not np.any(model.params.user.factors[30:])
    assert not np.any(model.params.item.factors[20:])
    assert model.params.item.gram.rows <= 20


def test_one_click_is_enough():
    one = Ratings(np.zeros(1, np.int32), np.zeros(1, np.int32), *np.ones((2, 1), np.float32), n_users=1, n_items=1)
    model = jaxmf.als.fit(KEY, one, kernel=Clicks(0.1), rank=2, prior=PRIORS, epochs=20).model
    assert 0.5 < model.predict(np.array([0]), np.array([0]))[0] < 1


def test_dislikes_are_observed_zeros(given):
    liked = given.replace(rating=np.ones_like(given.rating))
    pairs = tuple(row[given.rating == 0] for row in (given.user, given.item))
    scores = [
        jaxmf.als.fit(KEY, ratings, kernel=Clicks(0.1), rank=4, prior=PRIORS, epochs=10).model.predict(*pairs)
        for ratings in (given, liked)
    ]
    assert scores[0].mean() < scores[1].mean() - 0.2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kernel": Clicks(0.0)}, "background must be positive and finite, got 0.0"),
        ({"kernel": Clicks(np.nan)}, "background must be positive and finite, got nan"),
        ({"steps": 2}, "one step is Newton's"),
        ({"prior": Prior(factor_reg=-1.0)}, "factor_reg of the user prior must be positive"),
    ],
)
def test_what_clicks_can_not_be_fitted_with_is_refused(given, wrong, said):
    with pytest.raises(ValueError, match=said):
        jaxmf.als.fit(KEY, given, **({"kernel": Clicks(), "rank": 2} | wrong))


def test_features_and_validation_are_refused(given):
    features = jaxmf.features.implicit_sides(given)
    with pytest.raises(ValueError, match="clicks are fitted without features"):
        jaxmf.als.fit(KEY, given, kernel=Clicks(), rank=2, features=features)
    with pytest.raises(ValueError, match="rank held-out clicks"):
        jaxmf.als.fit(KEY, given, kernel=Clicks(), rank=2, watch=jaxmf.Watch(validation=given))


def test_the_background_is_measured_where_none_is_given(given):
    """All pairs together weigh 16 times what is observed, whatever the counts."""
    model = jaxmf.als.fit(KEY, given, kernel=Clicks(confidence="linear"), rank=2, epochs=1).model
    assert model.kernel.background * given.n_users * given.n_items == pytest.approx(16 * given.weight.sum(), rel=1e-5)


def test_other_trainers_and_ratings_off_the_scale_are_refused(given):
    for trainer in (jaxmf.sgd, jaxmf.gibbs):
        with pytest.raises(ValueError, match="fit them by als"):
            trainer.fit(KEY, given, kernel=Clicks(), rank=2)
    with pytest.raises(ValueError, match="rehearsal learns from observed pairs alone"):
        jaxmf.rehearsal.new_users(KEY, given, kernel=Clicks(), rank=2)
    with pytest.raises(ValueError, match="sgd_retrain learns from observed pairs alone"):
        jaxmf.fold_in.sgd_retrain(KEY, jaxmf.als.fit(KEY, given, kernel=Clicks(), rank=2).model, given)
    with pytest.raises(ValueError, match=r"outside the kernel's scale \[0.0, 1.0\]"):
        jaxmf.als.fit(KEY, given.replace(rating=5 * given.rating), kernel=Clicks(), rank=2)
    with pytest.raises(ValueError, match="confidence must be one of"):
        Clicks(confidence="often")


def test_a_model_of_implicit_folds_in_as_its_own_recalculate_user_does():
    """(YᵀY + Yᵀ(C − I)Y + reg)⁻¹ YᵀC p of Hu et al. (2008), eq. 4, with C = alpha times the values."""
    rng = np.random.default_rng(0)
    user, item = (rng.normal(size=(n, 5)).astype(np.float32) for n in (7, 12))
    model = jaxmf.interop.from_implicit(user, item, alpha=10.0, regularization=0.7)
    seen, value = np.array([1, 4, 7]), np.array([1.0, 2.0, 0.5])
    found = jaxmf.fold_in.fold_in_user(model, seen, np.ones(3), weight=value).params.user.factors[0]
    y = item.astype(np.float64)
    c = np.ones(12)
    c[seen] = 10 * value
    p = np.isin(np.arange(12), seen)
    expected = np.linalg.solve(y.T @ (c[:, None] * y) + 0.7 * np.eye(5), y.T @ (c * p))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_clicks_as_heavy_as_the_background_still_count_and_lighter_ones_are_refused():
    """Implicit's own default: alpha 1 and values of 1, of whose pairs the right-hand side alone is left."""
    rng = np.random.default_rng(0)
    user, item = (rng.normal(size=(n, 5)).astype(np.float32) for n in (7, 12))
    model, seen = jaxmf.interop.from_implicit(user, item, alpha=1.0, regularization=0.7), np.array([1, 4, 7])
    found = jaxmf.fold_in.fold_in_user(model, seen, np.ones(3)).params.user.factors[0]
    y = item.astype(np.float64)
    np.testing.assert_allclose(found, np.linalg.solve(y.T @ y + 0.7 * np.eye(5), y[seen].sum(0)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"weight 0.5 counts 0.5, below the background 1 "):
        jaxmf.fold_in.fold_in_user(model, seen, np.ones(3), weight=[1.0, 0.5, 2.0])


def test_a_model_of_irspack_folds_in_by_its_own_objective():
    rng = np.random.default_rng(0)
    user, item = (rng.normal(size=(n, 5)).astype(np.float32) for n in (7, 12))
    model = jaxmf.interop.from_irspack(user, item, alpha0=0.3, reg=0.02, nu=0.9)
    seen = np.array([1, 4, 7])
    found = jaxmf.fold_in.fold_in_user(model, seen, np.ones(3)).params.user.factors[0]
    expected = oracle(model.kernel, Prior(factor_reg=0.02, power=0.9), item, seen, np.ones(3), np.ones(3))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"alpha": 0.0}, "alpha must be positive"), ({"alpha": 1.0, "regularization": -1.0}, "positive")],
)
def test_settings_of_another_library_are_checked(wrong, said):
    with pytest.raises(ValueError, match=said):
        jaxmf.interop.from_implicit(np.ones((2, 1)), np.ones((3, 1)), **wrong)


def test_clicks_that_were_folded_in_rank_as_a_refit_does(given):
    """New users met online, against a fit that has them all."""
    first, later = given.take(given.user < 20), given.take(given.user >= 20)
    train, test = later.take(np.arange(len(later)) % 4 > 0), later.take(np.arange(len(later)) % 4 == 0)
    known = jaxmf.changes.merge(first, train)
    few = {"kernel": Clicks(0.2), "rank": 4, "prior": PRIORS}
    online = jaxmf.fold_in.fold_in_users(jaxmf.als.fit(KEY, first, **few).model, train)
    refit = jaxmf.als.fit(KEY, known, **few).model
    found = [jaxmf.judging.full_ranking(model, train, test, cuts=(10,))["recall10"] for model in (online, refit)]
    assert abs(found[0] - found[1]) < 0.15


def test_clicks_drift_by_how_they_rank(given):
    def fit(known):
        return jaxmf.als.fit(KEY, known, kernel=Clicks(0.2), rank=4, prior=PRIORS, epochs=5).model

    def ndcg(model, known, part):
        return jaxmf.judging.full_ranking(model, known, part, cuts=(5,))["ndcg5"]

    mixed = given.take(np.random.default_rng(0).permutation(len(given)))
    found = jaxmf.drift.replay(fit, mixed, fraction=0.4, parts=2, measure=ndcg)
    assert found.stale[0] == pytest.approx(found.online[0]) == pytest.approx(found.refit[0], abs=1e-6)
    assert all(0 < value < 1 for values in found[1:] for value in values)
    with pytest.raises(ValueError, match="an error says nothing of clicks"):
        jaxmf.drift.replay(fit, given, parts=2)


def test_pairs_beyond_32_bits_are_counted(given):
    many = given.replace(n_users=138_000, n_items=27_000)
    of_all, of_many = (float(Clicks().measured(one).share) for one in (given, many))
    assert of_many * 138_000 * 27_000 == pytest.approx(of_all * given.n_users * given.n_items)
