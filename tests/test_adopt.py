"""Factors of another library in a recommender: the same predictions, rows by hand, intervals that hold, refusals."""

from collections import Counter

import jax
import numpy as np
import pandas as pd
import pytest

import jaxmf
from jaxmf.baselines import interop
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Logistic
from jaxmf.model.params import init
from jaxmf.online import given

NAMES = {"user": "who", "item": "what", "rating": "stars"}
USERS, ITEMS, EACH = 240, 90, 36


def made(seed=0) -> pd.DataFrame:
    """Ratings from 1 to 5 of two factors, biases and noise; ids are texts and whole numbers."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS), EACH)
    item = np.concatenate([rng.choice(ITEMS, EACH, replace=False) for _ in range(USERS)])
    taste = np.einsum("nk,nk->n", rng.normal(size=(USERS, 2))[user], 0.6 * rng.normal(size=(ITEMS, 2))[item])
    biases = 0.4 * rng.normal(size=USERS)[user] + 0.5 * rng.normal(size=ITEMS)[item]
    stars = np.clip(3.2 + taste + biases + 0.6 * rng.normal(size=len(user)), 1, 5)
    return pd.DataFrame({"who": [f"user {one}" for one in user], "what": item + 500, "stars": stars})


def fitted(frame, kind="SVD", **settings):
    """A model of Surprise's of the frame."""
    surprise = pytest.importorskip("surprise")
    scale = surprise.Reader(rating_scale=(frame["stars"].min(), frame["stars"].max()))
    data = surprise.Dataset.load_from_df(frame[["who", "what", "stars"]], scale).build_full_trainset()
    return getattr(surprise, kind)(random_state=0, **settings).fit(data)


FRAME = made()
NEW = FRAME["who"].isin([f"user {one}" for one in range(0, USERS, 6)])
HELD = ~NEW & (np.random.default_rng(1).random(len(FRAME)) < 0.1)
TRAIN = FRAME[~NEW & ~HELD]
LATER = NEW & (FRAME.groupby("who").cumcount() >= EACH // 2)


@pytest.fixture(scope="module")
def algorithm():
    return fitted(TRAIN, n_factors=6, n_epochs=40, lr_all=0.01)


@pytest.fixture(scope="module")
def rec(algorithm):
    return interop.adopt(jaxmf.surprise.from_surprise(algorithm), TRAIN, **NAMES)


@pytest.fixture(scope="module")
def folded(rec):
    return rec.fold_in(FRAME[NEW & ~LATER])


@pytest.mark.parametrize("kind", ["SVD", "SVDpp", "NMF"])
def test_predictions_are_the_librarys(kind):
    some = TRAIN.iloc[:320]
    algorithm = fitted(some, kind, n_factors=3, n_epochs=40)
    rec = interop.adopt(jaxmf.surprise.from_surprise(algorithm), some, **NAMES)
    every = pd.MultiIndex.from_product([some["who"].unique(), some["what"].unique()], names=["who", "what"]).to_frame()
    expected = [algorithm.predict(*pair).est for pair in every.itertuples(index=False)]
    np.testing.assert_allclose(rec.predict(every), expected, rtol=2e-5)


def test_a_new_users_row_is_the_regressions(folded):
    who = "user 0"
    mine = FRAME[NEW & ~LATER & (FRAME["who"] == who)]
    model, at = folded.model, folded.users.encode([who])[0]
    others = model.params.item[folded.items.encode(mine["what"])]
    design = np.column_stack([np.ones(len(mine)), others.factors]).astype(float)
    target = (mine["stars"] - float(model.params.offset)) / float(model.kernel.unit) - np.asarray(others.bias, float)
    prior = model.priors.user
    precision = np.diag([prior.bias_reg, *[prior.factor_reg] * others.rank])
    expected = np.linalg.solve(design.T @ design + precision, design.T @ target)
    row = model.params.user[at]
    np.testing.assert_allclose([row.bias, *row.factors], expected, rtol=1e-3, atol=1e-4)


def test_a_fold_in_is_better_than_what_a_stranger_gets(rec, folded):
    later = FRAME[LATER]
    known, stranger = (jaxmf.metrics.rmse(one.predict(later), later["stars"]) for one in (folded, rec))
    assert known < 0.85 * stranger


def test_the_prior_is_as_good_as_any_other(rec, folded):
    """Within one part in fifty of the best factor by which to multiply it."""
    later = FRAME[LATER]
    data = jaxmf.ratings.from_columns(FRAME[NEW & ~LATER], rec.columns, users=rec.users, items=rec.items)
    users = np.unique(data.ratings.user)
    at = folded.users.encode(later["who"]), folded.items.encode(later["what"])
    errors = []
    for by in (0.1, 0.3, 1.0, 3.0, 10.0):
        prior = rec.model.priors.user
        priors = rec.model.priors._replace(user=prior.replace(factor_reg=by * prior.factor_reg))
        model = jaxmf.fold_in.fold_in_users(rec.model.replace(priors=priors), data.ratings, users=users)
        errors.append(jaxmf.metrics.rmse(np.clip(model.predict(*at), *rec.scale), later["stars"]))
    assert errors[2] < 1.02 * min(errors)


def test_intervals_hold_for_known_users_and_new_ones(rec, folded):
    for one, part in ((rec, FRAME[HELD]), (folded, FRAME[LATER])):
        covered = jaxmf.metrics.interval_coverage(one.predict(part), one.predict_std(part), part["stars"], level=0.9)
        assert 0.86 < covered < 0.95


def test_it_comes_back_from_a_checkpoint(rec, tmp_path):
    rec.save(tmp_path / "films")
    back = jaxmf.Recommender.load(tmp_path / "films")
    assert back.noise == rec.noise == rec.measured
    np.testing.assert_array_equal(back.predict(FRAME[HELD]), rec.predict(FRAME[HELD]))
    np.testing.assert_array_equal(back.predict_std(FRAME[HELD]), rec.predict_std(FRAME[HELD]))


def test_it_lives(rec, tmp_path):
    live = pytest.importorskip("jaxmf.live").Live.create(tmp_path / "films", rec)
    items = FRAME["what"].unique()[:5].tolist()
    before = live.predict("user 1", items)
    told = [{"id": f"e{at}", "kind": "rating", "user": "ann", "item": one, "rating": 5} for at, one in enumerate(items)]
    assert {ack.status for ack in live.tell(told)} == {"learnt"}
    np.testing.assert_allclose([one.rating for one in before], rec.predict({"who": ["user 1"] * 5, "what": items}))
    after = live.predict("ann", items)
    live.close()
    again = type(live).open(tmp_path / "films")
    assert again.predict("ann", items) == after
    assert again.snapshot().noise == rec.noise
    again.close()


def test_ratings_on_another_scale_give_the_same_rows(ratings):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 3)), rng.normal(size=(40, 3)), rng.normal(size=30), rng.normal(size=40)
    w, h, bias_u, bias_i = rows
    score = np.einsum("nk,nk->n", w[ratings.user], h[ratings.item]) + bias_u[ratings.user] + bias_i[ratings.item]
    noisy = ratings.replace(rating=(3 + score + rng.normal(size=500)).astype(np.float32))
    one = given.ready(interop.from_factors(w, h, user_bias=bias_u, item_bias=bias_i, offset=3.0), noisy)
    other = given.ready(
        interop.from_factors(20 * w, h, user_bias=20 * bias_u, item_bias=20 * bias_i, offset=67.0),
        noisy.replace(rating=20 * noisy.rating + 7),
    )
    np.testing.assert_allclose(one.params.user.matrix(), other.params.user.matrix(), atol=1e-5)
    np.testing.assert_allclose(one.params.item.matrix(), other.params.item.matrix(), atol=1e-5)
    found, expected = ([float(x) for side in of.priors for x in vars(side).values()] for of in (other, one))
    assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(np.asarray(one.params.user.factors).mean(0), 0, atol=1e-5)


def test_rows_that_the_model_lacks_are_folded_in_and_its_own_stay(rec, algorithm):
    more = pd.DataFrame({"who": ["ann", "ann", "user 1", "bob"], "what": [500, 501, 999, 999], "stars": [5.0, 1, 4, 2]})
    grown = interop.adopt(jaxmf.surprise.from_surprise(algorithm), pd.concat([TRAIN, more]), **NAMES)
    assert set(grown.users.index) - set(rec.users.index) == {"ann", "bob"}
    np.testing.assert_array_equal(grown.predict(FRAME[HELD]), rec.predict(FRAME[HELD]))
    row = grown.model.params.item[grown.items.encode([999])[0]]
    assert abs(float(row.bias)) > 0
    assert len(grown.ratings) == len(TRAIN) + 4


def test_an_item_that_nobody_rated_stays_as_it_is(algorithm):
    model, users, items = jaxmf.surprise.from_surprise(algorithm)
    last = items.index[-1]
    rec = interop.adopt((model, users, items), TRAIN[TRAIN["what"] != last], **NAMES)
    pair = {"who": ["user 1"], "what": [last]}
    np.testing.assert_allclose(rec.predict(pair), [algorithm.predict("user 1", last).est], rtol=1e-5)
    assert rec.predict_std(pair) > rec.predict_std({"who": ["user 1"], "what": [items.index[0]]})


def test_few_ratings_leave_the_noise_to_the_residuals():
    few = FRAME.iloc[:EACH]
    model = interop.from_factors(np.ones((1, 1)), np.zeros((EACH, 1)), offset=few["stars"].mean() - 1e-3)
    item_bias = (few["stars"] - few["stars"].mean()).to_numpy() / 2
    model = model.replace(params=model.params.replace(item=model.params.item.replace(bias=item_bias.astype("f4"))))
    rec = interop.adopt((model, ["user 0"], few["what"]), few, **NAMES)
    assert rec.measured is None
    assert np.isfinite(rec.predict_std(few)).all()


def implicit_row(items: np.ndarray, count: dict[int, float], alpha: float, reg: float) -> np.ndarray:
    """What implicit's `recalculate_user` solves: confidence alpha times the count where there is one, else 1."""
    matrix, target = items.T @ items + reg * np.eye(items.shape[1]), np.zeros(items.shape[1])
    for item, times in count.items():
        matrix += (alpha * times - 1) * np.outer(items[item], items[item])
        target += alpha * times * items[item]
    return np.linalg.solve(matrix, target)


def spark_row(items: np.ndarray, clicked: list[int], alpha: float, reg: float) -> np.ndarray:
    """What Spark solves under implicitPrefs: confidence 1 + alpha for a click, and reg once for each."""
    matrix = items.T @ items + reg * len(clicked) * np.eye(items.shape[1])
    target = np.zeros(items.shape[1])
    for item in clicked:
        matrix += alpha * np.outer(items[item], items[item])
        target += (1 + alpha) * items[item]
    return np.linalg.solve(matrix, target)


def test_clicks_keep_the_objective_of_their_library():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(6, 3)), rng.normal(size=(8, 3))
    seen = pd.DataFrame({"user": [0, 1, 2, 3], "item": [1, 2, 3, 4]})
    rec = interop.adopt((interop.from_implicit(users, items, alpha=4.0), range(6), range(8)), seen, rating=None)
    new = pd.DataFrame({"user": [9, 9, 9], "item": [0, 5, 5]})
    row = rec.fold_in(new).model.params.user.factors[6]
    np.testing.assert_allclose(row, implicit_row(items, Counter([0, 5, 5]), 4.0, 0.01), rtol=1e-3, atol=1e-4)


def test_clicks_of_spark_keep_its_objective():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(6, 3)), rng.normal(size=(8, 3))
    seen = pd.DataFrame({"user": [0, 1, 2, 3], "item": [1, 2, 3, 4], "weight": 1.25})
    tables = [{"id": range(len(rows)), "features": rows.tolist()} for rows in (users, items)]
    rec = interop.adopt(interop.from_spark(*tables, alpha=4.0, reg=0.2), seen, rating=None, weight="weight")
    row = rec.fold_in(pd.DataFrame({"user": [9, 9], "item": [0, 5], "weight": 1.25})).model.params.user.factors[6]
    np.testing.assert_allclose(row, spark_row(items, [0, 5], 4.0, 0.2), rtol=1e-3, atol=1e-4)


SMALL = pd.DataFrame({"user": [0, 0, 1, 1] * 4, "item": [0, 1, 0, 2] * 4, "rating": 4 * [1.0, 2.0, 3.0, 5.0]})
SMALL = SMALL.assign(user=SMALL["user"] + 2 * np.repeat(range(4), 4))
RNG = np.random.default_rng(0)
MODEL = interop.from_factors(np.zeros((8, 1)), np.zeros((3, 1)), item_bias=[-1.0, -1.0, 2.0], offset=3.0)
KNOWN = (MODEL, range(8), range(3))
CLICKED = (interop.from_implicit(RNG.normal(size=(8, 2)), RNG.normal(size=(3, 2)), alpha=2.0), range(8), range(3))


def test_what_is_refused_below_is_fine_else():
    assert interop.adopt(KNOWN, SMALL).measured is None
    assert interop.adopt(CLICKED, SMALL, rating=None).clicked


@pytest.mark.parametrize(
    ("converted", "frame", "names", "words"),
    [
        ((MODEL, range(7), range(3)), SMALL, {}, "7 user ids for 8 rows: give one id a row of the user factors"),
        ((MODEL, range(8), range(4)), SMALL, {}, "4 item ids for 3 rows"),
        ((MODEL, [0, *range(7)], range(3)), SMALL, {}, "id 0 comes more than once: a row has one id"),
        ((MODEL, list("abcdefgh"), range(3)), SMALL, {}, "is of kind int, the known ids of str"),
        (KNOWN, SMALL.iloc[:0], {}, "the frame is empty"),
        (KNOWN, SMALL.assign(user=SMALL["user"] + 100), {}, "no rating is of a user and an item that both have"),
        (KNOWN, SMALL.assign(rating=-SMALL["rating"]), {}, "off the ratings, and their mean only .*in the order of"),
        (KNOWN, pd.concat([SMALL, SMALL]), {}, "rated twice|more than once|twice"),
        (KNOWN, SMALL, {"rating": "stars"}, "no column 'stars'"),
        (KNOWN, SMALL, {"rating": None}, "rating=None takes each row for a click, and the model predicts ratings"),
        (CLICKED, SMALL, {}, "column 'rating' has a 2, and the model is of clicks: pass rating=None"),
        (CLICKED, SMALL.assign(n=0.1), {"rating": None, "weight": "n"}, "below the background"),
        (MODEL, SMALL, {}, "a model with the ids of its rows is needed, got Model"),
        ((1, 2, 3), SMALL, {}, "a model with the ids of its rows is needed, got tuple"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_can_not_be_adopted_is_refused(converted, frame, names, words):
    with pytest.raises(ValueError, match=words):
        interop.adopt(converted, frame, **names)


def test_a_model_of_another_kernel_is_refused(ratings):
    other = jaxmf.Model(init(jax.random.key(0), 30, 40, 2), Logistic(0.5, 5.0))
    with pytest.raises(ValueError, match="is no model of the linear kernel without features"):
        given.ready(other, ratings)


def test_padding_is_inert(ratings):
    means = np.bincount(ratings.item, ratings.rating, 40) / np.maximum(1, np.bincount(ratings.item, minlength=40))
    mean, columns = np.mean(ratings.rating), ("user", "item", "rating")
    factors = 0.1 * np.random.default_rng(0).normal(size=(70, 2))
    model = interop.from_factors(
        factors[:30], factors[30:], item_bias=np.where(means > 0, means - mean, 0), offset=mean
    )
    padded = Ratings(
        *(np.append(x, x[:1]) for x in (getattr(ratings, name) for name in columns)),
        np.append(ratings.weight, np.float32(0)),
        30,
        40,
    )
    one, other = given.ready(model, ratings), given.ready(model, padded)
    np.testing.assert_array_equal(one.params.item.bias, other.params.item.bias)
    assert float(one.priors.item.bias_reg) == pytest.approx(float(other.priors.item.bias_reg))
