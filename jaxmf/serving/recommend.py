"""Which items to show: the best of a user's unseen ones, by any kernel and by a posterior."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf import sharding
from jaxmf.data.ratings import AnyArray, Ratings, check, check_type
from jaxmf.data.settings import check_number, check_whole
from jaxmf.model.kernels import Clicks, Kernel, Linear, Logistic, Polynomial
from jaxmf.model.model import Model
from jaxmf.model.params import Params, check_rows, predict
from jaxmf.model.posterior import Posterior, moments
from jaxmf.model.tables import Table, unwritten
from jaxmf.serving import top
from jaxmf.serving.top import TopN

__all__ = ["TopN", "checked_rows", "top_n"]


def top_n(
    model: Model | Posterior,
    users: ArrayLike,
    *,
    n: int = 10,
    width: float = 0.0,
    seen: Ratings | None = None,
    candidates: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
) -> TopN:
    """Each user's `n` items with the highest predicted ratings r̂, and those ratings.

    Where r̂ rises with the product of the rows, the items are ranked by that product and only the best are rated. Items
    that `jaxmf.update.reserve` made room for and nobody has written are never recommended.

    Args:
        model: A point model, or a posterior, whose scores are means over the draws. For Thompson sampling give one of
            them, `jaxmf.posterior.pick(key, posterior)`.
        users: User rows.
        n: Items a user.
        width: Of a posterior's standard deviations of r̂, how many are added to the mean: above 0 an upper confidence
            bound, as `jaxmf.asking.upper_bound`.
        seen: Ratings whose items their users are not shown; those of weight 0 are padding.
        candidates: Item rows to choose from; else all.
        exclude: Item rows that nobody is shown.

    Raises:
        ValueError: If `n` is not positive, a row is not in its table, or a user's row is reserved and not written, or
            a `width` is given of a point model.

    Cost: a matrix product of users and items, a draw. Memory: 32 MiB of scores, whatever their numbers; three such
    blocks for a posterior.

    Example:
        >>> from jaxmf.model.params import Params
        >>> items = Table(jnp.array([0.1, 0.3, 0.2]), jnp.zeros((3, 2)))
        >>> model = Model(Params(Table(jnp.zeros(1), jnp.ones((1, 2))), items, jnp.array(3.0)), Linear())
        >>> top_n(model, np.array([0]), n=2).item
        array([[1, 2]], dtype=int32)
    """
    params, kernel = model.params, model.kernel
    users, kept = _checked(params, users, n, candidates, exclude)
    width = check_number("width", width, rule="a number", meaning="how many standard deviations are added to a mean")
    items = params.item if len(kept) == len(params.item) else params.item.take(kept)
    if isinstance(model, Posterior):
        score, rate = Partial(_bounds, kernel, params.user, params.offset, jnp.float32(width)), _as_scored
    elif width:
        raise ValueError(f"width={width}: a point model has no standard deviations; leave it out, or fit by gibbs")
    elif _by_product(params, kernel):
        score, rate = Partial(_products, params.user), partial(_rated, kernel, params)
    else:
        score, rate = Partial(_ratings, kernel, params.user, params.offset), _as_scored
    return _best(score, rate, items, users, kept, _Asked(n, seen, len(params.item)))


class _Asked(NamedTuple):
    """What is asked for: `n` items a user of a table of `n_items`, none that a user has `seen`."""

    n: int
    seen: Ratings | None
    n_items: int


def _blocks(items: Table, size: int) -> Table:
    """Items in blocks of `size`, of a posterior with the draws within."""
    items = _padded(items, size)
    bias = items.bias.reshape(*items.bias.shape[:-1], -1, size)
    factors = items.factors.reshape(*items.factors.shape[:-2], -1, size, items.rank)
    return Table(jnp.moveaxis(bias, -2, 0), jnp.moveaxis(factors, -3, 0))


def _by_product(params: Params, kernel: Kernel) -> bool:
    """Whether r̂ rises with w·h + bᵢ for every user."""
    if isinstance(kernel, Polynomial):
        return kernel.degree % 2 == 1 and float(params.offset) > 0
    return isinstance(kernel, Clicks | Linear | Logistic)


def _products(users: Table, rows: Int[Array, " b"], items: Table) -> Array:
    """w·h + bᵢ as a matrix product."""
    return users.factors[rows] @ items.factors.T + items.bias[None]


def _ratings(kernel: Kernel, users: Table, offset: ScalarLike, rows: Int[Array, " b"], items: Table) -> Array:
    """r̂ of users and items. With its pairs mapped over both sides a kernel's inner product is a matrix product."""
    rated = jax.vmap(jax.vmap(kernel, (None, 0, None)), (0, None, None))(users[rows], items, offset)
    return jnp.where(jnp.isneginf(items.bias)[None], -jnp.inf, rated)


def _bounds(
    kernel: Kernel, users: Table, offset: Float[Array, " s"], width: ScalarLike, rows: Int[Array, " b"], items: Table
) -> Array:
    """Mean and `width` standard deviations of r̂ over draws."""

    def of_draw(draw: tuple[Table, Array, Table]) -> Array:
        return _ratings(kernel, draw[0], draw[1], rows, draw[2])

    mean, variance = moments(of_draw, (users, offset, items))
    return jnp.where(jnp.isneginf(items.bias[0])[None], -jnp.inf, mean + width * jnp.sqrt(variance))


@jax.jit
def _rated(kernel: Kernel, params: Params, users: Int[Array, "g b"], items: Int[Array, "g b n"], _: Array) -> Array:
    """r̂ of the items found."""
    pairs = jnp.broadcast_to(users[..., None], items.shape).ravel()
    return predict(params, kernel, pairs, items.ravel()).reshape(items.shape)


def _as_scored(_users: AnyArray, _items: AnyArray, score: Array) -> Array:
    return score


def _best(
    score: Partial,
    rate: Callable[[AnyArray, AnyArray, Array], Array],
    items: Table,
    users: np.ndarray,
    kept: np.ndarray,
    asked: _Asked,
) -> TopN:
    """The items with the highest scores, and how `rate` rates them, a call of the compiled program at a time."""
    n, seen, n_items = asked
    out = TopN(np.full((len(users), n), n_items, np.int32), np.full((len(users), n), -np.inf, np.float32))
    most = min(n, len(kept))
    if not most:
        return out
    position = np.full(n_items, np.iinfo(np.int32).max, np.int32)
    position[kept] = np.arange(len(kept))
    mesh = sharding.current()
    score, items = (score, items) if mesh is None else sharding.on(mesh, (score, items))
    for rows, mask, chosen in top.user_blocks(users, _shown(seen, n_items), position):
        found = _found(score, rows, mask, items, most, mesh=mesh)
        value, at = found if mesh is None else sharding.home(found)
        item = kept[np.minimum(at, len(kept) - 1)]
        left = np.isneginf(value)
        rated = np.where(left, -np.inf, rate(rows, item, value))
        order = np.argsort(-rated, -1, kind="stable")
        for whole, found in zip(out, (np.where(left, n_items, item), rated), strict=True):
            sorted_ = np.take_along_axis(found, order, -1).reshape(-1, most)
            whole[chosen, :most] = sorted_[: chosen.stop - chosen.start]
    return out


@partial(jax.jit, static_argnames=("n", "mesh"))
def _found(
    score: Partial, users: Int[AnyArray, "g b"], masks: top.Mask, items: Table, n: int, *, mesh: Mesh | None
) -> tuple[Float[Array, "g b n"], Int[Array, "g b n"]]:
    """`top.best` of items that are cut into blocks on the way: one that is whole already is not copied."""
    size = top.block_size(len(items))
    starts = size * np.arange(-(-len(items) // size), dtype=np.int32)
    return top.best(score, users, masks, starts, _blocks(items, size), n, mesh)


def checked_rows(rows: ArrayLike, table: Table, side: str, *, written: bool = True) -> Int[np.ndarray, " n"]:
    """Rows of one side's table, on the host.

    Raises:
        ValueError: If they are no list of whole numbers, one is not in the table, or is reserved and not written
            where that is asked for.
    """
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(
            f"{side} rows must be a list of whole numbers, got {rows.tolist()!r:.80}: "
            "pass [row] for one, and np.flatnonzero(mask) for a mask"
        )
    rows = rows.astype(np.int64)  # whatever width was given; NumPy takes an empty list for floats
    check_rows(rows, table, side)
    rows = rows.astype(np.int32)
    missing = unwritten(table)[rows]
    if written and missing.any():
        raise ValueError(f"{side} row {rows[missing.argmax()]} is reserved and not written: fold the {side} in first")
    return rows


def _checked(
    params: Params, users: ArrayLike, n: int, candidates: ArrayLike | None, exclude: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """User rows, and the rows of the items to choose from, ascending."""
    check_whole("n", n, least=1, meaning="the length of each list")
    users = checked_rows(users, params.user, "user")
    kept = ~unwritten(params.item)
    for named, wanted in ((candidates, True), (exclude, False)):
        if named is not None:
            rows = checked_rows(named, params.item, "item", written=False)
            kept &= np.isin(np.arange(len(kept)), rows) == wanted
    return users, np.flatnonzero(kept).astype(np.int32)


def _shown(seen: Ratings | None, items: int) -> Ratings:
    """What was seen, on the host and without padding."""
    if seen is None:
        none, numbers = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return Ratings(none, none, numbers, numbers, 0, items)
    check_type(seen, "seen")
    shown: Ratings = jax.tree.map(np.asarray, seen).replace(n_items=items)
    check(shown)
    return shown if shown.weight.all() else shown.take(shown.weight > 0)


def _padded(table: Table, size: int) -> Table:
    """The table with rows that score −inf appended, up to a multiple of `size`."""
    more, draws = -len(table) % size, [(0, 0)] * (table.bias.ndim - 1)
    if not more:
        return table
    bias = jnp.pad(table.bias, [*draws, (0, more)], constant_values=-jnp.inf)
    return Table(bias, jnp.pad(table.factors, [*draws, (0, more), (0, 0)]))
