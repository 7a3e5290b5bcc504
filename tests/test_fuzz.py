"""The public doors under odd input: a ValueError that says what to do, or numbers; `JAXMF_FUZZ=5000` tries longer."""

import datetime
import os
import uuid
from decimal import Decimal

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmf
from jaxmf.data.ids import Vocabulary

pytestmark = pytest.mark.usefixtures("unchecked")
few = settings(
    max_examples=int(os.environ.get("JAXMF_FUZZ", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="JAXMF_FUZZ" not in os.environ,
)

IDS = [0, -1, 2**63, 2**64, "a", "", "7", b"b", 1.5, True, None, np.nan, pd.NaT, (1, "a"), [1], {}, uuid.UUID(int=1)]
IDS += [
    np.uint64(2**63),
    np.int8(3),
    datetime.date(2020, 1, 1),
    pd.Timestamp("2020-01-01", tz="Europe/Paris"),
    Decimal(1),
]
NUMBERS = [0, 1, 2.5, -3, np.nan, np.inf, 1e39, 1e-39, 2**70, "4", None, pd.NA, Decimal("1.5"), True, [1], 1j, object()]
NUMBERS += [datetime.datetime(2020, 1, 1), np.timedelta64(1, "D"), "2020-01-01", np.datetime64("NaT", "s")]


def kept(values):
    """As an array, which holds each value as it is."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


FORMS = [
    list,
    tuple,
    kept,
    np.asarray,
    pd.Series,
    pd.Index,
    pl.Series,
    pa.array,
    set,
    iter,
    lambda v: v[0],
    lambda _: None,
]
FORMS += [lambda v: pd.Series(v, index=np.zeros(len(v))), lambda v: pd.DataFrame({"user": v}), np.ma.asarray]
FRAMES = [
    pd.DataFrame,
    pl.DataFrame,
    pa.table,
    dict,
    lambda c: pd.DataFrame(c).to_dict("records"),
    lambda c: list(c.values()),
]


@st.composite
def column(draw, values=tuple(IDS + NUMBERS), forms=tuple(FORMS), size=None):
    size = draw(st.integers(0, 6)) if size is None else size
    one = st.sampled_from(range(len(values)))
    same = draw(st.booleans())
    chosen = [draw(one)] * size if same else draw(st.lists(one, min_size=size, max_size=size))
    try:
        return draw(st.sampled_from(forms))([values[at] for at in chosen])
    except Exception:
        return [values[at] for at in chosen]


@st.composite
def frame(draw):
    size = draw(st.integers(0, 6))
    columns = {name: draw(column(tuple(IDS), (list,), size)) for name in ("user", "item")}
    columns |= {name: draw(column(tuple(NUMBERS), (list,), size)) for name in ("rating", "w", "t")}
    if draw(st.booleans()):
        columns |= {"rating": [1.0 + at % 3 for at in range(size)], "w": [1] * size, "t": list(range(size))}
    try:
        return draw(st.sampled_from(FRAMES))(columns)
    except Exception:
        return columns


def tried(call, *arguments, **named):
    """What a call gives, or None where it is refused."""
    try:
        return call(*arguments, **named)
    except (ValueError, ImportError):
        return None


def typed(call, *arguments, **named):
    """`tried` of what is annotated as a number, where another Python type may be a TypeError."""
    try:
        return tried(call, *arguments, **named)
    except TypeError:
        return None


@few
@given(frame(), st.sampled_from(["error", "last", "mean", "first", None, 3]))
def test_frames(table, duplicates):
    data = tried(jaxmf.ratings.from_frame, table, weight="w", timestamp="t", duplicates=duplicates)
    if data is not None:
        assert np.isfinite(data.ratings.rating).all()
        assert np.isfinite(data.timestamp).all()
        assert (data.users.encode(data.users.index) == np.arange(len(data.users))).all()


@few
@given(column(), column(), column(), column(tuple(NUMBERS), (lambda v: v[0],), 1))
def test_splits_and_changes(user, item, time, setting):
    splits = jaxmf.splits
    for call in (splits.k_fold, splits.hold_out):
        tried(call, user, setting)
        tried(call, 10, setting)
        tried(call, setting, seed=setting)
    tried(splits.by_time, time, setting)
    tried(splits.by_time, time, 0.5)
    tried(splits.leave_last_n, user, time, setting)
    tried(splits.new_users, user, item, time, 0.5, at_most=setting)
    for span in (setting, 1, datetime.timedelta(1)):
        weights = tried(jaxmf.changes.time_decay, time, span)
        assert weights is None or np.isfinite(weights).all()
        tried(jaxmf.changes.time_decay, time, span, now=setting)
    ratings = jaxmf.ratings.from_frame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]}).ratings
    tried(jaxmf.changes.remove, ratings, user, item)
    tried(jaxmf.changes.remove_users, ratings, user)
    tried(jaxmf.changes.merge, ratings, user)


@few
@given(column(tuple(NUMBERS)), column(tuple(NUMBERS)), column(tuple(NUMBERS), (lambda v: v[0],), 1))
def test_metrics(predicted, rating, setting):
    metrics, ranking = jaxmf.metrics, jaxmf.ranking
    held_out = jaxmf.ratings.from_frame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]}).ratings
    for call in (metrics.rmse, metrics.mae, metrics.r2):
        tried(call, predicted, rating)
    tried(metrics.log_likelihood, predicted, setting, rating)
    tried(metrics.interval_coverage, predicted, 1.0, rating, level=setting)
    tried(metrics.log_likelihood_of_classes, predicted, rating, rating)
    tried(metrics.by_profile_size, predicted, held_out, held_out, edges=rating)
    tried(metrics.by_popularity, predicted, rating, held_out)
    for named in ({}, {"threshold": setting, "n": setting, "users": rating}):
        lists = tried(ranking.judgements, predicted, held_out, **named)
        assert lists is None or ranking.ranking(lists).users <= 2
    for breakdown in (ranking.by_profile_size, ranking.by_popularity):
        tried(breakdown, ranking.judgements([[0], [1]], held_out), rating)
        tried(breakdown, ranking.judgements([[0], [1]], held_out), held_out, edges=rating)
    tried(ranking.catalogue_coverage, predicted, setting)
    tried(ranking.novelty, predicted, held_out)


COUNTS = ("rank", "epochs")


def small(value, most=100):
    """The same, or 1 where it is a number so large that it would only take time and memory."""
    return 1 if isinstance(value, int | np.integer) and value > most else value


USER, ITEM = np.divmod(np.arange(40), 8)
ROWS = pd.DataFrame({"user": USER, "item": ITEM, "rating": 1.0 + (USER + ITEM) % 5})


@pytest.fixture(scope="module")
def recommender():
    return jaxmf.Recommender.fit(ROWS, rank=2, epochs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@few
@given(
    frame(),
    column(),
    st.sampled_from(["error", "ignore", None, "new", "odd"]),
    st.sampled_from([lambda rec: rec, jaxmf.Recommender.without_users, jaxmf.Recommender.without_history]),
)
def test_requests(recommender, table, ids, unknown_items, form):
    rec = form(recommender)
    for unknown in ("bias", "nan", "error"):
        for call in (rec.predict, rec.predict_std):
            predicted = tried(call, table, unknown=unknown)
            assert predicted is None or unknown == "nan" or np.isfinite(predicted).all()
    tried(rec.recommend, ids, n=2)
    tried(rec.recommend, [1], n=2, candidates=ids)
    tried(rec.recommend, [1], n=2, exclude=ids)
    tried(rec.similar_items, ids, n=2)
    tried(rec.similar_users, ids, n=2, exclude=ids)
    tried(rec.forget, ids)
    tried(rec.forget, pairs=table)
    folded = tried(rec.fold_in, table, unknown_items=unknown_items)
    if folded is not None:
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(folded.model.params))


@few
@given(
    column(tuple(IDS + NUMBERS), (lambda v: v[0],), 1),
    column(tuple(IDS + NUMBERS), (lambda v: v[0],), 1),
    st.sampled_from([*COUNTS, "user", "weight", "duplicates", "kernel", "method", "prior", "seed"]),
)
def test_settings(recommender, folder, one, other, name):
    rec = recommender
    tried(rec.explain, one, other)
    tried(rec.recommend, [1], n=one)
    tried(rec.warm, ratings=small(one, 2), users=small(other, 2), n=1)
    tried(rec.fold_in, ROWS[:1], items=one)
    tried(rec.save, folder / str(one)[:40])
    tried(jaxmf.Recommender.load, folder / str(other)[:40])
    typed(jaxmf.likelihoods.Ordinal([one, other]).check, np.ones(1), jaxmf.kernels.Linear())
    values = dict.fromkeys(COUNTS, small(one, 2)) | {"prior": jaxmf.priors.Prior(one, other)}
    typed(jaxmf.Recommender.fit, ROWS, **{"rank": 1, "epochs": 1, name: values.get(name, one)})
    for make in (jaxmf.kernels.Logistic, jaxmf.kernels.Polynomial, jaxmf.kernels.RBF):
        typed(make, one, other)
    typed(jaxmf.tune.grid, {"rank": [one, other]})
    typed(jaxmf.tune.grid, one)
    typed(jaxmf.tune.random, one, 2, {"factor_reg": (1.0, 2.0)})
    typed(jaxmf.tune.random, 0, 2, {"factor_reg": (one, other)})
    typed(jaxmf.tune.priors, {"factor_reg": one})


@few
@given(column(), column(), column(tuple(NUMBERS)), column(tuple(IDS + NUMBERS), (lambda v: v[0],), 1))
def test_rows(recommender, rows, others, numbers, one):
    model = recommender.model
    alone = tried(jaxmf.fold_in.fold_in_user, model, rows, numbers, weight=one)
    assert alone is None or np.isfinite(alone.params.user.factors).all()
    tried(jaxmf.fold_in.fold_in_user, model, rows, numbers, weight=numbers)
    tried(jaxmf.histories.packed_row, rows, numbers, one)
    predicted = tried(model.predict, rows, others)
    assert predicted is None or np.isfinite(predicted).all()
    tried(jaxmf.recommend.top_n, model, rows, n=2, candidates=others)
    tried(jaxmf.recommend.top_n, model, [0], n=2, exclude=others, width=one)
    tried(jaxmf.neighbours.similar_items, model, rows, n=2, candidates=others)
    ratings = recommender.ratings.take(recommender.ratings.user == 0)
    tried(jaxmf.explain.explain, model, ratings, one)
    tried(jaxmf.explain.explain, model, ratings, 1, points=small(one))
    features = jaxmf.features
    tried(features.sparse, rows, others, numbers, 3, 3)
    tried(features.sparse, [0], [0], [one], 3, 3)
    tried(features.sparse, [0], [0], [1], small(one), 3)
    tried(features.dense, numbers)
    tried(features.dense, [rows, numbers])
    tried(features.multi_hot, rows)
    tried(features.multi_hot, [rows, others])
    tried(features.implicit, one)
    vocabulary = tried(Vocabulary, rows)
    if vocabulary is not None:
        tried(vocabulary.encode, others)
        tried(vocabulary.decode, others)
        tried(vocabulary.extend, others)
