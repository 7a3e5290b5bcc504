"""Clicks in the scripts: a folder with a split of its own, a search on training pairs alone, idle options."""

import json
import sys

import clicks
import common
import numpy as np
import pandas as pd
import pytest
import train

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


def start(*arguments):
    """`scripts/train.py` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["scripts/train.py", *map(str, arguments)])
        common.run(train.main, train.Train)


def test_a_folder_with_its_own_split_is_ranked(folder, tmp_path, capsys):
    given = ["--feedback", "clicks", "--data", folder, "--rank", 4, "--background", 0.05, "--factor-reg", 0.05]
    start(*given, "--epochs", 5, "--json", tmp_path / "a.json", "--plots", tmp_path)
    found = json.loads((tmp_path / "a.json").read_text())
    assert {"ndcg10", "recall20", "recall50", "ndcg100", "sweep_seconds"} <= set(found)
    assert found["settings"]["background"] == pytest.approx(0.05)
    assert 0.3 < found["ndcg10"] <= 1
    assert (tmp_path / "objective.png").exists()
    assert "clicks on 30 items by 40 users" in capsys.readouterr().out


def test_a_search_shows_what_it_tried(folder, tmp_path, capsys):
    start(
        "--feedback", "clicks", "--data", folder, "--rank", 2, "--epochs", 2, "--search", "--json", tmp_path / "a.json"
    )
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
        start("--data", folder, *wrong)
    assert said in str(error.value) + capsys.readouterr().err.replace("\n", " ")
