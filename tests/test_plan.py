"""The plan: a program compiled on shapes alone, of which each device holds its share, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plan import Plan, laid_out

SMALL = {"users": 800, "items": 200, "ratings": 20_000, "rank": 4}


def planned(folder, **more):
    """What the script says, in a process that may still make devices."""
    script, file = Path(__file__).parents[1] / "scripts" / "plan.py", folder / "plan.json"
    given = [f"--{name}={value}" for name, value in (SMALL | more).items()]
    done = subprocess.run(
        [sys.executable, str(script), *given, f"--json={file}"],
        check=True,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    return json.loads(file.read_text())["rows"], done.stdout


def test_it_compiles_what_is_never_made(tmp_path):
    (row,), said = planned(tmp_path)
    assert row["devices"] == 1
    assert row["fits"]
    assert row["user_table_gb"] == pytest.approx(4 * 5 * 800 / 1e9)
    assert row["arguments_gb"] > 20_000 * 24 / 1e9
    assert "fits on 1 devices" in said


def test_it_doubles_devices_until_it_fits(tmp_path):
    rows, _ = planned(tmp_path, devices=2, memory=6e-4)
    assert [row["devices"] for row in rows] == [2, 4, 8, 16, 32][: len(rows)]
    assert len(rows) > 1
    for row in rows:
        assert row["user_table_gb"] == pytest.approx(4 * 5 * 800 / row["devices"] / 1e9)
        assert row["sent_gb"] > 0


def test_all_ratings_have_a_slot():
    args = Plan(**SMALL)
    for side in laid_out(args, 2, 400):
        assert sum(g * p * width for g, _, p, width in side) >= 10_000


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"users": 0}, "above 0"),
        ({"devices": 1000}, "512 at most"),
        ({"pages": 4000}, "between 1"),
        ({"device": "x"}, "H100"),
    ],
)
def test_what_it_refuses(wrong, text):
    with pytest.raises(ValueError, match=text):
        Plan(**wrong)
