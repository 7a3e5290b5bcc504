"""A row's equations: the kernel linearised over pages of ratings, and the matvec that fits their shape."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxmf import sharding
from jaxmf.data.histories import PAGES, Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model import cg
from jaxmf.model.problem import Background, Problem, layout
from jaxmf.model.tables import Table

Sums = TypeVar("Sums")


class Equations(NamedTuple):
    """A step's linear equations A δ = −g, a row each, where g is half the gradient of the row's loss.

    Attributes:
        matvec: A times a table.
        rhs: −g = JᵀWe − Λ(x − m) − Gx.
        scale: How large A is: its diagonal, where every factor has the mean of JᵀWJ's. As the preconditioner it leaves
            a multiple of the identity what it is. Where the factors share one precision, the equations of n ratings are
            such a multiple and n ratings' worth more, and conjugate gradients take n + 2 steps at most; with their true
            diagonal they would take k + 1. With a background JᵀWJ's is taken to be G's, for the weight of the ratings.
        loss: The row's loss, where the equations are made.
        curvature: dᵀAd of a table's rows, for less than the matvec costs.
    """

    matvec: cg.MatVec
    rhs: Table
    scale: Table
    loss: Float[Array, " b"]
    curvature: Callable[[Table], Float[Array, " b"]]


def linearised(problem: Problem, x: Table) -> Equations:
    """The equations at the rows `x` of Gauss and Newton, A = JᵀWJ + Λ + G: exact where the kernel is linear in the row.

    J is the kernel's gradient, a row a rating: it is what the matvec, the Gram matrix and the scale are all made of,
    and for a linear kernel it is the other side's factors as they are.
    By shape, the matvec goes over the ratings, J and Jᵀ, or over each row's Gram matrix.
    """
    block, b = problem.block, len(x)
    away, unseen = problem.mean - x, problem.unseen(x)
    of = _by_grams(problem, x) if gram_first(block, b, x.rank) else _by_ratings(problem, x)
    if problem.background is None:
        diagonal = _mean_diagonal(*of.traces, of.rhs)
    else:
        diagonal = _of_background(problem.background, block, b)
    return Equations(
        lambda d: of.matvec(d) + problem.held(d),
        of.rhs + away * problem.precision - unseen,
        diagonal + problem.precision,
        of.squares + away.dot(away * problem.precision) + x.dot(unseen),
        lambda d: of.curvature(d) + d.dot(problem.held(d)),
    )


class _Observed(NamedTuple):
    """The part of `Equations` that the ratings make: JᵀWJ, JᵀWe and Σ w e², and the traces of JᵀWJ's two parts."""

    matvec: cg.MatVec
    rhs: Table
    traces: tuple[Float[Array, " b"], Float[Array, " b"]]
    squares: Float[Array, " b"]
    curvature: Callable[[Table], Float[Array, " b"]]


def precisions(problem: Problem, x: Table) -> Float[Array, "b c c"]:
    """A of `linearised`, a matrix a row."""

    def held(unit: Float[Array, " c"]) -> Float[Array, "b c"]:
        return problem.held(Table.of_matrix(jnp.broadcast_to(unit, x.matrix().shape))).matrix()

    return _grams(problem, x)[0] + jax.vmap(held, out_axes=2)(jnp.eye(x.rank + 1))


def _by_grams(problem: Problem, x: Table) -> _Observed:
    """By each row's Gram matrix."""
    gram, rhs, squares = _grams(problem, x)
    traces = gram[:, 0, 0], jnp.trace(gram[:, 1:, 1:], axis1=1, axis2=2)
    matvec = _by_matrix(gram)
    return _Observed(matvec, rhs, traces, squares, lambda d: d.dot(matvec(d)))


def _grams(problem: Problem, x: Table) -> tuple[Float[Array, "b c c"], Table, Float[Array, " b"]]:
    """JᵀWJ, JᵀWe and Σ w e² of each row."""
    b, axes = len(x), layout(x.rank)
    columns = axes.index("k")

    def grams(part: Block) -> tuple[Float[Array, "b c c"], Table, Float[Array, " b"]]:
        j, error = _gradients(problem, x, part)
        flat = jnp.concatenate([jnp.expand_dims(j.bias, columns), j.factors], columns)
        gram = jnp.einsum(f"{axes},{axes.replace('k', 'l')}->pkl", flat, flat)
        return by_row(part, b, gram), _transposed(part, b, j, error, x.rank), _squares(part, b, error)

    return sum_parts(grams, problem.block)


def _by_ratings(problem: Problem, x: Table) -> _Observed:
    """By the ratings, J and Jᵀ."""
    block, b = problem.block, len(x)
    j, error = _gradients(problem, x, block)
    return _Observed(
        lambda d: _transposed(block, b, j, _along(block, j, d), x.rank),
        _transposed(block, b, j, error, x.rank),
        _traces(j, block, b),
        _squares(block, b, error),
        lambda d: _squares(block, b, _along(block, j, d)),
    )


def _of_background(background: Background, block: Block, b: int) -> Table:
    """G's diagonal and JᵀWJ's, where what was rated is taken to be as all the other side's rows are."""
    n = by_row(block, b, block.weight.sum(-1))
    times = 1 + n / jnp.maximum(background.weight, jnp.finfo(n.dtype).tiny)
    return Table(jnp.zeros_like(n), times[:, None] * background.diagonal()[None])


def curved(problem: Problem, x: Table, share: Float[Array, " b"]) -> tuple[Float[Array, " b"], cg.MatVec, Table]:
    """The rows' losses at `x` with the matvec and the right-hand side of Newton's equations, A half the loss's Hessian.

    A is that of Gauss and Newton less a `share`, above 0, of each residual times the kernel's curvature. With all of it
    A is Newton's and need not be positive definite; with little of it A nearly always is.
    """
    block, precision, (b, k) = problem.block, problem.precision, x.factors.shape

    def of_pages(part: Block) -> tuple[Float[Array, " p"], Table, cg.MatVec]:
        pages, of_page = part.of_pages(x), part.of_pages(share)
        predicted = problem.over_pages(problem.kernel, pages, part)
        error = part.rating - predicted
        # Ratings from which only the share of each residual is left: in the gradient it is a factor, and taken out.
        near = part.replace(rating=predicted + of_page[:, None] * error)
        half = jax.grad(lambda pages: problem.losses(pages, near).sum() / 2)
        gradient, hessian = jax.linearize(half, pages)
        return jnp.sum(part.weight * error**2, -1), gradient.scale(1 / of_page), hessian

    def sums(part: Block, of_pages: Sums) -> Sums:
        return jax.tree.map(lambda of_page: by_row(part, b, of_page), of_pages)

    if gram_first(block, b, k):

        def matrices(part: Block) -> tuple[Float[Array, " b"], Table, Float[Array, "b c c"]]:
            losses, gradient, hessian = of_pages(part)
            units = jnp.broadcast_to(jnp.eye(k + 1)[:, None], (k + 1, len(part.owner), k + 1))
            columns = jax.vmap(lambda unit: hessian(Table.of_matrix(unit)).matrix(), out_axes=1)(units)
            return sums(part, (losses, gradient, columns))

        losses, gradient, matrix = sum_parts(matrices, block)
        observed = _by_matrix(matrix)
    else:
        of_page, slope, hessian = of_pages(block)
        losses, gradient = sums(block, (of_page, slope))
        observed = lambda d: sums(block, hessian(block.of_pages(d)))  # noqa: E731

    away, rhs = x - problem.mean, (problem.mean - x) * precision - gradient
    return losses + away.dot(away * precision), lambda d: observed(d) + d * precision, rhs


def scale(problem: Problem, x: Table) -> Table:
    """The `scale` of `linearised`, alone."""
    b = len(x)

    def of_part(part: Block) -> tuple[tuple[Float[Array, " b"], Float[Array, " b"]], Table]:
        j, error = _gradients(problem, x, part)
        return _traces(j, part, b), _transposed(part, b, j, error, x.rank)

    traces, rhs = sum_parts(of_part, problem.block)
    return _mean_diagonal(*traces, rhs) + problem.precision


def _gradients(problem: Problem, x: Table, part: Block) -> tuple[Table, Float[AnyArray, "p w"]]:
    """√W J and √W e, by which the equations need no further weights.

    Of a linear kernel J is weighted as it is read, and e goes by what comes of it. (XLA unrolls the bare reading of 64
    factors into 64 loads, three times as slow.)
    """
    root, columns = jnp.sqrt(part.weight), layout(x.rank).index("k")
    predicted, j = problem.design(part) if problem.kernel.linear else problem.gradients(part.of_pages(x), part)
    j = Table(root * j.bias, jnp.expand_dims(root, columns) * j.factors)
    error = root * (part.rating - predicted)
    return j, error - _along(part, j, x) if problem.kernel.linear else error


def _along(block: Block, j: Table, d: Table) -> Float[Array, "p w"]:
    """J times a table."""
    of_page = block.of_pages(d)
    return j.bias * of_page.bias[:, None] + jnp.einsum(f"{layout(d.rank)},pk->pw", j.factors, of_page.factors)


def _squares(block: Block, b: int, of_slot: Float[AnyArray, "p w"]) -> Float[Array, " b"]:
    return by_row(block, b, jnp.sum(of_slot**2, -1))


def _by_matrix(matrix: Float[Array, "b c c"]) -> cg.MatVec:
    return lambda d: Table.of_matrix(jnp.einsum("bkl,bl->bk", matrix, d.matrix()))


def _traces(j: Table, block: Block, b: int) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Traces of the bias's and the factors' parts of JᵀJ.

    Over the last axis by a product: XLA adds one number after the other there, four times as slow.
    """
    of_pages = jnp.sum(j.factors**2, 1) @ jnp.ones(j.factors.shape[2])
    return _squares(block, b, j.bias), by_row(block, b, of_pages)


def _mean_diagonal(bias: Float[Array, " b"], factors: Float[Array, " b"], rhs: Table) -> Table:
    """JᵀWJ's diagonal, from its traces; factors that are 0 in every rated row, and so in the `rhs`, don't count."""
    in_use = jnp.maximum(1, jnp.sum(rhs.factors != 0, -1, dtype=factors.dtype))
    return Table(bias, (factors / in_use)[:, None])


def gram_first(block: Block, b: int, k: int) -> bool:
    """Whether a block's equations go by Gram matrices: where J would not fit the cache, or rows are long for `k`."""
    p, w = block.weight.shape
    return p > PAGES or (w >= 2 * (k + 1) and p >= 4 * b)


def by_row(block: Block, b: int, values: Float[AnyArray, "p ..."]) -> Float[Array, "b ..."]:
    """Sums over the pages of each row, wherever they are."""
    if block.alone:
        here = jnp.asarray(values)
    elif b == 1:  # no need of a scatter
        here = values.sum(0, keepdims=True)
    else:
        here = jax.ops.segment_sum(values, block.owner, num_segments=b, indices_are_sorted=True)
    return sharding.summed(here, block.axis)


def _transposed(block: Block, b: int, j: Table, u: Float[AnyArray, "p w"], rank: int) -> Table:
    """Jᵀu, a row each."""
    of_factors = jnp.einsum(f"{layout(rank)},pw->pk", j.factors, u)
    return Table(by_row(block, b, jnp.sum(j.bias * u, -1)), by_row(block, b, of_factors))


def sum_parts(function: Callable[[Block], Sums], block: Block) -> Sums:
    """`function` summed over parts of at most `PAGES` pages: however long a row, its memory is a part's."""
    if block.owner.shape[0] <= PAGES:
        return function(block)
    here = jax.tree.map(lambda x: x.sum(0), lax.map(function, block.parts(PAGES)))
    return sharding.summed(here, block.axis)
