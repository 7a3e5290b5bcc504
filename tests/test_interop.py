"""Other libraries' arrays, by the formulas that they predict with, and by the libraries where they are installed."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jaxmf.baselines import interop

RNG = np.random.default_rng(0)
USERS, ITEMS = RNG.normal(size=(5, 4)), RNG.normal(size=(7, 4))
USER_BIAS, ITEM_BIAS = RNG.normal(size=5), RNG.normal(size=7)
PLUS = USER_BIAS[:, None] + ITEM_BIAS


def check(model, expected) -> None:
    user, item = np.divmod(np.arange(expected.size), expected.shape[1])
    found = model.predict(user, item)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


def test_implicit():
    check(interop.from_implicit(USERS, ITEMS), USERS @ ITEMS.T)


def test_implicit_with_the_items_bias_last():
    users = np.column_stack([USERS, np.ones(5)])
    model = interop.from_implicit(users, np.column_stack([ITEMS, ITEM_BIAS]), item_bias_last=True)
    check(model, USERS @ ITEMS.T + ITEM_BIAS)
    assert model.params.item.rank == 4
    with pytest.raises(ValueError, match="last column is not 1 throughout"):
        interop.from_implicit(USERS, ITEMS, item_bias_last=True)


def test_lenskit():
    bias = SimpleNamespace(global_bias=3.5, user_biases=USER_BIAS, item_biases=ITEM_BIAS)
    check(interop.from_lenskit(USERS, ITEMS, bias), 3.5 + PLUS + USERS @ ITEMS.T)
    check(interop.from_lenskit(USERS, ITEMS), USERS @ ITEMS.T)


def test_cmfrec():
    biases = {"user_bias": USER_BIAS, "item_bias": ITEM_BIAS}
    check(interop.from_cmfrec(USERS, ITEMS, glob_mean=3.5, **biases), 3.5 + PLUS + USERS @ ITEMS.T)
    a, b = np.column_stack([RNG.normal(size=(5, 2)), USERS]), np.column_stack([RNG.normal(size=(7, 3)), ITEMS])
    check(interop.from_cmfrec(a, b, k_user=2, k_item=3), USERS @ ITEMS.T)


def test_cmfrec_keeps_empty_arrays_where_it_fits_no_biases():
    check(interop.from_cmfrec(USERS, ITEMS, user_bias=np.empty(0), item_bias=np.empty(0)), USERS @ ITEMS.T)


@pytest.mark.parametrize(
    ("arrays", "settings", "words"),
    [
        ((USERS, ITEMS[:, :3]), {}, "users have 4 factors and items 3"),
        ((USERS[0], ITEMS), {}, r"user factors have shape \(4,\)"),
        ((USERS, ITEMS), {"item_bias": USER_BIAS}, r"item biases have shape \(5,\)"),
        ((USERS, ITEMS * np.nan), {}, "an? item's row is not finite"),
        ((USERS, ITEMS), {"offset": np.nan}, "offset must be finite, got nan: give the mean"),
    ],
)
def test_what_is_no_model_is_refused(arrays, settings, words):
    with pytest.raises(ValueError, match=words):
        interop.from_factors(*arrays, **settings)


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ({"k_user": -1}, "k_user must be from 0 to 3, .* got -1: give the k_user that the model was made with"),
        ({"k_item": 4}, "k_item must be from 0 to 3, .* got 4"),
    ],
)
def test_columns_that_cmfrec_does_not_have_are_refused(k, words):
    with pytest.raises(ValueError, match=words):
        interop.from_cmfrec(USERS, ITEMS, **k)


def test_one_row_alone_is_no_table():
    with pytest.raises(ValueError, match=r"user factors have shape \(4,\): give one row a user"):
        interop.from_implicit(USERS[0], ITEMS, item_bias_last=True)
    with pytest.raises(ValueError, match=r"item factors have shape \(4,\)"):
        interop.from_cmfrec(USERS, ITEMS[0])


# The libraries themselves, each in an environment that may have it (requirements-peers.in).

libraries = pytest.mark.filterwarnings("ignore")  # what they say of BLAS and of their own dependencies
FEW = {"k": 4, "niter": 3, "lambda_": 0.1, "nthreads": 1, "verbose": False}


@pytest.fixture
def frame(ratings) -> pd.DataFrame:
    items = ratings.item + 500
    return pd.DataFrame({"user": ratings.user + 100, "item": items, "rating": ratings.rating.astype(float)})


@libraries
@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("als", "AlternatingLeastSquares"),
        ("bpr", "BayesianPersonalizedRanking"),
        ("lmf", "LogisticMatrixFactorization"),
    ],
)
def test_a_fitted_model_of_implicit(ratings, module, kind):
    module = pytest.importorskip(f"implicit.{module}")
    shape = (ratings.n_users, ratings.n_items)
    table = pytest.importorskip("scipy.sparse").csr_matrix((ratings.rating, (ratings.user, ratings.item)), shape)
    model = getattr(module, kind)(factors=4, iterations=3, random_state=0)
    model.fit(table, show_progress=False)
    items, scores = model.recommend(np.arange(shape[0]), table, N=shape[1], filter_already_liked_items=False)
    expected = np.empty(shape)
    np.put_along_axis(expected, items.astype(int), scores, axis=1)
    check(interop.from_implicit(model.user_factors, model.item_factors), expected)
    if kind == "BayesianPersonalizedRanking":
        check(interop.from_implicit(model.user_factors, model.item_factors, item_bias_last=True), expected)


@libraries
@pytest.mark.parametrize("kind", ["BiasedMFScorer", "ImplicitMFScorer"])
def test_a_fitted_model_of_lenskit(frame, kind):
    scorer = getattr(pytest.importorskip("lenskit.als"), kind)(features=4, epochs=3)
    data = pytest.importorskip("lenskit.data")
    ratings = data.from_interactions_df(frame.rename(columns={"user": "user_id", "item": "item_id"}))
    scorer.train(ratings, pytest.importorskip("lenskit.training").TrainingOptions(rng=1))
    items = data.ItemList(item_ids=ratings.items.ids())
    model = interop.from_lenskit(scorer.user_embeddings, scorer.item_embeddings, getattr(scorer, "bias", None))
    check(model, np.stack([scorer(user, items).scores() for user in ratings.users.ids()]))


@libraries
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("CMF", {}),
        ("CMF", {"item_bias": False, "center": False}),
        ("CMF", {"user_bias": False, "item_bias": False, "add_implicit_features": True}),
        ("CMF", {"k_user": 2, "k_item": 1, "k_main": 1}),
        ("CMF_implicit", {}),
    ],
)
def test_a_fitted_model_of_cmfrec(frame, kind, settings):
    model = getattr(pytest.importorskip("cmfrec"), kind)(**FEW, **settings)
    columns = {"user": "UserId", "item": "ItemId"}
    sides = {}
    if "k_user" in settings:
        rng = np.random.default_rng(1)
        for name, side in (("U", "user"), ("I", "item")):
            ids = np.unique(frame[side])
            sides[name] = pd.DataFrame(rng.normal(size=(len(ids), 3)), columns=list("abc")).assign(
                **{columns[side]: ids}
            )
    model.fit(frame.rename(columns={**columns, "rating": "Rating"}), **sides)
    users, items = model.user_mapping_, model.item_mapping_
    rankings = [model.topN(user, n=len(items), output_score=True) for user in users]  # `predict` leaves k_main out
    expected = np.stack([pd.Series(scores, ids)[items] for ids, scores in rankings])
    biases = {"glob_mean": model.glob_mean_, "user_bias": model.user_bias_, "item_bias": model.item_bias_}
    skipped = {name: settings.get(name, 0) for name in ("k_user", "k_item")}
    assert np.abs(model.A_).mean() > 0.1
    check(interop.from_cmfrec(model.A_, model.B_, **biases, **skipped), expected)
