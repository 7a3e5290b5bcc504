"""What the scripts share: which data to read, where results go, how a table and a plot look."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import tyro

import jaxmf

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass
class Run:
    """Which data to use and where to leave the results."""

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
    """Seed of splits and of training."""
    json: Path | None = None
    """File for the numbers."""
    plots: Path | None = None
    """Folder for the plots (PNG)."""

    def load(self) -> jaxmf.ratings.Dataset:
        """The ratings."""
        if self.data is None:
            return jaxmf.datasets.movielens_small()
        if (self.data / "u.data").exists():
            return jaxmf.datasets.movielens_100k(self.data)
        if self.data.is_dir():
            return jaxmf.datasets.the_movies_dataset(self.data)
        columns = {"user": self.user, "item": self.item, "rating": self.rating, "timestamp": self.timestamp}
        return jaxmf.datasets.read(self.data, **columns)

    def save(self, result: Mapping[str, Any]) -> None:
        """Write the numbers where `--json` says."""
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            self.json.write_text(json.dumps(result, indent=1, default=float) + "\n")

    def plot(self, name: str, title: str, x: str, y: str) -> "Plot":
        """A figure that is saved where `--plots` says."""
        return Plot(self.plots, name, title, x, y)


class Plot:
    """`with run.plot(…) as axes:` draws and saves a figure; without `--plots` it draws nothing that is kept."""

    def __init__(self, folder: Path | None, name: str, title: str, x: str, y: str) -> None:
        self.folder, self.name, self.labels = folder, name, (title, x, y)

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
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.figure.savefig(self.folder / f"{self.name}.png", dpi=160)
        plt.close(self.figure)


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
        main(tyro.cli(kind))
    except ValueError as error:
        sys.exit(f"error: {error}")
