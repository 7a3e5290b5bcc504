"""A block's rows, drawn under one draw of everything else: what every fold-in under uncertainty consists of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.histories import Block
from jaxmf.model import links, rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.likelihoods import Ordinal
from jaxmf.model.posterior import Draw, Posterior
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table

CG_STEPS = 12
"""Conjugate-gradient steps a draw: beyond them the noise of a draw hides what is left."""

ALTERNATIONS = 4
"""Draws of the latent numbers and of the row in turn, from the prior mean, where the likelihood is ordinal.

On new users of a validation part of MovieLens latest-small, 4, 8 and 16 have the same error and spread, within what
another key changes. Time grows with it.
"""


FEW = 1 << 20
"""Ratings a block times draws up to which all draws go side by side; more take turns, in the memory of one."""


class Noise(NamedTuple):
    """What a draw is perturbed by: see `jaxmf.rows.sample_rows`."""

    key: Key[Array, ""]
    sign: Float[Array, ""]


def draw_block(frozen: Posterior, block: Block, said: Table | None = None) -> Table:
    """A block's rows, a draw of them for each draw of the posterior, in tables with that axis in front.

    The noise is of the posterior's key and the block's first row.

    Args:
        frozen: What they are drawn against.
        block: Their ratings.
        said: What features say of them under each draw; else what implicit feedback does, where that is the features.
    """
    b, rank = block.rows.shape[0], frozen.params.item.rank

    def draw(noise: Noise, one: Draw, said: Table | None) -> Table:
        link = one.user.link if frozen.implicit[0] and len(one.user.link) else None
        said = links.said_of(block, link, rank) if said is None else said
        mean = said + jax.tree.map(lambda m: jnp.broadcast_to(m, (b, *m.shape)), one.user.mean)
        return draw_rows(noise, one, frozen.kernel, block, mean)

    given = _noises(jax.random.fold_in(frozen.key, block.rows[0]), len(frozen)), frozen.draws, said
    if block.rating.size * len(frozen) <= FEW:
        return jax.vmap(draw)(*given)
    return lax.map(lambda each: draw(*each), given)


def _noises(key: Key[Array, ""], draws: int) -> Noise:
    """Each draw's noise; every second one mirrors that of the draw before.

    Every draw of a row stays exact, and most of its noise cancels from means over the draws (antithetic variates,
    Hammersley & Morton 1956): neighbours in a chain have much the same items.
    """
    at = np.arange(draws)
    return Noise(jax.random.split(key, draws)[at // 2], jnp.asarray(1.0 - 2.0 * (at % 2), jnp.float32))


def draw_rows(noise: Noise, one: Draw, kernel: Kernel, block: Block, mean: Table) -> Table:
    """Rows of a block under one draw of everything else, starting at 0.

    Under an ordinal likelihood the last of a short chain, which starts at the prior mean.
    """
    precision = jax.tree.map(lambda p, x: jnp.broadcast_to(p, x.shape), one.user.precision, mean)
    weight = one.noise * block.weight
    problem = Problem(kernel, one.params.offset, one.params.item, block.replace(weight=weight), mean, precision)

    def drawn(key: Key[Array, ""], start: Table, rating: Float[Array, "p w"]) -> Table:
        given = problem.replace(block=problem.block.replace(rating=rating))
        return rows.sample_rows(key, given, start, sign=noise.sign, cg_steps=CG_STEPS)

    if not isinstance(one.likelihood, Ordinal):
        return drawn(noise.key, jax.tree.map(jnp.zeros_like, mean), block.rating)
    likelihood, rated = one.likelihood, jnp.where(weight > 0, weight, 1)

    def alternate(row: Table, key: Key[Array, ""]) -> tuple[Table, None]:
        key_latent, key_row = jax.random.split(key)
        predicted = problem.predicted(row, block)
        latent = likelihood.draw_latent(key_latent, predicted, block.rating, rated, sign=noise.sign)
        return drawn(key_row, row, latent), None

    return lax.scan(alternate, mean, jax.random.split(noise.key, ALTERNATIONS))[0]
