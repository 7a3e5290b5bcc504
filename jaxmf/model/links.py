"""Prior means from features: a sparse matrix times a link that is learnt with the rest (Simm et al. 2017, Macau)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.features import Features
from jaxmf.data.histories import Block
from jaxmf.model.equations import by_row
from jaxmf.model.tables import Table


def row_means(features: Features, link: Table) -> Table:
    """F·L: what the features say of each row, from a link with a row a feature."""
    return _times(features.by_row, link, features.n_rows)


def feature_sums(features: Features, rows: Table) -> Table:
    """Fᵀ·X: the rows summed into their features."""
    return _times(features.by_feature, rows, features.n_features)


def solve_link(
    features: Features,
    rows: Table,
    noise: Table,
    link_reg: Float[Array, ""],
    start: Table,
    *,
    steps: int,
) -> Table:
    """The link L with (FᵀF + link_reg) L = FᵀX + noise, by conjugate gradients on all columns at once.

    Without noise it is the ridge regression of the rows on their features; with noise of the covariance
    FᵀF + link_reg it is a draw from its posterior (Simm et al. 2017, §3.2), both in units of the rows' precision.
    """

    def matvec(link: Table) -> Table:
        return feature_sums(features, row_means(features, link)) + scaled(link, link_reg)

    rhs = feature_sums(features, rows) + noise - matvec(start)
    return start + _column_cg(matvec, rhs, 1 / (_squares(features) + link_reg), steps)


def scaled(table: Table, by: Float[Array, ""]) -> Table:
    """The table times a number."""
    return jax.tree.map(lambda x: by * x, table)


def block_means(block: Block, link: Table, n_rows: int) -> Table:
    """What the features in one block, `rating` their values, say of each of its rows."""
    value = block.weight * block.rating
    linked = link[block.other]
    return Table(
        by_row(block, n_rows, jnp.sum(value * linked.bias, -1)),
        by_row(block, n_rows, jnp.einsum("pw,pwk->pk", value, linked.factors)),
    )


def _times(stacks: tuple[Block, ...], link: Table, n_rows: int) -> Table:
    out = Table(jnp.zeros(n_rows), jnp.zeros((n_rows, link.rank)))
    for stack in stacks:
        b = stack.rows.shape[1]
        part = lax.map(lambda block: block_means(block, link, b), stack)  # noqa: B023 traced at once
        out = out.put(stack.rows.ravel(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part))
    return out


def _squares(features: Features) -> Float[Array, " d"]:
    """FᵀF's diagonal."""
    out = jnp.zeros(features.n_features)
    for stack in features.by_feature:
        squares = jnp.sum(stack.weight * stack.rating**2, -1)
        sums = jax.vmap(partial(by_row, b=stack.rows.shape[1]))(stack, values=squares)
        out = out.at[stack.rows.ravel()].set(sums.ravel(), mode="drop")
    return out


def _column_cg(matvec: Callable[[Table], Table], rhs: Table, inverse_diagonal: Float[Array, " d"], steps: int) -> Table:
    """Conjugate gradients, preconditioned by the diagonal, with step lengths of its own for each column."""

    def dot(a: Table, b: Table) -> Table:
        return jax.tree.map(lambda x, y: jnp.sum(x * y, 0), a, b)

    def ratio(a: Table, b: Table) -> Table:
        return jax.tree.map(lambda x, y: jnp.where(y > 0, x / jnp.where(y > 0, y, 1), 0), a, b)

    def axpy(a: Table, x: Table, y: Table) -> Table:
        return jax.tree.map(lambda a, x, y: a[None] * x + y, a, x, y)

    def step(_: ScalarLike, state: tuple) -> tuple:
        x, r, p, size = state
        ap = matvec(p)
        length = ratio(size, dot(p, ap))
        x, r = axpy(length, p, x), axpy(jax.tree.map(jnp.negative, length), ap, r)
        z = r.scale(inverse_diagonal)
        new = dot(r, z)
        return x, r, axpy(ratio(new, size), p, z), new

    z = rhs.scale(inverse_diagonal)
    return lax.fori_loop(0, steps, step, (rhs - rhs, rhs, z, dot(rhs, z)))[0]
