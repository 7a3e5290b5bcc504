"""The scaling script: each size in a process of its own, more sweeps nearer to the truth, and what it refuses."""

import json

import numpy as np
import pytest
from scaling import Scaling, Truth, main


def test_it_measures_each_size_over_each_number_of_devices(tmp_path, capsys):
    main(Scaling(ratings=(6000,), devices=(1, 2), rank=4, epochs=2, json=tmp_path / "s.json", plots=tmp_path))
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [row["devices"] for row in rows] == [1, 2]
    assert all(row["seconds_a_sweep"] > 0 and row["bytes_a_rating"] > 0 for row in rows)
    assert rows[0]["rmse_of_the_truth"] == pytest.approx(rows[1]["rmse_of_the_truth"], rel=1e-3)
    assert rows[0]["rmse_of_the_truth"] < 1.2
    assert (tmp_path / "scaling.png").exists()
    assert "ns_a_rating" in capsys.readouterr().out


def test_ratings_are_the_truth_but_for_noise():
    rng = np.random.default_rng(0)
    truth = Truth(rng, 50, 40)
    ratings = truth.ratings(rng, 5000)
    away = ratings.rating - truth(ratings.user, ratings.item)
    assert 0.5 < away.std() < 0.8
    assert 0.5 <= ratings.rating.min() <= ratings.rating.max() <= 5


@pytest.mark.parametrize("wrong", [{"ratings": (10,)}, {"ratings": ()}, {"devices": (0,)}, {"epochs": 1}])
def test_what_it_refuses(wrong):
    with pytest.raises(ValueError, match="give numbers of"):
        Scaling(**wrong)
