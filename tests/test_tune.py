"""Sweeps: each fit of the one program against the trainer's own, halving, divergence, and the tables made of them."""

import inspect
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import report
import runs
import tune as script

from jaxmf.data import splits
from jaxmf.data.features import Sides, implicit_sides, multi_hot
from jaxmf.model import objective
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.training import als, sgd, tune
from jaxmf.training.loop import Watch
from jaxmf.training.tune import ALS, SGD, Halving

pytestmark = pytest.mark.optax

EPOCHS = 4


@pytest.fixture(scope="module")
def folds(ratings):
    """Folds whose histories come out in one shape, so that a trainer's own fits of them share a program."""
    return splits.k_fold(len(ratings), 3, seed=16)


def alone(ratings, split, kernel, *, prior, rank, seed=0):
    """The trainer's own curve, on the training part by itself."""
    watch = Watch(validation=ratings.take(split.test))
    key, train = jax.random.key(seed), ratings.take(split.train)
    return als.fit(key, train, kernel=kernel, rank=rank, prior=prior, epochs=EPOCHS, watch=watch).history["rmse"]


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("kernel", [Linear(), Logistic(0.5, 5.0)])
def test_every_fit_is_that_of_als(ratings, folds, kernel, chunk):
    """Ranks below the width, above the narrowest and of another width; seeds; priors of both sides and of one."""
    configurations = pd.DataFrame(
        {"rank": [3, 8, 9], "seed": [0, 5, 2], "bias_reg": [1.0, 2.0, 3.0], "item_factor_reg": [1.0, 5.0, 0.5]}
    )
    found = tune.sweep(ratings, folds, configurations, kernel=kernel, trainer=ALS(epochs=EPOCHS, chunk=chunk))
    for number, one in configurations.iterrows():
        user, item = DEFAULT
        prior = Priors(
            user.replace(bias_reg=one.bias_reg), item.replace(bias_reg=one.bias_reg, factor_reg=one.item_factor_reg)
        )
        for fold, split in enumerate(folds):
            expected = alone(ratings, split, kernel, prior=prior, rank=int(one["rank"]), seed=int(one.seed))
            np.testing.assert_allclose(found.history[number, fold], expected, rtol=2e-4)
    last = found.frame.set_index(["configuration", "fold"]).rmse.to_numpy()
    np.testing.assert_array_equal(last, found.history[..., -1].ravel())


@pytest.mark.parametrize("features", [lambda _: Sides(), implicit_sides], ids=["none", "implicit"])
def test_sgd_fits_learning_rates(ratings, folds, features):
    split = folds[0]
    weight = np.zeros(len(ratings), np.float32)
    weight[split.train] = 1
    configurations = tune.grid({"rank": [4], "learning_rate": [0.01, 0.05]})
    trainer = SGD(epochs=EPOCHS, batch_size=64)
    found = tune.sweep(ratings, [split], configurations, kernel=Linear(), trainer=trainer, features=features)
    for number, rate in enumerate([0.01, 0.05]):
        optimizer = sgd.default_optimizer(EPOCHS, len(ratings), 64, learning_rate=rate)
        train = ratings.replace(weight=weight)
        settings = {"rank": 4, "epochs": EPOCHS, "batch_size": 64, "optimizer": optimizer, "prior": DEFAULT}
        fit = sgd.fit(jax.random.key(0), train, kernel=Linear(), features=features(train), **settings)
        held = ratings.take(split.test)
        low, high = ratings.rating[split.train].min(), ratings.rating[split.train].max()
        expected = objective.rmse(fit.model.params, fit.model.kernel, held, float(low), float(high))
        assert found.history[number, 0, -1] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kernel", [Linear(), Logistic(0.5, 5.0)])
def test_a_fit_with_features_is_that_of_als(ratings, folds, kernel):
    """Each fold's implicit feedback is of its training ratings alone."""
    configurations = pd.DataFrame({"rank": [3, 8], "user_link_reg": [2.0, 20.0]})
    settings = {"kernel": kernel, "trainer": ALS(epochs=EPOCHS), "features": implicit_sides}
    found = tune.sweep(ratings, folds, configurations, **settings)
    for number, one in configurations.iterrows():
        for fold, split in enumerate(folds):
            train = ratings.take(split.train)
            fit = als.fit(
                jax.random.key(0),
                train,
                kernel=kernel,
                rank=int(one["rank"]),
                prior=tune.priors({"user_link_reg": one.user_link_reg}),
                features=implicit_sides(train),
                epochs=EPOCHS,
                watch=Watch(validation=ratings.take(split.test)),
            )
            np.testing.assert_allclose(found.history[number, fold], fit.history["rmse"], rtol=2e-4)
    without = tune.sweep(ratings, folds, configurations[["rank"]], kernel=kernel, trainer=ALS(epochs=EPOCHS))
    assert np.abs(found.history - without.history).max() > 1e-3


def test_features_are_a_row_each_and_as_many_in_every_fold(ratings, folds):
    one, settings = tune.grid({"rank": [4]}), {"kernel": Linear(), "trainer": ALS(epochs=1)}
    genres = multi_hot([["Drama"]] * (ratings.n_items - 1))[0]
    with pytest.raises(ValueError, match=f"the item features have {ratings.n_items - 1} rows"):
        tune.sweep(ratings, folds, one, features=lambda _: Sides(item=genres), **settings)
    parts = [*folds, splits.hold_out(len(ratings), 0.5)]
    with pytest.raises(ValueError, match="the features of two folds differ in number"):
        tune.sweep(ratings, parts, one, features=lambda train: implicit_sides(train.take(train.weight > 0)), **settings)


def test_folds_of_different_sizes_share_a_program(ratings):
    """A weight of the ratings counts in training and in validation."""
    weighted = ratings.replace(weight=np.random.default_rng(0).uniform(0.5, 2, len(ratings)).astype(np.float32))
    parts = [splits.hold_out(len(ratings), share, seed=3) for share in (0.1, 0.5)]
    found = tune.sweep(weighted, parts, tune.grid({"rank": [8]}), kernel=Linear(), trainer=ALS(epochs=EPOCHS))
    for fold, split in enumerate(parts):
        expected = alone(weighted, split, Linear(), prior=DEFAULT, rank=8)
        np.testing.assert_allclose(found.history[0, fold], expected, rtol=2e-4)


def test_one_configuration_on_one_fold(ratings):
    split = splits.hold_out(len(ratings), 0.2)
    found = tune.sweep(ratings, [split], tune.grid({"seed": [7]}), kernel=Linear(), trainer=ALS(epochs=1))
    assert found.history.shape == (1, 1, 1)
    assert np.isnan(tune.summary(found.frame).sd[0])
    assert tune.best(found.frame) == {"seed": 7}


def test_a_configuration_that_diverges_loses_alone(ratings, folds):
    configurations = tune.grid({"factor_reg": [3e38, 1.0], "power": [1.0], "rank": [4]})
    found = tune.sweep(ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=EPOCHS, chunk=2))
    fine = tune.sweep(ratings, folds, configurations.iloc[1:], kernel=Linear(), trainer=ALS(epochs=EPOCHS))
    assert np.isnan(found.history[0]).all()
    np.testing.assert_allclose(found.history[1], fine.history[0], rtol=1e-5)
    assert tune.best(found.frame)["factor_reg"] == 1.0
    assert np.isnan(tune.summary(found.frame).rmse.iloc[-1])
    halved = tune.sweep(
        ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=EPOCHS), halving=Halving(1, 2)
    )
    assert halved.frame.groupby("configuration").epoch.first().tolist() == [1, 4]
    with pytest.raises(ValueError, match="raise `factor_reg`"):
        tune.best(found.frame[found.frame.configuration == 0])


def test_halving_trains_on_with_the_best_alone(ratings, folds):
    configurations = tune.random(0, 9, {"factor_reg": (0.01, 100.0), "bias_reg": (0.1, 100.0), "rank": [4, 9]})
    whole = tune.sweep(ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=EPOCHS))
    halved = tune.sweep(
        ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=EPOCHS), halving=Halving(1, 3)
    )
    epochs = halved.frame.groupby("configuration").epoch.first().to_numpy()
    assert sorted(epochs) == [1] * 6 + [3] * 2 + [4]
    assert set(np.flatnonzero(epochs > 1)) == set(np.argsort(whole.history[:, :, 0].mean(1))[:3])
    for number, last in enumerate(epochs):
        np.testing.assert_allclose(halved.history[number, :, :last], whole.history[number, :, :last], rtol=1e-5)
        assert np.isnan(halved.history[number, :, last:]).all()
    winner = int(epochs.argmax())
    assert tune.best(halved.frame) == pytest.approx(configurations.iloc[winner].to_dict())


def test_seeds_give_mean_and_deviation(ratings, folds):
    configurations = tune.grid({"rank": [2, 4], "seed": range(3)})
    frame = tune.sweep(ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=EPOCHS)).frame
    table = tune.summary(frame, ["fold", "seed"])
    assert len(table) == 2
    assert table.fits.tolist() == [9, 9]
    runs = frame[frame["rank"] == table["rank"][0]].rmse
    assert table.rmse[0] == pytest.approx(runs.mean())
    assert table.sd[0] == pytest.approx(runs.std())
    assert tune.best(frame, ["fold", "seed"]) == {"rank": table["rank"][0]}


def test_halving_keeps_or_drops_all_seeds_of_a_configuration(ratings, folds):
    """Ranked by their mean over folds and seeds: a seed is luck, and no setting to choose."""
    configurations = tune.grid({"seed": range(3), "factor_reg": [1.0, 1.02, 1.04, 1.06], "rank": [4]})
    whole = tune.sweep(ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=2))
    halved = tune.sweep(ratings, folds, configurations, kernel=Linear(), trainer=ALS(epochs=2), halving=Halving(1, 2))
    score = whole.history[:, :, 0].mean(1)
    by_luck = np.argsort(score)[:6] % 4
    assert len(set(by_luck.tolist())) > 2
    kept = set(np.argsort(score.reshape(3, 4).mean(0))[:2].tolist())
    epochs = halved.frame.groupby("configuration").epoch.unique()
    assert {number: one.tolist() for number, one in epochs.items()} == {n: [2 if n in kept else 1] for n in range(4)}
    table = tune.summary(halved.frame, ["fold", "seed"])
    assert table.fits.tolist() == [9] * 4
    assert set(table.configuration[:2]) == kept


def test_a_configuration_that_diverges_late_does_not_hide_the_rest():
    frame = pd.DataFrame(
        {"configuration": [0, 1, 2, 3], "rank": [2, 3, 4, 5], "fold": 0, "epoch": [9, 9, 3, 3]}
        | {"rmse": [np.nan, np.inf, 0.9, 0.8]}
    )
    assert tune.summary(frame).configuration.tolist()[:2] == [3, 2]
    assert tune.best(frame) == {"rank": 5}


def test_a_mean_is_over_folds_or_seeds():
    frame = pd.DataFrame({"configuration": 0, "rank": [2], "fold": 0, "epoch": 1, "rmse": 0.9})
    for function in (tune.summary, tune.best):
        with pytest.raises(ValueError, match=r"over must be a list of names, got 'fold': write \['fold'\]"):
            function(frame, "fold")
        for name in ("rank", "sed", "seed"):
            with pytest.raises(ValueError, match=f"no mean over '{name}' of this frame: over may name fold"):
                function(frame, ["fold", name])


def test_random_is_log_uniform_within_its_ranges():
    drawn = tune.random(3, 4000, {"reg": (0.01, 100.0), "rank": [8, 16]})
    assert drawn.reg.between(0.01, 100).all()
    assert np.log10(drawn.reg).mean() == pytest.approx(0, abs=0.1)
    assert set(drawn["rank"]) == {8, 16}
    pd.testing.assert_frame_equal(drawn, tune.random(3, 4000, {"reg": (0.01, 100.0), "rank": [8, 16]}))
    for values in ((0.0, 1.0), (1.0, 2.0, 3.0)):
        with pytest.raises(ValueError, match="0 < low < high"):
            inspect.unwrap(tune.random)(0, 1, {"reg": values})
    with pytest.raises(ValueError, match=r"rank must be whole, .* from \(4, 32\) are not: give a list .* \[4, 32\]"):
        tune.random(0, 1, {"rank": (4, 32)})
    with pytest.raises(ValueError, match="n must be a whole number of 1 or more, got -1"):
        tune.random(0, -1, {"reg": (1.0, 2.0)})


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ({"rank": [0]}, {}, "rank must be a whole number of 1 or more, got 0"),
        ({"rank": [2.5]}, {}, "rank must be a whole number"),
        ({"seed": [-1]}, {}, "seed must be a whole number of 0 or more"),
        ({"factor_reg": [0.0]}, {}, "factor_reg of the user prior must be positive"),
        ({"regs": [1.0]}, {}, "no setting 'regs' of ALS: the columns may be rank, seed"),
        ({"learning_rate": [0.1]}, {}, "no setting 'learning_rate' of ALS"),
        ({"learning_rate": [0.0]}, {"trainer": SGD()}, "learning_rate must be positive"),
        ({"rank": []}, {}, "no configuration"),
        ({"learning_rate": [0.1, np.nan]}, {"trainer": SGD()}, "learning_rate must be positive and finite, got nan"),
        ({"learning_rate": [0.1, np.inf]}, {"trainer": SGD()}, "learning_rate must be positive and finite, got inf"),
        ({"rank": [2]}, {"halving": Halving(1, 1)}, "eta must be a whole number of 2 or more, got 1"),
        ({"rank": [2]}, {"halving": Halving(1, 2.5)}, "eta must be a whole number of 2 or more, got 2.5"),
        ({"rank": [2]}, {"halving": Halving(1.5, 2)}, "first must be a whole number of 1 or more, got 1.5"),
        ({"rank": [2]}, {"trainer": ALS}, r"trainer must be an instance such as ALS\(\).*got <class .*: call it"),
        ({"rank": [2]}, {"trainer": "als"}, r"trainer must be an instance such as ALS\(\).*got 'als'"),
    ],
)
def test_bad_settings_are_refused(ratings, folds, values, settings, message):
    """As one meets them whose types nobody checks."""
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(tune.sweep)(ratings, folds, tune.grid(values), kernel=Linear(), **settings)


@pytest.mark.parametrize(
    ("trainer", "settings", "message"),
    [
        (SGD, {"batch_size": 0}, "batch_size must be a whole number of 1 or more, got 0"),
        (ALS, {"steps": -1}, "steps must be a whole number of 1 or more, got -1"),
        (ALS, {"cg_steps": 0}, "cg_steps must be a whole number of 1 or more, got 0"),
        (ALS, {"epochs": 0}, "epochs must be a whole number of 1 or more, got 0"),
        (SGD, {"epochs": 2.5}, "epochs must be a whole number of 1 or more, got 2.5"),
        (ALS, {"chunk": 0}, "chunk must be a whole number of 1 or more, got 0"),
        (SGD, {"chunk": 1.5}, "chunk must be a whole number of 1 or more, got 1.5"),
    ],
)
def test_bad_settings_of_a_trainer_are_refused(trainer, settings, message):
    """As one meets them whose types nobody checks."""
    unchecked = object.__new__(trainer)
    vars(unchecked).update(settings)
    with pytest.raises(ValueError, match=message):
        unchecked.__post_init__()


def test_bad_folds_are_refused(ratings):
    everything, nothing = np.arange(len(ratings)), np.arange(0)
    for split, message in (
        (splits.Split(everything, nothing), "fold 0 holds out no rating"),
        (splits.Split(nothing, everything), "fold 0 trains on no rating"),
        (splits.Split(everything, everything[7:9]), "fold 0 holds out 2 of the ratings .* position 7: give"),
        (splits.Split(everything, everything[-1:] + 1), "fold 0 holds out position 500, .* are 0 to 499: split"),
        (splits.Split(everything[:9] - 1, everything[9:]), "fold 0 trains on position -1"),
        (splits.Split(everything[1:], everything == 0), r"positions of type bool, .*np.flatnonzero\(mask\)"),
    ):
        with pytest.raises(ValueError, match=message):
            tune.sweep(ratings, [split], tune.grid({"rank": [2]}), kernel=Linear(), trainer=ALS())
    with pytest.raises(ValueError, match="no fold"):
        tune.sweep(ratings, [], tune.grid({"rank": [2]}), kernel=Linear(), trainer=ALS(prior=Prior()))


def kept(folder, ratings, *arguments) -> runs.Run:
    """What `scripts/tune.py` keeps of a search."""
    path = folder / "ratings.csv"
    pd.DataFrame({"userId": ratings.user, "movieId": ratings.item, "rating": ratings.rating}).to_csv(path, index=False)
    options = ["--data", path, "--timestamp", "None", "--folds", 2, "--run", folder / "run", *arguments]
    subprocess.run([sys.executable, script.__file__, *map(str, options)], check=True, capture_output=True)
    return runs.read(folder / "run")


def page_of(one: runs.Run) -> str:
    """The report of a run alone."""
    return report.page("Search", {"search": one}, Path.as_posix, None)


def test_a_kept_search_has_every_epoch_and_its_ranking(tmp_path, ratings):
    pytest.importorskip("tensorboardX")
    search = ["--random", 6, "--seeds", 2, "--epochs", 3, "--halving", "--tensorboard"]
    one = kept(tmp_path, ratings, *search)
    assert {"configurations": 6, "seeds": 2, "folds": 2}.items() <= one.result.items()
    ranking = pd.DataFrame(one.result["ranking"])
    assert ranking.epoch.tolist() == [3] * 2 + [2] * 4
    assert ranking.fits.tolist() == [4] * 6
    assert (ranking.rmse[0], ranking.sd[0]) == (one.result["rmse"], one.result["sd"])
    assert one.result["best"].items() <= one.result["ranking"][0].items()
    fits = one.metrics.groupby(["configuration", "seed", "fold"])
    assert len(fits) == 6 * 2 * 2
    trained = ranking.set_index("configuration").epoch
    assert {name[0]: count for name, count in fits.size().items()} == trained.to_dict()
    last = fits.validation_rmse.last().groupby("configuration").mean()
    np.testing.assert_allclose(ranking.set_index("configuration").rmse.sort_index(), last, rtol=1e-6)
    assert [plot.name for plot in one.plots] == ["tune.png", "tune_by_epoch.png"]
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"validation_rmse/configuration_5/seed_1/fold_2" in events.read_bytes()
    assert f"| {ranking.rmse[5]:.4g} " in page_of(one)


def test_a_kept_search_by_optuna_has_its_trials(tmp_path, ratings):
    pytest.importorskip("optuna")
    one = kept(tmp_path, ratings, "--optuna", 3, "--epochs", 2, "--chunk", 2)
    ranking = pd.DataFrame(one.result["ranking"])
    assert sorted(ranking.configuration) == [0, 1, 2]
    assert ranking.rmse.is_monotonic_increasing
    assert (one.result["configurations"], one.result["rmse"]) == (3, ranking.rmse[0])
    assert one.result["best"].items() <= one.result["ranking"][0].items()
    assert len(one.metrics) == 3 * 2 * 2
    assert [plot.name for plot in one.plots] == ["tune.png"]
    assert f"| {ranking.rmse[2]:.4g} " in page_of(one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optuna": 0}, "--optuna must be 1 or more, got 0: it is how many trials"),
        ({"random": -1}, "--random must be 1 or more, got -1: it is how many configurations"),
        ({"seeds": 0}, "--seeds must be 1 or more, got 0"),
        ({"grid": 9}, "--grid must be 1, 8, 27 or 64, got 9"),
        ({"grid": -8}, "--grid must be 1, 8, 27 or 64, got -8"),
        ({"grid": 8, "random": 8}, "--grid and --random are different searches: ask for one"),
        ({"random": 8, "optuna": 8}, "--random and --optuna are different searches"),
        ({"optuna": 8, "kernel": "linear"}, "--kernel can't be had with --optuna 8, .* search with --random 8"),
        ({"optuna": 8, "seeds": 2}, "--seeds can't be had with --optuna 8"),
        ({"optuna": 8, "halving": True}, "--halving can't be had with --optuna 8"),
        ({"optuna": 8, "compare": True}, "--compare can't be had with --optuna 8"),
    ],
)
def test_searches_that_cannot_be_had_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        script.Tune(**settings)


def test_what_diverged_has_no_number_in_json():
    assert script.rows(pd.DataFrame({"rank": [2], "rmse": [np.nan]})) == [{"rank": 2, "rmse": None}]
