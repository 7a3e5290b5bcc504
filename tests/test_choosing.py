"""Sweeps of clicks: every configuration judged on every fold, as fitting it by hand is."""

import jax
import numpy as np
import pandas as pd
import pytest
from test_clicks import random_clicks

import jaxmf
from jaxmf.data import splits

pytestmark = pytest.mark.optax


@pytest.fixture(scope="module")
def given():
    return random_clicks(np.random.default_rng(0), n=300)


@pytest.fixture(scope="module")
def found(given):
    grid = jaxmf.tune.grid({"rank": [2, 3], "background": [0.05, 0.5], "item_factor_reg": [0.01], "epochs": [4]})
    return jaxmf.choosing.sweep(given, splits.k_fold(len(given), 2), grid, cuts=(5, 10))


def test_a_row_is_what_a_fit_by_hand_gives(found, given):
    row = found.iloc[3]
    fold = splits.k_fold(len(given), 2)[int(row.fold)]
    train, test = given.take(fold.train), given.take(fold.test)
    item = jaxmf.priors.CLICKS.item.replace(factor_reg=0.01)
    model = jaxmf.als.fit(
        jax.random.key(0),
        train,
        kernel=jaxmf.kernels.Clicks(row.background),
        rank=int(row["rank"]),
        prior=jaxmf.priors.CLICKS._replace(item=item),
        epochs=4,
    ).model
    expected = jaxmf.judging.full_ranking(model, train, test, cuts=(5, 10), threshold=0.5)
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_the_best_has_the_highest_mean(found):
    means = found.groupby("configuration").ndcg10.mean()
    chosen = jaxmf.choosing.best(found)
    row = found[found.configuration == means.idxmax()].iloc[0]
    assert chosen == {name: row[name] for name in ("rank", "background", "item_factor_reg", "epochs")}
    assert jaxmf.choosing.fit_settings(chosen)["kernel"].background == row.background


def test_what_can_not_be_swept_is_refused(given):
    folds = splits.k_fold(len(given), 2)
    with pytest.raises(ValueError, match="no setting 'learning_rate' of clicks"):
        jaxmf.choosing.sweep(given, folds, pd.DataFrame({"learning_rate": [0.1]}))
    with pytest.raises(ValueError, match="0 folds and 1 configurations"):
        jaxmf.choosing.sweep(given, [], pd.DataFrame({"rank": [1]}))
    with pytest.raises(ValueError, match="background must be positive"):
        jaxmf.choosing.sweep(given, folds, pd.DataFrame({"background": [-1.0]}))
    with pytest.raises(ValueError, match="no column 'ndcg3'"):
        jaxmf.choosing.best(pd.DataFrame({"configuration": [0]}), "ndcg3")
    with pytest.raises(ValueError, match=r"jaxmf\.choosing\.sweep"):
        jaxmf.tune.sweep(given, folds, pd.DataFrame({"rank": [1]}), kernel=jaxmf.kernels.Clicks())
