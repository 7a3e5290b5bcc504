"""What rows are drawn from: draws of a side's column means and precisions, and of its link, given its rows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Features
from jaxmf.data.ratings import AnyArray
from jaxmf.model import links
from jaxmf.model.posterior import Population
from jaxmf.model.tables import Table

LINK_STEPS = 6


def sample_side(
    key: Key[Array, ""], table: Table, side: Population, rated: Float[AnyArray, " rows"], features: Features | None
) -> Population:
    """A side's means, precisions and link, given those of its rows that are `rated`.

    Each column's mean and precision together have the prior normal–gamma(0, 1, 1, 1), the precision of the link's
    entries gamma(1, 1). The link is drawn by noise-injected conjugate gradients.
    """
    n, counted, link, columns = rated.sum(), rated[:, None], side.link.matrix(), 1 + table.rank
    rows = len(table)
    shapes = ((columns, 2 + rows + len(link)), (1, columns), (rows, columns), link.shape, (2 + link.size,))
    of_precision, of_mean, *of_link = _normals(key, shapes if features is not None else shapes[:2])
    rest = table - links.means(features, side.link, table)
    average = jnp.sum(counted * rest.matrix(), 0, keepdims=True) / n
    shrunk = n / (n + 1)
    squares = jnp.sum(counted * (rest.matrix() - average) ** 2, 0, keepdims=True) + shrunk * average**2
    rate = 1 + (squares + side.link_precision * jnp.sum(link**2, 0, keepdims=True)) / 2
    every = jnp.concatenate([jnp.ones(2), rated, jnp.ones(len(link))])
    precision = half_squares(of_precision, every)[None] / rate
    mean = shrunk * average + of_mean * lax.rsqrt((n + 1) * precision)
    side = side.replace(mean=Table.of_matrix(mean)[0], precision=Table.of_matrix(precision)[0])
    if features is None:
        return side

    of_rows, of_entries, of_ridge = of_link
    rest = Table.of_matrix(rest.matrix() - mean + of_rows * lax.rsqrt(precision))
    # In units of the rows' precision, a column each.
    one, ridge = Table(rated, counted), side.link_precision
    noise = Table.of_matrix(of_entries * jnp.sqrt(ridge) * lax.rsqrt(precision))
    ridges = Table(ridge, ridge)
    found = links.solve_link(features, rest, one, ridges, side.link, steps=LINK_STEPS, noise=noise)
    rate = 1 + jnp.sum(precision * found.matrix() ** 2) / 2
    return side.replace(link=found, link_precision=half_squares(of_ridge) / rate)


def half_squares(normal: Float[Array, "... n"], counted: Float[AnyArray, " n"] | None = None) -> Float[Array, "..."]:
    """Draws from gamma(n/2, 1): half a sum of squared standard normals, of those `counted` with 1.

    It needs no rejection: several times less to compile than a sampler for any shape, and no dearer than the draw of
    the `n` rows that it follows.
    """
    squares = normal**2
    return (squares.sum(-1) if counted is None else squares @ counted) / 2


def _normals(key: Key[Array, ""], shapes: tuple[tuple[int, ...], ...]) -> list[Float[Array, "..."]]:
    """Standard normal numbers in these shapes, made in one place: each such place takes as long again to compile."""
    sizes = [math.prod(shape) for shape in shapes]
    drawn = lax.optimization_barrier(jax.random.normal(key, (sum(sizes),)))
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
