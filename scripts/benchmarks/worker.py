"""One system's process: `python -m benchmarks.worker MODULE MEASUREMENT TASK`, then a line of JSON a turn.

It says which entries it has, then waits; for each line that names one it measures once and answers. Between turns it
sleeps, so that systems can take turns and nothing else runs at the time.
"""

import importlib
import json
import os
import sys
from pathlib import Path

from benchmarks.task import Rounds, Task

CORES = {
    "fold_in_single": 1,
    "fold_in_single_by_users": 1,
    "recommend": 2,
    "clicks": 2,
    "clicks_one": 1,
    "clicks_many": 2,
    "clicks_written": 1,
}
"""Cores that every system has for a measurement; else all. One for one request at a time: a request that wakes another
core waits for it."""


def set_up(module: str, measurement: str, task: Task) -> Rounds:
    """The turns of a library's measurement: its own, or of clicks that which is the same for every `SYSTEM`."""
    library = importlib.import_module(module)
    own = getattr(library, measurement, None)
    if own is not None:
        return own(task)
    return getattr(importlib.import_module("benchmarks.clicking"), measurement)(task, library.SYSTEM)


def main(module: str, measurement: str, path: str) -> None:
    """Set up once, then measure whenever asked to."""
    if measurement in CORES and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-CORES[measurement] :])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(**fields: object) -> None:
        print(json.dumps(fields, default=float), file=answers)

    try:
        rounds = set_up(module, measurement, Task.load(Path(path)))
        answer(entries=list(rounds))
        for line in sys.stdin:
            answer(result=rounds[json.loads(line)]())
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
    os._exit(0)  # without waiting for threads that hang


if __name__ == "__main__":
    main(*sys.argv[1:])
