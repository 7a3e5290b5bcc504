"""Ours."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxmf
from benchmarks.task import Round, Rounds, Score, Task, Triples
from jaxmf.data.histories import Block
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params

KERNELS = ("linear", "logistic")
ALL_KERNELS = (*KERNELS, "polynomial", "rbf")
DRAWS, RANK = 80, 10
"""Of the posterior that users are folded into."""
PRIOR = jaxmf.priors.DEFAULT
TARGET_RMSE = 0.8749
AT_MOST = 60
"""Epochs in which ALS must reach it."""
THREADS = 8

Result = TypeVar("Result")


def fold_in_single(task: Task) -> Rounds:
    """Milliseconds for one user: arrays in, row out."""

    def system(kernel: Kernel) -> Round:
        model = fitted(task, kernel)

        def call(at: int) -> object:
            row = jaxmf.fold_in.fold_in_user(model, *task.new_user(at)).params.user
            return np.asarray(row.bias), np.asarray(row.factors)

        return lambda: 1e3 * task.p50(call)

    return {f"jaxmf, {name}": system(kernel) for name, kernel in kernels(task).items()}


def fold_in_single_by_users(task: Task) -> Rounds:
    """Milliseconds for one user, written into a table with room for so many."""
    model = fitted(task, jaxmf.kernels.Linear())
    users, frozen = model.params.user, jaxmf.update.on_device(model.frozen())
    start = users[np.arange(min(len(users), task.size(1000)))]

    def system(n: int) -> Round:
        table = jaxmf.update.reserve(start, n)
        rows = np.random.default_rng(0).integers(0, len(table), 256, np.int32)

        def call(at: int) -> None:
            nonlocal table
            item, rating = task.new_user(at)
            packed, row = jaxmf.histories.packed_row(item, rating), rows[at % 256]
            table = jaxmf.update.update_user(table, frozen, row, packed)
            jax.block_until_ready(table)

        return lambda: 1e3 * task.p50(call)

    return {str(n): system(n) for n in map(task.size, (1_000, 10_000, 100_000, 1_000_000))}


def fold_in_batch(task: Task) -> Rounds:
    """Microseconds a user for many at once, in blocks on the device; and with blocks made and rows fetched."""
    new = many(task.new_item, task.new_rating, task.n_items)
    device = stacks(new)

    def systems(name: str, kernel: Kernel) -> Rounds:
        frozen = fitted(task, kernel).frozen()

        def solve(stacks: tuple[Block, ...]) -> object:
            return jax.block_until_ready(jaxmf.update.solve_stacks(frozen, stacks))

        def from_host(_: int) -> object:
            return jax.tree.map(np.asarray, solve(packed(new)))

        return {
            f"jaxmf, {name}": lambda: 1e6 / new.n_users * task.p50(lambda _: solve(device), 20),
            f"jaxmf, {name}, blocks made and rows fetched": lambda: 1e6 / new.n_users * task.p50(from_host, 20),
        }

    known = kernels(task, ALL_KERNELS)
    return {entry: turn for name, kernel in known.items() for entry, turn in systems(name, kernel).items()}


def fold_in_posterior(task: Task) -> Rounds:
    """The same of a posterior: milliseconds for one user, and for one of many, in blocks on the device."""
    known = ratings(task, task.ratings())
    new = many(task.new_item, task.new_rating, task.n_items)
    data = stacks(new.take(new.user < task.size(2000)).replace(n_users=task.size(2000)))

    def systems(name: str, features: jaxmf.features.Sides) -> Rounds:
        sweeps = {"sweeps": DRAWS + 20, "burn": 10, "keep": DRAWS}
        posterior = jaxmf.gibbs.fit(key(), known, rank=RANK, features=features, **sweeps).posterior
        frozen = posterior.frozen()

        def one(at: int) -> None:
            jax.block_until_ready(jaxmf.fold_in.fold_in_user(posterior, *task.new_user(at)).params.user)

        def batch(_: int) -> None:
            jax.block_until_ready(jaxmf.update.solve_stacks(frozen, data))

        return {
            f"jaxmf, {name}, one user": lambda: 1e3 * task.p50(one),
            f"jaxmf, {name}, a user of many": lambda: 1e3 / task.size(2000) * task.p50(batch, 5),
        }

    sides = {"no features": jaxmf.features.Sides(), "implicit feedback": jaxmf.features.implicit_sides(known)}
    return {entry: turn for name, features in sides.items() for entry, turn in systems(name, features).items()}


def fold_in_by_ratings(task: Task) -> Rounds:
    """Microseconds a user against ratings a user, the ratings of the batch being as many."""
    frozen = fitted(task, jaxmf.kernels.Linear()).frozen()
    rng = np.random.default_rng(0)

    def system(n: int) -> Round:
        users = max(1, task.size(262_144) // n)
        item = rng.integers(0, task.n_items, (users, n))
        data = stacks(many(item, rng.uniform(task.low, task.high, (users, n)), task.n_items))

        def call(_: int) -> object:
            return jax.block_until_ready(jaxmf.update.solve_stacks(frozen, data))

        return lambda: 1e6 / users * task.p50(call, 10)

    sizes = [2**power for power in range(3, 13)]
    return {str(n): system(n) for n in (sizes[::6] if task.quick else sizes)}


def train(task: Task) -> Rounds:
    """ALS until its RMSE is the target, in a process that has compiled nothing."""
    epochs = {name: fresh(epochs_needed, task, name) for name in KERNELS}
    return {f"jaxmf ALS, {name}": lambda name=name: fresh(als, task, name, epochs[name]) for name in KERNELS}


def epochs_needed(task: Task, kernel: str) -> int:
    """The first epoch whose test RMSE is the target; else the best one."""
    watch = jaxmf.Watch(validation=ratings(task, task.hidden()))
    at_most = 3 if task.quick else AT_MOST
    history = jaxmf.als.fit(
        key(), ratings(task, task.ratings()), kernel=kernels(task)[kernel], epochs=at_most, watch=watch
    )
    rmse = history.history["rmse"]
    return int((rmse <= TARGET_RMSE).argmax() if (rmse <= TARGET_RMSE).any() else rmse.argmin()) + 1


def als(task: Task, kernel: str, epochs: int) -> Score:
    """One fit. `wall_seconds` is the whole call: blocks and a start are made, and the small programs that do it."""
    jax.devices()  # the backend's start is JAX's, not the fit's
    data = ratings(task, task.ratings())
    start = time.perf_counter()
    fit = jaxmf.als.fit(key(), data, kernel=kernels(task)[kernel], epochs=epochs)
    wall = time.perf_counter() - start
    test = task.hidden()
    rmse = task.rmse(fit.model.predict(test.user, test.item))
    return {
        "seconds": fit.seconds,
        "compile_seconds": fit.compile_seconds,
        "wall_seconds": wall,
        "epochs": epochs,
        "rmse": rmse,
    }


def sgd_step(task: Task) -> Rounds:
    """Milliseconds of one step of Adam on 1,024 ratings at rank 32, by the number of users in the table."""
    kernel, optimizer, sizes = jaxmf.kernels.Linear(), optax.adam(2e-2), [task.size(10_000), task.size(1_000_000)]
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, sizes[0], 1024, np.int32), rng.integers(0, task.n_items, 1024, np.int32)
    rating = rng.uniform(task.low, task.high, 1024).astype(np.float32)

    def one(state: jaxmf.sgd.State, batch: Ratings, n: jaxmf.objective.Weights) -> tuple:
        return jaxmf.sgd.step(state, batch, n, kernel=kernel, prior=PRIOR, optimizer=optimizer)

    step = jax.jit(one, donate_argnums=0)

    def system(n_users: int) -> Round:
        batch = Ratings(user, item, rating, np.ones_like(rating), n_users, task.n_items)
        state = jaxmf.sgd.init(key(), batch, kernel=kernel, rank=32, optimizer=optimizer)
        n, batch = jaxmf.objective.weights(batch), jax.tree.map(jnp.asarray, batch)

        def call(_: int) -> None:
            nonlocal state
            state, info = step(state, batch, n)
            jax.block_until_ready((state.params, info))

        return lambda: 1e3 * task.p50(call)

    return {str(n): system(n) for n in sizes}


def threads(task: Task) -> Rounds:
    """Eight threads that fold in at once, alone and in batches: do all come back, and with the same rows?"""
    model = fitted(task, jaxmf.kernels.Linear())
    frozen = model.frozen()
    new = many(task.new_item[:1000], task.new_rating[:1000], task.n_items)
    data = stacks(new)

    def calls(at: int) -> dict[str, list[np.ndarray]]:
        rows = {
            "fold_in_user": jaxmf.fold_in.fold_in_user(model, *task.new_user(at)).params.user,
            "solve_stacks": jaxmf.update.solve_stacks(frozen, data),
        }
        return {name: [np.asarray(leaf) for leaf in jax.tree.leaves(row)] for name, row in rows.items()}

    expected = [calls(at) for at in range(THREADS)]

    def turn() -> Score:
        seconds = 10 if task.quick else 60
        end = time.perf_counter() + seconds
        done, same = [0] * THREADS, [True] * THREADS

        def work(at: int) -> None:
            while time.perf_counter() < end:
                same[at] &= jax.tree.all(jax.tree.map(np.array_equal, calls(at), expected[at]))
                done[at] += 2

        workers = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(max(0.0, end + 30 - time.perf_counter()))
        hang = any(worker.is_alive() for worker in workers)
        return {"threads": THREADS, "seconds": seconds, "calls": sum(done), "identical": all(same), "hang": hang}

    return {"jaxmf": turn}


def recommend(task: Task) -> Rounds:
    """The best 10 unseen items of every user; compilation is not counted."""
    known = task.catalogue()
    users, items = (jaxmf.tables.Table(jnp.zeros(len(x)), jnp.asarray(x)) for x in (known.users, known.items))
    model = jaxmf.Model(Params(users, items, jnp.float32(0)), jaxmf.kernels.Linear())
    seen = many(known.seen, np.ones_like(known.seen), len(known.items))

    def call() -> object:
        return jaxmf.recommend.top_n(model, np.arange(len(users)), seen=seen)

    call()
    return {"jaxmf, linear": lambda: task.timed(call)}


def kernels(task: Task, names: tuple[str, ...] = KERNELS) -> dict[str, Kernel]:
    """Kernels by name."""
    return {name: jaxmf.kernels.for_range(task.low, task.high, name) for name in names}


def key() -> Array:
    """The one random key."""
    return jax.random.key(0)


def fresh(call: Callable[..., Result], *args: object) -> Result:
    """`call(*args)` in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def ratings(task: Task, triples: Triples) -> Ratings:
    """The task's ratings as ours."""
    return Ratings(*triples, np.ones(len(triples.rating), np.float32), task.n_users, task.n_items)


def many(item: np.ndarray, rating: np.ndarray, n_items: int) -> Ratings:
    """Ratings of `users` users with `n` each."""
    users, n = item.shape
    user = np.repeat(np.arange(users, dtype=np.int32), n)
    flat = item.ravel().astype(np.int32), rating.ravel().astype(np.float32)
    return Ratings(user, *flat, np.ones(users * n, np.float32), users, n_items)


def packed(new: Ratings) -> tuple[Block, ...]:
    """Their blocks, as a fold-in makes them."""
    return jaxmf.histories.blocks(new, pages=jaxmf.histories.CACHED_PAGES)


def stacks(new: Ratings) -> tuple[Block, ...]:
    """Their blocks, on the device."""
    return jax.tree.map(jnp.asarray, packed(new))


def fitted(task: Task, kernel: Kernel) -> jaxmf.Model:
    """A model of the task's rank."""
    known = ratings(task, task.ratings())
    return jaxmf.als.fit(key(), known, kernel=kernel, rank=task.rank, epochs=task.epochs(15)).model
