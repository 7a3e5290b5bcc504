"""The loop that all trainers share: compile once, run epochs, watch, stop."""

import functools
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, ScalarLike
from tqdm import tqdm

from jaxmf.data.packing import even
from jaxmf.data.ratings import Ratings, filled
from jaxmf.data.ratings import check as check_coordinates
from jaxmf.model import objective
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Posterior
from jaxmf.model.priors import Priors
from jaxmf.training.leaves import facts
from jaxmf.training.place import Place


@runtime_checkable
class _HasParams(Protocol):
    @property
    def params(self) -> Params: ...

    def replace(self, **updates: Any) -> Any: ...  # noqa: ANN401


State = TypeVar("State", bound=_HasParams)
Info = dict[str, Float[Array, "..."]]


class Log(NamedTuple):
    """What a run leaves besides its last state.

    Attributes:
        history: Per epoch: `loss`, and `rmse` where there is a validation part. Empty where no epoch was left to do.
        seconds: Wall time of training, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
    """

    history: dict[str, np.ndarray]
    seconds: float
    compile_seconds: float


class Fit(NamedTuple):
    """What a trainer's `fit` returns.

    Attributes:
        model: The fitted model: the last epoch's, or the best one's under early stopping.
        history: As in `Log`, and so are the next two.
        seconds: Wall time of training, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
    """

    model: Model
    history: dict[str, np.ndarray]
    seconds: float
    compile_seconds: float

    @property
    def prior(self) -> Priors:
        """The priors of both sides, as they were given or found in the ratings."""
        return self.model.priors

    def __repr__(self) -> str:
        return told("Fit", self.model, Log(*self[1:]))


def told(name: str, model: Model | Posterior, log: Log) -> str:
    """A fit in words: its model, and how the run ended."""
    last = [f"{key} {np.mean(values[-1]):.4f}" for key, values in log.history.items() if len(values)]
    epochs = max((len(values) for values in log.history.values()), default=0)
    return f"{name}({model}, {epochs} epochs in {log.seconds:.2f} s{''.join(f', {one}' for one in last)})"


@runtime_checkable
class Keeper(Protocol):
    """Keeps a run's state, so that a run that ended early goes on: `jaxmf.checkpoint.Keeper`."""

    @property
    def every(self) -> int:
        """Epochs between two saves."""
        ...

    def load(self, state: State, run: Mapping[str, Any]) -> tuple[State, int]:
        """The state that was saved last of such a run, and after how many epochs; `state` and 0 where there is none."""
        ...

    def save(self, state: _HasParams, epoch: int, run: Mapping[str, Any]) -> None:
        """Save the state of such a run after `epoch` epochs."""
        ...


class Watch(NamedTuple):
    """What to look at while training, and what to keep.

    Attributes:
        validation: Ratings whose RMSE is reported each epoch (predictions clipped to the training ratings' range).
        patience: Stop after this many epochs without a better validation RMSE and return the best epoch's model.
        progress: Show a progress bar, where standard error is a terminal.
        callback: Called with (epoch, numbers of that epoch, params) after every epoch. Gibbs sampling's params have an
            axis of chains in front.
        keeper: Where the state is kept every few epochs and after the last. A `fit` with the same arguments goes on
            from what is there and ends where an uninterrupted one would have; its history is that of its own epochs.
            One with other arguments is refused, be it another key, prior, kernel, number of epochs, or other ratings or
            features. Only an optimizer of your own can't be told from another one.
    """

    validation: Ratings | None = None
    patience: int | None = None
    progress: bool = False
    callback: Callable[[int, dict[str, float], Params], None] | None = None
    keeper: Keeper | None = None


def check(ratings: Ratings, kernel: Kernel, rank: int, epochs: int, watch: Watch) -> None:
    """Refuse what can't be trained, before anything is compiled.

    Raises:
        ValueError: If there are no ratings, `rank` or `epochs` is below 1, a rating is outside the kernel's scale, or
            early stopping has no validation part, or has a keeper.
    """
    if not len(ratings) or not np.any(ratings.weight):
        raise ValueError("no rating has a weight above 0: a model needs at least one")
    if not rank >= 1:
        raise ValueError(f"rank must be 1 or more, got {rank}: it is the number of factors a row")
    if not epochs >= 1:
        raise ValueError(f"epochs must be 1 or more, got {epochs}")
    check_coordinates(ratings)
    check_ratings(kernel, np.asarray(ratings.rating))
    if watch.validation is not None:
        check_coordinates(watch.validation.replace(n_users=ratings.n_users, n_items=ratings.n_items), "validation")
    if watch.patience is not None and watch.validation is None:
        raise ValueError(
            f"patience={watch.patience} needs validation ratings to judge by: pass them in Watch(validation=…)"
        )
    if watch.patience is not None and watch.keeper is not None:
        raise ValueError(
            f"patience={watch.patience} with a keeper: the best epoch isn't kept, so leave one of them out"
        )


class Run(NamedTuple):
    """What a run is of.

    Attributes:
        ratings: The training ratings, for their range.
        kernel: The kernel.
        epochs: How many.
        remedy: What to change where the loss stops being finite, for the error's text.
        settings: What changes the result besides, for the keeper: a tree of numbers, words and arrays.
        rmse: RMSE of a state's predictions on the validation part, of a function of the module's level.
        solves: Whether an epoch is solves of many steps a row: how it is best compiled.
        place: Where its state is between epochs.
    """

    ratings: Ratings
    kernel: Kernel
    epochs: int
    remedy: str
    settings: Mapping[str, Any]
    rmse: Callable[[Any, Kernel, Ratings, ScalarLike, ScalarLike], Float[Array, ""]]
    solves: bool = False
    place: Place = Place()


def rmse(state: _HasParams, kernel: Kernel, validation: Ratings, low: ScalarLike, high: ScalarLike) -> Array:
    """RMSE of what a state's `params` predict, clipped."""
    return objective.rmse(state.params, kernel, validation, low, high)


class Form(NamedTuple):
    """What a program depends on of its arguments: their structure, and each array's shape, type and devices."""

    tree: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, arguments: PyTree) -> "Form":
        """The form of some arguments, all of them arrays."""
        leaves, tree = jax.tree.flatten(arguments)
        return cls(tree, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_spread(leaf)) for leaf in leaves))


SMALL = {"xla_cpu_experimental_ynn_fusion_type": ""} if version("jaxlib").startswith("0.10.") else {}
"""Without the library that jaxlib 0.10 hands sums and products to on the CPU: an epoch is hundreds of small ones, after
each of which its threads wait for each other. Sweeps over clicks then take .92 of the time, Gibbs's .74."""

SOLVES = SMALL and SMALL | {"xla_cpu_use_fusion_emitters": False}
"""And without the newer emitters, which take longer to compile solves of many steps a row, which then run no faster."""


@functools.lru_cache(maxsize=128)
def program(function: Callable, form: Form, *, solves: bool = False, gives_up: tuple[int, ...] = ()) -> Callable:
    """A function compiled once for each form of its arguments.

    Args:
        function: An epoch or a measure: alike, and so hashed, where its settings are.
        form: Of its arguments.
        solves: As in `Run`.
        gives_up: Arguments whose buffers are given up.
    """
    jitted = jax.jit(functools.partial(function), donate_argnums=gives_up)  # a named tuple alone can't be
    lowered = jitted.lower(*jax.tree.unflatten(*form))
    return lowered.compile(SOLVES if solves else SMALL)


def run(
    state: State,
    data: Any,  # noqa: ANN401 whatever pytree the trainer's epoch takes
    epoch: Callable[[State, Any, Kernel], tuple[State, Info]],
    of: Run,
    watch: Watch,
) -> tuple[State, Log]:
    """A run's epochs, each by the same program whatever their number and whoever watches.

    Args:
        state: A state with `params`; its buffers are given up.
        data: What `epoch` takes besides.
        epoch: (state, data, kernel) → (state, Info).
        of: What the run is of.
        watch: What to look at.

    Returns:
        The last state, or the best epoch's under early stopping, and the log.

    Raises:
        ValueError: If the loss stops being finite, or the keeper can't keep the run or holds another one.
    """
    told: dict[str, Any] = {}
    begin = 0
    if watch.keeper is not None:
        known = {"epochs": of.epochs, "kernel": str(of.kernel), "rank": state.params.item.rank}
        told = facts({**known, **of.settings, "ratings": of.ratings, "start": state})
        state, begin = watch.keeper.load(state, told)
    began = time.perf_counter()
    held = _held(of.ratings, None if watch.validation is None else of.place.pairs(watch.validation))
    state, data, kernel, held = jax.tree.map(_array, (of.place.spread(state), data, of.kernel, held))
    start = time.perf_counter()
    step = program(epoch, Form.of((state, data, kernel)), solves=of.solves, gives_up=(0,))
    measure = None if held is None else program(of.rmse, Form.of((state, kernel, *held)))
    compiling = time.perf_counter() - start
    history: list[dict[str, np.ndarray]] = []
    best, best_state, since = np.inf, None, 0
    for at in tqdm(range(begin, of.epochs), disable=None if watch.progress else True, unit="epoch", leave=False):
        state, info = step(state, data, kernel)
        if held is not None and measure is not None:
            info |= {"rmse": measure(state, kernel, *held)}
        info = jax.device_get(info)
        history.append(info)
        if not np.isfinite(info["loss"]):
            raise ValueError(f"the loss is {info['loss']} after epoch {at + 1}: {of.remedy}")
        if watch.callback is not None:
            watch.callback(
                at + 1, {name: float(np.mean(value)) for name, value in info.items()}, of.place.gathered(state).params
            )
        if watch.keeper is not None and ((at + 1) % watch.keeper.every == 0 or at + 1 == of.epochs):
            watch.keeper.save(of.place.gathered(state), at + 1, told)
        if watch.patience is not None:
            since += 1
            if info["rmse"] < best:
                best, best_state, since = info["rmse"], jax.tree.map(lambda x: x.copy(), state), 0
            if since >= watch.patience:
                break
    state = jax.block_until_ready(of.place.gathered(state if best_state is None else best_state))
    history_of = {name: np.stack([info[name] for info in history]) for name in (history[0] if history else {})}
    return state, Log(history_of, time.perf_counter() - began - compiling, compiling)


def _held(ratings: Ratings, validation: Ratings | None) -> tuple[Ratings, np.float32, np.float32] | None:
    """The validation part in an even number, and the range of the training ratings."""
    if validation is None:
        return None
    low, high = np.float32(np.min(ratings.rating)), np.float32(np.max(ratings.rating))
    return filled(validation, even(len(validation))), low, high


def _spread(leaf: jax.Array) -> Any:  # noqa: ANN401 any sharding
    """An array's devices, where they are several."""
    return leaf.sharding if len(leaf.sharding.device_set) > 1 else None


def _array(leaf: Any) -> jax.Array:  # noqa: ANN401 any leaf
    """An array of a type of its own, where a Python number would take its neighbour's."""
    if isinstance(leaf, jax.Array):
        return leaf
    return jax.device_put(np.float32(leaf) if isinstance(leaf, float | int) else leaf)
