"""Time and memory of a fit as ratings and devices grow: `python scripts/scaling.py`.

Synthetic ratings with a known truth, each size in a process of its own, so that its memory is nobody else's.
"""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import Output, process_bytes, run, say, show

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model.params import predict

TRUTH, NOISE, PAIRS = 4, 0.8, 100_000
"""Rank of the truth, the standard deviation of what a rating is beside it, and the pairs that recovery is judged by."""

WARM = 5_000
"""Ratings of the fit before, which loads what any fit needs."""


@dataclasses.dataclass
class Scaling(Output):
    """Fit more and more ratings by ALS."""

    ratings: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    """How many ratings."""
    devices: tuple[int, ...] = (1, 2)
    """Over how many devices; on a CPU they are made, and more than there are cores say nothing of time."""
    per_user: int = 100
    """Ratings a user; an item has five times as many."""
    rank: int = 32
    """Number of factors."""
    kernel: str = "linear"
    """The kernel: linear or logistic."""
    epochs: int = 5
    """Sweeps, two or more: memory is looked at while the first loads what any takes, and while the others run."""
    found: bool = False
    """Find the prior in the ratings, as a fit does that is given none; its sweeps are then in the seconds."""
    seed: int = 0
    """Seed of all that is random."""

    def __post_init__(self) -> None:
        for name, least in (("ratings", WARM), ("devices", 1)):
            if not getattr(self, name) or min(getattr(self, name)) < least:
                raise ValueError(f"--{name} {getattr(self, name)}: give numbers of {least} or more")
        if self.epochs < 2:
            raise ValueError(f"--epochs {self.epochs}: give numbers of 2 or more")


def main(args: Scaling) -> None:
    """Measure each size over each number of devices, one after the other."""
    rows = []
    for n in args.ratings:
        for devices in args.devices:
            say(f"{n:,} ratings, {devices} devices")
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                rows.append(alone.submit(measured, args, n, devices).result())
    show(f"ALS, {args.kernel} kernel, rank {args.rank}", rows)
    with args.plot("scaling", f"ALS, rank {args.rank}", "ratings", "nanoseconds a rating and sweep") as axes:
        for devices in args.devices:
            mine = [row for row in rows if row["devices"] == devices]
            axes.loglog(
                [row["ratings"] for row in mine], [row["ns_a_rating"] for row in mine], "o-", label=str(devices)
            )
    args.save({"rows": rows})


def measured(args: Scaling, n: int, devices: int) -> dict[str, Any]:
    """One fit in a process that has done nothing else."""
    jax.config.update("jax_num_cpu_devices", devices)
    if len(jax.devices()) < devices:
        raise ValueError(f"--devices {devices}: here are {len(jax.devices())}")
    n_users, n_items = max(1, n // args.per_user), max(1, n // (5 * args.per_user))
    rng = np.random.default_rng(args.seed)
    truth = Truth(rng, n_users, n_items)
    with jaxmf.sharding.over(jax.devices()[:devices]):
        fitted(args, truth.ratings(rng, WARM), epochs=1, watch=jaxmf.Watch())
        ratings = truth.ratings(rng, n)
        before, peaks = memory(reset=True), []

        def looked(*_: object) -> None:
            peaks.append(memory())
            memory(reset=True)

        fit = fitted(args, ratings, epochs=args.epochs, watch=jaxmf.Watch(callback=looked))
    model, user, item = fit.model, rng.integers(0, n_users, PAIRS), rng.integers(0, n_items, PAIRS)
    away = np.asarray(predict(model.params, model.kernel, user, item)) - truth(user, item)
    rows = n_users + n_items
    most, sweeping = ((max(of) - before) / n if before else None for of in (peaks, peaks[1:]))
    return {
        "ratings": n,
        "devices": devices,
        "seconds_a_sweep": fit.seconds / args.epochs,
        "ns_a_rating": 1e9 * fit.seconds / args.epochs / n,
        "compile_seconds": fit.compile_seconds,
        "bytes_a_rating": most,
        "sweep_bytes_a_rating": sweeping,
        "table_bytes_a_rating": 4 * rows * (args.rank + 1) / n,
        "rmse_of_the_truth": float(np.sqrt(np.mean(away**2))),
    }


class Truth:
    """What ratings are but for their noise: biases, and products of few factors."""

    def __init__(self, rng: np.random.Generator, n_users: int, n_items: int) -> None:
        self.bias = [0.4 * rng.standard_normal(n, np.float32) for n in (n_users, n_items)]
        self.factors = [0.6 * rng.standard_normal((n, TRUTH), np.float32) for n in (n_users, n_items)]

    def __call__(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The ratings of pairs without their noise."""
        product = sum(self.factors[0][user, at] * self.factors[1][item, at] for at in range(TRUTH))
        return np.clip(3 + self.bias[0][user] + self.bias[1][item] + product, 0.5, 5)

    def ratings(self, rng: np.random.Generator, n: int) -> Ratings:
        """Ratings of random pairs, busy users and popular items more often."""
        sizes = len(self.bias[0]), len(self.bias[1])
        user, item = (
            np.minimum(size * rng.random(n, np.float32) ** power, size - 1).astype(np.int32)
            for size, power in zip(sizes, (1.5, 3), strict=True)
        )
        rating = np.clip(self(user, item) + NOISE * rng.standard_normal(n, np.float32), 0.5, 5).astype(np.float32)
        return Ratings(user, item, rating, np.ones(n, np.float32), *sizes)


def fitted(args: Scaling, ratings: Ratings, *, epochs: int, watch: jaxmf.Watch) -> jaxmf.Fit:
    """The fit that is measured."""
    kernel = jaxmf.kernels.for_range(0.5, 5.0, args.kernel)
    prior = None if args.found else jaxmf.priors.DEFAULT
    return jaxmf.als.fit(
        jax.random.key(args.seed), ratings, kernel=kernel, rank=args.rank, prior=prior, epochs=epochs, watch=watch
    )


def memory(*, reset: bool = False) -> int | None:
    """Bytes that the process has held at most, or with `reset` holds and counts from; `None` where nobody says."""
    held = process_bytes("VmRSS" if reset else "VmHWM")
    if reset and held:
        Path("/proc/self/clear_refs").write_text("5")
    return held


if __name__ == "__main__":
    run(main, Scaling)
