"""Conjugate gradients for many small independent systems at once."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxmf.data.ratings import AnyArray
from jaxmf.model.tables import Table

MatVec = Callable[[Table], Table]

TOL = 1e-5
"""The share of its first residual at which a row counts as solved."""


def solve(
    matvec: MatVec, rhs: Table, diagonal: Table, *, steps: int, tol: float | Float[AnyArray, " b"] = TOL
) -> Table:
    """The solution x of A x = `rhs`, where A is block diagonal: one symmetric positive definite block a row.

    Each row has step lengths of its own, so that a batch is solved exactly as each of its rows alone would be
    (Hestenes & Stiefel 1952, with a diagonal preconditioner), and the objective ½xᵀAx − xᵀb never rises from one
    step to the next. Where a row's block proves not to be positive definite, the row stops there: x is a direction of
    descent all the same (Steihaug 1983), the preconditioned `rhs` at least.

    Args:
        matvec: A times a table of `b` rows.
        rhs: Right-hand sides, a row each.
        diagonal: The preconditioner, positive: A's diagonal, or what is near it.
        steps: Most steps taken. A row takes none beyond its residual's last digit, where its step lengths would be
            ratios of roundings.
        tol: Stop when every row's preconditioned residual has fallen to this share of its first, or each to its own; 0
            never stops early, and where the steps are few that is the cheaper.
    """
    residual = rhs / diagonal
    start = (jnp.int32(0), rhs - rhs, rhs, residual, rhs.dot(residual))
    floor, last = tol**2 * start[-1], jnp.finfo(rhs.bias.dtype).eps ** 2 * start[-1]

    def unfinished(state: tuple) -> Bool[Array, ""]:
        step, *_, size = state
        return step < steps if isinstance(tol, float) and not tol else (step < steps) & jnp.any(size > floor)

    def improve(state: tuple) -> tuple:
        step, x, r, p, size = state
        ap = matvec(p)
        curvature = p.dot(ap)
        convex = curvature > 0
        length = jnp.where(convex, _ratio(size, curvature), jnp.where(step == 0, 1.0, 0.0))
        x, r = x + p.scale(length), r - ap.scale(length)
        z = r / diagonal
        new = r.dot(z)
        new = jnp.where(convex & (new > last), new, 0)
        return step + 1, x, r, z + p.scale(_ratio(new, size)), new

    return lax.while_loop(unfinished, improve, start)[1]


def first_step(rhs: Table, diagonal: Table, curvature: Callable[[Table], Float[Array, " b"]]) -> Table:
    """What `solve` finds in one step, by dᵀAd alone: its length takes no residual, and so no whole matvec."""
    ahead = rhs / diagonal
    return ahead.scale(_ratio(rhs.dot(ahead), curvature(ahead)))


def _ratio(a: Float[AnyArray, " b"], b: Float[AnyArray, " b"]) -> Float[Array, " b"]:
    """a/b, and 0 where b is not positive: a row that is solved stays where it is."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
