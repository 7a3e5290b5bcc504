"""Features from what people have: lists, Series of any index, frames, columns of lists; and what is refused."""

import datetime

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest

import jaxmf
from jaxmf.data import features, histories
from jaxmf.online import fold_in

pytestmark = pytest.mark.usefixtures("unchecked")


def column(values):
    """A Series whose labels are other rows' positions."""
    return pd.Series(values, index=np.arange(len(values))[::-1])


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_features_of_every_library():
    expected = features.sparse(np.array([0, 2, 1]), np.array([1, 0, 1]), np.array([0.5, 2.0, 1.0]), 3, 2)
    for of in (list, tuple, column, pl.Series):
        same(features.sparse(of([0, 2, 1]), of([1, 0, 1]), of([0.5, 2.0, 1.0]), 3, 2), expected)
    table = [[0.0, 0.5], [0.0, 1.0], [2.0, 0.0]]
    for given in (
        table,
        np.array(table),
        pd.DataFrame(table, index=[5, 5, 0]),
        pl.DataFrame(np.array(table)),
        column(table),
    ):
        same(features.dense(given), features.dense(np.array(table)))
    labels = [["Drama"], [], ["Comedy", "Drama"]]
    for given in (labels, tuple(labels), column(labels), pl.Series(labels), [("Drama",), set(), {"Comedy", "Drama"}]):
        found, names = features.multi_hot(given)
        assert names == ["Comedy", "Drama"]
        same(found, features.multi_hot(labels)[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: features.sparse([0, 1], [0], [1.0], 3, 3), "columns of different lengths"),
        (lambda: features.sparse([0.5], [0], [1.0], 3, 3), "row row 0.5: rows are whole numbers"),
        (lambda: features.sparse(["a"], [0], [1.0], 3, 3), "row 'a' is a str, not numbers"),
        (lambda: features.sparse([0], [0], [datetime.datetime(2020, 1, 1)], 3, 3), "is a datetime, not numbers"),
        (lambda: features.sparse([0], [0], [1e39], 3, 3), "feature value 1e[+]39: every value must be finite"),
        (lambda: features.sparse([0], [0], [1.0], 3.5, 3), "n_rows must be a whole number of 0 or more, got 3.5"),
        (lambda: features.sparse([0], [3], [1.0], 3, 3), "feature 3 is outside the 3 × 3 matrix"),
        (lambda: features.dense([1, 2]), r"feature table has shape \(2,\): give a list of rows"),
        (lambda: features.dense([[1], [1, 2]]), "rows must be of one length"),
        (lambda: features.implicit(pd.DataFrame()), "ratings must be Ratings, got DataFrame"),
        (lambda: features.multi_hot(["Drama|Comedy"]), r"labels of row 0 are 'Drama\|Comedy': give a list of texts"),
        (lambda: features.multi_hot([["a"], None]), r"labels of row 1 are None: .* \[\] where it has none"),
        (lambda: features.multi_hot([["a", 1]]), r"labels of row 0 are \['a', 1\]"),
    ],
)
def test_no_features(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.fixture(scope="module")
def model(ratings):
    return jaxmf.als.fit(jax.random.key(0), ratings, kernel=jaxmf.kernels.Logistic(0.5, 5.0), rank=2, epochs=2).model


def test_a_users_ratings_of_every_library(model):
    expected = fold_in.fold_in_user(model, np.array([3, 1]), np.array([5.0, 4.0]), weight=np.array([1.0, 2.0]))
    for of in (list, tuple, column, pl.Series):
        found = fold_in.fold_in_user(model, of([3, 1]), of([5.0, 4.0]), weight=of([1.0, 2.0]))
        same(found.params.user, expected.params.user)
        same(model.predict(of([3, 1]), of([0, 2])), model.predict(np.array([3, 1]), np.array([0, 2])))
    packed = histories.packed_row([3, 1], [5.0, 4.0], [1.0, 2.0])
    same(histories.unpacked(packed), (np.array([3, 1]), np.array([5.0, 4.0]), np.array([1.0, 2.0])))


@pytest.mark.parametrize(
    ("item", "rating", "weight", "words"),
    [
        ([0.5], [3.0], 1.0, "item row 0.5: rows are whole numbers"),
        (np.array([2**40]), [3.0], 1.0, "item row 1099511627776 is past the end of any table"),
        ([2**70], [3.0], 1.0, "rows are whole numbers"),
        (["a"], [3.0], 1.0, "item 'a' is a str, not numbers"),
        ([datetime.datetime(2020, 1, 1)], [3.0], 1.0, "is a datetime, not numbers"),
        ([1], [None], 1.0, "rating nan"),
        ([1], [1e300], 1.0, "rating inf"),
        ([1], ["x"], 1.0, "rating 'x' is a str, not numbers"),
        ([1, 2], [3.0], 1.0, "1 ratings of 2 items, 1 weights"),
        ([1, 2], [3.0, 3.0], [1.0], "2 ratings of 2 items, 1 weights"),
        ([1], [3.0], [-1.0], "weights must be finite and 0 or more"),
        ([1], np.ma.array([3.0], mask=[True]), 1.0, "rating nan"),
        ({1}, [3.0], 1.0, "item must be several values in order"),
        (0, 3.0, 1.0, "rows have shape|several values"),
    ],
)
def test_no_ratings_of_a_user(model, item, rating, weight, words):
    with pytest.raises(ValueError, match=words):
        fold_in.fold_in_user(model, item, rating, weight=weight)


def test_rows_that_are_none(model, ratings):
    for call, words in [
        (lambda: model.predict([0.5], [1]), "user row 0.5: rows are whole numbers"),
        (lambda: model.predict(["a"], [1]), "user 'a' is a str, not numbers"),
        (lambda: model.predict([99], [1]), "user row 99 is not among the table's 30 rows"),
        (lambda: jaxmf.recommend.top_n(model, [0], seen=pd.DataFrame()), "seen must be Ratings, got DataFrame"),
        (lambda: jaxmf.explain.explain(model, ratings.take(ratings.user == 0), "a"), "item 'a' is a str"),
        (lambda: jaxmf.explain.explain(model, ratings.take(ratings.user == 0), 0.5), "item row 0.5"),
        (lambda: jaxmf.metrics.rmse([1.0], [np.inf]), "rating inf: a rating must be finite"),
        (lambda: jaxmf.metrics.log_likelihood([1.0], np.inf, [1.0]), "it must be positive and finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    lists = [[1, 2], [2, 3]]

    def of(lists, users):
        return jaxmf.ranking.ranking(jaxmf.ranking.judgements(lists, ratings, users=users))

    assert of(column(lists), column([0, 1])) == of(pl.Series(lists), (0, 1)) == of(lists, [0, 1])
