"""What rows are drawn from: draws of a side's column means and precisions, and of its link, given its rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Features
from jaxmf.model import links
from jaxmf.model.posterior import Side
from jaxmf.model.tables import Table

LINK_STEPS = 20


def sample_side(key: Key[Array, ""], table: Table, side: Side, features: Features | None) -> Side:
    """A side's means, precisions and link, given its rows."""
    key_precision, key_mean, key_link = jax.random.split(key, 3)
    n = len(table)
    said = jax.tree.map(jnp.zeros_like, table) if features is None else links.row_means(features, side.link)
    rest = table - said
    average = jax.tree.map(lambda x: x.mean(0), rest)
    shrunk = n / (n + 1)

    def rate(x: Float[Array, "rows ..."], average: Float[Array, "..."], link: Float[Array, "d ..."]) -> Array:
        squares = jnp.sum((x - average[None]) ** 2, 0) + shrunk * average**2
        return 1 + (squares + side.link_precision * jnp.sum(link**2, 0)) / 2

    shape = 1 + (n + len(side.link)) / 2
    rates = jax.tree.map(rate, rest, average, side.link)
    precision = _split_map(key_precision, lambda key, rate: gamma(key, shape, rate), rates)
    mean = _split_map(
        key_mean,
        lambda key, average, precision: (
            shrunk * average + jax.random.normal(key, average.shape) * lax.rsqrt((n + 1) * precision)
        ),
        average,
        precision,
    )
    if features is None:
        return side.replace(mean=mean, precision=precision)
    return sample_link(key_link, table, side.replace(mean=mean, precision=precision), features)


def sample_link(key: Key[Array, ""], table: Table, side: Side, features: Features) -> Side:
    """The link given its side's rows, by noise-injected conjugate gradients, and the precision of its entries."""
    key_rows, key_link, key_precision = jax.random.split(key, 3)

    def noise(key: Key[Array, ""], like: Table) -> Table:
        return _split_map(
            key, lambda key, x, p: jax.random.normal(key, x.shape) * lax.rsqrt(p)[None], like, side.precision
        )

    rest = jax.tree.map(lambda x, m: x - m[None], table, side.mean) + noise(key_rows, table)
    prior_noise = links.scaled(noise(key_link, side.link), jnp.sqrt(side.link_precision))
    link = links.solve_link(features, rest, prior_noise, side.link_precision, side.link, steps=LINK_STEPS)
    squares = jax.tree.map(lambda x, p: jnp.sum(p * jnp.sum(x**2, 0)), link, side.precision)
    entries = len(link) * (1 + link.rank)
    precision = gamma(key_precision, 1 + entries / 2, 1 + (squares.bias + squares.factors) / 2)
    return side.replace(link=link, link_precision=precision)


def gamma(key: Key[Array, ""], shape: float | Float[Array, ""], rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """Draws from gamma distributions of one `shape`, a `rate` each."""
    return jax.random.gamma(key, shape, rate.shape) / rate


def _split_map(key: Key[Array, ""], function: Callable, table: Table, *more: Table) -> Table:
    """`function(key, leaf, …)` of a table's bias and of its factors, each with a key of its own."""
    key_bias, key_factors = jax.random.split(key)
    return Table(
        function(key_bias, table.bias, *(x.bias for x in more)),
        function(key_factors, table.factors, *(x.factors for x in more)),
    )
