"""The compiled programs of the online update, a block of rows each, and how tables grow under them."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, ScalarLike

from jaxmf.data.histories import Block, row_block
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.data.ratings import check as check_coordinates
from jaxmf.model import rows
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.params import Params, check_rows
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides, check
from jaxmf.model.problem import Problem
from jaxmf.model.tables import Table

STEPS = 8
CG_STEPS = 24

LARGEST = float(np.finfo(np.float32).max)
LARGEST_BITS = int(np.float32(LARGEST).view(np.int32))


@jax.jit
def solve_stacks(
    kernel: Kernel, params: Params, stacks: tuple[Block, ...], *, prior: Prior | Priors = DEFAULT
) -> tuple[Table, ...]:
    """Users' rows for whole stacks of blocks that are on the device already, as one program.

    Returns:
        A table a stack, its rows in the order of the stack's `rows`.
    """
    user_prior = both_sides(prior).user

    def solve(block: Block) -> Table:
        return solve_block(kernel, params.offset, params.item, block, user_prior)

    return tuple(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), lax.map(solve, stack)) for stack in stacks)


@partial(jax.jit, donate_argnums=0)
def update(
    table: Table,
    kernel: Kernel,
    offset: Float[Array, ""],
    others: Table,
    block: Block,
    prior: Prior,
    means: Table | None = None,
) -> Table:
    """The users' `table` with the block's rows solved and written in place: its buffers are given up.

    O(ratings of the block), whatever the size of the table. For items pass the items' table and the users as `others`.
    `means` are the prior means of all rows of the table; else 0.
    """
    mean = None if means is None else means[block.rows]
    return table.put(block.rows, solve_block(kernel, offset, others, block, prior, mean))


@partial(jax.jit, static_argnames=("steps", "cg_steps"))
def solve_block(
    kernel: Kernel,
    offset: Float[Array, ""],
    others: Table,
    block: Block,
    prior: Prior,
    mean: Table | None = None,
    *,
    steps: int = STEPS,
    cg_steps: int = CG_STEPS,
) -> Table:
    """The block's rows under `prior`, from its `mean` (else 0), a row each: one compiled program a shape."""
    n = rows.row_weights(block)
    mean = Table(jnp.zeros_like(n), jnp.zeros((len(n), others.rank))) if mean is None else mean
    problem = Problem(kernel, offset, others, block, mean, prior.precision(n))
    return rows.solve_rows(problem, steps=steps, cg_steps=cg_steps)


@jax.jit
def solve_user(
    kernel: Kernel, offset: Float[Array, ""], others: Table, packed: Int[AnyArray, " packed"], prior: Prior
) -> Table:
    """One row, as a table of one, from its `histories.packed_row`."""
    return solve_block(kernel, offset, others, row_block(packed), prior)


@partial(jax.jit, donate_argnums=0)
def update_user(
    table: Table,
    kernel: Kernel,
    offset: Float[Array, ""],
    others: Table,
    row: ScalarLike,
    packed: Int[AnyArray, " packed"],
    prior: Prior,
) -> Table:
    """The users' `table` with one row solved from its `histories.packed_row` and written in place, as `update` does."""
    block = row_block(packed, row)
    return table.put(block.rows, solve_block(kernel, offset, others, block, prior))


def fits(packed: Int[np.ndarray, " packed"], kernel: Kernel, others: Table) -> bool:
    """Whether a `histories.packed_row` has known items and finite ratings on the kernel's scale, in four passes."""
    n, slots = packed[0], len(packed) // 3
    if not n:
        return True
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


def on_device(prior: Prior) -> Prior:
    """The prior with its numbers on the device, checked and moved there once and not with every request.

    Raises:
        ValueError: As `priors.check`.
    """
    numbers = (prior.bias_reg, prior.factor_reg, prior.power, prior.link_reg)
    return _placed(*numbers) if all(isinstance(number, float) for number in numbers) else prior


def resized(table: Table, rows: int) -> Table:
    """A copy of the table with rows of zeros, the prior mean, appended up to `rows` rows where it has fewer."""
    return _padded(table, max(rows, len(table)), 0.0)


def reserve(table: Table, rows: int) -> Table:
    """The table with room for `rows` rows: its size doubles until they fit; as it is where they do.

    The spare rows are NaN, and so is what is predicted from them: a row that nobody has written is never taken for
    data. Write with `update`, which costs the same whatever the size, and compiles anew only when the size doubles.
    """
    size = max(1, len(table))
    while size < rows:
        size *= 2
    return table if size == len(table) else _padded(table, size, np.nan)


@partial(jax.jit, static_argnames=("rows", "value"))
def _padded(table: Table, rows: int, value: float) -> Table:
    """A copy of the table with rows of `value` appended up to `rows` rows."""
    more = rows - len(table)
    return Table(
        jnp.pad(table.bias, (0, more), constant_values=value),
        jnp.pad(table.factors, ((0, more), (0, 0)), constant_values=value),
    )


def check_fold_in(params: Params, kernel: Kernel, ratings: Ratings) -> None:
    """Refuse ratings that don't fit the model, before anything is solved.

    Raises:
        ValueError: If a rating is no finite number or outside the kernel's scale, or an item is not in the model or
            has no row there yet.
    """
    check_coordinates(ratings)
    check_ratings(kernel, np.asarray(ratings.rating))
    item = np.asarray(ratings.item)
    check_rows(item, params.item, "item")
    unwritten = np.isnan(np.asarray(params.item.bias))[item]
    if unwritten.any():
        raise ValueError(f"item row {item[unwritten.argmax()]} is reserved and not written: fold the item in first")


def unstack(stack: Block) -> list[Block]:
    """The blocks of a stack, on the host."""

    def at(index: int) -> Block:
        return jax.tree.map(lambda x: x[index], stack)

    return [at(index) for index in range(len(stack.rows))]
