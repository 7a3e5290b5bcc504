"""Data sets: sizes that are known, files in any format, refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from jaxmf.data import datasets


def test_movielens_small_is_the_notebooks_file(shared):
    data = datasets.movielens_small()
    assert (len(data.ratings), data.ratings.n_users, data.ratings.n_items) == (100_004, 671, 9_066)
    file = datasets.the_movies_dataset(shared / "data/the-movies-dataset")
    for name in ("user", "item", "rating"):
        np.testing.assert_array_equal(getattr(file.ratings, name), getattr(data.ratings, name))
    assert file.users == data.users
    assert file.items == data.items


def test_movielens_100k_and_its_official_folds(shared):
    folder = shared / "data/ml-100k"
    data = datasets.movielens_100k(folder)
    assert (len(data.ratings), data.ratings.n_users, data.ratings.n_items) == (100_000, 943, 1_682)
    folds = datasets.movielens_100k_folds(folder)
    assert list(folds) == ["u1", "u2", "u3", "u4", "u5", "ua", "ub"]
    assert all(len(fold.test) == 20_000 for name, fold in folds.items() if name[1].isdigit())
    tests = np.concatenate([folds[f"u{at}"].test for at in range(1, 6)])
    np.testing.assert_array_equal(np.sort(tests), np.arange(100_000))


def test_official_folds_in_both_forms(tmp_path):
    lines = [f"{user}\t{item}\t{3 + user % 3}\t{user + item}" for user in range(1, 4) for item in range(1, 5)]
    (tmp_path / "u.data").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="no official folds"):
        datasets.movielens_100k_folds(tmp_path)
    (tmp_path / "u1.test").write_text("\n".join(lines[2:5]) + "\n")
    assert datasets.movielens_100k_folds(tmp_path)["u1"].test.tolist() == [2, 3, 4]
    (tmp_path / "test_rows.json").write_text(json.dumps({"u1": [0, 7]}))
    split = datasets.movielens_100k_folds(tmp_path)["u1"]
    assert split.test.tolist() == [0, 7]
    assert len(split.train) == 10


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files(tmp_path, ending):
    frame = pd.DataFrame({"who": ["a", "b"], "what": [1, 2], "stars": [3.0, 4.0], "at": [1, 2]})
    path = tmp_path / f"ratings.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    data = datasets.read(path, user="who", item="what", rating="stars", timestamp="at")
    assert data.ratings.rating.tolist() == [3, 4]
    assert data.users.decode([0]).tolist() == ["a"]


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*: give the path"):
        datasets.read(tmp_path / "none.csv")


def test_a_file_of_clicks_needs_no_rating(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("user,item\na,1\na,1\nb,2\n")
    ratings = datasets.read(datasets.File(path, sep=","), rating=None).ratings
    assert ratings.rating.tolist() == [1, 1]
    assert ratings.weight.tolist() == [2, 1]
