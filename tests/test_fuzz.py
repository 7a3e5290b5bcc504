"""The public doors under odd input: a ValueError that says what to do, or numbers; `JAXMF_FUZZ=5000` tries longer."""

import datetime
import os
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmf

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


@pytest.fixture(scope="module")
def recommender():
    user, item = np.divmod(np.arange(40), 8)
    return jaxmf.Recommender.fit({"user": user, "item": item, "rating": 1.0 + (user + item) % 5}, rank=2, epochs=1)


@few
@given(frame(), column())
def test_requests(recommender, table, ids):
    for unknown in ("bias", "nan", "error"):
        predicted = tried(recommender.predict, table, unknown=unknown)
        assert predicted is None or unknown == "nan" or np.isfinite(predicted).all()
    tried(recommender.recommend, ids, n=2)
    tried(recommender.similar_items, ids, n=2)
    tried(recommender.forget, ids)
