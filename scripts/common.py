"""What the scripts share: which data to read, where results go, how a table and a plot look."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import runs
import tyro

import jaxmf
from jaxmf.data.features import Sides
from jaxmf.data.files import File
from jaxmf.data.ratings import Ratings
from jaxmf.keeping.programs import keep_programs

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from matplotlib.axes import Axes


@dataclasses.dataclass
class Output:
    """Where a script leaves its results."""

    json: Path | None = None
    """File for the numbers."""
    plots: Path | None = None
    """Folder for the plots (PNG)."""
    run: Path | None = None
    """New folder for all that is known of this run: settings, versions, metrics by epoch, numbers and plots."""

    tensorboard, cache = False, False  # no options where nothing is trained

    @functools.cached_property
    def folder(self) -> runs.Folder | None:
        """Where `--run` keeps this run, made when it is first asked for."""
        if self.run is None:
            if self.tensorboard:
                raise ValueError("--tensorboard writes into the run's folder: name one with --run")
            return None
        return runs.Folder(self.run, dataclasses.asdict(self), tensorboard=self.tensorboard)

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """The time of the run: what it can't write to is refused before, a folder without a number is free after."""
        for option, given, file in (("json", self.json, ""), ("plots", self.plots, "plot.png")):
            if given is not None:
                check_writable(f"--{option} {given}", given / file)
        folder = self.folder
        keep_programs(keep=self.cache)
        try:
            yield
        finally:
            if folder is not None:
                folder.free()

    @property
    def pictures(self) -> list[Path]:
        """Folders that plots are kept in: that of `--plots` and the run's."""
        return [folder for folder in (self.plots, self.run) if folder is not None]

    def save(self, result: Mapping[str, Any]) -> None:
        """Write the numbers where `--json` and `--run` say."""
        if self.json is not None:
            runs.write(self.json, result)
        if self.folder is not None:
            self.folder.close(result)

    def plot(self, name: str, title: str, x: str, y: str) -> "Plot":
        """A figure that is saved where `--plots` and `--run` say."""
        return Plot(self.pictures, name, title, x, y)


@dataclasses.dataclass
class Run(Output):
    """Which ratings to use and where to leave the results."""

    data: Path | None = None
    """CSV or Parquet file of ratings, or a folder of The Movies Dataset or ML-100K; else MovieLens latest-small."""
    user: str = "userId"
    """Column of user ids."""
    item: str = "movieId"
    """Column of item ids."""
    rating: str = "rating"
    """Column of ratings."""
    timestamp: str | None = "timestamp"
    """Column of times."""
    seed: int = 0
    """Seed of all that is random."""
    split_seed: int | None = None
    """Seed of the splits, where training has another."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run's folder."""
    cache: bool = True
    """Keep compiled programs for later runs, in the user's cache folder or `JAX_COMPILATION_CACHE_DIR`."""

    def seed_of_splits(self) -> int:
        """The seed that splits are made with."""
        return self.seed if self.split_seed is None else self.split_seed

    def load(self) -> jaxmf.ratings.Dataset:
        """The ratings."""
        data = self._read()
        if self.folder is not None:
            self.folder.made_from(data)
        return data

    def _read(self) -> jaxmf.ratings.Dataset:
        if self.data is None or self.data.is_dir():
            refuse_idle(self, ("user", "item", "rating", "timestamp"), "without a file of ratings: name it with --data")
        if self.data is None:
            return jaxmf.datasets.movielens_small()
        if (self.data / "u.data").exists():
            return jaxmf.datasets.movielens_100k(self.data)
        if self.data.is_dir():
            return jaxmf.datasets.the_movies_dataset(self.data)
        columns = {"user": self.user, "item": self.item, "rating": self.rating, "timestamp": self.timestamp}
        return jaxmf.datasets.read(self.data, **columns)

    def log_epoch(self, epoch: int, numbers: Mapping[str, float], **where: int | str) -> None:
        """Keep one epoch's numbers in the run's folder, as they come."""
        if self.folder is not None:
            self.folder.log(numbers, {**where, "epoch": epoch})

    def log(self, history: Mapping[str, np.ndarray], **where: int | str) -> None:
        """Keep a fit's numbers by epoch in the run's folder, after the fit: nothing looks on while it is timed."""
        for epoch, values in enumerate(zip(*history.values(), strict=True), 1):
            numbers = {name: float(np.mean(value)) for name, value in zip(history, values, strict=True)}
            self.log_epoch(epoch, numbers, **where)


class Plot:
    """`with run.plot(…) as axes:` draws a figure and saves it in each of the folders."""

    def __init__(self, folders: Sequence[Path], name: str, title: str, x: str, y: str) -> None:
        self.folders, self.name, self.labels = folders, name, (title, x, y)

    def __enter__(self) -> "Axes":
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        self.figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        title, x, y = self.labels
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        return axes

    def __exit__(self, *error: object) -> None:
        from matplotlib import pyplot as plt

        axes = self.figure.axes[0]
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
            self.figure.savefig(folder / f"{self.name}.png", dpi=160)
        plt.close(self.figure)


def check_writable(option: str, file: Path) -> None:
    """Refuse a file that can't be written, whose folder is made; the file stays as it is.

    Raises:
        ValueError: If it is a folder, or its folder can't be made or written to.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("a").close()
        if new:
            file.unlink()
    except OSError as error:
        raise ValueError(
            f"{option} can't be written ({error.strerror}): --json takes a file, --plots a folder, where you may write"
        ) from None


def refuse_idle(args: "DataclassInstance", names: Iterable[str], where: str) -> None:
    """Refuse what would do nothing there; `where` ends in the remedy.

    Raises:
        ValueError: If one of the options is given another value than its default.
    """
    for field in dataclasses.fields(args):
        value, option = getattr(args, field.name), field.name.replace("_", "-")
        if field.name in names and value != field.default:
            given = f"--{option} {value}" if not isinstance(value, bool) else f"--{'no-' * (not value)}{option}"
            raise ValueError(f"{given} does nothing {where}, or leave it out")


def movietweetings(folder: Path) -> jaxmf.ratings.Dataset:
    """MovieTweetings (`ratings.dat` in `folder`, whose columns have no names)."""
    file = File(folder / "ratings.dat", sep="::", names=["user", "item", "rating", "timestamp"])
    return jaxmf.datasets.read(file, timestamp="timestamp")


def features_of(kind: str, ratings: Ratings) -> Sides:
    """What `--features` asks for, of the ratings that are trained on: "none", or "implicit" feedback of both sides."""
    return jaxmf.features.implicit_sides(ratings) if kind == "implicit" else Sides()


def process_bytes(name: str) -> int | None:
    """Bytes of this process: `VmRSS` what it holds, `VmHWM` the most that it held; `None` where no Linux says."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


def text(value: Any) -> str:  # noqa: ANN401
    """A number in four digits, or several by name."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table."""
    print(f"\n{title}\n")
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)


def run(main: Callable[[Any], None], kind: type) -> None:
    """Read the command line as a `kind` and run `main`; bad input ends in its message, without a traceback."""
    try:
        args = tyro.cli(kind)
        with args.begun() if isinstance(args, Output) else contextlib.nullcontext():
            main(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
