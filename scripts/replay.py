"""Learn a stream of ratings as it comes, each predicted before it is learnt: `python scripts/replay.py`.

Nothing is trained before the stream begins. Of each system RMSE, MAE, the share of ratings in intervals of 90 %, and
ratings a second, fits apart; of the online states along the last half of the stream how they do beside a fit of all
that they knew.
"""

import dataclasses
import subprocess
import tempfile
import time
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
from benchmarks.environment import interpreter
from common import Run, refuse_idle, run, say, show
from streams import ours
from streams.ours import Course, Stream

import jaxmf
from jaxmf.live import Live

AFTER, INSTANTS = 2000, 10
"""Ratings that a state is tried on, and how many states of the last half of a stream are."""


@dataclasses.dataclass
class Replay(Run):
    """Predict, then learn, in order of time."""

    movietweetings: Path | None = None
    """Folder of MovieTweetings (its `ratings.dat`), instead of `--data`."""
    environment: Path | None = None
    """Virtual environment that has river, such as `make benchmark` makes; without it river is left out."""
    size: int = 1
    """Ratings that are predicted and then learnt at a time."""
    begin: int = 500
    """Ratings before the first fit; until then what is predicted is their mean."""
    growth: float = 0.4
    """Share by which the ratings have grown when all is fitted anew."""
    only: ours.Kind | None = None
    """One of the two models; else both."""
    refits: bool = False
    """Compare online states with fits at the same instants."""
    latency: int = 0
    """Last ratings to time one by one, each on disk before the next."""
    first: int | None = None
    """Only so many ratings of the stream."""


def main(args: Replay) -> None:
    """Replay the stream for every system."""
    stream = Stream.of(read(args))
    if args.first is not None:
        stream = stream.until(args.first)
    n = len(stream.rating)
    for option, given, least in (("begin", args.begin, 2), ("size", args.size, 1), ("latency", args.latency, 0)):
        if not least <= given <= n // 2:
            raise ValueError(f"--{option} {given}: of a stream of {n} ratings it is from {least} to {n // 2}")
    if not args.growth > 0:
        raise ValueError(f"--growth {args.growth}: a share above 0; a large one for no fit but the first")
    if args.refits and n < 4 * AFTER:
        raise ValueError(f"--refits looks at {AFTER} ratings after each instant, and the stream has {n}: drop it")
    instants = np.linspace(n // 2, n - AFTER, INSTANTS, dtype=int).tolist() if args.refits else []
    found, against = baselines(stream) | river(stream, args.environment), []
    for kind in typing.get_args(ours.Kind) if args.only is None else (args.only,):
        pace = ours.Pace(args.size, args.begin, args.growth)
        course = ours.replay(stream, kind, pace, keep=instants)
        found |= named(kind, course)
        against += [{"system": kind, **one} for one in ours.against_refit(stream, course.kept, AFTER)]
    table = {name: measured(stream, *one) for name, one in found.items()}
    show(f"{n:,} ratings, {args.size} at a time", [{"system": name, **row} for name, row in table.items()])
    if against:
        show(f"RMSE of the next {AFTER:,} ratings", against)
    seconds = latency(stream, args.latency) if args.latency else {}
    if seconds:
        show("An event until it is on disk and learnt, and then its user's list", [seconds])
    draw(args, stream, {name: one[0] for name, one in found.items()})
    name = "movietweetings" if args.movietweetings else args.data.name if args.data else "latest-small"
    args.save({name: table, "against_refit": against, "latency": seconds})


def read(args: Replay) -> jaxmf.ratings.Dataset:
    """The ratings, a pair's last where it has several."""
    if args.movietweetings is None:
        return args.load()
    refuse_idle(args, ("data", "user", "item", "rating", "timestamp"), "beside --movietweetings: drop one of them")
    return common.movietweetings(args.movietweetings)


Found = tuple[np.ndarray, np.ndarray | None, float]
"""Predictions, standard deviations about some of them, and seconds."""


def named(kind: str, course: Course) -> dict[str, Found]:
    """A course's two systems: the fits alone, and the rows that follow."""
    say(f"{kind}: {course.fit_seconds:.1f} s of fits, {course.seconds:.1f} s online")
    return {
        f"{kind}, fits alone": (course.fitted, None, course.fit_seconds),
        kind: (course.online, course.std, course.seconds),
    }


def measured(stream: Stream, predicted: np.ndarray, std: np.ndarray | None, seconds: float) -> dict[str, Any]:
    """A system's row of the table."""
    predicted, coverage = np.clip(predicted, *stream.scale), None
    if std is not None:
        looked = np.isfinite(std)
        coverage = jaxmf.metrics.interval_coverage(predicted[looked], std[looked], stream.rating[looked], 0.9)
    return {
        "rmse": jaxmf.metrics.rmse(predicted, stream.rating),
        "mae": jaxmf.metrics.mae(predicted, stream.rating),
        "coverage": coverage,
        "events_per_second": len(predicted) / seconds,
    }


def baselines(stream: Stream) -> dict[str, Found]:
    """The mean so far, and with it damped means of what each item and each user was rated above it so far."""
    began, means, biased = time.perf_counter(), [], []
    total, of_item, of_user = float(np.mean(stream.scale)), {}, {}
    rows = zip(stream.user.tolist(), stream.item.tolist(), stream.rating.tolist(), strict=True)
    for at, (user, item, rating) in enumerate(rows, 1):
        mean = total / at
        (item_sum, item_n), (user_sum, user_n) = of_item.get(item, (0.0, 5)), of_user.get(user, (0.0, 5))
        above = item_sum / item_n
        means.append(mean)
        biased.append(mean + above + user_sum / user_n)
        of_item[item] = item_sum + rating - mean, item_n + 1
        of_user[user] = user_sum + rating - mean - above, user_n + 1
        total += rating
    seconds = time.perf_counter() - began
    return {"mean so far": (np.array(means), None, seconds), "damped biases": (np.array(biased), None, seconds)}


def river(stream: Stream, environment: Path | None) -> dict[str, Found]:
    """River's own systems, by an interpreter that has it."""
    if environment is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "stream.npz", Path(folder) / "out.npz"
        np.savez(given, user=stream.user, item=stream.item, rating=stream.rating)
        command = [interpreter(environment.absolute()), "-m", "benchmarks.peers.river_stream", given, out]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
        return {name: (column[:-1], None, column[-1]) for name, column in np.load(out).items()}


def latency(stream: Stream, n: int) -> dict[str, float]:
    """Milliseconds of an event with the log on and of the list that follows, the last `n` ratings one by one."""
    start = len(stream.rating) - n
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        live = Live.create(Path(folder) / "live", ours.first(stream, start, "point").recommender())
        for event in stream.events(start, len(stream.rating)):
            began = time.perf_counter()
            live.tell([event.document()])
            live.recommend(event.user)
            seconds.append(time.perf_counter() - began)
        live.close()
    return {f"p{share}_ms": float(1e3 * np.percentile(seconds, share)) for share in (50, 99)}


def draw(args: Replay, stream: Stream, found: Mapping[str, np.ndarray]) -> None:
    """Each system's RMSE along the stream, of every hundredth part."""
    if not args.pictures:
        return
    parts = np.array_split(np.arange(len(stream.rating)), 100)
    with args.plot("replay", "Predicted, then learnt", "ratings seen", "RMSE of the last tenth") as axes:
        for name, predicted in found.items():
            square = (np.clip(predicted, *stream.scale) - stream.rating) ** 2
            of_part = np.array([square[part].mean() for part in parts])
            running = np.convolve(of_part, np.ones(10) / 10, "valid")
            axes.plot([part[-1] for part in parts[9:]], np.sqrt(running), label=name)


if __name__ == "__main__":
    run(main, Replay)
