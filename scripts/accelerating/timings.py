"""How long the work of a large service takes on a device, how much memory, and what share of the device that is."""

import functools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from accelerating import made
from accelerating.roofline import STATED, Peaks, Work, compiled, measured_peaks, timed, told
from jaxmf.data.histories import CACHED_PAGES, PAGES, packed_row
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import CLICKS, DEFAULT
from jaxmf.online.fold_in import fold_in_user
from jaxmf.online.update import on_device, solve_stacks, solve_user
from jaxmf.serving import top
from jaxmf.serving.recommend import top_n
from jaxmf.training import als, gibbs
from jaxmf.training import clicks as clicks_sweeps
from jaxmf.training.sampler import CG_STEPS

NUMBER, RATING, STEPS = 4, 12, 3
"""Bytes of a number, and of a rating with its item and its weight; conjugate-gradient steps of a sweep of ALS."""

Told = dict[str, Any]


class Sizes(NamedTuple):
    """How much is timed.

    Attributes:
        rated: Ratings of each user that is folded in.
        fold_in_ranks: Ranks of their models; the first is that of everything that has one.
        users: Users folded in at once, few and many.
        large: The ratings of a sweep.
        ranks: Ranks of sweeps of ALS.
        gibbs_rank: Rank of a sweep of Gibbs sampling.
        ranked: Users and items of lists.
        rounds: Rounds of a measurement, and of one user's.
        copied: Numbers that are copied, and rows of the matrix that is squared, to know the device by.
    """

    rated: int = 32
    fold_in_ranks: tuple[int, ...] = (64, 128)
    users: tuple[int, int] = (10_000, 1_000_000)
    large: made.Size = made.Size(138_000, 27_000, 20_000_000)
    ranks: tuple[int, ...] = (64, 128, 256)
    gibbs_rank: int = 32
    ranked: made.Size = made.Size(100_000, 50_000, 0)
    rounds: tuple[int, int] = (5, 200)
    copied: tuple[int, int] = (2**28, 8192)


class Bench:
    """What the measurements share, each made when it is first asked for."""

    def __init__(self, sizes: Sizes, seed: int) -> None:
        self.sizes, self.seed = sizes, seed
        self.seconds: dict[str, float] = {}

    @functools.cached_property
    def reached(self) -> Peaks:
        """What the device reaches."""
        return measured_peaks(*self.sizes.copied)

    @functools.cached_property
    def peaks(self) -> Peaks:
        """What its maker states; what it reaches where that isn't known."""
        return STATED.get(jax.local_devices()[0].device_kind, self.reached)

    @functools.cached_property
    def ratings(self) -> Ratings:
        """The large set, on the host."""
        return made.ratings(np.random.default_rng(self.seed), self.sizes.large)

    @functools.cached_property
    def clicks(self) -> Ratings:
        """The same as clicks."""
        return made.clicks(np.random.default_rng(self.seed), self.ratings)

    @functools.cached_property
    def histories(self) -> als.Histories:
        """Its blocks, on the device."""
        return self._placed("als", als.histories, self.ratings)

    @functools.cached_property
    def clicked(self) -> clicks_sweeps.Histories:
        """The blocks of its clicks, on the device."""
        kernel = made.kernel_of("clicks", self.clicks)
        return self._placed("clicks", made.click_histories, self.clicks, kernel)

    def _placed(self, name: str, cut: Callable[..., Any], *given: Any) -> Any:  # noqa: ANN401 any pytree
        start = time.perf_counter()
        blocks = cut(*given)
        self.seconds[name] = time.perf_counter() - start
        return jax.block_until_ready(jax.device_put(blocks))

    def told(self, times: list[float], work: Work, facts: dict[str, float | None]) -> Told:
        """A measurement as it is written down."""
        return told(times, work, self.peaks, facts)

    def passes(self, rank: int, *, steps: int) -> Work:
        """Half a sweep a side: each rating's row read, its gradient made, and so many steps taken."""
        size, c = self.sizes.large, rank + 1
        rows = 2 * NUMBER * c * (size.users + size.items)
        return Work(2 * size.ratings * (NUMBER * c + RATING) + rows, 2 * size.ratings * c * (4 * steps + 4))


def every(bench: Bench) -> dict[str, Callable[[], Told]]:
    """The measurements by name, those that take least first."""
    sizes, of = bench.sizes, {}
    few, many = sizes.users
    rank = sizes.fold_in_ranks[0]
    for kind in ("linear", "logistic"):
        of[f"fold_in_one/{kind}"] = partial(fold_in_one, bench, kind)
    for each in sizes.fold_in_ranks:
        for kind in ("linear", "logistic"):
            of[f"fold_in_{few}/{kind}_{each}"] = partial(fold_in_many, bench, kind, each, few, CACHED_PAGES)
    of[f"fold_in_{few}/linear_{rank}_long_blocks"] = partial(fold_in_many, bench, "linear", rank, few, PAGES)
    of[f"fold_in_{many}/linear_{rank}"] = partial(fold_in_many, bench, "linear", rank, many, PAGES)
    of[f"top_n/linear_{rank}"] = partial(lists, bench)
    first, *others = sizes.ranks
    of |= {
        "blocks/als": partial(blocks, bench, "als"),
        f"als/linear_{first}": partial(als_sweep, bench, "linear", first),
    }
    of[f"gibbs/linear_{sizes.gibbs_rank}"] = partial(gibbs_sweep, bench)
    of |= {f"als/linear_{each}": partial(als_sweep, bench, "linear", each) for each in others}
    of["blocks/clicks"] = partial(blocks, bench, "clicks")
    for each in sizes.ranks:
        of[f"clicks/{each}"] = partial(clicks_sweep, bench, each)
    return of | {f"als/logistic_{first}": partial(als_sweep, bench, "logistic", first)}


def fold_in_one(bench: Bench, kind: str) -> Told:
    """One user as a request has it, from arrays on the host to a row on the device; the program's own facts beside."""
    sizes, rank = bench.sizes, bench.sizes.fold_in_ranks[0]
    model, _ = _folded(bench, kind, rank, 1, 1)
    rng = np.random.default_rng(bench.seed)
    item = rng.choice(sizes.ranked.items, sizes.rated, replace=False)
    stars = rng.integers(1, 11, sizes.rated) / 2
    facts = compiled(solve_user, on_device(model.frozen()), packed_row(item, stars)).facts
    times = timed(lambda: fold_in_user(model, item, stars).params.user, sizes.rounds[1])
    return bench.told(times, _solves(1, sizes.rated, rank), facts)


def fold_in_many(bench: Bench, kind: str, rank: int, users: int, pages: int) -> Told:
    """Users folded in by one program, their blocks on the device already."""
    model, stacks = _folded(bench, kind, rank, users, pages)
    frozen = model.frozen()
    program = compiled(solve_stacks, frozen, stacks)
    times = timed(lambda: program.call(frozen, stacks), bench.sizes.rounds[0])
    solved = stacks[0].rows.size
    told = bench.told(times, _solves(solved, bench.sizes.rated, rank), program.facts)
    return told | {"users": solved, "microseconds_a_user": 1e6 * told["seconds"] / solved}


def _folded(bench: Bench, kind: str, rank: int, users: int, pages: int) -> tuple[Model, tuple]:
    rng, sizes = np.random.default_rng(bench.seed), bench.sizes
    size = made.Size(users, sizes.ranked.items, users * sizes.rated)
    known = made.ratings(rng, made.Size(1, sizes.ranked.items, sizes.rated))
    return made.model(rng, kind, known, rank), (jax.device_put(made.stack(rng, size, pages)),)


def _solves(users: int, rated: int, rank: int) -> Work:
    """Fold-ins: each rated row read once, and one step; how many more a solve takes depends on the ratings."""
    n, c = users * rated, rank + 1
    return Work(n * (NUMBER * c + RATING) + NUMBER * users * c, n * c * 8)


def blocks(bench: Bench, name: str) -> Told:
    """Seconds on the host to cut the large set into blocks."""
    _ = {"als": lambda: bench.histories, "clicks": lambda: bench.clicked}[name]()
    return {"seconds": bench.seconds[name]}


def als_sweep(bench: Bench, kind: str, rank: int) -> Told:
    """A sweep of ALS over the large set."""
    kernel, data = made.kernel_of(kind, bench.ratings), bench.histories
    state = als.init(jax.random.key(bench.seed), bench.ratings, kernel=kernel, rank=rank)
    step = partial(als.step, prior=DEFAULT, kernel=kernel, cg_steps=STEPS)
    return _sweeps(bench, step, (state, data), bench.passes(rank, steps=STEPS))


def clicks_sweep(bench: Bench, rank: int) -> Told:
    """A sweep of ALS over the large set's clicks."""
    kernel, data = made.kernel_of("clicks", bench.clicks), bench.clicked
    state = clicks_sweeps.init(jax.random.key(bench.seed), bench.clicks, rank=rank)
    rows, passes = bench.sizes.large.users + bench.sizes.large.items, bench.passes(rank, steps=1)
    # Twice a sweep both tables are turned, and for either side there is a Gram matrix.
    work = Work(passes.bytes + 5 * NUMBER * rows * rank, passes.flops + 6 * rows * rank**2)
    return _sweeps(bench, partial(clicks_sweeps.step, kernel=kernel, prior=CLICKS), (state, data), work)


def gibbs_sweep(bench: Bench) -> Told:
    """A sweep of Gibbs sampling over the large set."""
    rank, known = bench.sizes.gibbs_rank, bench.histories
    kernel = Linear().replace(unit=made.kernel_of("linear", bench.ratings).unit)
    state = gibbs.init(jax.random.key(bench.seed), bench.ratings, kernel=kernel, rank=rank)
    ratings, rated = jax.device_put(bench.ratings), jax.tree.map(jnp.sign, known.n)
    data = gibbs.Data(ratings, rated, known.blocks, known.features)
    passes, n = bench.passes(rank, steps=CG_STEPS), bench.sizes.large.ratings
    # Both rows of each rating are read twice, for the precisions of the noise and of the users', and multiplied.
    work = Work(passes.bytes + 2 * n * (2 * NUMBER * (rank + 1) + RATING), passes.flops + 4 * n * (rank + 1))
    return _sweeps(bench, partial(gibbs.step, kernel=kernel), (state, data), work)


def _sweeps(bench: Bench, step: Callable[..., Any], given: tuple, work: Work) -> Told:
    """Sweeps one after the other, each from where the last one ended."""
    state, data = given
    program = compiled(step, state, data, gives_up=(0,))

    def sweep() -> Any:  # noqa: ANN401 any state
        nonlocal state
        state, info = program.call(state, data)
        return state, info

    return bench.told(timed(sweep, bench.sizes.rounds[0]), work, program.facts)


def lists(bench: Bench) -> Told:
    """The ten best items of users, from rows on the device to lists on the host; the first call also compiles."""
    size, rank, rng = bench.sizes.ranked, bench.sizes.fold_in_ranks[0], np.random.default_rng(bench.seed)
    params = Params(made.table(rng, size.users, rank), made.table(rng, size.items, rank), jnp.float32(0))
    model, users = Model(params, Linear(), DEFAULT), np.arange(size.users)
    one_call = users[: top.USERS * top.BLOCKS]
    start = time.perf_counter()
    top_n(model, one_call, n=10)
    first = time.perf_counter() - start
    again = min(timed(lambda: top_n(model, one_call, n=10), 2))
    times = timed(lambda: top_n(model, users, n=10), bench.sizes.rounds[0])
    rows = NUMBER * (rank + 1) * (size.users + size.items)
    work = Work(rows + 2 * NUMBER * 10 * size.users, 2.0 * size.users * size.items * rank)
    return bench.told(times, work, {"compile_seconds": max(0.0, first - again)})
