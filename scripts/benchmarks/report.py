"""What `scripts/benchmark.py` found: beside the project's targets, as tables, as plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from common import Run, text

TITLES = {
    "fold_in_single_ms": "One user, 20 ratings, rank 64, warm, arrays in and row out: p50, ms",
    "fold_in_single_by_users": "The same, written into a table with room for so many users: p50, ms",
    "fold_in_batch_us": "10,000 users with 32 ratings each, rank 64: µs a user",
    "fold_in_posterior_ms": "The same under 80 draws of a posterior, rank 10: ms a user, of 2,000 at once",
    "fold_in_by_ratings": "Ratings a user, 262,144 in a batch, rank 64: µs a user",
    "train_to_rmse": "Training on the first of 5 folds, error on its test ratings",
    "clicks_trials": "Settings for clicks, each library's, on a validation part of the training clicks",
    "clicks": "A sweep of ALS for clicks: rank 128, two threads, and how 16 of them rank; made-up ones at rank 64",
    "clicks_one_ms": "One user of 30 clicks among 20,000 items, rank 128, warm: p50, ms",
    "clicks_many_us": "10,000 such users in one call, two threads: µs a user",
    "clicks_written_ms": "One such user, written into a table of so many users that keeps its Gram matrix: p50, ms",
    "sgd_step_by_users": "A step of SGD with Adam, 1,024 ratings, rank 32, by users in the table: ms",
    "recommend": "Best 10 unseen of 50,000 items for 100,000 users, rank 64, two threads",
    "keep": "Saving and loading 1,000,000 users and 50,000 items, rank 64, without history",
    "threads": "Eight threads that fold in at once, alone and in batches",
}

KERNELS = ("linear", "logistic", "polynomial", "rbf")

NOTES = """\
- Every system runs in a process of its own. They take turns, a round each; numbers are medians over the rounds.
- KernelMF's update has its default of 20 epochs; its table is one of NumPy that every update copies.
- LensKit solves a user when it is asked for scores; what is timed is the solve without the scores.
- implicit models whether an item was seen and predicts no rating: of ratings its fold-in is a reference, and
  its training isn't compared.
- Recommending starts from the same factors; each process has two cores, and implicit one thread of BLAS in each of its
  two. Peak memory is the whole process's, libraries included.
- Saving and loading each have a process of their own. Its peak is what it has needed above its start, the rows
  included, by the memory of the rows.
- Surprise, cornac, myFM and river have no fold-in of explicit ratings with the items frozen.
- Clicks are ratings of 4 and more, a fifth of them hidden, or those of a folder with a split of its own. Each library
  tries as many settings on the same validation part of the training clicks, and goes on with the best; all are ranked
  by one judge. A sweep is the difference of two fits' times by their sweeps. Made up are 2,000,000 pairs of 100,000
  users and 20,000 items. irspack folds in by five steps of conjugate gradients, the others until they have the row.
- jaxmf's ALS runs for the fewest epochs that reach an RMSE of 0.8749, each time in a process that has compiled nothing;
  `wall_seconds` is the whole call. Other libraries run with the settings that do best on this data.
"""


def targets(result: Mapping[str, Any]) -> dict[str, dict[str, float | str]]:
    """What the project aims at, of what was run: a number, and the number it must not exceed.

    A number that needs a library that could not be run is not measured, and says so.
    """

    def find(table: str, start: str, field: str = "") -> float:
        """The last entry whose name begins so; NaN where there is none."""
        found = [value for name, value in result[table].items() if name.startswith(start)]
        return np.nan if not found else found[-1][field] if field else found[-1]

    def growth(table: str) -> float:
        """The last entry of a table over its first."""
        values = list(result[table].values())
        return values[-1] / values[0] if values else np.nan

    def under(what: str) -> float:
        """The dearest fold-in under a posterior."""
        times = [cost for name, cost in result["fold_in_posterior_ms"].items() if name.endswith(what)]
        return max(times, default=np.nan)

    def sweep(peer: str, what: str = "") -> float:
        """Ours over a peer's, of clicks."""
        ours, theirs = (result["clicks"].get(f"{name}{what}", {}) for name in ("jaxmf", peer))
        return ours.get("sweep_seconds", np.nan) / theirs.get("sweep_seconds", np.nan)

    def best(measure: str) -> float:
        """The best other's ranking of clicks by ours."""
        scores = {name: score[measure] for name, score in result["clicks"].items() if measure in score}
        ours = scores.pop("jaxmf", np.nan)
        return max(scores.values(), default=np.nan) / ours

    of_batch = {name: result["fold_in_batch_us"].get(f"jaxmf, {name}", np.nan) for name in KERNELS}
    single, batch = find("fold_in_single_ms", "jaxmf, linear"), result["fold_in_batch_us"].get("jaxmf, linear", np.nan)
    surprise, als = find("train_to_rmse", "Surprise", "seconds"), find("train_to_rmse", "jaxmf ALS, linear", "seconds")
    compiling = find("train_to_rmse", "jaxmf ALS, linear", "compile_seconds")
    ratings = {int(n): cost for n, cost in result["fold_in_by_ratings"].items()}
    per_rating = [cost / n / (ratings[64] / 64) for n, cost in ratings.items() if n > 64 and 64 in ratings]
    dearest = max(per_rating, default=np.nan)
    ours = {field: find("recommend", "jaxmf", field) for field in ("seconds", "peak_gb")}
    of_implicit = ours["seconds"] / find("recommend", "implicit", "seconds")
    bad = [one["hang"] or not one["identical"] for one in result["threads"].values()]
    rows = {
        "one user, of cmfrec's time": ("fold_in_single_ms", single / find("fold_in_single_ms", "cmfrec"), 1.0),
        "one user, of KernelMF's time at most users": (
            "fold_in_single_ms",
            single / find("fold_in_single_ms", "KernelMF"),
            1 / 50,
        ),
        "one user, at most users against fewest": ("fold_in_single_by_users", growth("fold_in_single_by_users"), 1.2),
        "batch, of cmfrec's time": ("fold_in_batch_us", batch / find("fold_in_batch_us", "cmfrec"), 1 / 8),
        "batch, µs a user": ("fold_in_batch_us", batch, 10.0),
        "logistic kernel, one user, of cmfrec's time": (
            "fold_in_single_ms",
            find("fold_in_single_ms", "jaxmf, logistic") / find("fold_in_single_ms", "cmfrec"),
            1.0,
        ),
        "logistic kernel, batch, of cmfrec's time": (
            "fold_in_batch_us",
            of_batch["logistic"] / find("fold_in_batch_us", "cmfrec"),
            1 / 3,
        ),
        "logistic kernel, batch, of the linear one's time": ("fold_in_batch_us", of_batch["logistic"] / batch, 3.0),
        "polynomial kernel, batch, of the linear one's time": ("fold_in_batch_us", of_batch["polynomial"] / batch, 5.0),
        "RBF kernel, batch, of the linear one's time": ("fold_in_batch_us", of_batch["rbf"] / batch, 5.0),
        "posterior, one user, ms": ("fold_in_posterior_ms", under("one user"), 0.35),
        "posterior, a user of many, ms": ("fold_in_posterior_ms", under("a user of many"), 0.2),
        "a rating, the dearest beyond 64 a user against 64": ("fold_in_by_ratings", dearest, 1.0),
        "ALS, of Surprise's time": ("train_to_rmse", als / surprise, 1 / 5),
        "ALS with compiling, of Surprise's time": ("train_to_rmse", (als + compiling) / surprise, 1.0),
        "ALS, RMSE": ("train_to_rmse", find("train_to_rmse", "jaxmf ALS, linear", "rmse"), 0.8749),
        "SGD step, at most users against fewest": ("sgd_step_by_users", growth("sgd_step_by_users"), 1.5),
        "runs of eight threads that hung or differed": ("threads", float(sum(bad)), 0.0),
        **{
            f"{what}, a sweep, of {peer}'s time": ("clicks", sweep(peer, ", made-up clicks" * (what != "clicks")), 1.0)
            for what in ("clicks", "made-up clicks")
            for peer in ("irspack", "implicit")
        },
        "clicks, the best other's NDCG@10, of ours": ("clicks", best("ndcg10"), 1.0),
        "clicks, the best other's recall@20, of ours": ("clicks", best("recall20"), 1.0),
        "clicks, one user, of implicit's time": (
            "clicks_one_ms",
            result["clicks_one_ms"].get("jaxmf", np.nan) / find("clicks_one_ms", "implicit"),
            1.0,
        ),
        "clicks, a user of many, of implicit's time": (
            "clicks_many_us",
            result["clicks_many_us"].get("jaxmf", np.nan) / find("clicks_many_us", "implicit"),
            0.25,
        ),
        "clicks, one user written, at most users against fewest": (
            "clicks_written_ms",
            growth("clicks_written_ms"),
            1.2,
        ),
        "recommending, of implicit's time": ("recommend", of_implicit, 1.0),
        "recommending, peak memory, GB": ("recommend", ours["peak_gb"], 2.0),
        "saving and loading, seconds": ("keep", find("keep", "jaxmf", "seconds"), 10.0),
        "saving and loading, peak memory of that of the rows": ("keep", find("keep", "jaxmf", "peak_of_rows"), 2.5),
    }
    return {
        what: {"measured": value if value == value else "not measured", "target": at_most}
        for what, (name, value, at_most) in rows.items()
        if result[name]
    }


def table(title: str, rows: Mapping[str, Any]) -> str:
    """A Markdown table: a row an entry."""
    first = next(iter(rows.values()))
    names = list(first) if isinstance(first, dict) else ["value"]
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [
        [entry, *(text(value.get(name, "")) if isinstance(value, dict) else text(value) for name in names)]
        for entry, value in rows.items()
    ]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(result: Mapping[str, Any]) -> str:
    """All of it as Markdown."""
    parts = [
        "# Benchmark" + ", of tiny sizes: to see whether it runs" * result["quick"],
        f"{text(result['machine'])}.\n\n{text(result['versions'])}.",
        *(
            table(title, result[name])
            for name, title in ({"targets": "What it aims at, at most"} | TITLES).items()
            if result.get(name)
        ),
        f"## Notes\n\n{NOTES}",
    ]
    if result["unavailable"]:
        parts.insert(2, table("Not measured, and why", result["unavailable"]))
    return "\n\n".join(parts)


def plots(args: Run, result: Mapping[str, Any]) -> None:
    """The fold-in of one user, its cost by ratings, and training against error: of ratings, and of clicks."""
    single, by_ratings, trained = (
        result[name] for name in ("fold_in_single_ms", "fold_in_by_ratings", "train_to_rmse")
    )
    if single:
        with args.plot("benchmark", "One user, 20 ratings, rank 64", "ms", "") as axes:
            for entry in sorted(single, key=single.get, reverse=True):
                axes.semilogx(single[entry], entry, "o", color="C1" if entry.startswith("jaxmf") else "C0")
    if by_ratings:
        with args.plot("benchmark_by_ratings", "Many users at once, rank 64", "ratings a user", "µs a user") as axes:
            axes.loglog([int(n) for n in by_ratings], list(by_ratings.values()), marker="o")
    if trained:
        with args.plot("benchmark_train", "Training", "seconds (log)", "RMSE on test ratings") as axes:
            for entry, score in trained.items():
                axes.semilogx(score["seconds"], score["rmse"], "o", label=entry)
    ranked = {name: score for name, score in result["clicks"].items() if "ndcg10" in score}
    if ranked:
        with args.plot(
            "benchmark_clicks", "Clicks, rank 128", "seconds a sweep (log)", "NDCG@10 of test clicks"
        ) as axes:
            for entry, score in ranked.items():
                axes.plot(score["sweep_seconds"], score["ndcg10"], "o", label=entry)
