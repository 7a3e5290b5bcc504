"""The heart: a row is a small regression problem.

With the other side frozen, a row's ratings are targets, the rated rows are features, and the row's bias and factors
are the answer. The same solve trains (every user, then every item), folds in (the rows with new ratings) and is
differentiable; with noise on targets and prior it is a draw from the row's posterior.

A batch of rows is one block-diagonal system over pages of ratings (see `jaxmf.data.histories`): `vmap` runs the
kernel over pages and their slots, a segment sum joins the pages of a row, and each row has its own step lengths.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmf.data.histories import Block
from jaxmf.model import cg
from jaxmf.model.equations import by_row, curved, linearised, scale, sum_parts
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table

STEPS, CG_STEPS = 16, 32
"""Most steps of a kernel that is not linear, most of conjugate gradients in each: tolerances end them sooner."""

FORCING = 0.1
"""Share of its first residual to which a Newton step's equations are solved: the next step's would be others."""

SHORTER, CUTS = 0.25, 3
"""What is left of a step that did not lower a row's loss, and how often the last one is cut."""

LEAST = 1 / 16
"""Share of the residuals' curvature in the first step, and what is left of it after each that did not lower the loss;
after one that did, all of it counts."""

ROUNDING = 4
"""Units in an objective's last place by which it may rise in a step: near its minimum it can't tell better from worse,
and steps that were refused for its rounding would leave a row where only half of its digits are right."""


def solve_row(problem: Problem, start: Table | None = None, *, steps: int = STEPS, cg_steps: int = CG_STEPS) -> Table:
    """The row of a problem of one (see `jaxmf.problem.of_row`): a scalar bias and `k` factors.

    `solve_rows` for the mathematics in small: `jax.vmap` of it gives what `solve_rows` gives.

    Args:
        problem: The problem.
        start: Where to begin, a scalar and (`k`,); else at the mean.
        steps: As in `solve_rows`.
        cg_steps: Likewise.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.problem import of_row
        >>> others = Table(jnp.zeros(2), jnp.array([[1.0], [2.0]]))
        >>> zero, one = Table(jnp.array(0.0), jnp.zeros(1)), Table(jnp.array(1.0), jnp.ones(1))
        >>> row = solve_row(of_row(Linear(), 3.0, others, jnp.array([4.0, 5.0]), jnp.ones(2), zero, one))
        >>> f"{row.bias:.3f} {row.factors[0]:.3f}"
        '0.333 0.667'
    """
    begin = None if start is None else jax.tree.map(lambda x: x[None], start)
    return solve_rows(problem, begin, steps=steps, cg_steps=cg_steps)[0]


def solve_rows(
    problem: Problem,
    start: Table | None = None,
    *,
    steps: int = STEPS,
    cg_steps: int = CG_STEPS,
    tol: float = cg.TOL,
) -> Table:
    """The `b` rows that minimise each their Σ w (r − r̂)² + Σ Λ (x − m)², differentiably.

    `improve_rows`, with derivatives in every array by the implicit function theorem at the solution, whatever the
    number of steps.

    Args:
        problem: The rows' problems.
        start: Where the `b` rows begin; else at the mean.
        steps: Most Newton steps of a kernel that is not linear.
        cg_steps: Most conjugate-gradient steps in each. `k` + 1 of them are exact; fewer than that nearly always do.
        tol: As in `improve_rows`.
    """

    def gradient(x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        return jax.grad(lambda x: row_losses(problem, Table.of_matrix(x)).sum())(x) / 2

    def solve(_: Callable, x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        return improve_rows(problem, Table.of_matrix(x), steps=steps, cg_steps=cg_steps, tol=tol).matrix()

    def tangent(linear: Callable, rhs: Float[Array, "b c"]) -> Float[Array, "b c"]:
        def solve_from_zero(matvec: Callable, rhs: Float[Array, "b c"]) -> Float[Array, "b c"]:
            one = Table.of_matrix(jnp.ones_like(rhs))
            of_table = lambda x: Table.of_matrix(matvec(x.matrix()))  # noqa: E731
            return cg.solve(of_table, Table.of_matrix(rhs), one, steps=4 * rhs.shape[1], tol=1e-7).matrix()

        return lax.custom_linear_solve(linear, rhs, solve_from_zero, symmetric=True)

    begin = problem.mean if start is None else start
    return Table.of_matrix(lax.custom_root(gradient, begin.matrix(), solve, tangent))


def improve_rows(
    problem: Problem, start: Table, *, steps: int = STEPS, cg_steps: int = CG_STEPS, tol: float = cg.TOL
) -> Table:
    """The `b` rows after `steps` steps from `start` at most: what a sweep of training does, and a draw.

    Each step's equations are solved by conjugate gradients; one step is exact where the kernel is linear in the row.
    For the others the steps are Newton's, and one that does not lower a row's loss is cut, so no row ever gets worse
    than its start, but for rounding. They end when every row's gradient has fallen to the share `tol` of its first; 0
    takes all `steps`. Arguments as in `solve_rows`.
    """
    return step_rows(problem, start, steps=steps, cg_steps=cg_steps, tol=tol)[0]


def step_rows(
    problem: Problem, start: Table, *, steps: int = 1, cg_steps: int, tol: float = 0.0
) -> tuple[Table, Float[Array, " b"]]:
    """`improve_rows`, and what is left of each row's loss, at no further cost.

    Of a linear kernel: conjugate gradients from 0 leave a residual at a right angle to their step δ, so that it lowers
    the loss by δᵀ·rhs.
    """
    if not problem.kernel.linear:
        return _newton(problem, start, steps, cg_steps, tol)
    matvec, rhs, scale, loss, curvature = linearised(problem.plain(), start)
    if cg_steps == 1:
        ahead = cg.first_step(rhs, scale, curvature)
    else:
        ahead = cg.solve(matvec, rhs, scale, steps=cg_steps, tol=tol)
    return start + ahead, loss - ahead.dot(rhs)


def sample_rows(
    key: Key[Array, ""],
    problem: Problem,
    start: Table,
    *,
    steps: int = STEPS,
    cg_steps: int = CG_STEPS,
    tol: float = cg.TOL,
) -> Table:
    """A draw of the `b` rows from their posterior, by perturbing and solving.

    With ratings r + ε/√w and prior means m + η/√Λ in place of r and m, ε and η standard normal, the solution of
    `solve_rows` is an exact draw from N(A⁻¹b, A⁻¹), A = JᵀWJ + Λ, for the linear kernel (Papandreou & Yuille 2010). For
    the others it is the draw called randomise-then-optimise (Bardsley et al. 2014), near the Laplace approximation's.
    Weights and precisions are in units of one over the noise's variance: multiply a rating's weight by the noise
    precision.

    Args:
        key: Random key of the perturbation.
        problem: The rows' problems.
        start: Where the rows begin; the previous draw, in a Gibbs sampler.
        steps: As in `improve_rows`, and so are the rest.
        cg_steps: Likewise.
        tol: Likewise.
    """
    perturbation = noise(key, problem.block, start.rank)
    return improve_rows(perturbed(problem, perturbation), start, steps=steps, cg_steps=cg_steps, tol=tol)


class Noise(NamedTuple):
    """A standard normal number for each rating and each prior mean of a problem."""

    rating: Float[Array, "p w"]
    row: Table


def noise(key: Key[Array, ""], block: Block, rank: int, times: tuple[int, ...] = ()) -> Noise:
    """The noise of a block's rows and ratings; so many times, in axes in front."""
    b, pages = len(block.rows), block.rating.shape
    # Made once: it costs more than what it goes into, where XLA would make it again.
    drawn = lax.optimization_barrier(jax.random.normal(key, (*times, block.rating.size + b * (1 + rank))))
    of_rating, bias, factors = jnp.split(drawn, np.cumsum([block.rating.size, b]), -1)
    row = Table(bias, factors.reshape(*times, b, rank))
    return Noise(of_rating.reshape(*times, *pages), row)


def perturbed(problem: Problem, noise: Noise) -> Problem:
    """The problem with ratings r + ε/√w and prior means m + η/√Λ, whose solution is a draw: see `sample_rows`."""
    block = problem.block
    rating = block.rating + noise.rating * lax.rsqrt(jnp.where(block.weight > 0, block.weight, 1))
    mean = problem.mean + noise.row * jax.tree.map(lax.rsqrt, problem.precision)
    return problem.replace(block=block.replace(rating=rating), mean=mean)


def row_losses(problem: Problem, x: Table) -> Float[Array, " b"]:
    """Σ w (r − r̂)² + Σ Λ (x − m)² + xᵀGx of each row."""

    def of_pages(part: Block) -> Float[Array, " b"]:
        return by_row(part, len(x), problem.losses(part.of_pages(x), part))

    away = x - problem.mean
    return sum_parts(of_pages, problem.block) + away.dot(away * problem.precision) + x.dot(problem.unseen(x))


def row_weights(block: Block) -> Float[Array, " b"]:
    """Total weight of each row's ratings: the n that a prior's precision may grow with."""
    return by_row(block, block.rows.shape[0], block.weight.sum(-1))


class _Search(NamedTuple):
    """Where Newton's steps stand: the best rows so far, their losses, and the step to be tried from them.

    `first` is the size of each row's gradient at its start, `solved` whether it has fallen far enough since. `share` is
    how much of the residuals' curvature the next step counts: little at first and after a step that was too long, when
    the Hessian may be far from positive definite, and else all of it.
    """

    taken: Int[Array, ""]
    x: Table
    loss: Float[Array, " b"]
    step: Table
    first: Float[Array, " b"]
    solved: Bool[Array, " b"]
    share: Float[Array, " b"]


def _newton(problem: Problem, start: Table, steps: int, cg_steps: int, tol: float) -> tuple[Table, Float[Array, " b"]]:
    """Newton's steps, each found as exactly as it is worth (Dembo & Steihaug 1983; Eisenstat & Walker 1996, §2)."""
    diagonal = scale(problem, start)

    def unfinished(search: _Search) -> Bool[Array, ""]:
        return (search.taken < steps) & ~jnp.all(search.solved)

    def step(search: _Search) -> _Search:
        trial = search.x + search.step
        loss, matvec, rhs = curved(problem, trial, search.share)
        lower = _lower(loss, search.loss)
        size = rhs.dot(rhs / diagonal)
        first = jnp.where(search.taken == 0, size, search.first)
        solved = lower & (size <= tol**2 * first)
        wanted = tol / 2 * jnp.sqrt(first / jnp.where(size > 0, size, 1))
        near = jnp.maximum(FORCING, wanted) if tol else 0.0
        going = (lower & ~solved).astype(loss.dtype)
        ahead = cg.solve(matvec, rhs.scale(going), diagonal, steps=cg_steps, tol=near)
        x, loss = trial.where(lower, search.x), jnp.where(lower, loss, search.loss)
        share = jnp.where(lower, 1, LEAST * search.share)
        return _Search(search.taken + 1, x, loss, ahead.where(lower, _cut(search.step)), first, solved, share)

    b = len(start)
    begin = _Search(
        jnp.int32(0), start, jnp.full(b, jnp.inf), start - start, jnp.zeros(b), jnp.zeros(b, bool), jnp.full(b, LEAST)
    )
    return _lowered(problem, lax.while_loop(unfinished, step, begin))


def _lowered(problem: Problem, search: _Search) -> tuple[Table, Float[Array, " b"]]:
    """The rows after their last step, cut until it lowers their losses; where `CUTS` don't, without it."""

    def unfinished(state: tuple) -> Bool[Array, ""]:
        tries, _, lower, _ = state
        return (tries <= CUTS) & ~jnp.all(lower)

    def tried(state: tuple) -> tuple:
        tries, step, lower, _ = state
        loss = row_losses(problem, search.x + step)
        lower |= _lower(loss, search.loss)
        return tries + 1, step.where(lower, _cut(step)), lower, jnp.where(lower, loss, search.loss)

    begin = (jnp.int32(0), search.step, jnp.zeros_like(search.solved), search.loss)
    _, step, lower, loss = lax.while_loop(unfinished, tried, begin)
    return (search.x + step).where(lower, search.x), loss


def _lower(loss: Float[Array, " b"], than: Float[Array, " b"]) -> Bool[Array, " b"]:
    return loss <= than * (1 + ROUNDING * jnp.finfo(loss.dtype).eps)


def _cut(step: Table) -> Table:
    return jax.tree.map(lambda x: SHORTER * x, step)
