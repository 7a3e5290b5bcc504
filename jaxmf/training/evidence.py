"""Priors from the data: what a trainer's `prior=None` means.

Two things are asked of the training ratings. How far rows lie apart is the evidence of an additive model's biases. How
firmly factors are to be held is where a few sweeps best predict ratings that they do not see.
"""

import time
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxmf.data.features import Sides, implicit
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.links import Links
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import DEFAULT, Prior, Priors, check
from jaxmf.model.tables import Table
from jaxmf.training import alternating, loop
from jaxmf.training.alternating import Histories, State, Sweep
from jaxmf.training.centring import centred_model
from jaxmf.training.loop import Fit, Log, Watch
from jaxmf.training.spread import Here, Spread

SHARE, ENOUGH = 0.1, 500
"""Share of the ratings that these sweeps do not see, and the fewest of them from which it is tried."""

EPOCHS, MORE, LEAST = 15, 2, 12
"""Sweeps that finding the factors' precision may cost, with as many as a stage for all that is no sweep; those of each
stage but the first; and the fewest in all with which it is tried."""

STEP = 0.5
"""How far the first stages stand from `DEFAULT`'s precision, in powers of 2."""

ROWS, RATINGS = 10, 10
"""Rows of each side, and ratings, that `DEFAULT` counts as: what few data say little against."""

NOISE = 0.7
"""The noise's variance in squared units before any rating is seen."""

SETTLED = 20
"""Steps in which the additive model's variances settle."""


@runtime_checkable
class Fitted(Protocol):
    """A trainer's last state."""

    @property
    def params(self) -> Params:
        """Its rows."""
        ...

    @property
    def links(self) -> Links:
        """What features say of them."""
        ...


class Task(NamedTuple):
    """What a prior is wanted for: `als.fit`'s arguments of these names, the kernel in its unit, and where it runs."""

    key: Key[Array, ""]
    ratings: Ratings
    kernel: Kernel
    rank: int
    features: Sides = Sides()
    epochs: int = EPOCHS
    sweep: Sweep = Sweep()
    progress: bool = False
    place: Here | Spread = Here()


class Found(NamedTuple):
    """A prior from the data, and what it took.

    Attributes:
        priors: Both sides' priors.
        seconds: Wall time of finding them, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
        given: Whether it was given, and not found.
    """

    priors: Priors
    seconds: float = 0.0
    compile_seconds: float = 0.0
    given: bool = False

    @property
    def told(self) -> Priors | str:
        """What tells a run under this prior from others: where it is found, the ratings and the key do already."""
        return self.priors if self.given else "found"

    def fit(self, state: Fitted, ratings: Ratings, kernel: Kernel, features: Sides, log: Log) -> Fit:
        """What a run under this prior that ended in `state` is a fit of, with the time that both took."""
        links = None if features == Sides() else state.links
        model = centred_model(Model(state.params, kernel, self.priors, links, features.implicit), ratings)
        return Fit(model, log.history, log.seconds + self.seconds, log.compile_seconds + self.compile_seconds)


class Spreads(NamedTuple):
    """Variances in an additive model of the ratings, in squared units: of both sides' biases, and of the noise."""

    user: float
    item: float
    noise: float


def given_or_found(prior: Prior | Priors | None, task: Task) -> Found:
    """The prior of both sides, checked, or one each; where there is none the one that is found.

    Raises:
        ValueError: As `jaxmf.priors.check`.
    """
    return find(task) if prior is None else Found(check(prior), given=True)


def find(task: Task) -> Found:
    """Priors from the training ratings alone.

    The precisions of the biases are those that `spreads` finds, brought to the kernel's slope. The factors' are
    `DEFAULT`'s times one number: that at which a tenth of the ratings, held out at random, are predicted best. ALS
    begins with 1, then forks into a smaller number, the same and a larger one, as many sweeps each, so that none is
    ahead; where the same is not best, the better goes on that way once more; and the minimum is a parabola's. Few
    ratings leave `DEFAULT` nearly as it is.

    Cost: that of `task.epochs` sweeps of ALS at most, by the program that `als.fit` compiles anyway.
    """
    began = time.perf_counter()
    variances = spreads(task.ratings, float(task.kernel.unit))
    slope = _slope(task) ** 2
    user, item = (
        one.replace(bias_reg=slope * variances.noise / spread)
        for one, spread in zip(DEFAULT, variances[:2], strict=True)
    )
    found = Priors(user, item)
    rated = np.asarray(task.ratings.weight) > 0
    random = np.random.default_rng(np.asarray(jax.random.key_data(task.key)))
    held = rated & (random.random(len(rated)) < SHARE)
    if held.sum() < ENOUGH or task.epochs < LEAST:
        return Found(found, time.perf_counter() - began)
    power, compile_seconds = _strength(task, held, found)
    return Found(_firmer(found, power), time.perf_counter() - began - compile_seconds, compile_seconds)


def spreads(ratings: Ratings, unit: float) -> Spreads:
    """Variances of r = μ + bᵤ + bᵢ + ε, by the evidence of a posterior in which all biases are independent.

    Expectation and maximisation take turns (a mean-field posterior: Bishop 2006, §10.1), from `DEFAULT`'s, which counts
    as `ROWS` rows of each side and `RATINGS` ratings. A row without ratings counts for nothing.

    Args:
        ratings: The ratings, on the host.
        unit: What errors are measured in.
    """
    weight = np.asarray(ratings.weight, float)
    rows = (np.asarray(ratings.user), np.asarray(ratings.item))
    sizes = (ratings.n_users, ratings.n_items)
    counts = [np.bincount(row, weight, size) for row, size in zip(rows, sizes, strict=True)]
    rest = np.asarray(ratings.rating, float) / unit
    biases = [np.zeros(size) for size in sizes]
    ratios = [float(prior.bias_reg) for prior in DEFAULT]
    spread, noise = [NOISE / ratio for ratio in ratios], NOISE
    for _ in range(SETTLED):
        rest -= np.average(rest, weights=weight)
        for side, (row, n) in enumerate(zip(rows, counts, strict=True)):
            rest += biases[side][row]
            biases[side] = np.bincount(row, weight * rest, len(n)) / (n + ratios[side])
            rest -= biases[side][row]
        unsure = [noise / (n + ratio) for n, ratio in zip(counts, ratios, strict=True)]
        doubt = sum(n @ of_rows for n, of_rows in zip(counts, unsure, strict=True))
        noise = (weight @ rest**2 + doubt + RATINGS * NOISE) / (weight.sum() + RATINGS)
        spread = [
            ((bias**2 + of_rows)[n > 0].sum() + ROWS * NOISE / prior.bias_reg) / (np.sum(n > 0) + ROWS)
            for bias, of_rows, n, prior in zip(biases, unsure, counts, DEFAULT, strict=True)
        ]
        ratios = [noise / of_side for of_side in spread]
    return Spreads(float(spread[0]), float(spread[1]), float(noise))


def _strength(task: Task, held: Bool[np.ndarray, " n"], begin: Priors) -> tuple[float, float]:
    """The power of 2 by which to multiply the factors' precisions, and the seconds of compiling."""
    seen, features = without(task, held)
    known = jax.tree.map(jnp.asarray, task.place.histories(seen, features))
    watch = Watch(validation=task.ratings.take(held), progress=task.progress)
    compiling = []

    def stage(state: State, power: float, epochs: int) -> tuple[State, float]:
        """`epochs` sweeps on from a state, and the error after them."""
        state, log = swept(task._replace(epochs=epochs), state, (known, _firmer(begin, power)), watch)
        compiling.append(log.compile_seconds)
        return jax.device_get(state), float(log.history["rmse"][-1])  # on the host, as a run gives its buffers up

    first = task.epochs - 5 * MORE
    start = alternating.init(task.key, seen, kernel=task.kernel, rank=task.rank, features=features)
    base, _ = stage(start, 0.0, first)
    fork = {power: stage(base, power, MORE) for power in (-STEP, 0.0, STEP)}
    errors = {power: error for power, (_, error) in fork.items()}
    at = min(errors, key=errors.__getitem__)
    if at:
        _, errors[3 * at] = stage(fork[at][0], 3 * at, MORE)
    return _lowest(errors), sum(compiling)


def _lowest(errors: dict[float, float]) -> float:
    """Where the parabola through the best power's error and its neighbours' is lowest; that power itself at an end."""
    powers, at = sorted(errors), min(errors, key=errors.__getitem__)
    near = powers[max(0, powers.index(at) - 1) : powers.index(at) + 2]
    if len(near) < 3:
        return at
    bend, slope, _ = np.polyfit(near, [errors[power] for power in near], 2)
    return float(np.clip(-slope / (2 * bend), near[0], near[-1])) if bend > 0 else at


def _firmer(priors: Priors, power: float) -> Priors:
    """The priors with factors of 2^`power` times the precision."""
    return Priors(*(one.replace(factor_reg=one.factor_reg * 2**power) for one in priors))


def without(task: Task, hidden: Bool[np.ndarray, " n"]) -> tuple[Ratings, Sides]:
    """The task's ratings, those that are hidden with weight 0, and the features where these are not known."""
    seen = task.ratings.replace(weight=np.where(hidden, np.float32(0), np.asarray(task.ratings.weight)))
    return seen, of_seen(task.features, seen)


def swept(task: Task, state: State, data: tuple[Histories, Priors], watch: Watch) -> tuple[State, Log]:
    """The state after the task's sweeps, by the program that `als.fit` runs, and their log."""
    of = loop.Run(
        task.ratings, task.kernel, task.epochs, alternating.REMEDY, {}, loop.rmse, solves=True, place=task.place
    )
    return loop.run(state, data, task.place.sweep(task.sweep), of, watch)


def of_seen(features: Sides, seen: Ratings) -> Sides:
    """The features when ratings of weight 0 are not known: implicit feedback is not to tell of what is held out."""
    user, item = (
        implicit(ratings) if feedback else given
        for given, feedback, ratings in zip(features, features.implicit, (seen, seen.transpose()), strict=True)
    )
    return Sides(user, item)


def _slope(task: Task) -> float:
    """How many units a prediction rises with a bias, where rows are 0."""
    if task.kernel.linear:
        return 1.0
    mean = float(np.average(task.ratings.rating, weights=task.ratings.weight))
    return float(_of_bias(task.kernel, np.float32(task.kernel.offset(mean)))) / float(task.kernel.unit)


@jax.jit
def _of_bias(kernel: Kernel, offset: Float[AnyArray, ""]) -> Float[Array, ""]:
    """How a prediction rises with a row's bias, where both rows are 0."""
    zero = Table(jnp.zeros(()), jnp.zeros(1))
    return jax.grad(kernel)(zero, zero, offset).bias
