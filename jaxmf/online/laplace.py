"""How sure a point estimate is: each row's posterior by Laplace, the other side taken as known."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmf.data.histories import Block, blocks
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import cg
from jaxmf.model.equations import precisions
from jaxmf.model.kernels import Kernel
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import check
from jaxmf.model.tables import Table
from jaxmf.online.update import unstack

PAIRS = 1024
"""Pairs at a time: what bounds the memory, a matrix of (rank + 1)² a pair."""


def leverage(
    model: Model, ratings: Ratings, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Variance of the pairs' predictions that the users' rows bring, in units of the noise's: jᵀ(JᵀWJ + Λ)⁻¹j.

    j is the gradient of the pair's prediction by the user's row, J that of the row's ratings. For a rating that the row
    was solved from it is the share of it that its own prediction repeats (the hat matrix's diagonal). For what the
    items' rows bring pass `model.transpose()` and so on.

    Args:
        model: The model, its rows solved from `ratings` under its prior.
        ratings: All ratings of the users.
        user: User rows.
        item: Item rows.

    Cost: (rank + 1)² multiplications a rating of these users, for each `PAIRS` pairs.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import Params
        >>> from jaxmf.model.priors import Prior, Priors
        >>> user, item = Table(jnp.zeros(1), jnp.zeros((1, 1))), Table(jnp.zeros(2), jnp.zeros((2, 1)))
        >>> prior = Prior(bias_reg=3.0)
        >>> model = Model(Params(user, item, jnp.array(3.0)), Linear(), Priors(prior, prior))
        >>> one = Ratings(np.array([0]), np.array([0]), np.array([4.0]), np.ones(1), n_users=1, n_items=2)
        >>> leverage(model, one, np.array([0]), np.array([1]))
        array([0.25], dtype=float32)
    """
    check(model.priors)
    parts = [np.zeros(0, np.float32)]
    for at in range(0, len(user), PAIRS):
        some = slice(at, at + PAIRS)
        parts.append(_leverage(model, ratings, user[some], item[some]))
    return np.concatenate(parts)


def _leverage(model: Model, ratings: Ratings, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    params, frozen = model.params, model.frozen()
    users, owner = np.unique(user, return_inverse=True)
    c = params.user.rank + 1
    matrix = np.zeros((len(users), c, c), np.float32)
    for stack in blocks(ratings.take(np.isin(ratings.user, users)), users, ladder=True):
        for block in unstack(stack):
            found = block.rows < len(params.user)
            of_block = _precisions(frozen, params.user, block)
            matrix[np.searchsorted(users, block.rows[found])] = np.asarray(of_block)[found]
    size = 1 << (len(user) - 1).bit_length()
    padded = [np.pad(rows, (0, size - len(rows)), mode="edge") for rows in (user, item, owner)]
    return np.asarray(_inverse_forms(model.kernel, params, *padded[:2], matrix[padded[2]]))[: len(user)]


@jax.jit
def _precisions(frozen: Model, table: Table, block: Block) -> Float[Array, "b c c"]:
    """JᵀWJ + Λ of each of the block's rows of a table."""
    return precisions(frozen.problem(block), table.take(block.rows))


@jax.jit
def _inverse_forms(
    kernel: Kernel,
    params: Params,
    user: Int[AnyArray, " n"],
    item: Int[AnyArray, " n"],
    matrix: Float[AnyArray, "n c c"],
) -> Float[Array, " n"]:
    """jᵀA⁻¹j of each pair."""
    gradients = jax.vmap(jax.grad(kernel), (0, 0, None))(params.user[user], params.item[item], params.offset)
    j = gradients.scale(jnp.broadcast_to(1 / jnp.asarray(kernel.unit), user.shape))
    diagonal = Table.of_matrix(jnp.diagonal(matrix, axis1=1, axis2=2))

    def matvec(d: Table) -> Table:
        return Table.of_matrix(jnp.einsum("bkl,bl->bk", matrix, d.matrix()))

    return j.dot(cg.solve(matvec, j, diagonal, steps=2 * matrix.shape[1]))
