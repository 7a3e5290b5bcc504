"""What a product's precision costs: errors against float64, and times, under each of JAX's settings.

What the package itself holds to float32 is the same under all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from accelerating import made
from accelerating.checks import exact_scores, flat, misplaced, sample, solved
from accelerating.reference import relative_error
from accelerating.roofline import timed
from jaxmf.data.histories import CACHED_PAGES, blocks
from jaxmf.model.kernels import Linear
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import DEFAULT
from jaxmf.online.update import solve_stacks
from jaxmf.serving.recommend import top_n
from jaxmf.training import als

SETTINGS = ("default", "tensorfloat32", "bfloat16", "highest")


class Sizes(NamedTuple):
    """How much is tried."""

    folded: made.Size = made.Size(10_000, 5_000, 320_000)
    rank: int = 64
    fitted: made.Size = made.Size(10_000, 1_000, 100_000)
    ranked: made.Size = made.Size(10_000, 50_000, 0)
    sample: int = 32
    rounds: int = 5


class Case(NamedTuple):
    """A call, and how far what it gives is from float64."""

    call: Callable[[], Any]
    error: Callable[[Any], float]


def every(sizes: Sizes, seed: int) -> dict[str, Callable[[], dict[str, dict[str, float]]]]:
    """The trials by name."""
    cases = {"fold_in": fold_in, "sweep": sweep, "top_n": lists, "bare_product": product}
    return {name: partial(tried, case, sizes, seed) for name, case in cases.items()}


def tried(make: Callable[[Sizes, int], Case], sizes: Sizes, seed: int) -> dict[str, dict[str, float]]:
    """Error and time under each setting."""
    case, found = make(sizes, seed), {}
    for setting in SETTINGS:
        with jax.default_matmul_precision(setting):
            error = case.error(jax.block_until_ready(case.call()))
            found[setting] = {"error": error, "seconds": float(np.median(timed(case.call, sizes.rounds)))}
    return found


def fold_in(sizes: Sizes, seed: int) -> Case:
    """Users folded in by one program, linear kernel."""
    rng = np.random.default_rng(seed)
    known = made.ratings(rng, sizes.folded)
    model, users = made.model(rng, "linear", known, sizes.rank), sample(known, sizes.sample)
    stacks = jax.device_put(blocks(known, pages=CACHED_PAGES))
    solved_in, frozen = np.concatenate([np.ravel(stack.rows) for stack in stacks]), model.frozen()
    places = np.argsort(solved_in)
    at = places[np.searchsorted(solved_in[places], users)]

    def error(tables: Any) -> float:  # noqa: ANN401 tables
        found = np.concatenate([flat(table) for table in tables])[at]
        return relative_error(found, solved(model, known, users, found))

    return Case(lambda: solve_stacks(frozen, stacks), error)


def sweep(sizes: Sizes, seed: int) -> Case:
    """A sweep of ALS that solves each row to its end: its items, given its users."""
    known = made.ratings(np.random.default_rng(seed), sizes.fitted)
    kernel, items = made.kernel_of("linear", known), sample(known.transpose(), sizes.sample)
    state = als.init(jax.random.key(seed), known, kernel=kernel, rank=sizes.rank)
    histories = jax.device_put(als.histories(known))
    step = jax.jit(partial(als.step, kernel=kernel, prior=DEFAULT, cg_steps=sizes.rank))

    def error(result: Any) -> float:  # noqa: ANN401 a state and its info
        params = result[0].params
        found = flat(params.item)[items]
        model = Model(params, kernel, DEFAULT).transpose()
        return relative_error(found, solved(model, known.transpose(), items, found))

    return Case(lambda: step(state, histories), error)


def lists(sizes: Sizes, seed: int) -> Case:
    """Lists of ten items and their scores."""
    model = _ranked(sizes, seed)
    exact, users = exact_scores(model, sizes.sample), np.arange(sizes.ranked.users)
    return Case(lambda: top_n(model, users, n=10), lambda found: misplaced(found.item, found.score, exact))


def product(sizes: Sizes, seed: int) -> Case:
    """Scores by a matrix product that nobody holds to a precision: what the setting does on this device."""
    model = _ranked(sizes, seed)
    users, items = model.params.user.factors[: sizes.sample], model.params.item.factors
    exact = np.asarray(users, np.float64) @ np.asarray(items, np.float64).T
    multiply = jax.jit(jnp.matmul)
    return Case(lambda: multiply(users, items.T), lambda found: relative_error(found, exact))


def _ranked(sizes: Sizes, seed: int) -> Model:
    rng, size = np.random.default_rng(seed), sizes.ranked
    params = Params(made.table(rng, size.users, sizes.rank), made.table(rng, size.items, sizes.rank), jnp.float32(0.2))
    return Model(params, Linear(), DEFAULT)
