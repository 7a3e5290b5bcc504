"""The recommender: frames in and out, for every method and kernel, and nothing that changes under one's hands."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from reference import KERNELS

import jaxmf
from jaxmf import Recommender
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.serving.frames import of_users

pytestmark = pytest.mark.optax

METHODS = {
    "als": {},
    "sgd": {"epochs": 30},
    "gibbs": {"epochs": 24},
    "implicit": {"method": "gibbs", "epochs": 24, "implicit": True},
    "implicit als": {"method": "als", "implicit": True},
    "implicit sgd": {"method": "sgd", "epochs": 30, "implicit": True},
}
NEW = pd.DataFrame(
    {"userId": [900, 900, 901, 3], "movieId": ["m1", "new", "new", "new"], "rating": [5.0, 1.0, 4.5, 2.0]}
)
KEY = jax.random.key(5)
NAMES = {"user": "userId", "item": "movieId"}


@pytest.fixture(scope="module")
def frame(ratings) -> pd.DataFrame:
    """The ratings with ids: numbers for users, strings for films."""
    return pd.DataFrame(
        {"userId": ratings.user, "movieId": [f"m{item}" for item in ratings.item], "rating": ratings.rating}
    )


def fit(frame, method="als", **settings) -> Recommender:
    return Recommender.fit(frame, **NAMES, rank=3, **{"method": method, **METHODS[method], **settings})


@pytest.fixture(scope="module", params=METHODS)
def rec(request, frame):
    """A recommender by each method."""
    return fit(frame, request.param)


@pytest.fixture(scope="module")
def als(frame):
    return fit(frame)


def flat(rec: Recommender) -> list[np.ndarray]:
    """Copies of all of its arrays."""
    return [np.array(leaf) for leaf in jax.tree.leaves((rec.model.params, rec.ratings))]


def rmse(rec: Recommender, frame: pd.DataFrame) -> float:
    return jaxmf.metrics.rmse(rec.predict(frame), frame["rating"])


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("method", ["als", "sgd", "gibbs"])
def test_every_method_and_kernel(frame, method, kernel):
    rec = fit(frame, method, kernel=kernel, epochs=12)
    assert rmse(rec, frame) < frame["rating"].std()
    new = rec.fold_in(NEW[:1] if method == "gibbs" else NEW)  # gibbs: both sides at once are below
    assert np.isfinite(new.predict(NEW)).all()
    assert (new.predict_std(NEW) > 0).all()
    assert len(new.recommend([900, 3], n=4)) == 8


def test_predictions_are_the_models_clipped(als, ratings, frame):
    kernel = als.model.kernel
    expected = jaxmf.params.predict(als.model.params, kernel, ratings.user, als.items.encode(frame["movieId"]))
    np.testing.assert_allclose(als.predict(frame), np.clip(expected, 0.5, 5.0), rtol=1e-6)


def test_the_default_kernel_and_fit_are_the_trainers(als, frame):
    data = jaxmf.ratings.from_frame(frame, **NAMES)
    fitted = jaxmf.als.fit(jax.random.key(0), data.ratings, kernel=Logistic(0.5, 5.0), rank=3)
    np.testing.assert_array_equal(als.model.params.user.factors, fitted.params.user.factors)


def test_unknown_ids_fall_back_are_nan_or_an_error(rec, frame):
    pairs = pd.DataFrame({"userId": [0, -5, -5], "movieId": ["?", "m1", "?"]})
    params, kernel = rec.model.params, rec.model.kernel
    if isinstance(rec.model, jaxmf.serving.models.Point):
        logits = [params.user.bias[0], params.item.bias[rec.items.encode(["m1"])[0]], 0.0]
        zero = jaxmf.tables.Table(np.float32(0), np.zeros(3, np.float32))
        expected = [kernel(zero.replace(bias=np.float32(logit)), zero, params.offset) for logit in logits]
        np.testing.assert_allclose(rec.predict(pairs), expected, rtol=1e-5)
    assert np.isfinite(rec.predict(pairs)).all()
    assert (rec.predict_std(pairs) > rec.predict_std(frame).min()).all()
    assert np.isnan(rec.predict(pairs, unknown="nan")).all()
    assert np.isnan(rec.predict_std(pairs, unknown="nan")).all()
    with pytest.raises(ValueError, match="-5 is not among the 30 known ids"):
        rec.predict(pairs, unknown="error")


def test_fold_in_leaves_the_old_one_as_it_was(rec):
    before = flat(rec)
    new = rec.fold_in(NEW, items="touched")
    for one, other in zip(flat(rec), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (len(new.users), len(new.items), len(new.ratings)) == (32, 41, 504)
    assert (len(rec.users), len(rec.items)) == (30, 40)
    assert (new.predict(NEW) - NEW["rating"]).abs().mean() < (rec.predict(NEW) - NEW["rating"]).abs().mean()


def test_fold_in_of_new_users_is_the_pure_functions(als):
    some = NEW[:1]
    new = als.fold_in(some)
    item = als.items.encode(some["movieId"])
    row = jaxmf.fold_in.fold_in_user(als.model.params, als.model.kernel, item, some["rating"].to_numpy())
    np.testing.assert_allclose(new.model.params.user.factors[-1], row.factors[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(new.model.params.item.factors, als.model.params.item.factors)


def test_the_last_rating_of_a_pair_wins(als, frame):
    first = frame.iloc[[0]].assign(rating=0.5)
    again = als.fold_in(pd.concat([first.assign(rating=5.0), first]))
    assert len(again.ratings) == len(als.ratings)
    data = jaxmf.ratings.from_frame(pd.concat([frame.iloc[1:], first]), **NAMES, users=als.users, items=als.items)
    user = als.users.encode(first["userId"])
    solved = jaxmf.fold_in.fold_in_users(als.model.params, als.model.kernel, data.ratings, users=user)
    np.testing.assert_allclose(again.model.params.user.bias[user], solved.user.bias[user], atol=1e-5)


def test_a_time_decides_which_is_the_last(frame):
    rec = fit(frame.assign(at=np.arange(len(frame))), timestamp="at")
    twice = pd.DataFrame({"userId": [900, 900], "movieId": ["m1", "m1"], "rating": [5.0, 1.0], "at": [9, 3]})
    assert rec.fold_in(twice).ratings.rating[-1] == 5


def test_a_weight_counts(frame):
    rec = fit(frame.assign(w=2.0), weight="w")
    assert rec.fold_in(NEW.assign(w=[1.0, 2.0, 3.0, 0.5])).ratings.weight[-4:].tolist() == [1.0, 2.0, 3.0, 0.5]


@pytest.mark.parametrize("rec", ["gibbs", "implicit"], indirect=True)
def test_a_posteriors_rows_are_those_of_the_pure_functions(rec, frame):
    """A stranger with a known user's ratings is drawn from the same distribution, with features and without."""
    known = frame[frame["userId"] == 7]
    every = pd.DataFrame({"userId": 900, "movieId": rec.items.index})
    found = rec.fold_in(known.assign(userId=900)).predict(every)
    ratings = rec.ratings.take(rec.ratings.user == 7)
    features = jaxmf.features.implicit(ratings) if len(rec.model.draws.user.link.bias[0]) else None
    pure = jaxmf.posterior.fold_in_users(KEY, rec.model.draws, rec.model.kernel, ratings, features=features)
    expected = jaxmf.posterior.predictive(pure, rec.model.kernel, np.full(40, 7), np.arange(40)).mean
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    np.testing.assert_allclose(found, expected, atol=0.6)


@pytest.mark.parametrize("rec", ["implicit als", "implicit sgd"], indirect=True)
def test_feedback_is_a_point_estimates_prior_mean(rec):
    """Touched rows of either side are solved about what their ratings, old and new, say; links of new rows are 0."""
    new = rec.fold_in(NEW, items="touched")
    model, both = new.model, jaxmf.features.implicit_sides(new.ratings)
    kernel, prior = model.kernel, model.prior
    assert [len(link) for link in model.links] == [41, 32]
    for link, old in zip(model.links, rec.model.links, strict=True):
        np.testing.assert_array_equal(link.factors[: len(old)], old.factors)
        assert not link.factors[len(old) :].any()
        assert np.abs(old.factors).max() > 0
    mean = [jaxmf.links.row_means(one, link) for one, link in zip(both, model.links, strict=True)]
    users, items = new.users.encode([900, 901, 3]), new.items.encode(["m1", "new"])
    settings = {"prior": prior, "means": mean[0]}
    solved = jaxmf.fold_in.fold_in_users(model.params, kernel, new.ratings, users=users, **settings)
    np.testing.assert_allclose(model.params.user.factors[users], solved.user.factors[users], atol=2e-3)
    settings = {"prior": prior, "means": mean[1]}
    solved = jaxmf.fold_in.fold_in_items(model.params, kernel, new.ratings, items=items, **settings)
    np.testing.assert_allclose(model.params.item.factors[items], solved.item.factors[items], atol=2e-3)


def test_a_forgotten_user_is_a_stranger_and_others_are_not(rec, frame):
    known = frame[frame["userId"] == 7]
    left = rec.forget([7])
    assert (len(left.users), len(left.ratings)) == (29, 500 - len(known))
    stranger = known.assign(userId=-1)
    np.testing.assert_allclose(left.predict(known), left.predict(stranger))
    untouched = rec.model.take_users(np.array([0, 1])).params.user.factors
    np.testing.assert_array_equal(left.model.take_users(np.array([0, 1])).params.user.factors, untouched)
    others = frame[frame["userId"] != 7]
    np.testing.assert_array_equal(left.users.decode(left.ratings.user), others["userId"])
    assert rmse(left, others) == pytest.approx(rmse(rec, others), rel=0.1)
    with pytest.raises(ValueError, match="leaves nobody"):
        rec.forget(range(30))
    with pytest.raises(ValueError, match="7 is not among"):
        left.forget([7])


def test_a_serving_form_folds_users_in_at_request_time(rec, frame):
    serving = rec.without_users()
    assert (len(serving.users), len(serving.ratings)) == (0, 0)
    known = frame[frame["userId"] == 7]
    request = serving.fold_in(known)
    assert len(request.users) == 1
    assert rmse(request, known) < rmse(serving, known)
    assert not set(request.recommend([7], n=40)["movieId"]) & set(known["movieId"])
    with pytest.raises(ValueError, match=r"the ratings of item 'm.*' were dropped"):
        serving.fold_in(known, items="touched")


def test_without_history_it_answers_and_folds_strangers_in(frame):
    rec, full = fit(frame, keep_history=False), fit(frame)
    assert len(rec.ratings) == 0
    np.testing.assert_array_equal(rec.predict(frame), full.predict(frame))
    new = rec.fold_in(NEW[:3])
    np.testing.assert_allclose(new.predict(NEW[:1]), full.fold_in(NEW[:3]).predict(NEW[:1]), rtol=1e-4)
    assert len(new.recommend([900])) == 10
    for call, words in [
        (lambda: new.recommend([3]), "the ratings of user 3 were dropped.*pass exclude_seen=False"),
        (lambda: rec.fold_in(NEW), "the ratings of user 3 were dropped.*keep_history=True"),
        (lambda: new.predict_std(NEW), "spread of a point estimate"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    assert len(new.recommend([3], exclude_seen=False)) == 10


def test_recommendations_are_the_best_unseen(rec, frame):
    found = rec.recommend([7, 3, 7], n=5)
    assert found.columns.tolist() == ["userId", "movieId", "rank", "score"]
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    assert found["userId"].tolist() == [7] * 5 + [3] * 5 + [7] * 5
    every = pd.DataFrame({"userId": 7, "movieId": rec.items.index})
    every["score"] = rec.model.predict(rec.users.encode(every["userId"]), np.arange(len(rec.items)))
    unseen = every[~every["movieId"].isin(frame[frame["userId"] == 7]["movieId"])]
    best = unseen.nlargest(5, "score")
    assert found["movieId"][:5].tolist() == best["movieId"].tolist()
    np.testing.assert_allclose(found["score"][:5], best["score"], rtol=1e-5)
    seen = rec.recommend([7], n=5, exclude_seen=False)
    assert seen["movieId"].tolist() == every.nlargest(5, "score")["movieId"].tolist()
    few = rec.recommend([7], n=5, candidates=["m1", "m2", "m3"], exclude=["m2"], exclude_seen=False)
    assert set(few["movieId"]) == {"m1", "m3"}
    with pytest.raises(ValueError, match="'nope' is not among"):
        rec.recommend([7], candidates=["nope"])


def test_the_answer_comes_in_the_frames_library(als, frame):
    polars = Recommender.fit(pl.from_pandas(frame), **NAMES, rank=3)
    np.testing.assert_array_equal(polars.predict(pl.from_pandas(frame)), als.predict(frame))
    assert isinstance(polars.recommend([3]), pl.DataFrame)
    assert isinstance(als.recommend([3]), pd.DataFrame)
    assert isinstance(als.recommend(pl.Series([3])), pl.DataFrame)
    assert isinstance(polars.recommend(pd.Series([3])), pd.DataFrame)
    asked = als.recommend(pl.from_pandas(frame[:50]), n=1)
    assert asked["userId"].to_list() == frame["userId"][:50].unique().tolist()
    new = polars.fold_in(pl.from_pandas(NEW))
    np.testing.assert_allclose(new.predict(NEW), als.fold_in(NEW).predict(NEW), rtol=1e-5)


def test_a_scale_grows_with_what_is_seen(frame):
    rec = fit(frame, kernel=Linear())
    assert rec.scale == (0.5, 5.0)
    assert rec.fold_in(NEW.assign(rating=9.0)).scale == (0.5, 9.0)
    assert rec.fold_in(NEW.assign(rating=9.0)).predict(frame).max() <= 9


def test_it_costs_its_arrays(als, ratings):
    """Nothing is held besides the tables, the history and the ids."""
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((als.model.params, als.ratings)))
    assert held == 4 * (70 * 4 + 1) + 4 * 4 * len(ratings)
    assert {type(value).__name__ for value in vars(als).values()} == {
        "Point", "Vocabulary", "Ratings", "Columns", "tuple", "str"
    }  # fmt: skip


def test_a_users_ratings_by_their_place(ratings):
    seen = of_users(ratings, np.array([4, -1, 2, 4]))
    for place, user in ((0, 4), (2, 2), (3, 4)):
        assert sorted(seen.item[seen.user == place]) == sorted(ratings.item[ratings.user == user])
    assert set(seen.user) == {0, 2, 3}


def test_edges(frame):
    one = Recommender.fit(frame[:1], **NAMES, kernel=Linear(), rank=1)
    assert one.predict(frame[:1]).shape == (1,)
    assert len(one.recommend(frame["userId"][:1])) == 0
    assert one.predict(frame[:0]).shape == (0,)
    assert one.predict_std(frame[:0]).shape == (0,)
    assert len(one.recommend([])) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rec, _: rec.predict(pd.DataFrame({"userId": [1]})), "no column 'movieId'"),
        (lambda rec, f: rec.predict(f.assign(userId=f["userId"].astype(str))), "id '.*' is of kind string"),
        (lambda rec, _: rec.recommend(["7"]), "id '7' is of kind string"),
        (lambda rec, _: rec.recommend("7"), "users must be several ids"),
        (lambda rec, _: rec.recommend([7], n=0), "n must be 1 or more"),
        (lambda rec, _: rec.recommend(pd.DataFrame({"u": [1]})), "no column 'userId'"),
        (lambda rec, _: rec.fold_in(NEW.assign(rating=7.0)), "rating 7.0 is outside the kernel's scale"),
        (lambda rec, _: rec.fold_in(NEW[:0]), "the frame is empty"),
        (lambda _, f: fit(f, "gibbs", prior=jaxmf.priors.DEFAULT), "prior is given"),
    ],
)
def test_bad_input_is_refused(als, frame, call, words):
    with pytest.raises(ValueError, match=words):
        call(als, frame)
