"""What rows are drawn from: draws of a side's column means and precisions, and of its link, given its rows."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Features
from jaxmf.data.ratings import AnyArray
from jaxmf.model import links
from jaxmf.model.posterior import Population
from jaxmf.model.tables import Table

LINK_STEPS = 6


def sample_side(key: Key[Array, ""], table: Table, side: Population, features: Features | None) -> Population:
    """A side's means, precisions and link, given its rows.

    Each column's mean and precision together have the prior normal–gamma(0, 1, 1, 1).
    """
    key_precision, key_mean, key_link = jax.random.split(key, 3)
    n, link = len(table), side.link.matrix()
    rest = table if features is None else table - links.row_means(features, side.link)
    average = rest.matrix().mean(0, keepdims=True)
    shrunk = n / (n + 1)
    squares = jnp.sum((rest.matrix() - average) ** 2, 0, keepdims=True) + shrunk * average**2
    rate = 1 + (squares + side.link_precision * jnp.sum(link**2, 0, keepdims=True)) / 2
    precision = half_squares(key_precision, jnp.ones(2 + n + len(link)), rate) / rate
    mean = shrunk * average + jax.random.normal(key_mean, average.shape) * lax.rsqrt((n + 1) * precision)
    side = side.replace(mean=Table.of_matrix(mean)[0], precision=Table.of_matrix(precision)[0])
    return side if features is None else sample_link(key_link, table, side, features)


def sample_link(key: Key[Array, ""], table: Table, side: Population, features: Features) -> Population:
    """The link given its side's rows, by noise-injected conjugate gradients, and the precision of its entries.

    That precision has the prior gamma(1, 1).
    """
    key_rows, key_link, key_precision = jax.random.split(key, 3)
    precision = _row(side.precision)

    def noise(key: Key[Array, ""], like: Table) -> Table:
        normal = jax.random.normal(key, (len(like), 1 + like.rank))
        return Table.of_matrix(normal * lax.rsqrt(precision))

    rest = Table.of_matrix(table.matrix() - _row(side.mean)) + noise(key_rows, table)
    # In units of the rows' precision, a column each.
    one, ridge = Table(jnp.ones(len(table)), jnp.ones((len(table), 1))), side.link_precision
    prior_noise = jax.tree.map(lambda x: jnp.sqrt(ridge) * x, noise(key_link, side.link))
    link = links.solve_link(features, rest, one, Table(ridge, ridge), side.link, steps=LINK_STEPS, noise=prior_noise)
    rate = 1 + jnp.sum(precision * link.matrix() ** 2) / 2
    entries = link.matrix().size
    return side.replace(link=link, link_precision=half_squares(key_precision, jnp.ones(2 + entries), rate) / rate)


def half_squares(key: Key[Array, ""], counted: Float[AnyArray, " n"], like: Float[AnyArray, "..."]) -> Array:
    """Draws from gamma(n/2, 1) in the shape of `like`: half a sum of squared standard normals, those `counted` with 1.

    It needs no rejection: several times less to compile than a sampler for any shape, and no dearer than the draw of
    the `n` rows that it follows.
    """
    squares = jax.random.normal(key, (*like.shape, len(counted))) ** 2
    return squares @ counted / 2


def _row(columns: Table) -> Float[Array, "1 c"]:
    """A scalar bias and `k` factors as a table's row."""
    return jax.tree.map(lambda x: x[None], columns).matrix()
