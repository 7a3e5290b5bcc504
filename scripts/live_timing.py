"""What a living model takes to learn an event and to answer, its log on disk: `python scripts/live_timing.py`.

The same for a small state and a large one, of synthetic ratings; and how much memory a long stream leaves behind.
"""

import dataclasses
import gc
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from common import Output, process_bytes, run, say, show

import jaxmf
from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.live import Live
from jaxmf.model.kernels import for_range
from jaxmf.model.model import Model
from jaxmf.model.params import init
from jaxmf.serving.layered import Layered


class Size(NamedTuple):
    """Of a state."""

    users: int
    items: int
    ratings: int


SMALL, LARGE = Size(10_000, 20_000, 200_000), Size(1_000_000, 20_000, 20_000_000)
RANK, BATCH = 32, 32


@dataclasses.dataclass
class Timing(Output):
    """Time events and answers."""

    large: bool = True
    """The large state too: 20,000,000 ratings, some gigabytes of memory and of disk."""
    batches: int = 200
    """Batches of 32 to time, and five times as many events one by one."""
    events: int = 0
    """How many events of a long stream memory is looked at along; 0 for none."""
    seed: int = 0
    """Seed of all that is random."""
    cache: bool = True
    """Keep compiled programs for later runs."""


def main(args: Timing) -> None:
    """Time each size."""
    sizes = {"small": SMALL} | ({"large": LARGE} if args.large else {})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        lives, memory = {}, {}
        for name, size in sizes.items():
            say(f"making a state of {size.ratings:,} ratings of {size.users:,} users")
            lives[name] = Live.create(Path(folder) / name, synthetic(size, args.seed))
            lives[name].warm()
            if args.events and size is SMALL:  # while there is nothing else in memory
                memory = stretched(lives[name], size, args)
        found = {name: timed(lives[name], size, args) for name, size in sizes.items()}
        for live in lives.values():
            live.close()
    rows = [{"state": name} | row for name, row in found.items()]
    show("An event until it is on disk and learnt, and then its user's list", rows)
    if memory:
        show("GB of the process, arrays left out", [memory])
    args.save(found | {"memory": memory})


def synthetic(size: Size, seed: int) -> jaxmf.Recommender:
    """A recommender of random rows, and random ratings, popular items more often."""
    rng = np.random.default_rng(seed)
    user = np.arange(size.ratings, dtype=np.int32) % size.users
    item = (size.items * rng.random(size.ratings, np.float32) ** 2).astype(np.int32)
    pairs = np.unique(user.astype(np.int64) * size.items + item)
    user, item = (half.astype(np.int32) for half in np.divmod(pairs, size.items))
    rating = rng.integers(1, 6, len(pairs)).astype(np.float32)
    ratings = Ratings(user, item, rating, np.ones_like(rating), size.users, size.items)
    params = init(jax.random.key(seed), n_users=size.users, n_items=size.items, rank=RANK, offset=0.0)
    model = Layered.of(Model(params, for_range(1.0, 5.0, "logistic")))
    users, items = (Vocabulary(np.arange(count)) for count in (size.users, size.items))
    return jaxmf.Recommender(model, users, items, History(ratings), Columns(), (1.0, 5.0))


def happening(size: Size, rng: np.random.Generator, n: int, name: str) -> list[dict]:
    """Ratings by anybody of anything, popular items more often."""
    user, item = rng.integers(0, size.users, n), (size.items * rng.random(n) ** 2).astype(int)
    rows = zip(user.tolist(), item.tolist(), rng.integers(1, 6, n).tolist(), strict=True)
    return [
        {"id": f"{name}-{at}", "kind": "rating", "user": user, "item": item, "rating": rating}
        for at, (user, item, rating) in enumerate(rows)
    ]


def timed(live: Live, size: Size, args: Timing) -> dict[str, float]:
    """Percentiles of one event and the list that follows, and events a second in batches."""
    rng, one, many = np.random.default_rng(args.seed + 1), [], []
    for event in happening(size, rng, 5 * args.batches + 50, "one"):
        began = time.perf_counter()
        live.tell([event])
        live.recommend(event["user"])
        one.append(time.perf_counter() - began)
    events = happening(size, rng, BATCH * (args.batches + 10), "many")
    for at in range(0, len(events), BATCH):
        began = time.perf_counter()
        live.tell(events[at : at + BATCH])
        many.append(time.perf_counter() - began)
    p50, p99 = np.percentile(one[50:], [50, 99])
    median = float(np.median(many[10:]))
    return {"p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "batch_ms": 1e3 * median, "events_per_second": BATCH / median}


def stretched(live: Live, size: Size, args: Timing) -> dict[str, float]:
    """Memory after a tenth of a long stream and after all of it, without the arrays of the model and its ratings."""
    rng, found = np.random.default_rng(args.seed + 2), {}
    for part in range(10):
        events = happening(size, rng, args.events // 10, f"part-{part}")
        for at in range(0, len(events), 1000):
            live.tell(events[at : at + 1000])
        if part in (0, 9):
            gc.collect()
            found[f"after {(part + 1) * args.events // 10:,}"] = resident() - arrays(live)
    return found


def resident() -> float:
    """GB that the process has in memory."""
    return (process_bytes("VmRSS") or 0) / 2**30


def arrays(live: Live) -> float:
    """GB of the model's tables and of its ratings."""
    state = live._state
    ledgers = sum(side.ledger._pool.nbytes for side in (state.user, state.item))
    return (ledgers + sum(leaf.nbytes for leaf in jax.tree.leaves(state.model))) / 2**30


if __name__ == "__main__":
    run(main, Timing)
