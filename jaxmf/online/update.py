"""The compiled programs of the online update, a block of rows each, and how tables grow under them.

They take a model without the users' rows, `model.frozen()`, so that one program serves any number of users; for items
that of `model.transpose()`. Of a posterior each row is a draw for every draw of the other side, in tables with an axis
more in front.
"""

import functools
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Int, ScalarLike

from jaxmf import sharding
from jaxmf.data.histories import Block, padded, row_block
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.data.ratings import check as check_coordinates
from jaxmf.model import rows
from jaxmf.model.kernels import Clicks, Kernel, check_ratings
from jaxmf.model.model import Model
from jaxmf.model.params import check_rows
from jaxmf.model.posterior import Posterior
from jaxmf.model.priors import Prior, check
from jaxmf.model.tables import Table, resized, unwritten
from jaxmf.online.draws import draw_block

LARGEST = float(np.finfo(np.float32).max)
LARGEST_BITS = int(np.float32(LARGEST).view(np.int32))

CLICKS_STEPS, CLICKS_TOL = 128, 2e-6
"""Most steps of conjugate gradients for a row of clicks, whose background alone has as many axes as the rank, and the
share of its first residual at which it counts as solved: a row is then within 1e-5 of the exact one."""

Fitted = TypeVar("Fitted", Model, Posterior)


@partial(jax.jit, static_argnames="mesh")
def solve_stacks(
    frozen: Model | Posterior, stacks: tuple[Block, ...], said: Table | None = None, *, mesh: Mesh | None = None
) -> tuple[Table, ...]:
    """Users' rows for whole stacks of blocks that are on the device already, as one program.

    Args:
        frozen: As in `solve_block`.
        stacks: The stacks.
        said: As in `solve_block`.
        mesh: Devices each of which solves its part of every stack's blocks.

    Returns:
        A table a stack, its rows in the order of the stack's `rows`; of a mesh it is on its devices.
    """

    def joined(solved: Table) -> Table:
        """Blocks of rows one after the other, behind the draws where there are such."""
        bias, factors = jnp.moveaxis(solved.bias, 0, -2), jnp.moveaxis(solved.factors, 0, -3)
        return Table(bias.reshape(*bias.shape[:-2], -1), factors.reshape(*factors.shape[:-3], -1, solved.rank))

    def solved(whole: tuple[Model | Posterior, Table | None], stack: Block) -> Table:
        return lax.map(lambda block: solve_block(whole[0], block, whole[1]), stack)

    def of_stack(stack: Block) -> Table:
        g, b = stack.rows.shape
        table = joined(sharding.cut(solved, mesh, "users")((frozen, said), padded(stack, sharding.parts(g, mesh))))
        return Table(table.bias[..., : g * b], table.factors[..., : g * b, :])

    return tuple(map(of_stack, stacks))


@partial(jax.jit, donate_argnums=0)
def update(table: Table, frozen: Model | Posterior, block: Block, said: Table | None = None) -> Table:
    """The users' `table` with the block's rows solved and written in place: its buffers are given up.

    O(ratings of the block), whatever the size of the table. `said` is as in `solve_block`.
    """
    return table.put(block.rows, solve_block(frozen, block, said))


@jax.jit
def solve_block(frozen: Model | Posterior, block: Block, said: Table | None = None) -> Table:
    """The block's rows, a row each: one compiled program a shape.

    Args:
        frozen: What they are solved against.
        block: Their ratings.
        said: What their features say of all rows of the table, where these are not their implicit feedback.
    """
    of_block = None if said is None else said.take(block.rows)
    if isinstance(frozen, Posterior):
        return draw_block(frozen, block, of_block)
    problem = frozen.problem(block, of_block)
    if problem.background is None:
        return rows.solve_rows(problem)
    return rows.solve_rows(problem, cg_steps=CLICKS_STEPS, tol=CLICKS_TOL)


@jax.jit
def solve_user(frozen: Model | Posterior, packed: Int[AnyArray, " packed"], said: Table | None = None) -> Table:
    """One row, as a table of one, from its `histories.packed_row`."""
    return solve_block(frozen, row_block(packed), said)


@partial(jax.jit, donate_argnums=0)
def update_user(table: Table, frozen: Model | Posterior, row: ScalarLike, packed: Int[AnyArray, " packed"]) -> Table:
    """The users' `table` with one row solved from its `histories.packed_row` and written in place, as `update` does."""
    block = row_block(packed, row)
    return table.put(block.rows, solve_block(frozen, block))


def fits(packed: Int[np.ndarray, " packed"], kernel: Kernel, others: Table) -> bool:
    """Whether a `histories.packed_row` has known items and finite ratings on the kernel's scale, in four passes.

    Where it has not, or can't be told so quickly, it has to be looked at closely.
    """
    n, slots = packed[0], len(packed) // 3
    if not n:
        return True
    if isinstance(kernel, Clicks) and not kernel.doubly:  # whose weights have a rule of their own
        return False
    # As unsigned numbers rows below 0 are large, and so are the bits of a weight below 0 or not finite.
    # A NaN is neither above nor below anything.
    known = packed.view(np.uint32)[1 : 1 + n].max() < len(others)
    rating, weight = packed.view(np.float32)[1 + slots : 1 + slots + n], packed[1 + 2 * slots : 1 + 2 * slots + n]
    rated = max(kernel.low, -LARGEST) <= rating.min() and rating.max() <= min(kernel.high, LARGEST)
    return bool(known and rated and weight.view(np.uint32).max() <= LARGEST_BITS)


@functools.lru_cache(maxsize=64)
def _placed(*numbers: float) -> Prior:
    check(Prior(*numbers))
    return Prior(*map(jnp.float32, numbers))


def on_device(frozen: Fitted) -> Fitted:
    """The model with its prior's numbers on the device, checked and moved there once and not with every request.

    Raises:
        ValueError: As `priors.check`.
    """
    if isinstance(frozen, Posterior):
        return frozen
    prior = frozen.priors.user
    numbers = (prior.bias_reg, prior.factor_reg, prior.power, prior.link_reg, prior.extra)
    placed = _placed(*numbers) if all(isinstance(number, float) for number in numbers) else prior
    return frozen.replace(priors=frozen.priors._replace(user=placed))


def reserve(table: Table, rows: int) -> Table:
    """The table with room for `rows` rows: its size doubles until they fit; as it is where they do.

    The spare rows are NaN, and so is what is predicted from them: a row that nobody has written is never taken for
    data. Write with `update`, which costs the same whatever the size, and compiles anew only when the size doubles.
    """
    size = max(1, len(table))
    while size < rows:
        size *= 2
    return table if size == len(table) else resized(table, size, value=np.nan)


def check_fold_in(model: Model | Posterior, ratings: Ratings) -> None:
    """Refuse ratings that don't fit the model, before anything is solved.

    Raises:
        ValueError: If a rating is no finite number, outside the kernel's scale or no level of an ordinal likelihood, an
            item is not in the model or has no row there yet, or a regularisation is not positive.
    """
    check_coordinates(ratings)
    check_given(model, np.asarray(ratings.rating), np.asarray(ratings.weight))
    check_priors(model)
    item = np.asarray(ratings.item)
    check_rows(item, model.params.item, "item")
    missing = unwritten(model.params.item)[item]
    if missing.any():
        raise ValueError(f"item row {item[missing.argmax()]} is reserved and not written: fold the item in first")


def check_given(model: Model | Posterior, rating: np.ndarray, weight: np.ndarray) -> None:
    """Refuse ratings and weights that the kernel or the likelihood can't take.

    Raises:
        ValueError: With the first such rating or weight.
    """
    check_ratings(model.kernel, rating)
    if isinstance(model.kernel, Clicks):
        model.kernel.check(weight)
    if isinstance(model, Posterior):
        jax.tree.map(lambda x: x[0], model.draws.likelihood).check(rating, model.kernel)


def check_priors(model: Model | Posterior) -> None:
    """Refuse a point model's priors that can't be; a posterior's are its draws'.

    Raises:
        ValueError: As `priors.check`.
    """
    if isinstance(model, Model):
        check(model.priors)


def unstack(stack: Block) -> list[Block]:
    """The blocks of a stack, on the host."""

    def at(index: int) -> Block:
        return jax.tree.map(lambda x: x[index], stack)

    return [at(index) for index in range(len(stack.rows))]
