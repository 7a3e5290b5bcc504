"""Prior means from features: a sparse matrix times a link that is learnt with the rest (Simm et al. 2017, Macau)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.features import Features, Sides
from jaxmf.data.histories import Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model.equations import by_row
from jaxmf.model.objective import Means
from jaxmf.model.params import Params
from jaxmf.model.priors import Prior
from jaxmf.model.tables import Table


def row_means(features: Features, link: Table) -> Table:
    """F·L: what the features say of each row, from a link with a row a feature."""
    return _times(features.by_row, link, features.n_rows)


def feature_sums(features: Features, rows: Table) -> Table:
    """Fᵀ·X: the rows summed into their features."""
    return _times(features.by_feature, rows, features.n_features)


STEPS = 6
"""Steps towards the most probable link in a sweep: from where it is a few suffice, as the next sweep goes on."""


class Links(NamedTuple):
    """The link of each side; without rows where a side has no features, `None` where it is out of sight."""

    user: Table
    item: Table


def init(features: Sides, rank: int) -> Links:
    """Links of zeros."""
    return zeros(sizes(features), rank)


def sizes(features: Sides) -> tuple[int, int]:
    """Rows of each side's link: its features."""
    user, item = (0 if side is None else side.n_features for side in features)
    return user, item


def zeros(sizes: tuple[int, int], rank: int) -> Links:
    """Links of zeros with so many rows."""
    return Links(*(Table(jnp.zeros(size), jnp.zeros((size, rank))) for size in sizes))


def means(features: Features | None, link: Table, like: Table) -> Table:
    """The prior mean of each of a table's rows: what its features say, and 0 where there are none."""
    return jax.tree.map(jnp.zeros_like, like) if features is None else row_means(features, link)


def both_means(features: Sides, link: Links, like: Params) -> Means:
    """`means` of both sides' tables."""
    return Means(means(features.user, link.user, like.user), means(features.item, link.item, like.item))


def penalty(link: Table, precision: Table) -> Float[Array, ""]:
    """The link's part of the objective, Σ P·L²; `precision` is `Prior.link_precision()`."""
    return precision.bias * jnp.sum(link.bias**2) + precision.factors * jnp.sum(link.factors**2)


def solve_link(
    features: Features,
    rest: Table,
    precision: Table,
    link_precision: Table,
    start: Table,
    *,
    steps: int,
    noise: Table | None = None,
) -> Table:
    """The link L with (FᵀΛF + P) L = FᵀΛX + noise, by conjugate gradients on all columns at once.

    Without noise it is the ridge regression of the rows on their features, the most probable link; with noise of the
    covariance FᵀΛF + P it is a draw from its posterior (Simm et al. 2017, §3.2).

    Args:
        features: F.
        rest: X less F·`start`, where X are the rows less what is constant in their means.
        precision: Λ, the precision of each row: (`rows`,) and (`rows`, 1).
        link_precision: P, a scalar for the bias and one for the factors.
        start: Where the link begins.
        steps: Steps taken; none raises the objective.
        noise: Noise of each of the link's entries.
    """

    def matvec(link: Table) -> Table:
        return feature_sums(features, precision * row_means(features, link)) + _scaled(link, link_precision)

    rhs = feature_sums(features, precision * rest) - _scaled(start, link_precision)
    squared = tuple(stack.replace(rating=stack.rating**2) for stack in features.by_feature)
    diagonal = jax.tree.map(jnp.add, _times(squared, precision, features.n_features), link_precision)
    return start + _column_cg(matvec, rhs if noise is None else rhs + noise, diagonal, steps)


def most_probable(
    features: Features | None, rows: Table, prior: Prior, n: Float[AnyArray, " rows"], start: Table
) -> Table:
    """The link that lowers the objective most, given the rows; `n` is the total weight of each row's ratings."""
    if features is None:
        return start
    rest = rows - row_means(features, start)
    return solve_link(features, rest, prior.precision(n), prior.link_precision(), start, steps=STEPS)


def block_means(block: Block, link: Table, n_rows: int) -> Table:
    """What the features in one block, `rating` their values, say of each of its rows."""
    value = block.weight * block.rating
    linked = link[block.other]
    return Table(
        by_row(block, n_rows, jnp.sum(value * linked.bias, -1)),
        by_row(block, n_rows, jnp.einsum("pw,pwk->pk", value, linked.factors)),
    )


def feedback(block: Block) -> Block:
    """A block of ratings as its rows' implicit feedback: 1/√n at each of the n that a row rated."""
    rated = jnp.sign(block.weight)
    n = by_row(block, block.rows.shape[0], rated.sum(-1))
    return block.replace(weight=rated, rating=rated * block.of_pages(lax.rsqrt(jnp.maximum(n, 1)))[:, None])


def said_of(block: Block, link: Table | None, rank: int) -> Table:
    """What the implicit feedback in a block says of each of its rows through a link to it; 0 without one."""
    b = block.rows.shape[0]
    return Table(jnp.zeros(b), jnp.zeros((b, rank))) if link is None else block_means(feedback(block), link, b)


def _times(stacks: tuple[Block, ...], link: Table, n_rows: int) -> Table:
    out = Table(jnp.zeros(n_rows), jnp.zeros((n_rows, link.rank)))
    for stack in stacks:
        b = stack.rows.shape[1]
        part = lax.map(lambda block: block_means(block, link, b), stack)  # noqa: B023 traced at once
        out = out.put(stack.rows.ravel(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part))
    return out


def _scaled(table: Table, by: Table) -> Table:
    """The bias times a number, and the factors times another."""
    return jax.tree.map(jnp.multiply, table, by)


def _column_cg(matvec: Callable[[Table], Table], rhs: Table, diagonal: Table, steps: int) -> Table:
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
        z = jax.tree.map(jnp.divide, r, diagonal)
        new = dot(r, z)
        return x, r, axpy(ratio(new, size), p, z), new

    z = jax.tree.map(jnp.divide, rhs, diagonal)
    return lax.fori_loop(0, steps, step, (rhs - rhs, rhs, z, dot(rhs, z)))[0]
