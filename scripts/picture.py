"""The first page's picture, of numbers that runs have measured: `python scripts/picture.py`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import runs
from common import run, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURED = Path(__file__).parent / "picture.json"
"""The numbers that are drawn, as the last runs of `results.py` and `benchmark.py` had them."""


class Theme(NamedTuple):
    """Colours on a page of one brightness."""

    ours: str
    other: str
    text: str
    grid: str


THEMES = {
    "light": Theme("#0b62c4", "#6b7280", "#24292f", "#d8dee4"),
    "dark": Theme("#66b2ff", "#9aa4b0", "#e6edf3", "#3a424d"),
}


@dataclasses.dataclass
class Picture:
    """Draw the picture anew."""

    measured: Path = MEASURED
    """File of the numbers."""
    benchmark: Path | None = None
    """Result of `benchmark.py`, whose times of one user replace those in the file; else they stay."""
    out: Path = Path("docs/_static")
    """Folder for the SVG files: two halves, each for a light and for a dark page."""


def curves(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """RMSE by ratings revealed, from results of `fold_in_timing.py`, the mean over its seeds."""
    names = results[0]["curve"]
    mean = {name: np.mean([one["curve"][name] for one in results], axis=0).round(4).tolist() for name in names}
    return {"revealed": results[0]["revealed"], "seeds": len(results), "rmse": mean}


def one_user(benchmark: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one user's fold-in, from a result of `benchmark.py`, by the name that the file keeps them under.

    Raises:
        ValueError: If there is no such file, or it is of another measurement or of tiny sizes.
    """
    result = _read(benchmark)
    times = result.get("fold_in_single_ms")
    if not times or result["quick"]:
        raise ValueError(
            f"{benchmark} has no times of one user at full size: make it by `make benchmark`, or leave --benchmark out"
        )
    return {"one_user_ms": {name: float(f"{time:.4g}") for name, time in times.items()}}


def _read(path: Path) -> dict[str, Any]:
    """The numbers in a file; none where there is no such file."""
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} can't be read ({error}): make it anew, or name another file") from None


def keep(measured: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers in the file, which those found replace."""
    numbers = {**_read(measured), **found}
    runs.write(measured, numbers)
    return numbers


def draw(numbers: Mapping[str, Any], out: Path) -> None:
    """Both halves for either brightness, as far as they were measured: `new_user_rmse_light.svg` and so on."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    for half, (of, panel) in {"rmse": ("new_users", accuracy), "ms": ("one_user_ms", times)}.items():
        for name, theme in THEMES.items() if of in numbers else ():
            with mpl.rc_context(_settings(theme)):
                figure, axes = plt.subplots(figsize=(5.6, 3.9), layout="constrained")
                panel(axes, numbers[of], theme)
                # Without a date, and with names made of the content, the same numbers are the same file.
                figure.savefig(out / f"new_user_{half}_{name}.svg", transparent=True, metadata={"Date": None})
                plt.close(figure)


def accuracy(axes: "Axes", found: Mapping[str, Any], theme: Theme) -> None:
    """RMSE by ratings revealed: folded in, retrained, and as before."""
    revealed, rmse = found["revealed"], found["rmse"]
    at = range(len(revealed))
    before = rmse["fold-in"][0]
    axes.axhline(before, color=theme.other, ls=":", lw=1.6, label="nothing folded in")
    axes.plot(
        at, rmse["full retrain"], color=theme.other, lw=7, alpha=0.45, solid_capstyle="round", label="full retrain"
    )
    axes.plot(at, rmse["fold-in"], color=theme.ours, lw=2, marker="o", ms=5, label="folded in")
    axes.legend(frameon=False, loc="lower left")
    axes.set_xticks(at, [str(count) for count in revealed])
    axes.set(title="A new user's error, by ratings known", xlabel="ratings revealed, at most", ylabel="RMSE")
    axes.grid(axis="y")


def times(axes: "Axes", found: Mapping[str, float], theme: Theme) -> None:
    """A line a system, the fastest on top: its name, and its milliseconds on a logarithmic scale."""
    order = sorted(found, key=found.__getitem__, reverse=True)
    left, right = min(found.values()) / 2.5, max(found.values()) * 4
    for at, name in enumerate(order):
        color = theme.ours if name.startswith("jaxmf") else theme.other
        axes.hlines(at, left, found[name], color=color, lw=2)
        axes.plot(found[name], at, "o", color=color, ms=7)
        axes.annotate(name, (left, at), (2, 5), textcoords="offset points", color=color, weight="bold")
        axes.annotate(f"{found[name]:.2g}", (right, at), (0, 5), textcoords="offset points", ha="right", weight="bold")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlim=(left, right), ylim=(-0.5, len(order) - 0.3), yticks=[])
    axes.set(title="One user folded in, milliseconds", xlabel="ms, logarithmic; less is better")
    axes.spines["left"].set_visible(False)


def _settings(theme: Theme) -> dict[str, Any]:
    coloured = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(coloured, theme.text),
        "axes.edgecolor": theme.grid,
        "grid.color": theme.grid,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 13,
        "axes.titleweight": "bold",
        "font.size": 11,
        "svg.hashsalt": "jaxmf",
    }


def main(args: Picture) -> None:
    """Take over new times, if any, and draw."""
    if args.benchmark is None and not args.measured.is_file():
        raise ValueError(
            f"{args.measured} is not there: `make results` measures what it has; or name it with --measured"
        )
    found = {} if args.benchmark is None else one_user(args.benchmark)
    draw(keep(args.measured, found), args.out)
    say(f"{args.out}")


if __name__ == "__main__":
    run(main, Picture)
