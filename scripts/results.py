"""The results page's tables, ours over several seeds: `python scripts/results.py --seeds 3`."""

import dataclasses
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anywhere
import numpy as np
import pandas as pd
import picture
import runs
from common import refuse_idle, run, say
from ours import TABLES
from runs import RESULT, SETTINGS

SCRIPTS = Path(__file__).parent
OTHERS = SCRIPTS / "others.csv"
"""What other libraries reach, measured once, one seed: best settings of 3 to 15 tries on the test ratings; of clicks by
`benchmark.py`, of 8 on a validation part."""
ERRORS = ("RMSE", "MAE", "NDCG@10", "recall@20")
KINDS = "anywhere"
"""The tables of `anywhere.py`, which have a page of their own."""
FOLDERS = {"ml_100k": "movielens_100k", "clicks": "epinions"}
"""The tables whose data may not be passed on, and the option that names the folder."""


@dataclasses.dataclass
class Results:
    """Run every setting of a table once a seed, on the same splits, and write the table."""

    seeds: int = 3
    """Seeds of training: 0, 1, …"""
    only: Literal["ratings", "new_users", "ml_100k", "clicks", "search", "anywhere"] | None = None
    """One table alone: held-out ratings of known users, new users, MovieLens 100K, clicks, the time of a search, or
    ratings of six kinds, no setting touched."""
    movielens_100k: Path | None = None
    """Folder of MovieLens 100K, which its table needs, and one of the six kinds."""
    epinions: Path | None = None
    """Folder of Epinions, which the table of clicks needs: train.tsv.gz and test.tsv.gz."""
    movietweetings: Path | None = None
    """Folder of MovieTweetings, which one of the six kinds needs."""
    options: str = ""
    """Options for every run, with an equals sign: `--options="--folds 2 --data ratings.csv"`."""
    out: Path = Path("results/results")
    """Folder for the runs; a run that is there already is not repeated."""
    page: Path | None = None
    """A page with a pair of comments `<!-- NAME: begin -->` and `end` for each table, which is put between them; else
    `results.md` in the folder."""
    anywhere: Path | None = None
    """The page of the six kinds, with such a pair; else `anywhere.md` in the folder."""
    pictures: Path | None = None
    """Folder for the first page's picture, of new users, and with it the numbers in `scripts/picture.json`; else the
    folder of the runs has both."""
    benchmark: Path | None = None
    """Result of `benchmark.py`, whose times of one user the picture has; else it keeps those that it had."""

    def __post_init__(self) -> None:
        if not self.seeds >= 1:
            raise ValueError(f"--seeds must be 1 or more, got {self.seeds}: it is how often each setting is run")
        if self.only in FOLDERS and _folder(self, self.only) is None:
            option = FOLDERS[self.only].replace("_", "-")
            raise ValueError(f"the table {self.only} needs the data: give the folder with --{option}")
        if self.only not in (None, "ml_100k", KINDS):
            refuse_idle(self, ("movielens_100k",), f"for the table {self.only}: drop --only")
        if self.only not in (None, "clicks"):
            refuse_idle(self, ("epinions",), f"for the table {self.only}: drop --only")
        if self.only not in (None, KINDS):
            refuse_idle(self, ("movietweetings", "anywhere"), f"for the table {self.only}: drop --only")
        if self.only not in (None, "new_users"):
            refuse_idle(
                self, ("pictures", "benchmark"), f"for the table {self.only}, which has no picture: drop --only"
            )
        if self.only == KINDS:
            refuse_idle(self, ("page",), f"for the table {self.only}, whose page --anywhere names: drop --only")
        if self.only == KINDS or (self.only is not None and not TABLES[self.only].repeated):
            refuse_idle(self, ("seeds",), f"for the table {self.only}, a single run: drop --only")


def measured(folder: Path, script: str, options: list[str]) -> dict[str, Any]:
    """The result of a run, which is run if it isn't there, was interrupted, or had other options."""
    kept = json.loads((folder / SETTINGS).read_text())["argv"] if (folder / SETTINGS).exists() else None
    asked = [*options, "--run", str(folder)]
    if kept != asked or not (folder / RESULT).exists():
        if kept is not None:
            shutil.rmtree(folder)
        done = subprocess.run([sys.executable, SCRIPTS / script, *asked], check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise ValueError(f"{script} {shlex.join(options)} failed (status {done.returncode}): its message is above")
    return json.loads((folder / RESULT).read_text())


def seeded(args: Results, name: str, at: int) -> list[dict[str, Any]]:
    """The results of a table's setting, one a seed."""
    of = TABLES[name]
    system, setting = list(of.settings.items())[at]
    options = shlex.split(f"{setting} {_data(args, name)} {args.options} {_splits(setting)} --seed")
    found = []
    for seed in range(args.seeds if of.repeated else 1):
        say(f"{system}, seed {seed}")
        found.append(measured(args.out / f"{name}-{at}-{seed}", of.script, [*options, str(seed)]))
    return found


def _folder(args: Results, name: str) -> Path | None:
    """The folder that a table's data are in, where it needs one."""
    return getattr(args, FOLDERS[name]) if name in FOLDERS else None


def _data(args: Results, name: str) -> str:
    return f"--data {shlex.quote(str(_folder(args, name)))}" if name in FOLDERS else ""


def _splits(setting: str) -> str:
    """The official folds are not drawn, so that they have no seed."""
    return "" if "--official" in setting else "--split-seed 0"


def paint(args: Results, times: Mapping[str, Any]) -> None:
    """The first page's picture: new users' errors by the first setting of their table, and one user's times."""
    found = {"new_users": picture.curves(seeded(args, "new_users", 0)), **times}
    measured = picture.MEASURED if args.pictures else args.out / picture.MEASURED.name
    picture.draw(picture.keep(measured, found), args.pictures or args.out)
    if not times:
        say(f"one user's times are those that {measured} had, if any: --benchmark FILE takes those of benchmark.py")


def table(args: Results, name: str) -> str:
    """A Markdown table, others' rows and then ours, mean ± standard deviation over the seeds; and our commands."""
    of, commands, ours = TABLES[name], [], []
    seeds = range(args.seeds if of.repeated else 1)
    for at, (system, setting) in enumerate(of.settings.items()):
        found = [of.rows(system, result) for result in seeded(args, name, at)]
        ours += [{"system": row, **cells([one[row] for one in found])} for row in found[0]]
        shown = shlex.join(
            shlex.split(f"{setting} {'--data FOLDER' * bool(_data(args, name))} {args.options} {_splits(setting)}")
        )
        commands.append(f"python scripts/{of.script} {shown} --seed {'$seed' if len(seeds) > 1 else 0}")
    text = pd.DataFrame(others(name) + ours).fillna("").to_markdown(index=False, disable_numparse=True)
    lines = "\n".join(commands)
    if len(seeds) > 1:
        lines = f"for seed in {' '.join(map(str, seeds))}; do\n{textwrap.indent(lines, '  ')}\ndone"
    return f"{text}\n\n```shell\n{lines}\n```\n"


def kinds(args: Results) -> str:
    """The tables of `anywhere.py`, of one run over the sets whose ratings are at hand, its machine and its command."""
    given = {"--movielens-100k": args.movielens_100k, "--movietweetings": args.movietweetings}
    folders = {option: str(folder) for option, folder in given.items() if folder is not None}
    options, folder = [*shlex.split(args.options), "--seed", "0"], args.out / f"{KINDS}-0-0"
    say("every method on ratings of six kinds, seed 0")
    text = anywhere.tables(measured(folder, "anywhere.py", [*itertools.chain(*folders.items()), *options]))
    on = runs.read(folder).versions
    machine = f"{on['cpu']}, cores: {on['cores']}, {on['system']}, Python {on['python']}, jax {on['jax']}"
    shown = shlex.join([*itertools.chain(*((option, "FOLDER") for option in folders)), *options])
    return f"{text}\nOne run on {machine}:\n\n```shell\npython scripts/anywhere.py {shown}\n```\n"


def others(name: str) -> list[dict[str, str]]:
    """Others' rows of a table."""
    rows = [row for row in pd.read_csv(OTHERS).to_dict(orient="records") if row.pop("table") == name]
    return [{"system": str(row.pop("system")), **cells([row])} for row in rows]


def cells(rows: Sequence[Mapping[Any, float]]) -> dict[str, str]:
    """A row's texts, of its numbers over the seeds: errors as mean ± standard deviation, times as medians."""
    frame = pd.DataFrame(rows).dropna(axis=1)
    texts = {}
    for name in map(str, frame):
        values = frame[name].to_numpy(float)
        median = float(np.median(values))
        if name in ERRORS:
            texts[name] = f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")
        else:
            texts[name] = f"{median:.3g}" if median < 100 else f"{median:,.0f}"
    return texts


def put(page: str, name: str, text: str) -> str:
    """The page with the text between the comments that bear its name.

    Raises:
        ValueError: If the page has no such pair.
    """
    begin, end = (f"<!-- {name}: {what} -->" for what in ("begin", "end"))
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has no {begin} … {end}: write the two lines where the table {name} shall stand")
    return f"{before}{begin}\n{text}{end}{after}"


def by_page(args: Results, chosen: Sequence[str]) -> dict[str, Path]:
    """The page that each table is put into."""
    tables, own = args.page or args.out / "results.md", args.anywhere or args.out / "anywhere.md"
    return {name: own if name == KINDS else tables for name in chosen}


def text_of(args: Results, page: Path, names: Sequence[str]) -> str:
    """A page as it is given, or one of nothing but places for the tables."""
    if page in (args.page, args.anywhere):
        return page.read_text()
    return "".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in names)


def main(args: Results) -> None:
    """Write the tables asked for."""
    every = [name for name in TABLES if name not in FOLDERS or _folder(args, name)]
    chosen = [args.only] if args.only else [*every, KINDS]
    pages = by_page(args, chosen)
    texts = {page: text_of(args, page, [name for name in chosen if pages[name] == page]) for page in pages.values()}
    for name, page in pages.items():
        put(texts[page], name, "")  # refused before hours of runs
    times = {} if args.benchmark is None else picture.one_user(args.benchmark)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        texts[page] = put(texts[page], name, kinds(args) if name == KINDS else table(args, name))
        page.write_text(texts[page])
    if "new_users" in chosen:
        paint(args, times)
    say(", ".join(map(str, texts)))


if __name__ == "__main__":
    run(main, Results)
