"""New users without retraining, how good and how fast: `python scripts/fold_in_timing.py`."""

import dataclasses
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import Run, features_of, refuse_idle, run, say, show

import jaxmf
from jaxmf.data.histories import Block
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Kernel

REVEALED = (0, 1, 2, 5, 10, 20, 50)
"""How many ratings of each new user are revealed at most: from none to all that the split reveals."""
NONE, ALL = REVEALED[0], REVEALED[-1]


@dataclasses.dataclass
class FoldIn(Run):
    """Hold users out, reveal the start of their histories, predict the rest."""

    method: Literal["sgd", "als", "gibbs"] = "als"
    """Trainer of the model."""
    kernel: Literal["linear", "logistic", "polynomial", "rbf"] | None = None
    """Kernel; else the logistic one, and the linear one for Gibbs sampling."""
    rank: int | None = None
    """Number of factors; else 64, and 10 for Gibbs sampling."""
    features: Literal["none", "implicit"] = "none"
    """Features of users and items: nothing, or implicit feedback of both sides."""
    sweeps: int | None = None
    """Gibbs sampling only: sweeps, of which the first 60 are forgotten; else 300."""
    draws: int | None = None
    """Gibbs sampling only: draws to keep, and to fold in with; else 80."""
    retrains: bool = False
    """A full retrain for every number of revealed ratings, not for all of them alone."""
    profile: int = 20
    """Ratings of the user whose fold-in is timed."""
    batch: int = 10_000
    """Users of the batch that is timed."""
    repeats: int = 2_000
    """Calls that are timed for one user."""

    def __post_init__(self) -> None:
        bayes = self.method == "gibbs"
        if not bayes:
            refuse_idle(self, ("sweeps", "draws"), "without Gibbs sampling: add --method gibbs")
        for name in ("profile", "batch", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be 1 or more, got {getattr(self, name)}: times are of what is done")
        if self.kernel is None:
            self.kernel = "linear" if bayes else "logistic"
        if self.rank is None:
            self.rank = 10 if bayes else 64
        if bayes:
            self.sweeps = 300 if self.sweeps is None else self.sweeps
            self.draws = 80 if self.draws is None else self.draws

    @property
    def trained(self) -> tuple[int, ...]:
        """The numbers of revealed ratings for which a model is trained."""
        return REVEALED if self.retrains else (NONE, ALL)


class Protocol(NamedTuple):
    """New users: what is revealed of them, what is hidden, and the rest of the data."""

    ratings: Ratings
    split: jaxmf.splits.NewUsers
    kernel: Kernel
    key: jax.Array
    timestamp: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """When the other users gave their ratings."""
        return self.timestamp[self.split.train]

    def error(self, predicted: np.ndarray) -> float:
        """RMSE of predictions of the hidden ratings, clipped to the scale."""
        low, high = float(self.ratings.rating.min()), float(self.ratings.rating.max())
        return jaxmf.metrics.rmse(np.clip(predicted, low, high), self.hidden.rating)

    def error_of(self, model: jaxmf.Model | jaxmf.Posterior) -> float:
        """RMSE of a model's predictions of them."""
        return self.error(np.asarray(model.predict(self.hidden.user, self.hidden.item)))

    def folded_in(self, model: jaxmf.Model | jaxmf.Posterior, part: Ratings) -> float:
        """RMSE after the new users are folded in with a part of their ratings, which may be none."""
        return self.error_of(jaxmf.fold_in.fold_in_users(model, part, users=self.split.users))

    @property
    def hidden(self) -> Ratings:
        """What must be predicted."""
        return self.ratings.take(self.split.test)

    def first(self, count: int) -> Ratings:
        """The first `count` ratings of each new user, in order of user and time."""
        return self.ratings.take(self._first(count))

    def known(self, count: int) -> Ratings:
        """The other users' ratings, and the first `count` of each new user."""
        return self.ratings.take(np.concatenate([self.split.train, self._first(count)]))

    def _first(self, count: int) -> np.ndarray:
        user = self.ratings.user[self.split.reveal]
        return self.split.reveal[np.arange(len(user)) - np.searchsorted(user, user) < count]


class Ways(NamedTuple):
    """One kind of model under the protocol.

    Attributes:
        rmse: RMSE by way of update.
        curve: RMSE by number of revealed ratings, of each way that was taken for all of them.
        retrain_seconds: Wall time of the full retrain, compilation apart.
        one: Folds one user in, from arrays to arrays.
        many: Folds all users in whose histories are in the stacks of blocks.
    """

    rmse: dict[str, float | None]
    curve: dict[str, list[float]]
    retrain_seconds: float
    one: Callable[[np.ndarray, np.ndarray], object]
    many: Callable[[tuple], object]


class Retrains(NamedTuple):
    """What the ways that train again reach: RMSE, its curves, and the full retrain's wall time without compilation."""

    rmse: dict[str, float | None]
    curve: dict[str, list[float]]
    seconds: float


def point_ways(args: FoldIn, protocol: Protocol) -> Ways:
    """A model of one set of parameters, trained by SGD or ALS."""
    trainer = {"sgd": jaxmf.sgd, "als": jaxmf.als}[args.method]

    def settings(known: Ratings) -> dict:
        return {"kernel": protocol.kernel, "rank": args.rank, "features": features_of(args.features, known)}

    def train(count: int) -> jaxmf.Fit:
        known = protocol.known(count)
        fit = trainer.fit(protocol.key, known, **settings(known))
        args.log(fit.history, revealed=count)
        return fit

    def sgd_retrain(part: Ratings) -> float:
        return protocol.error_of(jaxmf.fold_in.sgd_retrain(protocol.key, model, part))

    fits = {count: train(count) for count in args.trained}
    known = protocol.known(NONE)
    rehearsed = jaxmf.rehearsal.new_users(protocol.key, known, order=protocol.times, **settings(known))
    model = fits[NONE].model.replace(priors=rehearsed.priors)
    retrained = [protocol.error_of(fit.model) for fit in fits.values()]
    curve = {"SGD retrain": [sgd_retrain(protocol.first(count)) for count in REVEALED]}
    curve |= {"full retrain": retrained} if args.retrains else {}
    errors = {"sgd_retrain": curve["SGD retrain"][-1], "full_retrain": retrained[-1]}
    return folded_in(protocol, model, Retrains(errors, curve, fits[ALL].seconds))


def bayes_ways(args: FoldIn, protocol: Protocol) -> Ways:
    """A posterior, by Gibbs sampling."""

    def train(count: int) -> jaxmf.gibbs.GibbsFit:
        known = protocol.known(count)
        watch = jaxmf.Watch(validation=protocol.hidden)
        settings = {"rank": args.rank, "sweeps": args.sweeps, "burn": 60, "keep": args.draws, "watch": watch}
        features = features_of(args.features, known)
        fit = jaxmf.gibbs.fit(protocol.key, known, kernel=protocol.kernel, features=features, **settings)
        args.log(fit.history, revealed=count)
        return fit

    fits = {count: train(count) for count in args.trained}
    retrained = [protocol.error(fit.predicted) for fit in fits.values()]
    curve = {"full retrain": retrained} if args.retrains else {}
    errors = {"sgd_retrain": None, "full_retrain": retrained[-1]}
    return folded_in(protocol, fits[NONE].posterior, Retrains(errors, curve, fits[ALL].seconds))


def folded_in(protocol: Protocol, model: jaxmf.Model | jaxmf.Posterior, retrains: Retrains) -> Ways:
    """The ways that fold in, beside those that retrain."""
    frozen, items = model.frozen(), model.params.item
    no_factors = model.transpose().with_users(items.replace(factors=0 * items.factors)).transpose()
    curve = {"fold-in": [protocol.folded_in(model, protocol.first(count)) for count in REVEALED]}
    rmse = {
        "no_fold_in": curve["fold-in"][0],
        "bias_only": protocol.folded_in(no_factors, protocol.first(ALL)),
        "fold_in": curve["fold-in"][-1],
    }

    def one(item: np.ndarray, rating: np.ndarray) -> np.ndarray:
        return np.asarray(jaxmf.fold_in.fold_in_user(model, item, rating).params.user.factors)

    def many(stacks: tuple[Block, ...]) -> object:
        return jax.block_until_ready(jaxmf.update.solve_stacks(frozen, stacks))

    return Ways(rmse | retrains.rmse, curve | retrains.curve, retrains.seconds, one, many)


def latency(args: FoldIn, ways: Ways, protocol: Protocol) -> tuple[dict[str, float], float]:
    """Milliseconds for one user, arrays in and row out; microseconds a user in a batch."""
    rng = np.random.default_rng(args.seed)
    n_items, n = protocol.ratings.n_items, args.batch * args.profile
    item = rng.choice(n_items, args.profile, replace=False).astype(np.int32)
    rating = rng.choice(protocol.ratings.rating, n)
    one = seconds(lambda: ways.one(item, rating[: args.profile]), args.repeats)
    user = np.repeat(np.arange(args.batch, dtype=np.int32), args.profile)
    many = Ratings(user, rng.integers(0, n_items, n, np.int32), rating, np.ones(n, np.float32), args.batch, n_items)
    stacks = jax.tree.map(jnp.asarray, jaxmf.histories.blocks(many, pages=jaxmf.histories.CACHED_PAGES))
    batch = seconds(lambda: ways.many(stacks), 7)
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
    split = jaxmf.splits.new_users(data.ratings.user, data.ratings.item, data.timestamp, seed=args.seed_of_splits())
    protocol = Protocol(data.ratings, split, kernel, jax.random.key(args.seed), np.asarray(data.timestamp))
    ways = (bayes_ways if args.method == "gibbs" else point_ways)(args, protocol)
    rmse, retrain_seconds = ways.rmse, ways.retrain_seconds
    latency_ms, batch_us = latency(args, ways, protocol)
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
        for name, values in ways.curve.items():
            axes.plot(REVEALED, values, marker="o", label=name)
        for name in ("no_fold_in", "bias_only", "full_retrain"):
            axes.axhline(
                rmse[name],
                color="grey",
                ls={"no_fold_in": ":", "bias_only": "--"}.get(name, "-"),
                label=name.replace("_", " "),
            )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(REVEALED, [str(count) for count in REVEALED])
    args.save(
        {
            "rmse": rmse,
            "revealed": list(REVEALED),
            "curve": ways.curve,
            "latency_ms": latency_ms,
            "batch_us_per_user": batch_us,
            "retrain_seconds": retrain_seconds,
            "speedup": speedup,
        }
    )


if __name__ == "__main__":
    run(main, FoldIn)
