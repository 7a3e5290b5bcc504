"""A stream learnt from nothing: what is predicted was not seen before, and what is measured is what was predicted."""

import json
import sys

import common
import numpy as np
import pandas as pd
import pytest
import replay
from streams import ours
from streams.ours import Pace, Stream

import jaxmf


@pytest.fixture(scope="module")
def frame():
    """Ratings whose users and items differ, in no order of time."""
    rng, n = np.random.default_rng(0), 400
    pairs = rng.choice(25 * 20, n, replace=False)
    taste, quality = rng.normal(size=25), rng.normal(size=20)
    rating = np.clip(np.round(3 + taste[pairs // 20] + quality[pairs % 20]), 1, 5)
    return pd.DataFrame({"user": pairs // 20, "item": pairs % 20, "rating": rating, "time": rng.permutation(n)})


@pytest.fixture(scope="module")
def stream(frame):
    return Stream.of(jaxmf.ratings.from_frame(frame, timestamp="time"))


def test_a_stream_is_in_order_of_time(frame, stream):
    np.testing.assert_array_equal(stream.rating, frame.sort_values("time")["rating"])
    assert stream.scale == (1, 5)
    assert [event.rating for event in stream.events(2, 5)] == stream.rating[2:5].tolist()
    assert len(stream.until(7).rating) == len(stream.until(7).user) == 7


def test_running_means_know_only_what_came_before():
    stream = Stream(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([5.0, 1.0, 2.0]), (1.0, 5.0))
    found = replay.baselines(stream)
    np.testing.assert_allclose(found["mean so far"][0], [3, 4, 3])
    above = 5 - 3
    np.testing.assert_allclose(found["damped biases"][0], [3, 4 + above / 6, 3 + above / 6])
    row = replay.measured(stream, np.array([9.0, 1.0, 1.0]), np.array([1.0, np.nan, 0.5]), 2.0)
    expected = {"rmse": np.sqrt(1 / 3), "mae": 1 / 3, "coverage": 0.5, "events_per_second": 1.5}
    assert row == pytest.approx(expected)


def test_rows_that_follow_beat_fits_alone_and_the_future_changes_nothing(stream, monkeypatch):
    monkeypatch.setattr(ours, "RANK", 2)
    changed = stream._replace(rating=np.where(np.arange(400) < 200, stream.rating, 6 - stream.rating))
    here, there = (ours.replay(one, "point", Pace(10, 60, 1.0), keep=[150]) for one in (stream, changed))
    np.testing.assert_array_equal(here.online[:200], there.online[:200])
    np.testing.assert_array_equal(here.fitted[:200], there.fitted[:200])
    online, fitted, mean = (
        np.mean((predicted[60:] - stream.rating[60:]) ** 2)
        for predicted in (here.online, here.fitted, replay.baselines(stream)["mean so far"][0])
    )
    assert online < fitted < mean
    assert len(here.kept[150].history) == 150
    (row,) = ours.against_refit(stream, here.kept, 100)
    assert row["seen"] == 150
    assert row["online"] == pytest.approx(row["refit"], abs=0.15)


def test_the_script_says_what_it_found(frame, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ours, "RANK", 2)
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    columns = ["--user", "user", "--item", "item", "--rating", "rating", "--timestamp", "time"]
    told = ["--data", tmp_path / "ratings.csv", *columns, "--size", "100", "--begin", "150", "--growth", "9"]
    told += ["--latency", "3"]
    told += ["--json", tmp_path / "out.json", "--plots", tmp_path]
    monkeypatch.setattr(sys, "argv", ["scripts/replay.py", *map(str, told)])
    common.run(replay.main, replay.Replay)
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["ratings.csv"]) == {
        "mean so far", "damped biases", "point, fits alone", "point", "posterior, fits alone", "posterior",
    }  # fmt: skip
    assert 0 < found["latency"]["p50_ms"] <= found["latency"]["p99_ms"]
    assert (tmp_path / "replay.png").exists()
    assert "400 ratings, 100 at a time" in capsys.readouterr().out


def test_a_stream_that_is_too_short_is_refused(frame, tmp_path, monkeypatch):
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    columns = ["--user", "user", "--item", "item", "--rating", "rating", "--timestamp", "time"]
    monkeypatch.setattr(sys, "argv", ["replay.py", "--data", str(tmp_path / "ratings.csv"), *columns])
    with pytest.raises(SystemExit, match="--begin 500: of a stream of 400 ratings it is from 2 to 200"):
        common.run(replay.main, replay.Replay)
