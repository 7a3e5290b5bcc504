"""The heart: a row is a small regression problem.

With the other side frozen, a row's ratings are targets, the rated rows are features, and the row's bias and factors
are the answer. The same solve trains (every user, then every item), folds in (the rows with new ratings) and is
differentiable.

A batch of rows is one block-diagonal system over pages of ratings (see `jaxmf.data.histories`): `vmap` runs the
kernel over pages and their slots, a segment sum joins the pages of a row, and each row has its own step lengths.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, ScalarLike

from jaxmf.data.histories import Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model import cg
from jaxmf.model.equations import Equations, by_row, linearised, over_pages, sum_parts
from jaxmf.model.kernels import Kernel
from jaxmf.model.tables import Table

ROUNDING = 4
"""Units in an objective's last place by which it may rise in a step: near its minimum it can't tell better from worse,
and steps that were refused for its rounding would leave a row where only half of its digits are right."""


def solve_row(
    kernel: Kernel,
    offset: ScalarLike,
    others: Table,
    rating: Float[AnyArray, " n"],
    weight: Float[AnyArray, " n"],
    *,
    mean: Table,
    precision: Table,
    start: Table | None = None,
    steps: int = 8,
    cg_steps: int = 32,
) -> Table:
    """The row that minimises Σ w (r − r̂)² + Σ Λ (x − m)²: a scalar bias and `k` factors.

    The batch of one of `solve_rows`, for the mathematics in small: `jax.vmap` of it gives what `solve_rows` gives.

    Args:
        kernel: The kernel.
        offset: Its offset μ.
        others: The `n` rated rows of the other side.
        rating: Their ratings.
        weight: Their weights.
        mean: Prior mean m of the row.
        precision: Prior precision Λ of the row, in units of a rating's.
        start: Where to begin; else at the mean.
        steps: Gauss–Newton steps of a kernel that is not linear.
        cg_steps: Conjugate-gradient steps in each.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> others = Table(jnp.zeros(2), jnp.array([[1.0], [2.0]]))
        >>> zero, one = Table(jnp.array(0.0), jnp.zeros(1)), Table(jnp.array(1.0), jnp.ones(1))
        >>> row = solve_row(Linear(), 3.0, others, jnp.array([4.0, 5.0]), jnp.ones(2), mean=zero, precision=one)
        >>> f"{row.bias:.3f} {row.factors[0]:.3f}"
        '0.333 0.667'
    """
    n = rating.shape[0]
    block = Block(jnp.zeros(1, int), jnp.zeros(1, int), jnp.arange(n)[None], rating[None], weight[None])
    one = jax.tree.map(lambda x: x[None], (mean if start is None else start, mean, precision))
    rows = solve_rows(kernel, offset, one[0], others, block, *one[1:], steps=steps, cg_steps=cg_steps)
    return jax.tree.map(lambda x: x[0], rows)


def solve_rows(
    kernel: Kernel,
    offset: ScalarLike,
    start: Table,
    others: Table,
    block: Block,
    mean: Table,
    precision: Table,
    *,
    steps: int = 8,
    cg_steps: int = 32,
) -> Table:
    """The `b` rows that minimise each their Σ w (r − r̂)² + Σ Λ (x − m)², differentiably.

    `improve_rows`, with derivatives in every array by the implicit function theorem at the solution, whatever the
    number of steps.

    Args:
        kernel: The kernel.
        offset: Its offset μ.
        start: Where the `b` rows begin.
        others: The other side's table.
        block: The rows' ratings.
        mean: Prior means: (`b`,) and (`b`, `k`), or what broadcasts to that.
        precision: Prior precisions, likewise, in units of a rating's.
        steps: Gauss–Newton steps of a kernel that is not linear.
        cg_steps: Conjugate-gradient steps in each. `k` + 1 of them are exact; fewer than that nearly always do.
    """

    def gradient(x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        def loss(x: Float[Array, "b c"]) -> Float[Array, ""]:
            return row_losses(kernel, offset, Table.of_matrix(x), others, block, mean, precision).sum()

        return jax.grad(loss)(x) / 2

    def solve(_: Callable, x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        start, settings = Table.of_matrix(x), {"steps": steps, "cg_steps": cg_steps}
        return improve_rows(kernel, offset, start, others, block, mean, precision, **settings).matrix()

    def tangent(linear: Callable, rhs: Float[Array, "b c"]) -> Float[Array, "b c"]:
        def solve_from_zero(matvec: Callable, rhs: Float[Array, "b c"]) -> Float[Array, "b c"]:
            one = Table.of_matrix(jnp.ones_like(rhs))
            of_table = lambda x: Table.of_matrix(matvec(x.matrix()))  # noqa: E731
            return cg.solve(of_table, Table.of_matrix(rhs), one, steps=4 * rhs.shape[1], tol=1e-7).matrix()

        return lax.custom_linear_solve(linear, rhs, solve_from_zero, symmetric=True)

    return Table.of_matrix(lax.custom_root(gradient, start.matrix(), solve, tangent))


def improve_rows(
    kernel: Kernel,
    offset: ScalarLike,
    start: Table,
    others: Table,
    block: Block,
    mean: Table,
    precision: Table,
    *,
    steps: int = 8,
    cg_steps: int = 32,
    tol: float = cg.TOL,
) -> Table:
    """The `b` rows after `steps` Gauss–Newton steps from `start`: what a sweep of training does, and a draw.

    Each step's equations are solved by conjugate gradients; one step is exact where the kernel is linear in the row.
    For the others a step that does not lower a row's objective is not taken and that row is damped
    (Levenberg–Marquardt), so no row ever gets worse than its start, but for rounding. Arguments as in `solve_rows`, and
    `tol` as in `jaxmf.model.cg.solve`.
    """

    def loss(x: Table) -> Float[Array, " b"]:
        return row_losses(kernel, offset, x, others, block, mean, precision)

    def equations(x: Table) -> Equations:
        return linearised(kernel, offset, x, others, block, mean, precision)

    if kernel.linear:
        return start + cg.solve(*equations(start), steps=cg_steps, tol=tol)
    return _damped(equations, loss, start, steps, cg_steps, tol)


def sample_rows(
    key: Key[Array, ""],
    kernel: Kernel,
    offset: ScalarLike,
    start: Table,
    others: Table,
    block: Block,
    mean: Table,
    precision: Table,
    *,
    sign: ScalarLike = 1.0,
    steps: int = 8,
    cg_steps: int = 32,
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
        kernel: As in `solve_rows`, and so are the rest.
        offset: The kernel's offset μ.
        start: Where the rows begin; the previous draw, in a Gibbs sampler.
        others: The other side's table.
        block: The rows' ratings.
        mean: Prior means: (`b`,) and (`b`, `k`).
        precision: Prior precisions: (`b`,) and (`b`, `k`).
        sign: 1, or −1 for the draw on the other side of the mean: the same perturbation mirrored.
        steps: Gauss–Newton steps of a kernel that is not linear.
        cg_steps: Conjugate-gradient steps in each.
        tol: As in `jaxmf.model.cg.solve`.
    """
    key_ratings, key_prior = jax.random.split(key)
    scale = sign * lax.rsqrt(jnp.where(block.weight > 0, block.weight, 1))
    noisy = block.replace(rating=block.rating + scale * jax.random.normal(key_ratings, block.rating.shape))
    away = Table.of_matrix(jax.random.normal(key_prior, (len(start), 1 + start.rank)))
    away *= jax.tree.map(lambda p: sign * lax.rsqrt(p), precision)
    settings = {"steps": steps, "cg_steps": cg_steps, "tol": tol}
    return improve_rows(kernel, offset, start, others, noisy, mean + away, precision, **settings)


def row_losses(
    kernel: Kernel, offset: ScalarLike, x: Table, others: Table, block: Block, mean: Table, precision: Table
) -> Float[Array, " b"]:
    """Σ w (r − r̂)² + Σ Λ (x − m)² of each row."""

    def of_pages(part: Block) -> Float[Array, " b"]:
        predicted = over_pages(kernel)(x[part.owner], others[part.other], offset)
        return by_row(part, len(x), jnp.sum(part.weight * (part.rating - predicted) ** 2, -1))

    away = x - mean
    return sum_parts(of_pages, block) + away.dot(away * precision)


def row_weights(block: Block) -> Float[Array, " b"]:
    """Total weight of each row's ratings: the n that a prior's precision may grow with."""
    return by_row(block, block.rows.shape[0], block.weight.sum(-1))


def _damped(
    equations: Callable[[Table], Equations],
    loss: Callable[[Table], Float[Array, " b"]],
    x: Table,
    steps: int,
    cg_steps: int,
    tol: float,
) -> Table:
    """Levenberg–Marquardt (Marquardt 1963), each row with a damping of its own, starting undamped."""

    def step(_: ScalarLike, state: tuple) -> tuple:
        x, damping, current = state
        matvec, rhs, scale = equations(x)
        ridge = scale.scale(damping)
        trial = x + cg.solve(lambda d: matvec(d) + d * ridge, rhs, scale + ridge, steps=cg_steps, tol=tol)
        new = loss(trial)
        better = new <= current * (1 + ROUNDING * jnp.finfo(new.dtype).eps)
        x = jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b), trial, x)
        damping = jnp.where(better, jnp.where(damping > 1e-3, damping / 10, 0), jnp.maximum(10 * damping, 0.1))
        return x, damping, jnp.where(better, new, current)

    current = loss(x)
    return lax.fori_loop(0, steps, step, (x, jnp.zeros_like(current), current))[0]
