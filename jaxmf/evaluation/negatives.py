"""How well one held-out item is ranked among items drawn at random: the protocol that leaves one out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from jaxmf.data.ratings import Ratings, check
from jaxmf.data.settings import check_whole
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior

PAIRS = 65_536
"""Most pairs of a user and an item a block."""


class AmongNegatives(NamedTuple):
    """Means over users.

    Attributes:
        users: How many held-out items were ranked.
        hit_rate: Share of them at place n or better.
        ndcg: Mean 1/log₂(j + 1) of those at place j ≤ n; 0 of the others.
    """

    users: int
    hit_rate: float
    ndcg: float


def among_negatives(
    model: Model | Posterior, held_out: Ratings, negatives: ArrayLike, *, n: int = 10
) -> AmongNegatives:
    """Hit rate and NDCG at `n` of one held-out item a user among items that the user never interacted with.

    Place j is 1 and how many of the negatives are predicted as highly or higher: a tie counts against the model, and
    one that predicts the same of all items gains nothing. It is the protocol of `jaxmf.splits.sampled_negatives`, which
    says how such numbers mislead.

    Args:
        model: What predicts.
        held_out: One item a user (`jaxmf.splits.leave_last_n`); those of weight 0 are padding, as everywhere.
        negatives: The items that each is ranked among, a row a held-out item (rows × count). The number of items pads a
            short row.
        n: The last place that counts.

    Returns:
        NaN where nothing is held out, or a prediction is.

    Raises:
        ValueError: If the negatives are not a row a held-out item, an item or a user is not in the model, or `n` is no
            whole number of 1 or more.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import Params
        >>> from jaxmf.model.tables import Table
        >>> items = Table(jnp.array([0.1, 0.3, 0.2]), jnp.zeros((3, 2)))
        >>> model = Model(Params(Table(jnp.zeros(1), jnp.ones((1, 2))), items, jnp.array(3.0)), Linear())
        >>> held_out = Ratings(np.array([0]), np.array([2]), np.ones(1), np.ones(1), n_users=1, n_items=3)
        >>> among_negatives(model, held_out, [[0, 1]], n=1), among_negatives(model, held_out, [[0, 3]], n=1)
        (AmongNegatives(users=1, hit_rate=0.0, ndcg=0.0), AmongNegatives(users=1, hit_rate=1.0, ndcg=1.0))
    """
    check(held_out)
    n = check_whole("n", n, least=1, meaning="the last place that counts")
    negatives = _checked(negatives, held_out)
    kept = np.flatnonzero(np.asarray(held_out.weight) > 0)
    if not len(kept):
        return AmongNegatives(0, np.nan, np.nan)
    user, item = (np.asarray(side)[kept] for side in (held_out.user, held_out.item))
    place = _places(model, user, item, negatives[kept], held_out.n_items)
    hit = np.where(np.isnan(place), np.nan, place <= n)
    return AmongNegatives(len(kept), float(hit.mean()), float((hit / np.log2(place + 1)).mean()))


def _checked(negatives: ArrayLike, held_out: Ratings) -> Int[np.ndarray, "rows count"]:
    negatives = np.asarray(negatives)
    if negatives.ndim != 2 or len(negatives) != len(held_out) or negatives.dtype.kind not in "iu":
        raise ValueError(
            f"negatives of shape {negatives.shape} and type {negatives.dtype} of {len(held_out)} held-out items: "
            "give a row of item rows each, as jaxmf.splits.sampled_negatives(ratings, held_out.user) does"
        )
    if negatives.min(initial=0) < 0:
        raise ValueError(f"item row {negatives.min()}: rows are 0 or more; pad a short row with the number of items")
    return np.minimum(negatives, held_out.n_items).astype(np.int32)


def _places(
    model: Model | Posterior,
    user: Int[np.ndarray, " users"],
    item: Int[np.ndarray, " users"],
    negatives: Int[np.ndarray, "users count"],
    n_items: int,
) -> Float[np.ndarray, " users"]:
    """Place of each held-out item, from 1, a block of users at a time; NaN where a prediction is."""
    listed = np.concatenate([item[:, None], negatives], 1)
    padding = listed == n_items
    listed = np.where(padding, item[:, None], listed)
    size = max(1, PAIRS // listed.shape[1])
    found = np.empty(len(user))
    for start in range(0, len(user), size):
        block = (start + np.arange(min(size, len(user)))).clip(max=len(user) - 1)  # the last is as large as the others
        predicted = model.predict(np.repeat(user[block], listed.shape[1]), listed[block].ravel())
        found[block] = _place(jnp.asarray(predicted).reshape(listed[block].shape), padding[block])
    return found


@jax.jit
def _place(predicted: Float[Array, "b n"], padding: Bool[Array, "b n"]) -> Float[Array, " b"]:
    """Place of the first of each row."""
    before = (predicted[:, 1:] >= predicted[:, :1]) & ~padding[:, 1:]
    wrong = (jnp.isnan(predicted) & ~padding).any(1)
    return jnp.where(wrong, jnp.nan, 1 + before.sum(1, dtype=jnp.float32))
