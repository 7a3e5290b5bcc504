"""Which items or users are alike, and vectors for an index that finds them without looking at all of them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import RBF, Clicks, Linear, Logistic, Polynomial
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.serving.recommend import TopN, checked_rows, top_n


class Vectors(NamedTuple):
    """Vectors that rank a user's items, for an index of nearest neighbours.

    Attributes:
        user: What to ask with.
        item: What to keep.
    """

    user: Float[Array, "users d"]
    item: Float[Array, "items d"]


def index_vectors(model: Model | Posterior) -> Vectors:
    """Vectors (1, w) of users and (bᵢ, h) of items: an index finds a user's items by their inner product.

    It ranks as r̂ does for the linear and logistic kernels, and for the polynomial one where 1 + bᵤ + bᵢ + w·h ≥ 0. For
    the RBF kernel, whose biases stand outside it, distance alone says little; (1, exp(−γ‖w‖²)·w) and
    (bᵢ, 2γ(high − low)·exp(−γ‖h‖²)·h) rank as r̂ does to first order in γw·h. There ask for a few times as many items as
    are wanted, and let `jaxmf.recommend.top_n` choose among these candidates. An index that knows distances alone takes
    `by_distance` of them. Rows that are reserved and not written are NaN: leave them out of the index.

    Raises:
        ValueError: If the kernel is none of the package's four, or the model is a posterior's draws.

    Example:
        >>> import jax
        >>> from jaxmf.model.params import init
        >>> model = Model(init(jax.random.key(0), n_users=3, n_items=5, rank=2), Linear())
        >>> index_vectors(model).item.shape
        (5, 3)
    """
    params, kernel = _single(model).params, model.kernel
    w, h = params.user.factors, params.item.factors
    if isinstance(kernel, RBF):
        w = w * jnp.exp(-kernel.gamma * jnp.sum(w**2, 1, keepdims=True))
        scale = 2 * kernel.gamma * (kernel.high - kernel.low)
        h = scale * h * jnp.exp(-kernel.gamma * jnp.sum(h**2, 1, keepdims=True))
    elif not isinstance(kernel, Clicks | Linear | Logistic | Polynomial):
        raise ValueError(f"no vectors for {kernel}: its ranking is not known to be an inner product's; use top_n")
    return Vectors(Table(jnp.ones_like(params.user.bias), w).matrix(), Table(params.item.bias, h).matrix())


def by_distance(vectors: Vectors) -> Vectors:
    """Vectors whose Euclidean distances rank, the nearest first, as the inner products of `vectors` do, highest first.

    One more number makes all items equally long, (v, √(max ‖v‖² − ‖v‖²)), and then ‖q − v‖² is a constant of the user
    less 2·q·v (Bachrach et al., RecSys 2014, §3.2). An item that is added later and is longer than all calls for a new
    index.

    Example:
        >>> here = by_distance(Vectors(jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 0.0], [1.0, 1.0]])))
        >>> jnp.linalg.norm(here.user - here.item, axis=1).round(2)
        Array([2.  , 2.83], dtype=float32)
    """
    square = jnp.sum(vectors.item**2, 1, keepdims=True)
    rest = jnp.sqrt(jnp.maximum(jnp.nanmax(square, initial=0.0) - square, 0))
    user = jnp.pad(vectors.user, ((0, 0), (0, 1)))
    return Vectors(user, jnp.concatenate([vectors.item, rest], 1))


def similar_items(
    model: Model | Posterior,
    items: ArrayLike,
    *,
    n: int = 10,
    candidates: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
) -> TopN:
    """Each item's `n` nearest others by their factors, and how near: cosines, or for an RBF kernel exp(−γ‖h − h′‖²).

    Biases say how well liked an item is and not what it is like: they don't count. Arguments as in `top_n`.

    Raises:
        ValueError: As `top_n`.
    """
    return _similar(model, items, "item", n, candidates, exclude)


def similar_users(
    model: Model | Posterior,
    users: ArrayLike,
    *,
    n: int = 10,
    candidates: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
) -> TopN:
    """Each user's `n` nearest others, as `similar_items`; rows are user rows."""
    return _similar(model.transpose(), users, "user", n, candidates, exclude)


def _similar(
    model: Model | Posterior,
    rows: ArrayLike,
    side: str,
    n: int,
    candidates: ArrayLike | None,
    exclude: ArrayLike | None,
) -> TopN:
    """The nearest others of rows of the item table, whose `side` it is."""
    params, kernel = _single(model).params, model.kernel
    rows = checked_rows(rows, params.item, side)
    few, less = (
        None if some is None else checked_rows(some, params.item, side, written=False) for some in (candidates, exclude)
    )
    table = _with_norms(params.item) if isinstance(kernel, RBF) else _of_length_1(params.item)
    query = Table(jnp.zeros_like(table.bias), table.factors)
    hidden = np.zeros(len(table), bool)
    hidden[[] if less is None else less] = True  # by a bias, as a table without them would be of ever new shapes
    table = Table(jnp.where(hidden, -jnp.inf, table.bias), table.factors)
    one = np.ones(len(rows), np.float32)
    itself = Ratings(rows, rows, one, one, len(table), len(table))
    found = top_n(Model(Params(query, table, jnp.float32(0.0)), Linear()), rows, n=n, seen=itself, candidates=few)
    if not isinstance(kernel, RBF):
        return found
    squares = np.sum(np.square(np.asarray(query.factors)[rows]), 1, keepdims=True)
    return found._replace(score=np.exp(kernel.gamma * np.minimum(2 * found.score - squares, 0)))


def _single(model: Model | Posterior) -> Model:
    if isinstance(model, Posterior):
        raise ValueError(
            f"{model!r} is not one table of factors a side: take one draw, `jaxmf.posterior.pick(key, posterior)`, or "
            'fit with method="als" or "sgd"'
        )
    return model


def _of_length_1(table: Table) -> Table:
    """Factors of length 1, or 0 where they are 0; no bias."""
    length = jnp.linalg.norm(table.factors, axis=1, keepdims=True)
    return Table(0 * table.bias, table.factors / jnp.where(length > 0, length, 1))


def _with_norms(table: Table) -> Table:
    """Factors h and the bias −‖h‖²/2: then −‖w − h‖²/2 is w·h + the bias − ‖w‖²/2."""
    return Table(-jnp.sum(table.factors**2, 1) / 2, table.factors)
