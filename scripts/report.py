"""Runs beside each other on one page: `python scripts/report.py --runs results/a results/b --out results/page.html`."""

import base64
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import runs
from common import Plot, run, say, text
from markdown_it import MarkdownIt

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left; }}
img {{ max-width: 32rem; width: 100%; }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: .5rem; }}
</style>
{body}
</html>
"""


@dataclasses.dataclass
class Report:
    """Tables and plots of runs that were kept with `--run`."""

    runs: tuple[Path, ...] = ()
    """The runs' folders."""
    out: Path = Path("results/report.html")
    """The page: Markdown (.md) that links to the plots, or one HTML file (.html) that holds them."""
    title: str = "Runs"
    """The page's title."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("--runs names no run: give the folders that scripts wrote under --run")
        if self.out.suffix not in (".md", ".html"):
            raise ValueError(f"--out {self.out} is neither Markdown nor HTML: end its name in .md or .html")


def table(frame: pd.DataFrame) -> str:
    """A Markdown table; the index names the rows."""
    cells = frame.map(lambda value: "" if value is None or value != value else text(value).replace("|", r"\|"))
    cells.index, cells.columns = cells.index.map(str), cells.columns.map(str)
    return cells.to_markdown(disable_numparse=True)


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The columns in which rows differ, and what the others hold in all of them."""
    differ = frame.astype(str).nunique() > 1
    return frame.loc[:, differ], frame.loc[:, ~differ].iloc[0].dropna().to_dict()


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result, those in a mapping with its name in front."""
    flat = pd.json_normalize(dict(result), sep=": ").to_dict("records")[0]
    return {
        name: value for name, value in flat.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def summary(script: str, kept: Mapping[str, runs.Run]) -> Iterable[str]:
    """One script's runs: what differs between them and what came of it, and what they share."""
    settings, shared = split(_frame(kept, lambda one: _without(one.settings["settings"], runs.INCIDENTAL)))
    versions, same = split(_frame(kept, lambda one: one.versions))
    results = _frame(kept, lambda one: _without(measured(one.result), one.settings["settings"]))
    time = _frame(kept, lambda one: {"wall seconds": one.settings["seconds"], "started": one.settings["started"]})
    yield f"## {script}"
    both = pd.concat([settings, results, time, versions], axis=1)
    yield table(both if len(both) >= len(both.columns) else both.T)  # the longer side down
    yield f"The same in all of them: {text(shared)}." if len(kept) > 1 else f"Settings: {text(shared)}."
    yield f"Made with {text(same)}."


def _frame(kept: Mapping[str, runs.Run], row: Callable[[runs.Run], dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row(one) for one in kept.values()], index=list(kept), dtype=object)


def _without(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def details(name: str, one: runs.Run, image: Callable[[Path], str]) -> Iterable[str]:
    """One run: how it was made, its tables (such as that of its folds), its plots."""
    yield f"### {name}"
    yield f"```sh\n{one.command}\n```"
    for of, rows in one.result.items():
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            yield table(pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name=of), dtype=object))
    yield from (f"![{plot.stem}]({image(plot)})" for plot in one.plots)


def curves(kept: Mapping[str, runs.Run], folder: Path, name: str) -> Path | None:
    """A plot of the RMSE by epoch of every run that has one for its folds, the mean over them."""
    with_curve = {name: one for name, one in kept.items() if {"fold", "epoch", "rmse"} <= set(one.metrics)}
    if not with_curve:
        return None
    with Plot([folder], name, "Learning curves, mean over folds", "epoch", "test RMSE") as axes:
        for label, one in with_curve.items():
            curve = one.metrics.pivot_table("rmse", index="epoch", aggfunc="mean")
            axes.plot(curve.index, curve["rmse"], label=label)
    return folder / f"{name}.png"


def page(title: str, kept: Mapping[str, runs.Run], image: Callable[[Path], str], plot: Path | None) -> str:
    """The page as Markdown; `image` makes a plot's address."""
    parts = [f"# {title}"]
    if plot is not None:
        parts.append(f"![learning curves]({image(plot)})")
    for script in sorted({one.settings["script"] for one in kept.values()}):
        group = {name: one for name, one in kept.items() if one.settings["script"] == script}
        parts += summary(script, group)
        for name, one in group.items():
            parts += details(name, one, image)
    return "\n\n".join(parts) + "\n"


def embedded(plot: Path) -> str:
    """A plot as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}"


def named(folders: Sequence[Path]) -> dict[str, runs.Run]:
    """The runs by their folders' names, by their whole paths where two names are the same."""
    folders = list(dict.fromkeys(folders))
    unique = len({folder.name for folder in folders}) == len(folders)
    return {folder.name if unique else folder.as_posix(): runs.read(folder) for folder in folders}


def main(args: Report) -> None:
    """Read the runs, write the page."""
    kept, name = named(args.runs), f"{args.out.stem}_learning_curves"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix == ".md":

        def linked(plot: Path) -> str:
            return quote(Path(os.path.relpath(plot, args.out.parent)).as_posix())

        args.out.write_text(page(args.title, kept, linked, curves(kept, args.out.parent, name)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            markdown = page(args.title, kept, embedded, curves(kept, Path(folder), name))
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
        args.out.write_text(PAGE.format(title=escape(args.title), body=body))
    say(f"{args.out}: {len(kept)} runs")


if __name__ == "__main__":
    run(main, Report)
