"""The compiled half of `jaxmf.tune`: jobs, and the program that fits them all."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol, no_type_check, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import struct
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.features import Sides
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import links, objective, params
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params
from jaxmf.model.priors import Priors
from jaxmf.model.tables import Table
from jaxmf.training import als, sgd
from jaxmf.training.als import Histories
from jaxmf.training.folds import Data, stacked

NARROWEST = 8
"""Fewest columns of a job's factors."""


@no_type_check
class Job(struct.PyTreeNode):
    """One configuration on one fold; jobs are stacked along an axis in front.

    Attributes:
        seed: Seed of the fit's random key.
        rank: Which of its width's ranks it has, a position.
        fold: The fold.
        priors: The priors.
        learning_rate: For SGD.
    """

    seed: Int[AnyArray, ""]
    rank: Int[AnyArray, ""]
    fold: Int[AnyArray, ""]
    priors: Priors
    learning_rate: Float[AnyArray, ""]


class Group(NamedTuple):
    """The jobs whose factors have one width, their ranks, and their places among all jobs."""

    width: int
    ranks: tuple[int, ...]
    places: np.ndarray
    jobs: Job


State = als.State | sgd.State


@runtime_checkable
class Trainer(Protocol):
    """What a sweep needs of a trainer, besides the settings that all its fits share."""

    settings: ClassVar[tuple[str, ...]]
    """Settings that a configuration may have besides rank, seed and prior."""

    def starter(
        self, draw: Callable[[Key[Array, ""]], Params], job: Job, data: Histories, epochs: int
    ) -> tuple[State, Callable[[State, Kernel], State]]:
        """The first state, and the epoch."""
        ...


@dataclasses.dataclass(frozen=True)
class ALS:
    """Sweeps of `als.fit` with these settings."""

    steps: int = 1
    cg_steps: int = 3
    settings: ClassVar[tuple[str, ...]] = ()

    def starter(
        self,
        draw: Callable[[Key[Array, ""]], Params],
        job: Job,
        data: Histories,
        epochs: int,  # noqa: ARG002 a schedule's
    ) -> tuple[als.State, Callable[[als.State, Kernel], als.State]]:
        """The first state, and the sweep."""
        start = draw(jax.random.key(job.seed))

        def epoch(state: als.State, kernel: Kernel) -> als.State:
            return als.step(state, data, kernel=kernel, prior=job.priors, **dataclasses.asdict(self))[0]

        return als.State(start, links.init(Sides(), start.user.rank)), epoch


@dataclasses.dataclass(frozen=True)
class SGD:
    """Passes of `sgd.fit` with its default optimizer, whose learning rate is a configuration's."""

    batch_size: int = 1024
    settings: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def starter(
        self, draw: Callable[[Key[Array, ""]], Params], job: Job, data: Histories, epochs: int
    ) -> tuple[sgd.State, Callable[[sgd.State, Kernel], sgd.State]]:
        """The first state, and the pass."""
        n = len(data.ratings)
        batch_size = min(self.batch_size, n)
        optimizer = sgd.default_optimizer(epochs, n, batch_size, learning_rate=job.learning_rate)

        def epoch(state: sgd.State, kernel: Kernel) -> sgd.State:
            of_fold = (data.ratings, data.n, job.priors, Sides())
            return sgd.epoch(state, of_fold, kernel=kernel, batch_size=batch_size, optimizer=optimizer)[0]

        return sgd.start(jax.random.key(job.seed), draw, data.n, optimizer=optimizer), epoch


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
    data: Data,
    groups: Sequence[Group],
    *,
    kernel: Kernel,
    trainer: Trainer,
    epochs: int,
    chunk: int,
) -> Callable[[], Float[np.ndarray, "jobs epochs"]]:
    """One program of all jobs: called, it gives each one's validation RMSE after every epoch.

    The jobs of each group are spread over this process's devices.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("jobs",), axis_types=(AxisType.Auto,), devices=devices)
    spread, whole = PartitionSpec("jobs"), PartitionSpec()

    def every(data: Data, of_groups: tuple[Job, ...]) -> tuple[Float[Array, "jobs epochs"], ...]:
        def fit_all(group: Group, jobs: Job) -> Float[Array, "jobs epochs"]:
            def one(job: Job) -> Float[Array, " epochs"]:
                return fit(data, job, group, kernel=kernel, trainer=trainer, epochs=epochs)

            return lax.map(one, jobs, batch_size=chunk if chunk > 1 else None)

        return tuple(fit_all(*pair) for pair in zip(groups, of_groups, strict=True))

    parts = jax.shard_map(every, mesh=mesh, in_specs=(whole, spread), out_specs=spread, check_vma=False)
    arguments = (data, tuple(_filled(group.jobs, len(devices)) for group in groups))
    program = jax.jit(parts).lower(*arguments).compile()

    def run() -> Float[np.ndarray, "jobs epochs"]:
        rmse = program(*jax.device_put(arguments, program.input_shardings[0]))
        out = np.zeros((sum(len(group.places) for group in groups), epochs), np.float32)
        for group, of_group in zip(groups, rmse, strict=True):
            out[group.places] = np.asarray(of_group)[: len(group.places)]
        return out

    return run


def fit(
    data: Data, job: Job, group: Group, *, kernel: Kernel, trainer: Trainer, epochs: int
) -> Float[Array, " epochs"]:
    """One job's validation RMSE after every epoch, predictions clipped to the training ratings' range."""
    histories, fold = data.of(job.fold)

    def draw(key: Key[Array, ""]) -> Params:
        starts = [_narrow_start(rank, group.width, histories.ratings, fold.offset) for rank in group.ranks]
        return lax.switch(job.rank, starts, key)

    state, epoch = trainer.starter(draw, job, histories, epochs)

    def one(state: State, _: None) -> tuple[State, Float[Array, ""]]:
        state = epoch(state, kernel)
        return state, objective.rmse(state.params, kernel, fold.held, fold.low, fold.high)

    return lax.scan(one, state, None, length=epochs)[1]


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


def _filled(jobs: Job, devices: int) -> Job:
    """The jobs, the last one again until every device has as many as the others."""
    return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], -len(x) % devices, 0)]), jobs)


def _float32(priors: Priors) -> Priors:
    return jax.tree.map(np.float32, priors)
