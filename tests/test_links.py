"""Features as prior means, and the link that ALS and SGD find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmf import als, features, fold_in, links, metrics, sgd, splits
from jaxmf.data.features import Features, Sides
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Kernel, Linear, Logistic
from jaxmf.model.priors import Prior, Priors
from jaxmf.model.tables import Table
from jaxmf.training.loop import Watch

KEY = jax.random.key(0)
PRIORS = Priors(Prior(2.0, 0.5, 0.5, 4.0), Prior(3.0, 0.7, 0.0, 2.0))


@pytest.fixture(scope="module")
def taste() -> tuple[Ratings, np.ndarray]:
    """Ratings of 300 items whose factors are their genre's: a cold item is known by its genre alone."""
    rng = np.random.default_rng(0)
    genre = rng.integers(0, 3, 300)
    liking = rng.normal(size=(80, 3))
    user, item = np.repeat(np.arange(80), 60), np.concatenate([rng.choice(300, 60, replace=False) for _ in range(80)])
    rating = np.clip(3 + liking[user, genre[item]] + 0.3 * rng.normal(size=len(user)), 0.5, 5)
    ones = np.ones(len(user), np.float32)
    return Ratings(user.astype(np.int32), item.astype(np.int32), rating.astype(np.float32), ones, 80, 300), genre


def one_hot(genre: np.ndarray) -> Features:
    return features.dense(np.eye(3, dtype=np.float32)[genre])


def test_most_probable_link_is_ridge_regression():
    rng = np.random.default_rng(1)
    table, n, prior = rng.normal(size=(50, 7)) * (rng.random((50, 7)) < 0.5), rng.integers(1, 9, 50), PRIORS.user
    rows = rng.normal(size=(50, 4)).astype(np.float32)
    start = links.init(Sides(user=features.dense(table)), 3).user
    weight = jnp.asarray(n, jnp.float32)
    for _ in range(10):
        start = links.most_probable(features.dense(table), Table.of_matrix(jnp.asarray(rows)), prior, weight, start)
    for column in range(4):
        precision = np.full(50, prior.bias_reg) if column == 0 else prior.factor_reg * n**prior.power
        ridge = prior.link_reg * (prior.bias_reg if column == 0 else prior.factor_reg) * np.eye(7)
        expected = np.linalg.solve(
            table.T @ (precision[:, None] * table) + ridge, table.T @ (precision * rows[:, column])
        )
        np.testing.assert_allclose(start.matrix()[:, column], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel", [Linear(), Logistic(0.5, 5.0)])
def test_no_part_of_a_sweep_with_features_raises_the_objective(ratings: Ratings, kernel: Kernel):
    both = features.implicit_sides(ratings)
    loss = als.fit(KEY, ratings, kernel=kernel, rank=3, prior=PRIORS, features=both, epochs=30).history["loss"]
    assert np.all(np.diff(loss) <= 1e-5 * loss[:-1])


@pytest.mark.optax
@pytest.mark.parametrize("trainer", [als, sgd])
def test_cold_items_are_known_by_their_features(taste: tuple[Ratings, np.ndarray], trainer):
    ratings, genre = taste
    cold = ratings.item % 10 == 0
    known, hidden = ratings.take(~cold), ratings.take(cold)

    def error(sides: Sides) -> float:
        fit = trainer.fit(KEY, known, kernel=Linear(), rank=3, prior=Prior(1.0, 0.5), features=sides, epochs=40)
        return metrics.rmse(fit.model.predict(hidden.user, hidden.item), hidden.rating)

    assert error(Sides(item=one_hot(genre))) < 0.75 * error(Sides())


def test_fold_in_under_a_mean_is_the_half_step_of_training(ratings: Ratings):
    kernel, both = Linear(), features.implicit_sides(ratings)
    model = als.fit(KEY, ratings, kernel=kernel, rank=3, prior=PRIORS, features=both, epochs=3).model
    data, state = als.histories(ratings, both), als.State(model.params, model.links)
    half = als.step(state, data, kernel=model.kernel, prior=PRIORS, cg_steps=30)[0].params.user
    for given in (None, both.user):  # read off the ratings, or given
        folded = fold_in.fold_in_users(model, ratings, features=given).params.user
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), folded, half)


def test_new_user_without_ratings_is_what_features_say(ratings: Ratings):
    both = features.implicit_sides(ratings)
    model = als.fit(KEY, ratings, kernel=Linear(), rank=3, prior=PRIORS, features=both, epochs=3).model
    none = ratings.take(np.zeros(0, int))
    one = np.ones(1, np.float32)
    watched = features.sparse(np.array([0]), np.array([4]), one, ratings.n_users, ratings.n_items)
    folded = fold_in.fold_in_users(model, none, users=np.array([0]), features=watched)
    np.testing.assert_allclose(folded.params.user[0].factors, model.links.user[4].factors, atol=1e-5)


@pytest.mark.optax
def test_early_stopping_returns_the_best_epochs_links(ratings: Ratings):
    split = splits.hold_out(len(ratings), 0.2)
    train, hidden = ratings.take(split.train), ratings.take(split.test)
    both = features.implicit_sides(train)
    settings = {"kernel": Linear(), "rank": 3, "prior": Prior(0.01, 1e-3, 0.0, 0.1), "features": both}
    stopped = als.fit(KEY, train, **settings, epochs=40, watch=Watch(validation=hidden, patience=2))
    best = int(stopped.history["rmse"].argmin()) + 1
    again = als.fit(KEY, train, **settings, epochs=best)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), stopped.model.links, again.model.links)


@pytest.mark.parametrize("trainer", [als, sgd])
def test_features_of_other_rows_are_refused(ratings: Ratings, trainer):
    few = features.dense(np.ones((3, 2)))
    with pytest.raises(ValueError, match="the item features have 3 rows, the ratings 40: give a row each"):
        trainer.fit(KEY, ratings, kernel=Linear(), rank=2, features=Sides(item=few))


@pytest.fixture(scope="module")
def genres(taste: tuple[Ratings, np.ndarray]):
    """A model whose items' features no rating tells."""
    ratings, genre = taste
    return als.fit(KEY, ratings, kernel=Linear(), rank=3, features=Sides(item=one_hot(genre)), epochs=3).model


def test_a_fold_in_never_leaves_features_out(taste: tuple[Ratings, np.ndarray], genres):
    ratings, genre = taste
    mine = ratings.take(ratings.item == 4)
    with pytest.raises(ValueError, match="trained with 3 features of a row and the fold-in is given 0: pass the same"):
        fold_in.fold_in_items(genres, mine)
    with pytest.raises(ValueError, match="trained with 0 features of a row and the fold-in is given 3"):
        fold_in.fold_in_users(genres, ratings, features=one_hot(genre))
    with pytest.raises(ValueError, match="the features have 2 rows, the ratings 300: give a row each"):
        fold_in.fold_in_items(genres, mine, features=one_hot(genre[:2]))
    folded = fold_in.fold_in_items(genres, mine, features=one_hot(genre))
    alone = fold_in.fold_in_user(genres.transpose(), mine.user, mine.rating, features=one_hot(genre[4:5]))
    np.testing.assert_allclose(folded.params.item[4].factors, alone.params.user[0].factors, atol=1e-4)


def test_a_new_users_feedback_is_that_of_items_it_rated(ratings: Ratings):
    """One user alone, the batch, and features given: the same row; new rows' links are 0."""
    both = features.implicit_sides(ratings)
    model = als.fit(KEY, ratings, kernel=Linear(), rank=3, prior=PRIORS, features=both, epochs=3).model
    assert model.implicit == (True, True)
    mine = ratings.take(ratings.user == 4)
    new = mine.replace(user=np.full(len(mine), 31, np.int32), n_users=32)
    batch = fold_in.fold_in_users(model, new)
    alone = fold_in.fold_in_user(model, mine.item, mine.rating)
    np.testing.assert_allclose(batch.params.user[31].factors, alone.params.user[0].factors, atol=1e-4)
    assert (len(batch.links.item), len(alone.links.item)) == (32, 1)
    assert not np.asarray(batch.links.item.factors[30:]).any()
