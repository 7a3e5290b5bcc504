"""Ours, of clicks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmf
from benchmarks import clicking
from benchmarks.clicking import Clicked, Settings, System
from benchmarks.jaxmf_ import key, many, packed
from benchmarks.task import Round, Rounds, Task
from jaxmf.data.ratings import Ratings

CLICKS = jaxmf.kernels.Clicks()
PRIOR = jaxmf.priors.CLICKS.user


def fit(of: Clicked, settings: Settings, rank: int, sweeps: int) -> jaxmf.Model:
    """A model; the background is given in units of the default one."""
    one = np.ones(len(of.user), np.float32)
    known = Ratings(of.user.astype(np.int32), of.item.astype(np.int32), one, one, of.n_users, of.n_items)
    kernel = CLICKS.replace(background=settings["background"] * float(CLICKS.measured(known).share))
    prior = PRIOR.replace(factor_reg=settings["factor_reg"])
    return jaxmf.als.fit(key(), known, kernel=kernel, rank=rank, prior=prior, epochs=sweeps).model


def factors(model: jaxmf.Model) -> tuple[Any, Any]:
    """Its rows."""
    return model.params.user.factors, model.params.item.factors


DEFAULT = float(PRIOR.factor_reg)
SYSTEM = System(
    "jaxmf",
    [
        {"background": background, "factor_reg": reg * DEFAULT}
        for background in (1.0, 0.5, 2.0, 4.0)
        for reg in (1.0, 2 / 3)
    ],
    fit,
    factors,
)


def clicks_one(task: Task) -> Rounds:
    """Arrays in, row out."""
    model, liked = clicking.for_strangers(task, SYSTEM), np.ones(clicking.PROFILE, np.float32)

    def call(items: np.ndarray) -> object:
        return np.asarray(jaxmf.fold_in.fold_in_user(model, items, liked).params.user.factors)

    return {"jaxmf": clicking.one_user(task, call)}


def clicks_many(task: Task) -> Rounds:
    """In blocks on the device; and with blocks made and rows fetched."""
    model = clicking.for_strangers(task, SYSTEM)
    frozen, items = model.frozen(), clicking.strangers(task)
    new = many(items, np.ones_like(items), len(model.params.item))
    device = jax.tree.map(jnp.asarray, packed(new))

    def solve(_: object) -> object:
        return jax.block_until_ready(jaxmf.update.solve_stacks(frozen, device))

    def from_host(_: object) -> object:
        return jax.tree.map(np.asarray, jaxmf.update.solve_stacks(frozen, packed(new)))

    return {
        "jaxmf": clicking.many_users(task, solve),
        "jaxmf, blocks made and rows fetched": clicking.many_users(task, from_host),
    }


def clicks_written(task: Task) -> Rounds:
    """Milliseconds for one user's clicks, written into a table with room for so many that keeps its Gram matrix."""
    model, items = clicking.for_strangers(task, SYSTEM), clicking.strangers(task)
    users, frozen = model.params.user, jaxmf.update.on_device(model.frozen())
    start = users[np.arange(min(len(users), task.size(1000)))].counted()

    def system(n: int) -> Round:
        table = jaxmf.update.reserve(start, n)
        rows = np.random.default_rng(0).integers(0, len(table), 256, np.int32)
        liked = np.ones(clicking.PROFILE, np.float32)

        def call(at: int) -> None:
            nonlocal table
            given = jaxmf.histories.packed_row(items[at % len(items)], liked)
            table = jaxmf.update.update_user(table, frozen, rows[at % 256], given)
            jax.block_until_ready(table)

        return lambda: 1e3 * task.p50(call)

    return {str(n): system(n) for n in map(task.size, (1_000, 1_000_000))}
