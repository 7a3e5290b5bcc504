"""Our model in Surprise's own workflows, and Surprise's models as ours."""

import pickle

import jax
import numpy as np
import pandas as pd
import pytest
import surprise
from surprise.model_selection import GridSearchCV, KFold, cross_validate, train_test_split

import jaxmf
from jaxmf.baselines.surprise import KMF, from_surprise
from jaxmf.model.kernels import Linear, Logistic

pytestmark = pytest.mark.optax

READER = surprise.Reader(rating_scale=(0.5, 5))
SETTINGS = {"n_factors": 3, "n_epochs": 5}


@pytest.fixture(scope="module")
def frame(ratings) -> pd.DataFrame:
    items = [f"m{item}" for item in ratings.item]
    return pd.DataFrame({"user": ratings.user + 100, "item": items, "rating": ratings.rating.astype(float)})


@pytest.fixture(scope="module")
def data(frame):
    return surprise.Dataset.load_from_df(frame, READER)


@pytest.fixture(scope="module")
def fitted(data):
    train, test = train_test_split(data, test_size=0.2, random_state=0)
    return KMF(**SETTINGS).fit(train), test


@pytest.mark.parametrize("method", ["als", "sgd"])
def test_cross_validation_has_our_own_rmse(frame, data, method):
    """On the same folds, with the rows of the same ids."""
    ids = jaxmf.ratings.from_frame(frame)
    folds = KFold(2, random_state=0)
    algorithm = KMF(**SETTINGS, method=method)
    algorithm.users, algorithm.items = ids.users, ids.items
    found = cross_validate(algorithm, data, ["rmse"], folds, verbose=False)
    for theirs, (train, test) in zip(found["test_rmse"], folds.split(data), strict=True):
        columns = ["user", "item", "rating"]
        known = {"users": ids.users, "items": ids.items}
        rows = [(train.to_raw_uid(u), train.to_raw_iid(i), r) for u, i, r in train.all_ratings()]
        rows = pd.DataFrame(rows, columns=columns)
        ours = jaxmf.ratings.from_columns(rows, **known).ratings
        held = jaxmf.ratings.from_columns(pd.DataFrame(test, columns=columns), **known).ratings
        fit = {"als": jaxmf.als, "sgd": jaxmf.sgd}[method].fit
        model = fit(jax.random.key(0), ours, kernel=Logistic(0.5, 5.0), rank=3, epochs=5).model
        predicted = model.predict(held.user, held.item)
        assert theirs == pytest.approx(jaxmf.metrics.rmse(predicted, held.rating), abs=1e-4)


def test_grid_search(data):
    priors = [jaxmf.priors.DEFAULT, jaxmf.priors.Prior(8.0, 4.0, 0.0)]
    grid = {"n_factors": [2], "prior": priors, "n_epochs": [3], "kernel": ["linear", "logistic"]}
    search = GridSearchCV(KMF, grid, measures=["rmse"], cv=2)
    search.fit(data)
    assert len(search.cv_results["params"]) == 4
    assert search.best_score["rmse"] == min(search.cv_results["mean_test_rmse"])
    best = search.best_estimator["rmse"].fit(data.build_full_trainset())
    assert isinstance(best, KMF)


def test_a_prediction_alone_is_that_of_a_batch(fitted):
    algorithm, test = fitted
    strange = [("nobody", "m1", 3.0), (100, "nothing", 3.0), ("nobody", "nothing", 3.0)]
    batch = algorithm.test(test[:20] + strange)
    for one, pair in zip(batch, test[:20] + strange, strict=True):
        alone = algorithm.predict(*pair)
        assert one[:3] == alone[:3]
        assert one.est == pytest.approx(alone.est, rel=1e-6)
        assert one.details == alone.details
    assert [one.details["was_impossible"] for one in batch[-3:]] == [False, False, True]
    assert batch[-1].est == algorithm.trainset.global_mean
    assert surprise.accuracy.rmse(algorithm.test(test), verbose=False) < 1.5
    assert algorithm.test([]) == []


def test_numpys_integers_are_inner_ids(fitted):
    algorithm, _ = fitted
    assert algorithm.estimate(np.int64(0), np.int32(1)) == algorithm.estimate(0, 1)


def factors_of(data, random_state) -> np.ndarray:
    fitted = KMF(2, 1, random_state=random_state).fit(data.build_full_trainset())
    return np.asarray(fitted.recommender.model.params.item.factors)


def test_a_random_state_is_what_it_is_for_surprise(data):
    """A number is a seed, a generator goes on from fit to fit, and none is NumPy's global one."""
    generator, again = np.random.RandomState(3), np.random.RandomState(3)
    first, second = factors_of(data, generator), factors_of(data, generator)
    np.testing.assert_array_equal(first, factors_of(data, again))
    assert not np.array_equal(first, second)
    before = np.random.get_state()  # noqa: NPY002 the generator that Surprise falls back to
    try:
        np.random.seed(3)  # noqa: NPY002
        np.testing.assert_array_equal(first, factors_of(data, None))
    finally:
        np.random.set_state(before)  # noqa: NPY002
    np.testing.assert_array_equal(factors_of(data, np.int64(4)), factors_of(data, 4))
    with pytest.raises(ValueError, match="Wrong random state"):
        KMF(random_state="now").fit(data.build_full_trainset())


def test_predictions_are_on_the_scale(data):
    full = data.build_full_trainset()
    estimates = [one.est for one in KMF(**SETTINGS, kernel=Linear()).fit(full).test(full.build_testset())]
    assert 0.5 <= min(estimates) <= max(estimates) <= 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Surprise leaves its files open
def test_dump_and_load(fitted, tmp_path):
    algorithm, test = fitted
    predictions = algorithm.test(test)
    surprise.dump.dump(str(tmp_path / "dump"), predictions, algorithm)
    loaded, again = surprise.dump.load(str(tmp_path / "dump"))
    assert loaded == predictions
    assert again.test(test) == predictions


def test_its_recommender_folds_in(fitted):
    algorithm, _ = fitted
    new = algorithm.recommender.fold_in(pd.DataFrame({"user": [999], "item": ["m1"], "rating": [5.0]}))
    assert len(new.recommend([999], n=3)) == 3


def test_gibbs_and_verbose(data, capsys):
    full = data.build_full_trainset()
    algorithm = KMF(2, 12, method="gibbs", implicit=True).fit(full)
    algorithm.test(full.build_testset()[:1], verbose=True)
    assert "was_impossible" in capsys.readouterr().out


@pytest.mark.parametrize(
    "algorithm",
    [
        surprise.SVD(n_factors=4, n_epochs=3, random_state=0),
        surprise.SVD(n_factors=4, n_epochs=3, biased=False, random_state=0),
        surprise.SVDpp(n_factors=4, n_epochs=2, random_state=0),
        surprise.NMF(n_factors=4, n_epochs=3, random_state=0),
        surprise.NMF(n_factors=4, n_epochs=3, biased=True, random_state=0),
    ],
    ids=["SVD", "unbiased SVD", "SVD++", "NMF", "biased NMF"],
)
def test_a_surprise_model_becomes_ours(data, algorithm):
    train, test = train_test_split(data, test_size=0.2, random_state=0)
    algorithm.fit(train)
    model, users, items = from_surprise(algorithm)
    known = [pair for pair in test if train._raw2inner_id_users.get(pair[0]) is not None]
    known = [pair for pair in known if train._raw2inner_id_items.get(pair[1]) is not None]
    user, item = users.encode([pair[0] for pair in known]), items.encode([pair[1] for pair in known])
    expected = [algorithm.predict(*pair, clip=False).est for pair in known]
    np.testing.assert_allclose(model.predict(user, item), expected, atol=1e-5)
    row = jaxmf.fold_in.fold_in_user(model, [0, 1], [4.0, 3.0]).params.user
    assert np.isfinite(row.factors).all()


def test_what_cannot_be_converted_is_refused(data):
    with pytest.raises(ValueError, match="SVD is not fitted"):
        from_surprise(surprise.SVD())
    with pytest.raises(ValueError, match="NormalPredictor has no factors"):
        from_surprise(surprise.NormalPredictor().fit(data.build_full_trainset()))
    with pytest.raises(AttributeError, match="no attribute 'KNN'"):
        jaxmf.surprise.KNN  # noqa: B018


def test_it_survives_pickle_before_a_fit():
    assert pickle.loads(pickle.dumps(KMF(5))).n_factors == 5
