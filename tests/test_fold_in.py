"""The online update: what it solves, what it leaves alone, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import KERNELS, flat

from jaxmf.data.features import Sides, implicit, multi_hot
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.priors import Prior
from jaxmf.online import fold_in, update
from jaxmf.training import als

KEY = jax.random.key(0)
KERNEL = Logistic(0.5, 5.0)


@pytest.fixture(scope="module")
def model(ratings):
    return als.fit(KEY, ratings, kernel=KERNEL, rank=4, epochs=6).model


def new_ratings(user, item, rating, n_users, n_items):
    user, item = np.asarray(user, np.int32), np.asarray(item, np.int32)
    return Ratings(user, item, np.asarray(rating, np.float32), np.ones(len(user), np.float32), n_users, n_items)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_folding_in_a_training_user_is_training_s_half_step(kernel, ratings):
    model = als.fit(KEY, ratings, kernel=kernel, rank=4, epochs=3).model
    zero = model.params.replace(user=jax.tree.map(jnp.zeros_like, model.params.user))
    state = als.init(KEY, ratings, kernel=kernel, rank=4).replace(params=zero)
    sweep, _ = als.step(state, als.histories(ratings), kernel=model.kernel, prior=model.priors, steps=16, cg_steps=24)
    half = sweep.params.user
    some = ratings.take(ratings.user % 3 == 0)
    folded = fold_in.fold_in_users(model, some).params.user
    touched = np.unique(some.user)
    np.testing.assert_allclose(flat(folded)[touched], flat(half)[touched], rtol=1e-3, atol=2e-4)


def test_other_rows_are_left_alone(model, ratings):
    some = ratings.take(ratings.user < 5)
    folded, before = fold_in.fold_in_users(model, some).params, model.params
    np.testing.assert_array_equal(flat(folded.user)[5:], flat(before.user)[5:])
    np.testing.assert_array_equal(flat(folded.item), flat(before.item))
    assert (flat(folded.user)[:5] != flat(before.user)[:5]).any()


def test_items_are_users_seen_from_the_other_side(model, ratings):
    some = ratings.take(ratings.item < 5)
    one = fold_in.fold_in_items(model, some).params.item
    two = fold_in.fold_in_users(model.transpose(), some.transpose()).params.user
    np.testing.assert_array_equal(flat(one), flat(two))


def test_new_users_grow_the_table(model, ratings):
    n = ratings.n_users
    new = new_ratings([n + 2, n + 2, n], [0, 3, 5], [4, 2.5, 5], n + 3, ratings.n_items)
    folded = fold_in.fold_in_users(model, new).params
    assert len(folded.user) == n + 3
    np.testing.assert_array_equal(flat(folded.user)[n + 1], 0)  # no rating: the prior mean
    alone = fold_in.fold_in_user(model, new.item[:2], new.rating[:2]).params.user
    np.testing.assert_allclose(flat(folded.user)[n + 2], flat(alone)[0], atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 33])
def test_one_user_of_any_length(n, model, ratings):
    rng = np.random.default_rng(n)
    item, rating = rng.permutation(40)[:n], rng.integers(1, 11, n) / 2
    row = fold_in.fold_in_user(model, item, rating).params.user
    batch = new_ratings(np.zeros(n), item, rating, 1, ratings.n_items)
    table = fold_in.fold_in_users(model.take_users(np.arange(1)), batch).params.user
    expected = flat(table) if n else np.zeros((1, 5))
    np.testing.assert_allclose(flat(row), expected, atol=1e-4)


def test_no_ratings_change_nothing(model, ratings):
    folded = fold_in.fold_in_users(model, ratings.take(np.zeros(0, int)))
    np.testing.assert_array_equal(flat(folded.params.user), flat(model.params.user))


def test_solve_stacks_is_fold_in(model, ratings):
    from jaxmf.data import histories

    stacks = histories.blocks(ratings)
    tables = update.solve_stacks(model.frozen(), stacks)
    folded = fold_in.fold_in_users(model, ratings).params.user
    rows = stacks[0].rows.ravel()
    np.testing.assert_allclose(flat(tables[0])[rows < 30], flat(folded)[rows[rows < 30]], atol=1e-4)


def test_sgd_retrain_comes_near_the_solve(model, ratings):
    some = ratings.take(ratings.user < 6)
    exact = fold_in.fold_in_users(model, some).params.user
    retrained = fold_in.sgd_retrain(KEY, model, some, epochs=3000, learning_rate=0.01).params
    np.testing.assert_allclose(flat(retrained.user)[:6], flat(exact)[:6], atol=0.05)
    np.testing.assert_array_equal(flat(retrained.user)[6:], flat(model.params.user)[6:])


@pytest.mark.parametrize("side", ["user", "item"])
def test_sgd_retrain_draws_a_row_to_what_its_features_say(ratings, side):
    """Users' implicit feedback, which their ratings tell, and items' genres, which are given."""
    genres = multi_hot([["Drama"], ["Comedy"]] * (ratings.n_items // 2))[0]
    firm, features = Prior(bias_reg=20.0, factor_reg=20.0, power=0.0), Sides(implicit(ratings), genres)
    model = als.fit(KEY, ratings, kernel=KERNEL, rank=4, prior=firm, features=features, epochs=6).model
    model = model.replace(links=jax.tree.map(lambda x: 0.3 * jax.random.normal(KEY, x.shape), model.links))
    given = None
    if side == "item":
        model, ratings, given = model.transpose(), ratings.transpose(), genres
    some = ratings.take(ratings.user < 6)
    exact = fold_in.fold_in_users(model, some, features=given)
    retrained = fold_in.sgd_retrain(KEY, model, some, features=given, epochs=1000, learning_rate=0.002)
    to_zero = fold_in.fold_in_users(model.replace(links=None, implicit=(False, False)), some)
    rows = [flat(one.params.user)[:6] for one in (retrained, exact, to_zero)]
    np.testing.assert_allclose(rows[0], rows[1], atol=0.03)
    assert np.abs(rows[1] - rows[2]).max() > 0.1
    if side == "item":
        with pytest.raises(ValueError, match="trained with 2 features of a row and the fold-in is given 0"):
            fold_in.sgd_retrain(KEY, model, some)


@pytest.mark.parametrize("update", [fold_in.fold_in_users, lambda *a: fold_in.sgd_retrain(KEY, *a)])
def test_bad_ratings_are_refused(update, model, ratings):
    with pytest.raises(ValueError, match=r"rating 6.0 is outside the kernel's scale"):
        update(model, new_ratings([0], [0], [6.0], 1, ratings.n_items))
    with pytest.raises(ValueError, match="item row 41 is not among the table's 40 rows: fold the item in first"):
        update(model, new_ratings([0], [41], [3.0], 1, 42))


def test_a_linear_model_takes_any_rating(ratings):
    model = als.fit(KEY, ratings, kernel=Linear(), rank=2, epochs=2).model
    folded = fold_in.fold_in_users(model, new_ratings([0], [0], [60.0], 30, 40))
    assert np.isfinite(flat(folded.params.user)).all()


def test_one_user_s_bad_ratings_are_refused(model):
    with pytest.raises(ValueError, match="outside the kernel's scale"):
        fold_in.fold_in_user(model, np.array([1]), np.array([6.0]))
    with pytest.raises(ValueError, match="item row -1 is not among"):
        fold_in.fold_in_user(model, np.array([3, -1]), np.array([4.0, 4.0]))
    with pytest.raises(ValueError, match="item row 40 is not among"):
        fold_in.fold_in_user(model, np.array([3, 40]), np.array([4.0, 4.0]))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"rating {bad}: every rating must be a finite number"):
            fold_in.fold_in_user(model.replace(kernel=Linear()), np.array([3]), np.array([bad]))
