"""Whether a device's answers are right: each beside the same in float64 on the host.

A check gives its largest relative error and the tolerance that it must meet. Tolerances are a few times float32's own
error; products of fewer digits (TF32, bfloat16) are 10 to 1,000 times above them.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from accelerating import made
from accelerating.reference import Row, precision_of, rated, relative_error
from jaxmf.data.histories import blocks
from jaxmf.data.ratings import Ratings
from jaxmf.model import rows
from jaxmf.model.kernels import Clicks, Kernel, Linear
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import CLICKS, DEFAULT, Prior
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table
from jaxmf.online.fold_in import fold_in_user, fold_in_users
from jaxmf.serving.recommend import top_n
from jaxmf.training import als
from jaxmf.training import clicks as clicks_sweeps

KINDS = ("linear", "logistic", "polynomial", "rbf", "clicks")
ROWS = {"linear": 2e-4, "logistic": 2e-3, "polynomial": 2e-3, "rbf": 2e-3, "clicks": 2e-4}
"""Tolerances of rows by kernel. One that isn't linear refuses steps that its objective can't tell from none, and that
tells but half of a row's digits."""

SUMS, SCORES, STANDARD_ERRORS = 1e-4, 2e-6, 6.0
"""Tolerances of a sum over all ratings, of scores, and of moments; those in the standard errors of so many draws."""


TO_THE_END = 2
"""Conjugate-gradient steps a factor in which every row is solved. They are fixed in a sweep, and many more would go on
dividing by what is 0 but for rounding."""

ALONE = 2
"""Users that are folded in one by one: histories of other lengths are other programs."""


class Sizes(NamedTuple):
    """How much is checked."""

    folded: made.Size = made.Size(2_000, 5_000, 100_000)
    rank: int = 64
    fitted: made.Size = made.Size(10_000, 300, 200_000)
    sweeps_rank: int = 32
    draws: int = 20_000
    draws_rank: int = 16
    ranked: made.Size = made.Size(1_000, 50_000, 0)
    sample: int = 32


class Verdict(NamedTuple):
    """What a check found."""

    error: float
    tolerance: float

    def told(self) -> dict[str, float | bool | None]:
        """As it is written down; what is no number doesn't hold."""
        error = float(self.error)
        holds = error <= self.tolerance
        return {"error": error if math.isfinite(error) else None, "tolerance": self.tolerance, "holds": holds}


def every(sizes: Sizes, seed: int) -> dict[str, Callable[[], Verdict]]:
    """The checks by name."""
    of = {f"fold_in/{kind}": partial(folded, sizes, seed, kind) for kind in KINDS}
    of |= {"fold_in/one_user": partial(folded_alone, sizes, seed)}
    of |= {f"als/{kind}": partial(swept, sizes, seed, kind) for kind in ("linear", "logistic")}
    of |= {"als/loss": partial(objective, sizes, seed), "clicks/sweep": partial(clicked, sizes, seed)}
    of |= {"gibbs/draw": partial(drawn, sizes, seed), "gibbs/moments": partial(moments, sizes, seed)}
    return of | {f"top_n/{kind}": partial(ranked, sizes, seed, kind) for kind in ("linear", "logistic", "rbf")}


def folded(sizes: Sizes, seed: int, kind: str) -> Verdict:
    """Users folded in, all at once."""
    rng = np.random.default_rng(seed)
    known = made.ratings(rng, sizes.folded)
    known = made.clicks(rng, known) if kind == "clicks" else known
    model = made.model(rng, kind, known, sizes.rank)
    users = sample(known, sizes.sample)
    found = flat(fold_in_users(model, known, users=users).params.user)[users]
    return Verdict(relative_error(found, solved(model, known, users, found)), ROWS[kind])


def folded_alone(sizes: Sizes, seed: int) -> Verdict:
    """Users folded in one by one, as requests are."""
    rng = np.random.default_rng(seed)
    known = made.ratings(rng, sizes.folded)
    model = made.model(rng, "logistic", known, sizes.rank)
    users, found = sample(known, ALONE), []
    for user in users:
        own = known.take(known.user == user)
        found.append(flat(fold_in_user(model, own.item, own.rating).params.user)[0])
    return Verdict(relative_error(np.array(found), solved(model, known, users, found)), ROWS["logistic"])


def swept(sizes: Sizes, seed: int, kind: str) -> Verdict:
    """Items after sweeps of ALS whose solves go on to their end: each is the best answer to the last users."""
    known, kernel, params, _ = fitted(sizes, seed, kind, cg_steps=TO_THE_END * sizes.sweeps_rank)
    model = Model(params, kernel, DEFAULT).transpose()
    items = sample(known.transpose(), sizes.sample)
    found = flat(params.item)[items]
    return Verdict(relative_error(found, solved(model, known.transpose(), items, found)), ROWS[kind])


def objective(sizes: Sizes, seed: int) -> Verdict:
    """The objective that a sweep of ALS tells, with its usual steps."""
    known, kernel, params, loss = fitted(sizes, seed, "linear", cg_steps=3)
    user, item, unit = flat(params.user), flat(params.item), float(kernel.unit)
    dot = np.einsum("nk,nk->n", user[known.user, 1:], item[known.item, 1:])
    predicted = float(params.offset) + unit * (user[known.user, 0] + item[known.item, 0] + dot)
    total = np.sum((known.rating - predicted) ** 2) / unit**2
    for side, rows_of, prior in ((known.user, user, DEFAULT.user), (known.item, item, DEFAULT.item)):
        n = np.bincount(side, minlength=len(rows_of))
        total += sum(precision_of(prior, n, x.size - 1) @ x**2 for n, x in zip(n, rows_of, strict=True))
    exact = total / len(known)
    return Verdict(abs(loss - exact) / exact, SUMS)


def clicked(sizes: Sizes, seed: int) -> Verdict:
    """Items after sweeps over clicks whose solves go on to their end."""
    rng = np.random.default_rng(seed)
    known = made.clicks(rng, made.ratings(rng, sizes.fitted))
    kernel = made.kernel_of("clicks", known)
    state = clicks_sweeps.init(jax.random.key(seed), known, rank=sizes.sweeps_rank)
    histories = made.click_histories(known, kernel)
    sweep = jax.jit(partial(clicks_sweeps.step, cg_steps=TO_THE_END * sizes.sweeps_rank))
    for _ in range(3):
        state, _ = sweep(state, histories, kernel=kernel, prior=CLICKS)
    items = sample(known.transpose(), sizes.sample)
    found, model = flat(state.params.item)[items], Model(state.params, kernel, CLICKS).transpose()
    return Verdict(relative_error(found, solved(model, known.transpose(), items, found)), ROWS["clicks"])


def drawn(sizes: Sizes, seed: int) -> Verdict:
    """A draw of rows, beside the answer to the same ratings and means with the same noise."""
    problem, of_rows = posterior(sizes, seed)
    key, rank = jax.random.key(seed), problem.mean.rank
    found = flat(jax.jit(partial(rows.sample_rows, cg_steps=TO_THE_END * rank))(key, problem, problem.mean))
    noise, block = jax.tree.map(np.asarray, rows.noise(key, problem.block, rank)), problem.block
    exact = []
    for at, row in enumerate(of_rows):
        used = (block.owner == at)[:, None] & (block.weight > 0)
        of_row = np.concatenate([noise.row.bias[at : at + 1], noise.row.factors[at]])
        rating = row.rating + noise.rating[used] / np.sqrt(row.weight)
        given = row._replace(rating=rating, mean=row.mean + of_row / np.sqrt(row.precision))
        exact.append(given.solve(row.mean))
    return Verdict(relative_error(found, np.array(exact)), ROWS["linear"])


def moments(sizes: Sizes, seed: int) -> Verdict:
    """Mean and covariance of many draws of rows, beside A⁻¹b and A⁻¹: the largest deviation in standard errors."""
    problem, of_rows = posterior(sizes, seed)
    draw = partial(rows.sample_rows, cg_steps=TO_THE_END * problem.mean.rank)

    @jax.jit
    def many(keys: jax.Array, problem: Problem) -> jax.Array:
        return jax.lax.map(lambda key: draw(key, problem, problem.mean).matrix(), keys, batch_size=500)

    found = np.asarray(many(jax.random.split(jax.random.key(seed), sizes.draws), problem), np.float64)
    worst = 0.0
    for at, row in enumerate(of_rows):
        root = np.linalg.cholesky(row.hessian(row.mean))
        white = (found[:, at] - row.solve(row.mean)) @ root  # whose mean is 0 and covariance the identity
        away = white.T @ white / len(white) - np.eye(white.shape[1])
        scale = np.sqrt(1 + np.eye(len(away)))
        worst = max(worst, np.abs(white.mean(0)).max(), np.abs(away / scale).max())
    return Verdict(float(worst) * math.sqrt(sizes.draws), STANDARD_ERRORS)


def ranked(sizes: Sizes, seed: int, kind: str) -> Verdict:
    """The ten best items of users, beside a full sort: how far any is from its place and from its score."""
    rng, size = np.random.default_rng(seed), sizes.ranked
    params = Params(made.table(rng, size.users, sizes.rank), made.table(rng, size.items, sizes.rank), jnp.float32(0.2))
    model = Model(params, made.for_range(made.LOW, made.HIGH, kind), DEFAULT)
    found = top_n(model, np.arange(size.users), n=10)
    return Verdict(misplaced(found.item, found.score, exact_scores(model, sizes.sample)), SCORES)


def misplaced(item: np.ndarray, score: np.ndarray, exact: np.ndarray) -> float:
    """How far lists are from a full sort of the first users' exact scores, as a share of the largest; ties are alike.

    Args:
        item: The items found, best first, a row a user.
        score: Their scores.
        exact: The exact scores of all items, of the first few users.
    """
    item, score = item[: len(exact)], score[: len(exact)]
    theirs = np.take_along_axis(exact, item, 1)
    best = -np.sort(-exact, 1)[:, : item.shape[1]]
    away = max(np.abs(best - theirs).max(), np.abs(score - theirs).max())
    repeated = any(len(np.unique(of_user)) < len(of_user) for of_user in item)
    return math.inf if repeated else float(away / np.abs(exact).max())


def exact_scores(model: Model, users: int) -> np.ndarray:
    """r̂ of the first users and all items."""
    user, item = flat(model.params.user)[:users], flat(model.params.item)
    return np.stack([rated(model.kernel, x, item, float(model.params.offset))[0] for x in user])


def fitted(sizes: Sizes, seed: int, kind: str, *, cg_steps: int) -> tuple[Ratings, Kernel, Params, float]:
    """Ratings, and what three sweeps of ALS make of them."""
    known = made.ratings(np.random.default_rng(seed), sizes.fitted)
    kernel = made.kernel_of(kind, known)
    state = als.init(jax.random.key(seed), known, kernel=kernel, rank=sizes.sweeps_rank)
    histories, loss = als.histories(known), 0.0
    steps = 1 if kernel.linear else rows.STEPS
    sweep = jax.jit(partial(als.step, kernel=kernel, prior=DEFAULT, steps=steps, cg_steps=cg_steps))
    for _ in range(3):
        state, info = sweep(state, histories)
        loss = float(info["loss"])
    return known, kernel, state.params, loss


def posterior(sizes: Sizes, seed: int) -> tuple[Problem, list[Row]]:
    """The problem of four users' draws, and the same in float64."""
    rng = np.random.default_rng(seed)
    known = made.ratings(rng, sizes.folded)
    model = made.model(rng, "linear", known, sizes.draws_rank).replace(kernel=Linear())
    users = sample(known, 5)[:4]
    block = jax.tree.map(lambda x: x[0], blocks(known, users)[0])
    problem = jax.tree.map(jnp.asarray, model.problem(block))
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, problem.mean.factors.shape), problem.precision.factors)
    problem = problem.replace(precision=Table(problem.precision.bias, wide))
    return problem, list(rows_of(model, known, users))


def solved(model: Model, known: Ratings, users: Iterable[int], start: Iterable[np.ndarray]) -> np.ndarray:
    """Users' rows in float64, from where they are."""
    return np.array([row.solve(x) for row, x in zip(rows_of(model, known, users), start, strict=True)])


def rows_of(model: Model, known: Ratings, users: Iterable[int]) -> Iterable[Row]:
    """The problems of users given the model's items."""
    items, kernel, prior = flat(model.params.item), model.kernel, model.priors.user
    for user in users:
        own = known.take(known.user == user)
        yield _row(kernel, prior, float(model.params.offset), items, own)


def _row(kernel: Kernel, prior: Prior, offset: float, items: np.ndarray, own: Ratings) -> Row:
    rank = items.shape[1] - 1
    weight, seen_by_all = np.asarray(own.weight, np.float64) / float(kernel.unit) ** 2, np.zeros((rank + 1, rank + 1))
    if isinstance(kernel, Clicks):
        weight = np.log2(1 + np.asarray(own.weight, np.float64))
        seen_by_all[1:, 1:] = float(kernel.share) * items[:, 1:].T @ items[:, 1:]
    n = weight.sum() * float(kernel.unit) ** 2
    precision = precision_of(prior, n, rank)
    return Row(
        kernel, offset, items[own.item], np.float64(own.rating), weight, np.zeros(rank + 1), precision, seen_by_all
    )


def sample(known: Ratings, count: int) -> np.ndarray:
    """Users to look at, from the one with the fewest ratings to the one with most."""
    n = np.bincount(known.user, minlength=known.n_users)
    order = np.argsort(n, kind="stable")[np.sum(n == 0) :]
    return np.unique(order[np.linspace(0, len(order) - 1, count).astype(int)])


def flat(rows: Table) -> np.ndarray:
    """Rows of (bias, factors) in float64."""
    return np.concatenate([np.asarray(rows.bias)[:, None], np.asarray(rows.factors)], 1).astype(np.float64)
