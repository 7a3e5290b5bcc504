"""New users without retraining, how good and how fast: `python scripts/fold_in_timing.py`."""

import dataclasses
import time
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from common import Run, arguments, say, show

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model.params import Params

REVEALED = (1, 2, 5, 10, 20, 50)


@dataclasses.dataclass
class FoldIn(Run):
    """Hold users out, reveal the start of their histories, predict the rest."""

    method: Literal["sgd", "als"] = "als"
    """Trainer of the model."""
    kernel: Literal["linear", "logistic", "polynomial", "rbf"] = "logistic"
    """Kernel."""
    rank: int = 64
    """Number of factors."""
    profile: int = 20
    """Ratings of the user whose fold-in is timed."""
    batch: int = 10_000
    """Users of the batch that is timed."""
    repeats: int = 2_000
    """Calls that are timed for one user."""


def accuracy(
    args: FoldIn, data: jaxmf.ratings.Dataset, kernel: jaxmf.kernels.Kernel
) -> tuple[Params, dict, dict, float]:
    """The trained model, RMSE on hidden ratings by way of update and by profile size, and the retrain's seconds."""
    ratings = data.ratings
    low, high = float(ratings.rating.min()), float(ratings.rating.max())
    split = jaxmf.splits.new_users(ratings.user, ratings.item, data.timestamp, seed=args.seed)
    reveal, test = ratings.take(split.reveal), ratings.take(split.test)
    key = jax.random.key(args.seed)

    def train(index: np.ndarray) -> jaxmf.Fit:
        trainer = {"sgd": jaxmf.sgd, "als": jaxmf.als}[args.method]
        return trainer.fit(key, ratings.take(index), kernel=kernel, rank=args.rank)

    def error(model: Params) -> float:
        predicted = jaxmf.params.predict(model, kernel, test.user, test.item)
        return jaxmf.metrics.rmse(np.clip(predicted, low, high), test.rating)

    model = train(split.train).params
    stranger = model.replace(user=jax.tree.map(lambda x: x.at[split.users].set(0), model.user))
    no_factors = stranger.replace(item=model.item.replace(factors=jnp.zeros_like(model.item.factors)))
    retrain = train(np.concatenate([split.train, split.reveal]))
    rmse = {
        "no_fold_in": error(stranger),
        "bias_only": error(jaxmf.fold_in.fold_in_users(no_factors, kernel, reveal)),
        "fold_in": error(jaxmf.fold_in.fold_in_users(stranger, kernel, reveal)),
        "sgd_retrain": error(jaxmf.fold_in.sgd_retrain(key, stranger, kernel, reveal)),
        "full_retrain": error(retrain.params),
    }
    first = {count: reveal.take(position_in_history(reveal) < count) for count in REVEALED}
    curve = {
        "fold-in": [error(jaxmf.fold_in.fold_in_users(stranger, kernel, part)) for part in first.values()],
        "SGD retrain": [error(jaxmf.fold_in.sgd_retrain(key, stranger, kernel, part)) for part in first.values()],
    }
    return model, rmse, curve, retrain.seconds


def position_in_history(reveal: Ratings) -> np.ndarray:
    """How many ratings the same user gave before, for ratings in order of user and time."""
    start = np.searchsorted(reveal.user, reveal.user)
    return np.arange(len(reveal)) - start


def latency(args: FoldIn, model: Params, kernel: jaxmf.kernels.Kernel) -> tuple[dict[str, float], float]:
    """Milliseconds for one user, arrays in and row out; microseconds a user in a batch."""
    rng = np.random.default_rng(args.seed)
    n_items = len(model.item)
    low, high = (kernel.low, kernel.high) if np.isfinite(kernel.high) else (1.0, 5.0)
    item = rng.choice(n_items, args.profile, replace=False).astype(np.int32)
    rating = rng.uniform(low, high, args.profile).astype(np.float32)
    one = seconds(lambda: np.asarray(jaxmf.fold_in.fold_in_user(model, kernel, item, rating).factors), args.repeats)
    n = args.batch * args.profile
    user = np.repeat(np.arange(args.batch, dtype=np.int32), args.profile)
    many = Ratings(
        user, rng.integers(0, n_items, n, np.int32), np.resize(rating, n), np.ones(n, np.float32), args.batch, n_items
    )
    stacks = jax.tree.map(jnp.asarray, jaxmf.histories.blocks(many))
    batch = seconds(lambda: jax.block_until_ready(jaxmf.update.solve_stacks(kernel, model, stacks)), 7)
    p50, p99 = np.percentile(one, [50, 99]) * 1e3
    return {"single_p50": float(p50), "single_p99": float(p99)}, float(np.median(batch) / args.batch * 1e6)


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall times of calls that are warm."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[3:]


def main(args: FoldIn) -> None:
    """Measure accuracy, then time, then print, plot and save."""
    data = args.load()
    if data.timestamp is None:
        raise ValueError("the protocol reveals histories in order of time: name the column with --timestamp")
    low, high = float(data.ratings.rating.min()), float(data.ratings.rating.max())
    kernel = jaxmf.kernels.for_range(low, high, args.kernel)
    model, rmse, curve, retrain_seconds = accuracy(args, data, kernel)
    latency_ms, batch_us = latency(args, model, kernel)
    speedup = retrain_seconds * 1e3 / latency_ms["single_p50"]
    show("RMSE on new users' hidden ratings", [rmse])
    times = latency_ms | {"batch_us_per_user": batch_us, "retrain_seconds": retrain_seconds, "speedup": speedup}
    show(f"Time of a fold-in, {args.profile} ratings, rank {args.rank}", [times])
    say(
        f"\nIs it too slow? No: a user is folded in in {latency_ms['single_p50']:.3f} ms, "
        f"1/{speedup:,.0f} of a full retrain, "
        f"at an RMSE of {rmse['fold_in']:.4f} against its {rmse['full_retrain']:.4f}."
    )
    with args.plot("fold_in", "New users", "ratings revealed (at most)", "RMSE on hidden ratings") as axes:
        for name, values in curve.items():
            axes.plot(REVEALED, values, marker="o", label=name)
        for name in ("no_fold_in", "bias_only", "full_retrain"):
            axes.axhline(
                rmse[name],
                color="grey",
                ls={"no_fold_in": ":", "bias_only": "--"}.get(name, "-"),
                label=name.replace("_", " "),
            )
        axes.set_xscale("log")
        axes.set_xticks(REVEALED, [str(count) for count in REVEALED])
    args.save(
        {
            "rmse": rmse,
            "latency_ms": latency_ms,
            "batch_us_per_user": batch_us,
            "retrain_seconds": retrain_seconds,
            "speedup": speedup,
        }
    )


if __name__ == "__main__":
    main(arguments(FoldIn))
