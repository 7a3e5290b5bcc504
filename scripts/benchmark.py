"""jaxmf beside other libraries, in one run on one machine: `python scripts/benchmark.py`."""

import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import clicks
import numpy as np
import runs
from benchmarks import environment, report
from benchmarks.task import Task
from benchmarks.turns import FailedError, Worker, rotation
from common import Run, refuse_idle, run, say, text

import jaxmf

MEASUREMENTS = {
    "fold_in_single": "fold_in_single_ms",
    "fold_in_single_by_users": "fold_in_single_by_users",
    "fold_in_batch": "fold_in_batch_us",
    "fold_in_posterior": "fold_in_posterior_ms",
    "fold_in_by_ratings": "fold_in_by_ratings",
    "train": "train_to_rmse",
    "clicks": "clicks",
    "clicks_one": "clicks_one_ms",
    "clicks_many": "clicks_many_us",
    "clicks_written": "clicks_written_ms",
    "sgd_step": "sgd_step_by_users",
    "recommend": "recommend",
    "keep": "keep",
    "threads": "threads",
}
"""What is measured, and its name in the results."""
CLICKS = tuple(name for name in MEASUREMENTS if name.startswith("clicks"))
"""What `--only clicks` measures."""
TRIALS = "clicks_trials"
"""The settings of each library of clicks, which are measured before its sweeps."""
ONCE = ("threads",)


class Library(NamedTuple):
    """What is measured of a library, by which module, and the distribution it comes in."""

    distribution: str
    module: str
    measurements: tuple[str, ...]


OURS = (
    Library("jaxmf", "jaxmf_", tuple(name for name in MEASUREMENTS if name not in ("keep", *CLICKS))),
    Library("jaxmf", "clicked", (TRIALS, *CLICKS)),
    Library("jaxmf", "keeping", ("keep",)),
)
PEERS = (
    Library("cmfrec", "peers.cmfrec", ("fold_in_single", "fold_in_batch", "train", TRIALS, "clicks")),
    Library("matrix-factorization", "peers.kernelmf", ("fold_in_single", "train")),
    Library("lenskit", "peers.lenskit", ("fold_in_single", "train")),
    Library("implicit", "peers.implicit", ("fold_in_single", "recommend", TRIALS, *CLICKS[:3])),
    Library("irspack", "peers.irspack", (TRIALS, *CLICKS[:3])),
    Library("scikit-surprise", "peers.surprise", ("train",)),
    Library("cornac", "peers.cornac", ("train",)),
    Library("myfm", "peers.myfm", ("train",)),
    Library("river", "peers.river", ("train",)),
)


@dataclasses.dataclass
class Benchmark(Run):
    """Measure jaxmf and its peers."""

    json: Path | None = Path("results/benchmark.json")
    """File for the numbers."""
    plots: Path | None = Path("results")
    """Folder for the table (Markdown) and the plots (PNG)."""
    only: str = ",".join(MEASUREMENTS)
    """What to measure, separated by commas; `clicks` is all of theirs."""
    trials: int = 8
    """Settings that each library of clicks may try on a validation part of the training clicks."""
    rounds: int = 5
    """Turns of each system."""
    quick: bool = False
    """Tiny sizes, to see whether it runs."""
    peers: bool = True
    """Whether to measure others too."""
    environment: Path = Path(".venv-peers")
    """Where the others are installed."""

    @property
    def has_clicks(self) -> bool:
        """Whether the data are a folder of clicks, whose ratings are then the embedded ones."""
        return self.data is not None and (self.data / clicks.FILES[0]).exists()

    @property
    def measurements(self) -> list[str]:
        """What to measure, each once."""
        asked = self.only.split(",")
        return [name for name in MEASUREMENTS if name in asked or (name in CLICKS and "clicks" in asked)]

    @property
    def of_clicks(self) -> bool:
        """Whether any of it is of clicks."""
        return not set(CLICKS).isdisjoint(self.measurements)

    def __post_init__(self) -> None:
        unknown = set(self.only.split(",")) - set(MEASUREMENTS)
        if unknown:
            raise ValueError(f"nothing is called {', '.join(unknown)}: choose from {', '.join(MEASUREMENTS)}")
        refuse_idle(
            self, ("tensorboard", "cache"), "here, where every system compiles anew and has no epochs: see train.py"
        )
        if set(self.only.split(",")) <= set(ONCE):
            refuse_idle(self, ("rounds",), f"for {self.only}, which is measured once: measure more with --only")
        if not self.of_clicks:
            refuse_idle(self, ("trials",), f"for {self.only}, where no settings are chosen: add clicks to --only")
        if not 1 <= self.trials <= 8:
            raise ValueError(f"--trials must be between 1 and 8, got {self.trials}: so many settings are known")
        if self.rounds < 1:
            raise ValueError(f"--rounds must be 1 or more, got {self.rounds}: it is how often each system is measured")
        if not self.peers:
            refuse_idle(self, ("environment",), "without the others: drop --no-peers")


def make_task(args: Benchmark, pairs: clicks.Pairs) -> Task:
    """The first of 5 folds, and new users with ratings of random items; and clicks."""
    data = jaxmf.datasets.movielens_small() if args.has_clicks else args.load()
    ratings = data.ratings
    split = jaxmf.splits.k_fold(len(ratings), seed=args.seed_of_splits())[0]
    rows = np.column_stack([ratings.user, ratings.item, ratings.rating]).astype(float)
    time = np.arange(len(ratings)) if data.timestamp is None else data.timestamp
    rng = np.random.default_rng(args.seed)
    users = 200 if args.quick else 10_000
    item = np.stack([rng.choice(ratings.n_items, 32, replace=False) for _ in range(users)])
    return Task(
        train=rows[split.train],
        test=rows[split.test],
        in_time=np.argsort(time[split.train], kind="stable"),
        new_item=item.astype(np.int32),
        new_rating=rng.choice(ratings.rating, item.shape).astype(np.float32),
        n_users=ratings.n_users,
        n_items=ratings.n_items,
        low=float(ratings.rating.min()),
        high=float(ratings.rating.max()),
        quick=args.quick,
        clicks=np.column_stack([pairs.train.user, pairs.train.item]),
        clicks_kept=clicks.kept(pairs.train, args.seed_of_splits()),
        trials=2 if args.quick else args.trials,
        **({"calls": 20, "seconds": 0.3} if args.quick else {}),
    )


class Bench:
    """Starts systems, gives them turns, and keeps what they answer and why they don't."""

    def __init__(self, task: Path, pythons: Mapping[str, Path | str], unavailable: dict[str, str]) -> None:
        self.task, self.pythons, self.unavailable = task, pythons, unavailable

    def tune(self, task: Task, pairs: clicks.Pairs) -> dict[str, dict[str, Any]]:
        """Let each library of clicks try its settings, and note the best in the task; every trial's numbers."""
        found = self.measure(TRIALS, 1, clicks.validation(pairs.train, task.clicks_kept))
        best: dict[str, tuple[float, int]] = {}
        for entry, (score,) in found.items():
            name, at = entry.split(", trial ")
            best[name] = max(best.get(name, (-1.0, 0)), (score["ndcg10"], int(at)))
        chosen = json.dumps({name: at for name, (_, at) in best.items()})
        dataclasses.replace(task, chosen=chosen).save(self.task)
        return {entry: score for entry, (score,) in found.items()}

    def measure(self, measurement: str, rounds: int, pairs: clicks.Pairs) -> dict[str, list[Any]]:
        """Every round of every system that has the measurement; factors of clicks are judged by the pairs."""
        workers = list(self._start(measurement))
        turns = rotation(workers)
        results = {entry: [] for _, entry in turns}
        for at in range(rounds):
            for worker, entry in turns:
                where = f"{measurement}: {entry}"
                if where in self.unavailable:
                    continue
                try:
                    results[entry].append(clicks.judged(worker.turn(entry), pairs))
                    say(f"round {at + 1} of {rounds}, {where}: {text(results[entry][-1])}")
                except FailedError as error:
                    self._fail(where, error)
        for worker in workers:
            worker.close()
        return {entry: values for entry, values in results.items() if f"{measurement}: {entry}" not in self.unavailable}

    def _start(self, measurement: str) -> Iterable[Worker]:
        for library in (*OURS, *PEERS):
            if measurement not in library.measurements or library.distribution not in self.pythons:
                continue
            say(f"{measurement}: setting up {library.distribution}")
            try:
                yield Worker(self.pythons[library.distribution], library.module, measurement, self.task)
            except FailedError as error:
                self._fail(f"{measurement}: {library.distribution}", error)

    def _fail(self, what: str, error: FailedError) -> None:
        self.unavailable[what] = str(error)
        say(f"{what}: {error}")


def median(rounds: list[Any]) -> Any:  # noqa: ANN401 a number or several by name
    """Median over rounds, of each number where a round has several."""
    if len(rounds) == 1:
        return rounds[0]
    if isinstance(rounds[0], dict):
        return {name: median([one[name] for one in rounds]) for name in rounds[0]}
    return statistics.median(rounds)


def main(args: Benchmark) -> None:
    """Install, measure, report."""
    before = runs.machine() | {"load_before": round(os.getloadavg()[0], 2)}
    pythons: dict[str, Path | str] = {library.distribution: sys.executable for library in OURS}
    unavailable: dict[str, str] = {}
    versions = environment.versions(sys.executable, ["jaxmf", "jax", "jaxlib", "numpy"])
    if args.peers:
        folder = args.environment.absolute()
        names = [peer.distribution for peer in PEERS]
        unavailable |= environment.install(folder, names)
        python = environment.interpreter(folder)
        pythons |= {name: python for name in names if name not in unavailable}
        versions |= environment.versions(python, names)
    result: dict[str, Any] = {"machine": before, "versions": versions, "quick": args.quick, "rounds": {}}
    result |= {name: {} for name in MEASUREMENTS.values()}
    with tempfile.TemporaryDirectory() as folder:
        path, pairs = Path(folder) / "task.npz", clicks.load(args, 4.0) if args.of_clicks else clicks.NONE
        task = make_task(args, pairs)
        task.save(path)
        bench = Bench(path, pythons, unavailable)
        if args.of_clicks:
            result[TRIALS] = bench.tune(task, pairs)
        for measurement in args.measurements:
            name = MEASUREMENTS[measurement]
            rounds = bench.measure(measurement, 1 if measurement in ONCE else args.rounds, pairs)
            result["rounds"][name] = rounds
            result[name] = {entry: median(values) for entry, values in rounds.items()}
    result |= {"targets": report.targets(result), "unavailable": unavailable}
    markdown = report.markdown(result)
    say(f"\n{markdown}")
    args.save(result)
    report.plots(args, result)
    for folder in args.pictures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmark.md").write_text(markdown)


if __name__ == "__main__":
    run(main, Benchmark)
