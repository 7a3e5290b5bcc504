"""The compiled half of `jaxmf.tune`: jobs, and the program that fits them all."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmf import sharding
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import objective, params
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params
from jaxmf.model.priors import Priors
from jaxmf.model.tables import Table
from jaxmf.training import sgd
from jaxmf.training.folds import Data, stacked
from jaxmf.training.trainers import Job, State, Trainer

NARROWEST = 8
"""Fewest columns of a job's factors."""


class Group(NamedTuple):
    """The jobs whose factors have one width, their ranks, and their places among all jobs."""

    width: int
    ranks: tuple[int, ...]
    places: np.ndarray
    jobs: Job


class Deal(NamedTuple):
    """Which jobs of a group each device fits.

    Attributes:
        slots: Positions of jobs, each device's part of them in the order in which it takes them.
        turns: How many chunks each device fits.
    """

    slots: Int[AnyArray, " slots"]
    turns: Int[AnyArray, ""]


Rmse = tuple[Float[Array, "slots epochs"], ...]


def make(configurations: pd.DataFrame, priors: Sequence[Priors], folds: int) -> tuple[Group, ...]:
    """The jobs of all configurations and folds, by width; a fold's number runs fastest in their places.

    A width is a power of two: the factors beyond a job's rank start at 0 and stay there, since no rating and no prior
    moves a factor that is 0 on both sides.
    """
    n = len(configurations)
    rank, seed, rate = (
        configurations[name].to_numpy() if name in configurations else np.full(n, default)
        for name, default in (("rank", 32), ("seed", 0), ("learning_rate", sgd.LEARNING_RATE))
    )
    widths = np.array([max(NARROWEST, 1 << (int(one) - 1).bit_length()) for one in rank])
    groups = []
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        ranks, which = np.unique(rank[chosen].astype(int), return_inverse=True)
        of = [
            Job(np.uint32(seed[at]), np.int32(of), np.int32(fold), _float32(priors[at]), np.float32(rate[at]))
            for at, of in zip(chosen.tolist(), which.tolist(), strict=True)
            for fold in range(folds)
        ]
        places = (chosen[:, None] * folds + np.arange(folds)).ravel()
        groups.append(Group(int(width), tuple(ranks.tolist()), places, stacked(of)))
    return tuple(groups)


def compiled(
    data: Data, groups: Sequence[Group], *, kernel: Kernel, trainer: Trainer
) -> Callable[[Bool[np.ndarray, " jobs"], int], Float[np.ndarray, "jobs epochs"]]:
    """One program of all jobs: called, it gives the validation RMSE of those wanted after each epoch, NaN elsewhere.

    Which jobs are wanted and for how many epochs, the trainer's at most, are its arguments: every rung of successive
    halving runs the same program. The wanted jobs of each group are dealt out to this process's devices in turn.
    """
    epochs, chunk = trainer.epochs, trainer.side_by_side
    devices = jax.local_devices()
    mesh, spread, whole = sharding.mesh_of(devices), sharding.spec("configurations"), sharding.spec()

    def every(data: Data, of_groups: tuple[Job, ...], deals: tuple[Deal, ...], length: Int[Array, ""]) -> Rmse:
        def fit_all(group: Group, jobs: Job, deal: Deal) -> Float[Array, "slots epochs"]:
            def one(at: Int[Array, ""]) -> Float[Array, " epochs"]:
                job = jax.tree.map(lambda x: x[at], jobs)
                return fit(data, job, group, kernel=kernel, trainer=trainer, epochs=length, room=epochs)

            def side_by_side(at: Int[Array, ""], rmse: Float[Array, "turns chunk epochs"]) -> Float[Array, "..."]:
                return rmse.at[at].set(jax.vmap(one)(turns[at]) if chunk > 1 else one(turns[at, 0])[None])

            turns = deal.slots.reshape(-1, chunk)
            rmse = jnp.full((*turns.shape, epochs), jnp.nan, jnp.float32)
            return lax.fori_loop(0, deal.turns, side_by_side, rmse).reshape(-1, epochs)

        return tuple(fit_all(*of_group) for of_group in zip(groups, of_groups, deals, strict=True))

    def deal_out(wanted: Bool[np.ndarray, " jobs"]) -> tuple[Deal, ...]:
        return tuple(_deal(wanted[group.places], len(devices), chunk) for group in groups)

    specs = (whole, whole, (Deal(spread, whole),) * len(groups), whole)
    parts = jax.shard_map(every, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)
    kept = (data, tuple(group.jobs for group in groups))
    n = sum(len(group.places) for group in groups)
    program = jax.jit(parts).lower(*kept, deal_out(np.ones(n, bool)), np.int32(epochs)).compile()
    kept = jax.device_put(kept, program.input_shardings[0][:2])

    def run(wanted: Bool[np.ndarray, " jobs"], length: int) -> Float[np.ndarray, "jobs epochs"]:
        deals = deal_out(wanted)
        rmse = program(*kept, *jax.device_put((deals, np.int32(length)), program.input_shardings[0][2:]))
        out = np.full((n, epochs), np.nan, np.float32)
        for group, of_group in zip(groups, rmse, strict=True):
            chosen = np.flatnonzero(wanted[group.places])
            out[group.places[chosen]] = np.asarray(of_group)[_places(len(chosen), len(of_group), len(devices))]
        return out

    return run


def fit(
    data: Data,
    job: Job,
    group: Group,
    *,
    kernel: Kernel,
    trainer: Trainer[State],
    epochs: Int[Array, ""],
    room: int,
) -> Float[Array, " room"]:
    """One job's validation RMSE after each of its epochs, predictions clipped to the training ratings' range."""
    known, fold = data.of(job.fold)
    kernel = kernel.replace(unit=fold.unit)

    def draw(key: Key[Array, ""]) -> Params:
        starts = [_narrow_start(rank, group.width, known.ratings, fold.offset) for rank in group.ranks]
        return lax.switch(job.rank, starts, key)

    state, epoch = trainer.starter(draw, job, known, epochs)

    def one(at: Int[Array, ""], so_far: tuple[State, Float[Array, " room"]]) -> tuple[State, Float[Array, " room"]]:
        state, rmse = so_far
        state = epoch(state, kernel)
        return state, rmse.at[at].set(objective.rmse(state.params, kernel, fold.held, fold.low, fold.high))

    return lax.fori_loop(0, epochs, one, (state, jnp.full(room, jnp.nan, jnp.float32)))[1]


def _deal(wanted: Bool[np.ndarray, " jobs"], devices: int, chunk: int) -> Deal:
    """The wanted jobs of a group, dealt out to the devices in turn; slots that are left over hold the first job."""
    chosen = np.flatnonzero(wanted)
    slots = np.zeros(-(-len(wanted) // (devices * chunk)) * devices * chunk, np.int32)
    slots[_places(len(chosen), len(slots), devices)] = chosen
    return Deal(slots, np.int32(-(-len(chosen) // (devices * chunk))))


def _places(n: int, slots: int, devices: int) -> Int[np.ndarray, " n"]:
    """Which of the slots `n` jobs stand in: a device's slots lie together, and each device in turn is given a job."""
    turn, device = np.divmod(np.arange(n), devices)
    return device * (slots // devices) + turn


def _narrow_start(
    rank: int, width: int, ratings: Ratings, offset: Float[Array, ""]
) -> Callable[[Key[Array, ""]], Params]:
    """A start of `rank` factors, those of `als.fit` with the same key, in tables of `width`."""

    def widened(table: Table) -> Table:
        return Table(table.bias, jnp.pad(table.factors, ((0, 0), (0, width - rank))))

    def start(key: Key[Array, ""]) -> Params:
        narrow = params.init(key, ratings.n_users, ratings.n_items, rank, offset=offset)
        return narrow.replace(user=widened(narrow.user), item=widened(narrow.item))

    return start


def _float32(priors: Priors) -> Priors:
    return jax.tree.map(np.float32, priors)
