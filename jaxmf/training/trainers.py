"""What a sweep of `jaxmf.tune` trains by: a trainer with the settings that all its fits share."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from jaxmf.data.ratings import AnyArray
from jaxmf.data.settings import check_whole
from jaxmf.model import links
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.training import als, sgd
from jaxmf.training.folds import Known

State = TypeVar("State", als.State, sgd.State)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer(abc.ABC, Generic[State]):
    """A trainer with the settings that all fits of a sweep share.

    Attributes:
        settings: Settings that a configuration may have besides rank, seed and prior.
        epochs: Sweeps or passes of each fit; else as many as the trainer's own `fit` takes.
        prior: What a configuration's columns leave out.
        chunk: Fits side by side on a device, which holds the memory of that many at a time; else 1 on a CPU, whose
            caches hold one and where `vmap` costs twice the time, and 16 elsewhere.

    Raises:
        ValueError: If a setting is not a whole number, or below 1.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    epochs: int
    prior: Prior | Priors = DEFAULT
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, least=1, meaning="how many sweeps or passes a fit takes")
        if self.chunk is not None:
            check_whole("chunk", self.chunk, least=1, meaning="how many fits run side by side on a device")

    @property
    def side_by_side(self) -> int:
        """The `chunk`, or what it is where none is given."""
        return self.chunk or (1 if jax.default_backend() == "cpu" else 16)

    @abc.abstractmethod
    def starter(
        self, draw: Callable[[Key[Array, ""]], Params], job: Job, known: Known, epochs: Int[Array, ""]
    ) -> tuple[State, Callable[[State, Kernel], State]]:
        """The first state, and the epoch of a fit of so many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ALS(Trainer[als.State]):
    """Sweeps of `als.fit`, whose `steps` and `cg_steps` these are."""

    epochs: int = 15
    steps: int = 1
    cg_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("steps", self.steps, least=1, meaning="the Newton steps of a row and sweep")
        check_whole("cg_steps", self.cg_steps, least=1, meaning="the conjugate-gradient steps of each")

    def starter(
        self,
        draw: Callable[[Key[Array, ""]], Params],
        job: Job,
        known: Known,
        epochs: Int[Array, ""],  # noqa: ARG002 a schedule's
    ) -> tuple[als.State, Callable[[als.State, Kernel], als.State]]:
        """The first state, and the sweep."""
        start = draw(jax.random.key(job.seed))

        def epoch(state: als.State, kernel: Kernel) -> als.State:
            few = {"steps": self.steps, "cg_steps": self.cg_steps}
            return als.step(state, known.histories, kernel=kernel, prior=job.priors, **few)[0]

        return als.State(start, links.init(known.histories.features, start.user.rank)), epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Trainer[sgd.State]):
    """Passes of `sgd.fit` over batches of `batch_size`; its default optimizer's learning rate is a configuration's."""

    settings: ClassVar[tuple[str, ...]] = ("learning_rate",)
    epochs: int = 20
    batch_size: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("batch_size", self.batch_size, least=1, meaning="the ratings of a step")

    def starter(
        self, draw: Callable[[Key[Array, ""]], Params], job: Job, known: Known, epochs: Int[Array, ""]
    ) -> tuple[sgd.State, Callable[[sgd.State, Kernel], sgd.State]]:
        """The first state, and the pass."""
        n, data = len(known.ratings), known.histories
        batch_size = min(self.batch_size, n)
        optimizer = sgd.default_optimizer(epochs, n, batch_size, learning_rate=job.learning_rate)

        def epoch(state: sgd.State, kernel: Kernel) -> sgd.State:
            more = -n % batch_size
            ratings = jax.tree.map(lambda column: jnp.pad(column, (0, more)), known.ratings)
            of_fold = (ratings, data.n, job.priors, data.features)
            return sgd.epoch(state, of_fold, kernel=kernel, batch_size=batch_size, optimizer=optimizer)[0]

        start = sgd.start(jax.random.key(job.seed), draw, data.n, optimizer=optimizer, features=data.features)
        return start, epoch
