"""A block's rows, drawn under one draw of everything else: what every fold-in under uncertainty consists of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.random import split
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from jaxmf.data.histories import PAGES, Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model import links, rows
from jaxmf.model.likelihoods import Ordinal
from jaxmf.model.posterior import Draw, Posterior
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table

CG_STEPS, TOL = 12, 1e-4
"""Conjugate-gradient steps a draw: beyond them the noise of a draw hides what is left."""

ALTERNATIONS = 4
"""Draws of the latent numbers and of the row in turn, from the prior mean, where the likelihood is ordinal.

On new users of a validation part of MovieLens latest-small, 4, 8 and 16 have the same error and spread, within what
another key changes. Time grows with it.
"""


TOGETHER = PAGES
"""Most pages of draws that are solved together: at rank 10 they stay in the cache of one CPU core."""


def draw_block(frozen: Posterior, block: Block, said: Table | None = None) -> Table:
    """A block's rows, a draw of them for each draw of the posterior, in tables with that axis in front.

    The noise is of the posterior's key and the block's first row.

    Args:
        frozen: What they are drawn against.
        block: Their ratings.
        said: What features say of them under each draw; else what implicit feedback does, where that is the features.
    """
    s, together = len(frozen), max(1, TOGETHER // len(block.owner))
    group = max(size for size in range(1, s + 1) if s % size == 0 and size <= together)

    def drawn(given: tuple[Key[Array, ""], _Some]) -> Table:
        key, some = given
        return _draw_together(key, frozen, some, block)

    some = _Some(np.arange(s), frozen.draws.replace(params=None), _said(frozen, block) if said is None else said)
    groups = jax.tree.map(lambda x: x.reshape(s // group, group, *x.shape[1:]), some)
    keys = split(jax.random.fold_in(frozen.key, block.rows[0]), s // group)
    return jax.tree.map(_joined, lax.map(drawn, (keys, groups)))


class _Some(NamedTuple):
    """Some of the draws: which, all but their rows, and what features say of a block's rows under each."""

    at: Int[AnyArray, " s"]
    draws: Draw
    said: Table


def _said(frozen: Posterior, block: Block) -> Table:
    """What a block's implicit feedback says of its rows under each draw; 0 where that is no feature."""
    link, rank = frozen.link() if frozen.implicit[0] else None, frozen.params.item.rank
    return jax.vmap(lambda link: links.said_of(block, link, rank), axis_size=len(frozen))(link)


def _draw_together(key: Key[Array, ""], frozen: Posterior, some: _Some, block: Block) -> Table:
    """The block's rows under each of `s` draws, as the `s` · `b` rows of one problem.

    They start at 0. Under an ordinal likelihood they are the last of a short chain, which starts at the prior mean.
    """
    problem, s, b = _side_by_side(frozen, some, block), len(some.at), len(block.rows)
    rank, pages, likelihood = problem.mean.rank, block.rating.shape, some.draws.likelihood

    def solved(key: Key[Array, ""], start: Table, rating: Float[Array, "p w"]) -> Table:
        noise = _mirrored(s, lambda pairs: rows.noise(key, block, rank, (pairs,)))
        given = problem.replace(block=problem.block.replace(rating=rating))
        return rows.improve_rows(rows.perturbed(given, noise), start, cg_steps=CG_STEPS, tol=TOL)

    def alternate(row: Table, key: Key[Array, ""]) -> tuple[Table, None]:
        key_latent, key_row = split(key)
        away = _mirrored(s, lambda pairs: jax.random.uniform(key_latent, (pairs, *pages), minval=-0.5, maxval=0.5))
        given = (away + 0.5, problem.predicted(row, problem.block), problem.block.rating, problem.block.weight)
        of_draws = [x.reshape(s, *pages) for x in given]
        latent = jax.vmap(lambda one, *given: one.draw_latent(*given))(likelihood, *of_draws)
        return solved(key_row, row, _joined(latent)), None

    if isinstance(likelihood, Ordinal):
        found = lax.scan(alternate, problem.mean, split(key, ALTERNATIONS))[0]
    else:
        found = solved(key, jax.tree.map(jnp.zeros_like, problem.mean), problem.block.rating)
    return jax.tree.map(lambda x: x.reshape(s, b, *x.shape[1:]), found)


def _side_by_side(frozen: Posterior, some: _Some, block: Block) -> Problem:
    """The problem of the block's rows under one draw after the other, and of all draws' items as the other side."""
    (at, draws, said), b, n = some, len(block.rows), len(frozen.params.item)

    def of_rows(columns: Table) -> Table:
        """A number a draw and column, of each row."""
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (len(at), b, *x.shape[1:])), columns)

    tiled = Block(
        rows=jnp.tile(block.rows, len(at)),
        owner=_joined(block.owner[None] + b * jnp.arange(len(at))[:, None]),
        other=_joined(block.other[None] + n * at[:, None, None]),
        rating=jnp.tile(block.rating, (len(at), 1)),
        weight=_joined(draws.noise[:, None, None] * block.weight[None]),
    )
    of_each = said + of_rows(draws.user.mean), of_rows(draws.user.precision)
    items, mean, precision = jax.tree.map(_joined, (frozen.params.item, *of_each))
    # The offset is the training ratings', and not drawn.
    return Problem(frozen.kernel, frozen.params.offset[0], items, tiled, mean, precision)


def _mirrored(s: int, noise: Callable[[int], PyTree]) -> PyTree:
    """`noise(pairs)` and its negative in turn, for `s` draws: both as good, and neighbours in a chain much the same.

    Every draw of a row stays exact, and most of its noise cancels from means over the draws (antithetic variates,
    Hammersley & Morton 1956).
    """
    both = jax.tree.map(lambda x: _joined(jnp.stack([x, -x], 1))[:s], noise(-(-s // 2)))
    return jax.tree.map(_joined, both)


def _joined(x: Shaped[Array, "s b ..."]) -> Shaped[Array, "..."]:
    """The first two axes as one."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
