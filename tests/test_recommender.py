"""The recommender: frames in and out, for every method and kernel, and nothing that changes under one's hands."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from reference import KERNELS, random_ratings

import jaxmf
from jaxmf import Recommender, Watch
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.serving.frames import of_users
from jaxmf.serving.layered import ROOM

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
ROWS = random_ratings(np.random.default_rng(0), n_users=30, n_items=40, n=9)
NAMES = {"user": "userId", "item": "movieId"}
COLUMNS = jaxmf.ratings.Columns(**NAMES)


@pytest.fixture(scope="module")
def frame(ratings) -> pd.DataFrame:
    """The ratings with ids: numbers for users, strings for films."""
    return pd.DataFrame(
        {"userId": ratings.user, "movieId": [f"m{item}" for item in ratings.item], "rating": ratings.rating}
    )


def pairs(users, items) -> pd.DataFrame:
    return pd.DataFrame({"userId": users, "movieId": items})


def fit(frame, method="als", **settings) -> Recommender:
    return Recommender.fit(frame, **NAMES, **{"rank": 3, "method": method, **METHODS.get(method, {}), **settings})


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
    expected = als.model.predict(ratings.user, als.items.encode(frame["movieId"]))
    np.testing.assert_allclose(als.predict(frame), np.clip(expected, 0.5, 5.0), rtol=1e-6)


def test_the_default_kernel_and_fit_are_the_trainers(als, frame):
    data = jaxmf.ratings.from_frame(frame, **NAMES)
    fitted = jaxmf.als.fit(jax.random.key(0), data.ratings, kernel=Logistic(0.5, 5.0), rank=3)
    np.testing.assert_array_equal(als.model.params.user.factors, fitted.model.params.user.factors)


def test_unknown_ids_fall_back_are_nan_or_an_error(rec, frame):
    pairs = pd.DataFrame({"userId": [0, -5, -5], "movieId": ["?", "m1", "?"]})
    params, kernel = rec.model.params, rec.model.kernel
    if isinstance(rec.model, jaxmf.Model):
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
    row = jaxmf.fold_in.fold_in_user(als.model, item, some["rating"].to_numpy()).params.user
    np.testing.assert_allclose(new.model.params.user.factors[-1], row.factors[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(new.model.params.item.factors, als.model.params.item.factors)


def test_the_last_rating_of_a_pair_wins(als, frame):
    first = frame.iloc[[0]].assign(rating=0.5)
    again = als.fold_in(pd.concat([first.assign(rating=5.0), first]))
    assert len(again.ratings) == len(als.ratings)
    data = jaxmf.ratings.from_columns(pd.concat([frame.iloc[1:], first]), COLUMNS, users=als.users, items=als.items)
    user = als.users.encode(first["userId"])
    solved = jaxmf.fold_in.fold_in_users(als.model, data.ratings, users=user).params
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
    pure = jaxmf.fold_in.fold_in_users(rec.model.replace(key=KEY), ratings)
    expected = pure.predict(np.full(40, 7), np.arange(40))
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    np.testing.assert_allclose(found, expected, atol=0.6)


@pytest.mark.parametrize("rec", ["implicit als", "implicit sgd"], indirect=True)
def test_feedback_is_a_point_estimates_prior_mean(rec):
    """Touched rows of either side are solved about what their ratings, old and new, say; links of new rows are 0."""
    new = rec.fold_in(NEW, items="touched")
    model, both = new.model, jaxmf.features.implicit_sides(new.ratings)
    assert [len(link) for link in model.links] == [41, 32]
    for link, old in zip(model.links, rec.model.links, strict=True):
        np.testing.assert_array_equal(link.factors[: len(old)], old.factors)
        assert not link.factors[len(old) :].any()
        assert np.abs(old.factors).max() > 0
    users, items = new.users.encode([900, 901, 3]), new.items.encode(["m1", "new"])
    solved = jaxmf.fold_in.fold_in_users(model, new.ratings, users=users, features=both.user).params
    np.testing.assert_allclose(model.params.user.factors[users], solved.user.factors[users], atol=2e-3)
    solved = jaxmf.fold_in.fold_in_items(model, new.ratings, items=items, features=both.item).params
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


@pytest.mark.parametrize("name", ["rank", "score", "neighbour"])
def test_an_answers_own_columns_are_no_names_of_ids(frame, name):
    for side in ("user", "item"):
        names = {**NAMES, side: name}
        renamed = frame.rename(columns={NAMES[side]: name})
        with pytest.raises(ValueError, match=f"{side}='{name}'.*rename the frame's, such as to '{side}_{name}'"):
            Recommender.fit(renamed, **names)
    with pytest.raises(ValueError, match="user and item are both 'userId'"):
        Recommender.fit(frame, user="userId", item="userId")


def test_nothing_writes_to_the_history(als):
    made = [als, als.fold_in(NEW), als.forget([7]), als.without_history(), als.without_users()]
    for rec in made:
        for name in ("user", "item", "rating", "weight"):
            assert not getattr(rec.ratings, name).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        als.ratings.rating[0] = 99


def test_ids_come_as_lists_columns_and_frames_everywhere(als, frame):
    expected = als.recommend([7], candidates=["m1", "m2"], exclude_seen=False)
    for some in (np.array(["m1", "m2"]), pl.Series(["m1", "m2"]), pd.DataFrame({"movieId": ["m1", "m2", "m1"]})):
        pd.testing.assert_frame_equal(als.recommend([7], candidates=some, exclude_seen=False), expected)
    assert len(als.forget(frame[frame["userId"] < 3]).users) == 27
    assert len(als.forget(np.array([1, 1])).users) == 29


def test_a_kernel_by_its_name(frame):
    assert repr(fit(frame, kernel="linear", epochs=1).model.kernel) == "Linear()"
    assert repr(fit(frame, kernel="rbf", epochs=1).model.kernel) == "RBF(low=0.5, high=5.0, gamma=0.5)"
    assert fit(frame[:1], kernel="linear", epochs=1).scale == (frame["rating"][0],) * 2


@pytest.mark.parametrize("method", ["als", "sgd", "gibbs"])
def test_a_fit_is_watched(frame, ratings, method):
    seen, data = [], jaxmf.ratings.from_frame(frame, **NAMES)
    watch = Watch(data.ratings, callback=lambda epoch, numbers, _: seen.append((epoch, numbers["rmse"])))
    rec = fit(frame, method, epochs=8, watch=watch)
    assert [epoch for epoch, _ in seen] == list(range(1, 9))
    np.testing.assert_allclose(rec.predict(frame), fit(frame, method, epochs=8).predict(frame), rtol=1e-4)
    strangers = ratings.replace(user=ratings.user + 1, n_users=31)
    with pytest.raises(ValueError, match="user row 30 is outside the table of 30 rows"):
        fit(frame, method, watch=Watch(strangers))


def test_a_fit_stops_early(frame):
    part = jaxmf.splits.hold_out(len(frame), 0.5)
    data = jaxmf.ratings.from_frame(frame, **NAMES)
    held = jaxmf.ratings.from_columns(frame.iloc[part.test], COLUMNS, users=data.users, items=data.items).ratings
    train = pd.concat([frame.iloc[part.train], frame.drop_duplicates("userId"), frame.drop_duplicates("movieId")])
    seen, weak = [], jaxmf.priors.Prior(0.01, 0.01)
    watch = Watch(held, patience=2, callback=lambda epoch, *_: seen.append(epoch))
    fit(train.drop_duplicates(["userId", "movieId"]), prior=weak, epochs=200, watch=watch)
    assert seen[-1] < 200


def test_a_fit_goes_on_where_it_ended(frame, tmp_path):
    pytest.importorskip("orbax.checkpoint")

    class EndedError(Exception):
        pass

    def end(epoch, *_):
        if epoch == 5:
            raise EndedError

    keeper = jaxmf.checkpoint.Keeper(tmp_path / "run", every=2)
    with pytest.raises(EndedError):
        fit(frame, epochs=6, watch=Watch(keeper=keeper, callback=end))
    seen = []
    again = fit(frame, epochs=6, watch=Watch(keeper=keeper, callback=lambda epoch, *_: seen.append(epoch)))
    assert seen == [5, 6]
    watched = fit(frame, epochs=6, watch=Watch(callback=lambda *_: None))
    np.testing.assert_array_equal(again.predict(frame), watched.predict(frame))
    np.testing.assert_allclose(again.predict(frame), fit(frame, epochs=6).predict(frame), rtol=1e-6)


def test_neighbours_by_ids(als):
    found = als.similar_items(["m3", "m9"], n=4, exclude=["m5"])
    assert found.columns.tolist() == ["movieId", "neighbour", "rank", "score"]
    assert found["movieId"].tolist() == ["m3"] * 4 + ["m9"] * 4
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2
    rows = als.items.encode(["m3", "m9"])
    near = jaxmf.neighbours.similar_items(als.model, rows, n=4, exclude=als.items.encode(["m5"]))
    assert found["neighbour"].tolist() == als.items.decode(near.item.ravel()).tolist()
    np.testing.assert_array_equal(found["score"], near.score.ravel())
    users = als.similar_users(pl.Series([4]), n=40, candidates=[4, 5, 6])
    assert isinstance(users, pl.DataFrame)
    assert users.columns == ["userId", "neighbour", "rank", "score"]
    assert set(users["neighbour"]) == {5, 6}


def test_an_explanation_by_ids(als, frame):
    found = als.explain(7, "m1")
    assert found.columns.tolist() == ["movieId", "rating", "contribution"]
    assert found["contribution"].is_monotonic_decreasing
    known = frame[frame["userId"] == 7].set_index("movieId")["rating"]
    assert found.set_index("movieId")["rating"].to_dict() == known.to_dict()
    stranger, score = als.predict(pairs([-5, 7], ["m1", "m1"]))
    assert found["contribution"].sum() == pytest.approx(score - stranger, abs=0.02)


def test_an_explanation_knows_implicit_feedback(frame):
    """To the score of a user who was folded in, from that of a stranger."""
    mine = frame[frame["userId"] == 7].assign(userId=-1)
    new = fit(frame, "implicit als", epochs=3).fold_in(mine)
    found = new.explain(-1, "m1")
    stranger, score = new.predict(pairs([-5, -1], ["m1", "m1"]))
    assert found["contribution"].sum() == pytest.approx(score - stranger, abs=2e-3)
    assert len(new.similar_items(["m1"])) == 10


def test_what_has_no_neighbours_or_explanations(frame):
    gibbs = fit(frame, "gibbs", epochs=4)
    for call, words in [
        (lambda: gibbs.similar_items(["m1"]), 'draws of.*not one table.*fit with method="als"'),
        (lambda: gibbs.similar_users([7]), 'draws of.*not one table.*fit with method="als"'),
        (lambda: gibbs.explain(7, "m1"), 'fit with method="als" or "sgd"'),
        (lambda: fit(frame, epochs=1, keep_history=False).explain(7, "m1"), "the ratings of user 7 were dropped"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_it_costs_its_arrays(als, ratings):
    """Nothing is held besides the tables, the history and the ids, but for room for a few rows."""
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((als.model.params, als.ratings)))
    assert held == 4 * (70 * 4 + 1) + 4 * 4 * len(ratings)
    assert {type(value).__name__ for value in vars(als).values()} == {
        "Layered", "Model", "Vocabulary", "History", "Columns", "tuple", "str", "NoneType"
    }  # fmt: skip
    assert als.layered.model is als.model
    assert len(als.layered.beside) == ROOM


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
        (lambda rec, f: rec.predict(f.assign(userId=f["userId"].astype(str))), "id '.*' is of kind str, others are of"),
        (lambda rec, _: rec.predict(pairs([1, 1], ["m1", 3])), "item id 3 is of kind int, others are of str"),
        (lambda rec, _: rec.predict(pairs([1, 1], ["m1", None])), "no item id at position 1: leave it out"),
        (lambda rec, _: rec.predict(pairs([1, np.nan], ["m1", "m2"])), "no user id at position 1"),
        (lambda rec, _: rec.predict(pairs([-5], ["m1"]), unknown="error"), '-5 is not.*pass unknown="bias"'),
        (lambda rec, _: rec.recommend(["7"]), "id '7' is of kind str"),
        (lambda rec, _: rec.recommend([0, "0"]), "user id '0' is of kind str, others are of int"),
        (lambda rec, _: rec.recommend([0, float("nan")]), "no user id at position 1"),
        (lambda rec, _: rec.recommend("7"), r"users must be several ids, got '7': pass \['7'\]"),
        (lambda rec, _: rec.recommend(5), r"users must be several ids, got 5: pass \[5\]"),
        (lambda rec, _: rec.forget("01"), r"users must be several ids, got '01': pass \['01'\]"),
        (lambda rec, _: rec.forget(None), "users must be several ids, got None"),
        (lambda rec, _: rec.forget([99]), "user id 99 is not among the 30 known ids: leave it out"),
        (lambda rec, _: rec.recommend([7], candidates="nope"), "candidates must be several ids"),
        (lambda rec, _: rec.recommend([7], exclude="nope"), "exclude must be several ids"),
        (lambda rec, _: rec.recommend([7], exclude=["nope"]), "item id 'nope' is not among.*: leave it out"),
        (lambda rec, _: rec.recommend([7], n=0), "n must be a whole number of 1 or more, got 0"),
        (lambda rec, _: rec.recommend([7], n=2.5), "n must be a whole number of 1 or more, got 2.5"),
        (lambda rec, _: rec.fold_in(NEW, items="all"), r"items must be one of \('new', 'touched'\), got 'all'"),
        (lambda rec, _: rec.similar_items(["nope"]), "item id 'nope' is not among.*: fold it in first"),
        (lambda rec, _: rec.similar_users("m1"), "users must be several ids"),
        (lambda rec, _: rec.explain(-5, "m1"), "user id -5 is not among"),
        (lambda rec, _: rec.explain(7, None), "no item id"),
        (lambda rec, _: rec.recommend(pd.DataFrame({"u": [1]})), "no column 'userId'"),
        (lambda rec, _: rec.fold_in(NEW.assign(rating=7.0)), "rating 7.0 is outside the kernel's scale"),
        (lambda rec, _: rec.fold_in(NEW, unknown_items="add"), "unknown_items must be one of"),
        (lambda _, f: fit(f, "gibbs", prior=jaxmf.priors.DEFAULT), "prior is given"),
        (lambda _, f: fit(f, "gibbs", watch=Watch(ROWS, patience=2)), "a chain has no best sweep"),
        (lambda _, f: fit(f, prior=3.0), "prior must be a Prior or Priors of jaxmf.priors, got 3.0"),
        (lambda _, f: fit(f, rank=2.5), "rank must be a whole number of 1 or more, got 2.5"),
        (lambda _, f: fit(f, rank="8"), "rank must be a whole number of 1 or more, got '8'"),
        (lambda _, f: fit(f, epochs=2.5), "epochs must be a whole number of 1 or more, got 2.5"),
        (lambda _, f: fit(f, seed=1.5), "seed must be a whole number of 0 or more, got 1.5"),
        (lambda _, f: fit(f, seed=None), "seed must be a whole number of 0 or more, got None"),
        (lambda _, f: fit(f, method="ALS"), "method must be one of .*, got 'ALS'"),
        (lambda _, f: fit(f, kernel="cubic"), "kernel must be one of .*, got 'cubic'"),
        (lambda _, f: fit(f, kernel=Linear), "kernel must be a kernel or the name of one, got <class"),
        (lambda _, f: fit(f, kernel=3), "kernel must be a kernel or the name of one, got 3"),
        (lambda _, f: fit(f[:1]), r"every rating is .*: pass .*kernel=, such as jaxmf.kernels.Logistic\(1.0, 5.0\)"),
        (lambda _, f: fit(f.assign(rating=3.0)), "every rating is 3.0, which does not say"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(als, frame, call, words):
    with pytest.raises(ValueError, match=words):
        call(als, frame)
