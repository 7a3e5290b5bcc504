"""Is a device right, and how fast is it? `python scripts/accelerator.py --json accelerator.json`.

Answers beside float64 on the host, then what a product's precision costs, then times, memory and shares of the device's
peaks. Of made-up ratings, and with nothing but what jaxmf itself needs.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from accelerating import checks, made, precision, timings

import jaxmf

MINUTES = 6.0

QUICK = (
    checks.Sizes(made.Size(30, 60, 600), 8, made.Size(40, 30, 160), 4, 1_000, 4, made.Size(20, 3_000, 0), 8),
    timings.Sizes(
        rated=4,
        fold_in_ranks=(4,),
        users=(20, 200),
        large=made.Size(40, 30, 160),
        ranks=(4,),
        gibbs_rank=4,
        ranked=made.Size(20, 100, 0),
        rounds=(2, 3),
        copied=(2**16, 64),
    ),
    precision.Sizes(made.Size(30, 60, 600), 8, made.Size(40, 30, 160), made.Size(20, 100, 0), 8, 2),
)
"""Sizes that a test passes through."""


class Sizes(NamedTuple):
    """How much is checked, timed and tried."""

    checked: checks.Sizes = checks.Sizes()
    timed: timings.Sizes = timings.Sizes()
    tried: precision.Sizes = precision.Sizes()


class Part(NamedTuple):
    """Something to measure, by group and name."""

    group: str
    name: str
    measure: Callable[[], Any]

    @property
    def path(self) -> str:
        """What `--only` knows it by."""
        return f"{self.group}/{self.name}"

    def within(self, path: str) -> bool:
        """Whether it is this part or one under it."""
        return f"{self.path}/".startswith(f"{path}/")


def parts_of(sizes: Sizes, seed: int, bench: timings.Bench) -> list[Part]:
    """All there is to measure, in order: what is right comes first, what takes longest last."""
    checked = {name: lambda check=check: check().told() for name, check in checks.every(sizes.checked, seed).items()}
    groups = {
        "checks": checked,
        "precision": precision.every(sizes.tried, seed),
        "timings": timings.every(bench),
    }
    return [Part(group, name, measure) for group, of in groups.items() for name, measure in of.items()]


def chosen(parts: Sequence[Part], only: str | None) -> list[Part]:
    """The parts that `--only` names, and all without it.

    Raises:
        ValueError: If one of the names is none.
    """
    if only is None:
        return list(parts)
    paths = [path.strip().rstrip("/") for path in only.split(",")]
    for path in paths:
        if not any(part.within(path) for part in parts):
            known = ", ".join(part.path for part in parts)
            raise ValueError(f"--only {path!r}: no such part; it takes groups, families or parts of {known}")
    return [part for part in parts if any(part.within(path) for path in paths)]


def measured(
    parts: Sequence[Part], minutes: float, keep: Callable[[dict[str, dict[str, Any]]], None]
) -> dict[str, dict[str, Any]]:
    """What each part finds, or why there is nothing, by group and name; kept after each, in case the next fails."""
    found: dict[str, dict[str, Any]] = {"checks": {}, "timings": {}, "precision": {}}
    began = time.perf_counter()
    for at, part in enumerate(parts, 1):
        spent = time.perf_counter() - began
        if spent > 60 * minutes:
            result: Any = {"skipped": f"the {minutes:g} minutes were over"}
        else:
            tell(f"{spent:6.1f} s  {at}/{len(parts)}  {part.path}")
            result = attempted(part)
        found[part.group][part.name] = result
        keep(found)
    return found


def attempted(part: Part) -> Any:  # noqa: ANN401 what the part finds
    """What a part finds, or its error."""
    try:
        return part.measure()
    except Exception as error:  # whatever goes wrong in one, the device's memory for one, the others are to go on
        text = f"{type(error).__name__}: {error}".strip()
        tell(f"          {text.splitlines()[0][:200]}")
        return {"error": text[:2000]} | ({"tolerance": None, "holds": False} if part.group == "checks" else {})


def about(bench: timings.Bench) -> dict[str, dict[str, Any]]:
    """What runs here, and where."""
    device = jax.local_devices()[0]
    versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": version("jaxlib")}
    versions |= {"jaxmf": jaxmf.__version__, "numpy": np.__version__}
    facts = {"kind": device.device_kind, "platform": device.platform, "devices": jax.local_device_count()}
    facts["memory_bytes"] = (device.memory_stats() or {}).get("bytes_limit")
    facts |= {"peaks": bench.peaks._asdict(), "reached": bench.reached._asdict()}
    return {"versions": versions, "device": facts}


def show(result: dict[str, dict[str, Any]]) -> None:
    """The numbers as tables."""
    for title in ("versions", "device"):
        told = ", ".join(f"{name} {text(value)}" for name, value in result[title].items())
        say(f"{title}: {told}")
    tabled("Errors against float64", result["checks"], ("error", "tolerance", "holds"))
    columns = ("seconds", "microseconds_a_user", "compile_seconds", "bytes", "flops", "bandwidth_share", "flops_share")
    tabled("Times", result["timings"], (*columns, "program_bytes", "peak_bytes"))
    for name, of in result["precision"].items():
        tabled(f"Precision: {name}", of if "default" in of else {name: of}, ("error", "seconds"))


def tabled(title: str, rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> None:
    """A table with a row a name, and under it what was not measured."""
    whole = {name: row for name, row in rows.items() if "skipped" not in row and not isinstance(row.get("error"), str)}
    if whole:
        kept = [column for column in columns if any(column in row for row in whole.values())]
        cells = [{"": name} | {column: text(row.get(column)) for column in kept} for name, row in whole.items()]
        say(f"\n{title}\n\n{pd.DataFrame(cells).to_string(index=False)}")
    for name, row in rows.items():
        if name not in whole:
            say(f"\n{title}, {name}: {row.get('skipped') or str(row['error']).splitlines()[0][:200]}")


def text(value: object) -> str:
    """A number in three digits; nothing where there is none."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {text(one)}" for name, one in value.items()) + ")"
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def failing(found: dict[str, dict[str, Any]]) -> list[str]:
    """The checks that don't hold, in words."""
    return [
        f"{name}: error {row['error']}, tolerance {row['tolerance']}"
        for name, row in found["checks"].items()
        if not row.get("holds", True)
    ]


def say(line: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def tell(line: str) -> None:
    """A line of the progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def arguments(given: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line, and the parser that refuses what can't be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--only", help="parts to measure, with commas between: checks, timings/als, precision/top_n, …")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which nothing more is begun")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is random")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    args = parser.parse_args(given)
    if not 0 < args.minutes < float("inf"):
        parser.error(f"--minutes {args.minutes}: a number of minutes above 0")
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: a whole number of 0 or more")
    if args.json is not None and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        parser.error(f"--json {args.json}: a file, in a folder that is there")
    return parser, args


def main(given: Sequence[str] | None = None) -> int:
    """Check, time, tell.

    Returns:
        1 where a check doesn't hold, else 0.
    """
    parser, args = arguments(given)
    sizes = Sizes(*QUICK) if args.quick else Sizes()
    bench = timings.Bench(sizes.timed, args.seed)
    try:
        parts = chosen(parts_of(sizes, args.seed, bench), args.only)
    except ValueError as error:
        parser.error(str(error))
    here = about(bench)

    def keep(found: dict[str, dict[str, Any]]) -> None:
        if args.json is not None:
            args.json.write_text(json.dumps(here | found, indent=1) + "\n")

    result = here | measured(parts, args.minutes, keep)
    show(result)
    wrong = failing(result)
    for line in wrong:
        say(f"\nDOES NOT HOLD  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
