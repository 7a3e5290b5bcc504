"""The accelerator's script: it runs through, its checks can fail, and what it can't do is refused or written down."""

import json
import subprocess
import sys
from pathlib import Path

import accelerator
import jax
import numpy as np
import pytest
import reference
from accelerating import checks, made, roofline, timings
from accelerating.reference import Row, relative_error

from jaxmf.data import histories

ROOT = Path(__file__).parents[1]


def parts():
    """All parts of a quick run."""
    bench = timings.Bench(accelerator.QUICK[1], 0)
    return accelerator.parts_of(accelerator.Sizes(*accelerator.QUICK), 0, bench)


def test_a_quick_run_holds_and_has_every_number(tmp_path):
    """By a process of its own, as it is used."""
    command = [sys.executable, "scripts/accelerator.py", "--quick", "--minutes", "60", "--json", tmp_path / "out.json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    result = json.loads((tmp_path / "out.json").read_text())
    for group in ("checks", "timings", "precision"):
        assert list(result[group]) == [part.name for part in parts() if part.group == group]
    assert {"python", "jax", "jaxlib", "jaxmf"} <= set(result["versions"])
    assert result["device"]["platform"] == "cpu"
    assert all(check["holds"] and check["error"] <= check["tolerance"] for check in result["checks"].values())
    for name, timing in result["timings"].items():
        assert timing["seconds"] > 0
        assert name.startswith("blocks/") or timing["compile_seconds"] > 0
        assert name.startswith("blocks/") or timing["bandwidth_share"] > 0
    for trial in result["precision"].values():
        assert list(trial) == ["default", "tensorfloat32", "bfloat16", "highest"]
        assert all(one["error"] < 1e-4 and one["seconds"] > 0 for one in trial.values())
    assert "DOES NOT HOLD" not in run.stdout
    assert "timings/als" in run.stderr


def test_a_wrong_list_does_not_hold_and_is_the_exit_status(tmp_path, monkeypatch, capsys):
    right = checks.top_n

    def wrong(*given, **settings):
        found = right(*given, **settings)
        return found._replace(item=np.roll(found.item, 1, axis=0))

    arguments = ["--quick", "--only", "checks/top_n/linear", "--json", str(tmp_path / "out.json")]
    assert accelerator.main(arguments) == 0
    monkeypatch.setattr(checks, "top_n", wrong)
    assert accelerator.main(arguments) == 1
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["checks"]) == ["top_n/linear"]
    assert not result["checks"]["top_n/linear"]["holds"]
    assert "DOES NOT HOLD  top_n/linear" in capsys.readouterr().out


def test_a_row_that_is_off_or_no_number_does_not_hold():
    exact = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert relative_error(exact, exact) == 0
    assert relative_error(exact + np.array([[0, 0], [0, 1e-3]]), exact) == pytest.approx(1e-3)
    assert checks.Verdict(1e-5, 1e-4).told()["holds"]
    assert not checks.Verdict(1e-3, 1e-4).told()["holds"]
    assert checks.Verdict(relative_error(exact * np.nan, exact), 1e-4).told() == {
        "error": None,
        "tolerance": 1e-4,
        "holds": False,
    }


def test_lists_are_held_to_their_places_their_scores_and_different_items():
    exact = np.array([[4.0, 2.0, 2.0, 1.0]])
    assert checks.misplaced(np.array([[0, 2]]), np.array([[4.0, 2.0]]), exact) == 0  # a tie
    assert checks.misplaced(np.array([[0, 3]]), np.array([[4.0, 1.0]]), exact) == 0.25
    assert checks.misplaced(np.array([[0, 1]]), np.array([[4.0, 2.5]]), exact) == 0.125
    assert checks.misplaced(np.array([[0, 0]]), np.array([[4.0, 4.0]]), exact) == np.inf


@pytest.mark.parametrize("kernel", reference.KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_rows_in_float64_are_those_of_the_tests_own_oracle(problem, kernel):
    others, rating, weight, mean, precision, offset = problem
    row = Row(kernel, offset, others, rating, weight, mean, precision, np.zeros((len(mean), len(mean))))
    expected = problem.solve(kernel)
    np.testing.assert_allclose(row.solve(expected + 0.01), expected, rtol=1e-6, atol=1e-7)
    assert row.loss(mean) == pytest.approx(problem.loss(kernel, mean))


def test_made_blocks_are_those_of_the_package():
    stack = made.stack(np.random.default_rng(0), made.Size(64, 50, 64 * 32), 16)
    rng = np.random.default_rng(0)
    stars = rng.integers(1, 11, 64 * 32).astype(np.float32) / 2
    item, user = rng.integers(0, 50, 64 * 32, np.int32), np.repeat(np.arange(64, dtype=np.int32), 32)
    (expected,) = histories.blocks(
        made.Ratings(user, item, stars, np.ones_like(stars), n_users=64, n_items=50), pages=16
    )
    jax.tree.map(np.testing.assert_array_equal, stack, expected)


def test_made_ratings_have_a_long_tail():
    ratings = made.ratings(np.random.default_rng(0), made.Size(138, 2_700, 20_000))
    n = np.sort(np.bincount(ratings.item, minlength=2_700))[::-1]
    assert len(ratings) == 20_000
    assert n[:270].sum() > 0.6 * n.sum()
    assert n.max() < 0.1 * n.sum()


def test_known_devices_have_stated_peaks_and_others_measured_ones(monkeypatch):
    bench = timings.Bench(accelerator.QUICK[1], 0)
    assert bench.peaks.source == "measured"
    assert bench.peaks.bandwidth > 0
    monkeypatch.setitem(roofline.STATED, jax.local_devices()[0].device_kind, roofline.Peaks(1.0, 2.0))
    assert timings.Bench(accelerator.QUICK[1], 0).peaks == (1.0, 2.0, "stated")


def test_an_error_is_written_down_and_the_others_go_on(capsys):
    def fails():
        raise MemoryError("no room")

    kept = []
    given = [accelerator.Part(group, "one", fails) for group in ("checks", "timings")]
    found = accelerator.measured([*given, accelerator.Part("timings", "two", lambda: {"seconds": 1.0})], 1, kept.append)
    assert found["timings"] == {"one": {"error": "MemoryError: no room"}, "two": {"seconds": 1.0}}
    assert len(kept) == 3
    assert accelerator.failing(found) == ["one: error MemoryError: no room, tolerance None"]
    about = {"versions": {}, "device": {}}
    accelerator.show(about | found)
    assert "Times, one: MemoryError: no room" in capsys.readouterr().out


def test_what_would_begin_too_late_is_skipped_and_said_so(tmp_path, capsys):
    assert accelerator.main(["--quick", "--minutes", "1e-12", "--json", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert {one["skipped"] for group in ("checks", "timings") for one in result[group].values()} == {
        "the 1e-12 minutes were over"
    }
    assert "fold_in/linear: the 1e-12 minutes were over" in capsys.readouterr().out


def test_parts_are_chosen_by_whole_names():
    assert {part.group for part in accelerator.chosen(parts(), "checks")} == {"checks"}
    assert [part.path for part in accelerator.chosen(parts(), "precision/top_n, checks/top_n/rbf")] == [
        "checks/top_n/rbf",
        "precision/top_n",
    ]
    given = parts()
    assert accelerator.chosen(given, None) == accelerator.chosen(given, "checks,precision,timings") == given


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--only", "timings/al"], "--only 'timings/al': no such part"),
        (["--only", "checks,"], "--only '': no such part"),
        (["--minutes", "0"], "--minutes 0.0: a number of minutes above 0"),
        (["--seed", "-1"], "--seed -1: a whole number of 0 or more"),
        (["--json", "nowhere/at/all.json"], "a file, in a folder that is there"),
    ],
)
def test_what_it_cannot_do_is_refused(wrong, message, capsys):
    with pytest.raises(SystemExit) as refused:
        accelerator.main(["--quick", *wrong])
    assert refused.value.code == 2
    assert message in capsys.readouterr().err
