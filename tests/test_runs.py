"""Runs that are kept: a folder a run, the same numbers when it is repeated, several on one page."""

import json
import shutil
import sys
from pathlib import Path

import common
import numpy as np
import pandas as pd
import pytest
import report
import runs
import summary
import train
from matplotlib.axes import Axes

TIMES = {"seconds", "fit_seconds", "compile_seconds"}


@pytest.fixture(scope="module")
def csv(tmp_path_factory, ratings) -> Path:
    """A small file of ratings."""
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    pd.DataFrame({"userId": ratings.user, "movieId": ratings.item, "rating": ratings.rating}).to_csv(path, index=False)
    return path


def start(script, kind, *arguments) -> None:
    """Run a script as its command line would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script.__name__}.py", *map(str, arguments)])
        common.run(script.main, kind)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, csv) -> dict[str, Path]:
    """Two runs that differ in their rank; the first leaves its numbers and plots elsewhere too."""
    folder = tmp_path_factory.mktemp("runs")
    settings = ["--data", csv, "--timestamp", "None", "--method", "als", "--kernel", "linear", "--folds", 2]
    besides = ["--json", folder / "besides" / "a.json", "--plots", folder / "besides"]
    for name, rank, more in (("small", 2, besides), ("large", 3, [])):
        start(train, train.Train, *settings, "--epochs", 3, "--rank", rank, "--run", folder / name, *more)
    return {name: folder / name for name in ("small", "large")}


def without_times(value):
    """A result without what the clock says."""
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if name not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def test_a_folder_holds_the_whole_run(kept, csv):
    one = runs.read(kept["small"])
    assert one.settings["script"] == "train"
    assert (
        one.settings["settings"] | {"data": str(csv), "rank": 2, "seed": 0, "likelihood": None}
        == (one.settings["settings"])
    )
    assert one.settings["seconds"] >= one.metrics["seconds"].max() > 0
    assert {"python", "cores", "devices", "jaxmf", "jax", "numpy", "pandas", "flax", "optax"} <= set(one.versions)
    assert one.versions["ratings"] == runs.read(kept["large"]).versions["ratings"]
    assert one.metrics[["fold", "epoch"]].to_numpy().tolist() == [
        [fold, epoch] for fold in (1, 2) for epoch in (1, 2, 3)
    ]
    assert one.metrics[["loss", "rmse"]].notna().all(axis=None)
    last = one.metrics.query("epoch == 3")["rmse"].tolist()
    assert last == pytest.approx([fold["rmse"] for fold in one.result["folds"]], rel=1e-5)
    assert [plot.name for plot in one.plots] == ["learning_curve.png"]


def test_json_and_plots_are_written_besides(kept):
    one, besides = runs.read(kept["small"]), kept["small"].parent / "besides"
    assert json.loads((besides / "a.json").read_text()) == one.result
    assert (besides / "learning_curve.png").read_bytes() == one.plots[0].read_bytes()


def test_a_run_is_repeated_from_its_arguments(kept, tmp_path):
    """Equal numbers but for times; the last `--run` counts, so that the arguments are used as they were kept."""
    one = runs.read(kept["large"])
    start(train, train.Train, *one.settings["argv"], "--run", tmp_path / "again")
    again = runs.read(tmp_path / "again")
    pd.testing.assert_frame_equal(one.metrics.drop(columns="seconds"), again.metrics.drop(columns="seconds"))
    assert without_times(one.result) == without_times(again.result)


def test_other_ratings_in_a_file_of_the_same_name_are_seen(tmp_path, csv):
    hashes = []
    for name, rows in (("a", None), ("b", None), ("c", 100)):
        pd.read_csv(csv, nrows=rows).to_csv(tmp_path / "ratings.csv", index=False)
        args = common.Run(data=tmp_path / "ratings.csv", timestamp=None, run=tmp_path / name)
        args.load()
        args.save({})
        hashes.append(runs.read(tmp_path / name).versions["ratings"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_fit_is_kept_by_epoch_after_it_ended(tmp_path):
    args = common.Run(run=tmp_path / "run")
    args.log({"loss": np.array([2.0, 1.0]), "noise": np.array([[1.0, 3.0], [2.0, 2.0]])}, system="ours", fold=1)
    args.save({})
    metrics = runs.read(tmp_path / "run").metrics.drop(columns="seconds")
    assert metrics.to_dict("records") == [
        {"system": "ours", "fold": 1, "epoch": 1, "loss": 2.0, "noise": 2.0},
        {"system": "ours", "fold": 1, "epoch": 2, "loss": 1.0, "noise": 2.0},
    ]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    args = common.Run(run=tmp_path / "run", tensorboard=True)
    args.log_epoch(1, {"loss": 0.5}, fold=2)
    args.save({})
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"loss/fold_2" in events.read_bytes()


def test_tensorboard_needs_a_run_and_its_package(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name one with --run"):
        _ = common.Run(tensorboard=True).folder
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxmf\[tensorboard\]'"):
        _ = common.Run(run=tmp_path / "run", tensorboard=True).folder
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["folder", "file"])
def test_a_run_has_a_folder_of_its_own(tmp_path, name):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder" / "a.txt", tmp_path / "file"):
        path.write_text("mine")
    with pytest.raises(SystemExit, match=r"holds something already: .* name a new one"):
        start(train, train.Train, "--run", tmp_path / name)
    assert (tmp_path / "folder" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("more", [[], ["--tensorboard"]])
def test_a_run_that_measured_nothing_does_not_keep_its_folder(tmp_path, csv, more):
    if more:
        pytest.importorskip("tensorboardX")
    with pytest.raises(SystemExit, match=r"needs the columns .*'timestamp'"):
        start(train, train.Train, "--data", csv, "--run", tmp_path, *more)
    assert list(tmp_path.iterdir()) == []
    common.Run(run=tmp_path).save({})
    assert runs.read(tmp_path).result == {}


def stopped_after_an_epoch(args: common.Run) -> None:
    args.log_epoch(1, {"loss": 0.5}, fold=1)
    raise ValueError("stopped")


def test_a_run_that_has_measured_something_keeps_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "main", stopped_after_an_epoch)
    with pytest.raises(SystemExit, match="stopped"):
        start(train, train.Train, "--run", tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"settings.json", "metrics.jsonl"}


def test_a_run_that_has_logged_nothing_yet_has_its_folder(tmp_path, monkeypatch):
    """Also where the other looked before its settings were there: only one can create the file."""
    first = common.Run(run=tmp_path / "run")
    with first.begun():
        before = (first.run / "settings.json").read_text()
        with pytest.raises(ValueError, match="holds something already"), common.Run(run=first.run).begun():
            pass
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda _: iter(()))
            with pytest.raises(ValueError, match=r"holds something already: .* or delete it"):
                _ = common.Run(run=first.run).folder
        assert (first.run / "settings.json").read_text() == before
        first.save({"rmse": 1.0})
    assert runs.read(first.run).result == {"rmse": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "."], r"--json \. can't be written \(.*\): --json takes a file"),
        (["--json", "file/a.json"], r"--json file.a\.json can't be written \(.*\)"),
        (["--plots", "file"], r"--plots file can't be written \(.*\): .* --plots a folder, where you may write"),
        (["--run", "file/run"], r"--run file.run can't be written \(.*\): name a folder that can be made"),
    ],
)
def test_what_cannot_be_written_is_refused_at_the_start(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    monkeypatch.setattr(common.Run, "load", lambda _: pytest.fail("it had begun"))
    with pytest.raises(SystemExit, match=message):
        start(train, train.Train, *options)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert Path("file").read_text() == "mine"


def test_a_file_of_numbers_is_as_it_was_until_the_end(tmp_path):
    args = common.Run(json=tmp_path / "new" / "a.json")
    with args.begun():
        assert list(args.json.parent.iterdir()) == []
        args.save({"rmse": 1.0})
    with args.begun():
        assert json.loads(args.json.read_text()) == {"rmse": 1.0}


def test_a_summary_of_what_is_not_there(tmp_path):
    with pytest.raises(SystemExit, match=r"train\.json can't be read \(No such file.*\): `make train` writes it"):
        start(summary, summary.Summary, "--results", tmp_path)
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(SystemExit, match=r"train\.json can't be read \(Expecting property name.*\)"):
        start(summary, summary.Summary, "--results", tmp_path)


def stop_at_the_third(args: common.Run, epoch: int, numbers: dict[str, float], fold: int) -> None:
    if epoch == 3:
        raise ValueError(f"stopped at {numbers} of fold {fold}, {args}")


def test_a_learning_curve_is_where_its_epochs_were(tmp_path, csv, monkeypatch):
    """That of a run that goes on from a kept state, with or without a run's folder."""
    pytest.importorskip("orbax.checkpoint")

    options = ["--data", csv, "--timestamp", "None", "--method", "als", "--folds", 2, "--epochs", 4]
    options += ["--plots", tmp_path, "--keep", tmp_path / "kept", "--every", 2]
    with monkeypatch.context() as patch:
        patch.setattr(common.Run, "log_epoch", stop_at_the_third)
        with pytest.raises(SystemExit, match="stopped"):
            start(train, train.Train, *options)
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda _, x, y, **__: drawn.append((list(x), len(y))))
    start(train, train.Train, *options)
    start(train, train.Train, *options)  # nothing is left to do
    assert drawn == [([3, 4], 2), ([1, 2, 3, 4], 4), ([], 0), ([], 0)]


def test_report_in_markdown_links_to_plots(kept, tmp_path):
    start(report, report.Report, "--runs", *kept.values(), "--out", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    rmse = runs.read(kept["small"]).result["rmse"]
    row = next(line for line in page.splitlines() if line.startswith("| rmse"))
    assert f"{rmse:.4g}" in row
    assert "### small" in page
    assert "### large" in page
    assert "| rank" in page
    assert "seed 0" in page
    links = [part.split(")")[0] for part in page.split("](")[1:]]
    assert len(links) == 3
    assert all((tmp_path / link).stat().st_size > 5000 for link in links)


def test_report_in_html_is_one_file_of_the_same_content(kept, tmp_path):
    start(report, report.Report, "--runs", *kept.values(), "--out", tmp_path / "page.html", "--title", "a < b")
    page = (tmp_path / "page.html").read_text()
    assert page.count('src="data:image/png;base64,') == 3
    assert "<title>a &lt; b</title>" in page
    assert page.count("<table>") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("settings.json", None, "has no settings.json, so it is no run"),
        ("result.json", None, "has no result.json, so its run has not ended: .* repeat it"),
        ("versions.json", None, r"versions.json is not what the run wrote \(it is missing\): repeat the run"),
        ("result.json", "{", "result.json is not what the run wrote .*: repeat the run"),
        ("result.json", "[1]", "an object was expected"),
        ("settings.json", "{}", r"settings.json is not what the run wrote \(it has no argv, script"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epo', "metrics.jsonl is not what the run wrote .*: repeat the run"),
    ],
)
def test_a_folder_that_holds_no_whole_run_is_refused(kept, tmp_path, file, content, message):
    folder = shutil.copytree(kept["small"], tmp_path / "run")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(SystemExit, match=message):
        start(report, report.Report, "--runs", folder, "--out", tmp_path / "page.md")


def test_report_refuses_what_it_cannot_write(kept):
    with pytest.raises(ValueError, match=r"end its name in \.md or \.html"):
        report.Report(runs=(kept["small"],), out=Path("page.pdf"))
    with pytest.raises(ValueError, match="names no run"):
        report.Report()


def test_runs_of_one_name_go_by_their_paths(kept, tmp_path):
    other = shutil.copytree(kept["large"], tmp_path / "small")
    names = list(report.named([kept["small"], other, other]))
    assert names == [kept["small"].as_posix(), other.as_posix()]
