"""The best items of many users, blocked over users and items: no array of users × items is ever made."""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree

from jaxmf import sharding
from jaxmf.data.histories import rung
from jaxmf.data.packing import ranges
from jaxmf.data.ratings import AnyArray, Ratings

USERS, ITEMS = 128, 65_536
"""Most users and items a block of scores: 32 MiB, near enough to a CPU's cache, and enough for its matrix product."""

BLOCKS = 32
"""Most blocks of users a call of the compiled program."""

SEEN = 64
"""Least room for what a block of users has seen."""

GROUP = 64
"""Items a group of the first stage of `top_k`."""


class TopN(NamedTuple):
    """The best items of each user, best first.

    Attributes:
        item: Item rows. Where a user has fewer than `n` items left, what follows is padding: the number of items,
            one past the last row.
        score: Their scores; −inf for padding.
    """

    item: Int[np.ndarray, "users n"]
    score: Float[np.ndarray, "users n"]


class Mask(NamedTuple):
    """Scores to be left out of a block: those at (row, position); padding has a row past the block's end."""

    row: Int[AnyArray, " m"]
    position: Int[AnyArray, " m"]


def top_k(scores: Float[Array, "b items"], n: int) -> tuple[Float[Array, "b n"], Int[Array, "b n"]]:
    """The `n` largest scores of each row and where they are, best first: `lax.top_k`, faster for many items.

    Exact, in two stages: an item among the best `n` is in one of the `n` groups with the largest maxima. Ties may be
    broken otherwise than by position.

    Example:
        >>> top_k(jnp.array([[1.0, 3.0, 2.0]]), 2)[1]
        Array([[1, 2]], dtype=int32)
    """
    b, size = scores.shape
    if size % GROUP or size < 4 * n * GROUP:
        values, at = lax.top_k(scores, n)
        return values, at
    groups = scores.reshape(b, size // GROUP, GROUP)
    _, best = lax.top_k(groups.max(2), n)
    values, at = lax.top_k(jnp.take_along_axis(groups, best[:, :, None], 1).reshape(b, n * GROUP), n)
    return values, jnp.take_along_axis(best, at // GROUP, 1) * GROUP + at % GROUP


@partial(jax.jit, static_argnames=("n", "mesh"))
def best(
    score: Partial,
    users: Int[AnyArray, "g b"],
    masks: Mask,
    starts: Int[AnyArray, " h"],
    items: PyTree,
    n: int,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "g b n"], Int[Array, "g b n"]]:
    """The `n` largest scores of each user and the positions of their items.

    Args:
        score: A function of (users, a block of items) that gives scores (`b`, `size`).
        users: Blocks of users.
        masks: What each of them leaves out; positions are among all items.
        starts: Position of the first item of each block of items.
        items: Blocks of items, as `score` takes them.
        n: Items a user, no more than there are.
        mesh: Devices over which the blocks of users are divided.
    """
    g, whole = len(users), (score, starts, items)
    more = [(0, sharding.parts(g, mesh) - g), (0, 0)]
    cut = jax.tree.map(lambda x: jnp.pad(x, more), (users, masks))
    found = sharding.cut(partial(_best, n=n), mesh, "users")(whole, cut)
    return jax.tree.map(lambda x: x[:g], found)


def _best(
    whole: tuple[Partial, Int[AnyArray, " h"], PyTree], cut: tuple[Int[AnyArray, "g b"], Mask], n: int
) -> tuple[Float[Array, "g b n"], Int[Array, "g b n"]]:
    """`best` on one device."""
    (score, starts, items), (users, masks) = whole, cut

    def of_items(given: tuple) -> tuple:
        start, block = given

        def of_users(given: tuple) -> tuple:
            rows, mask = given
            scores = score(rows, block)
            size = scores.shape[1]
            column = jnp.where(mask.position < start, size, mask.position - start)  # dropped, as those past the end are
            values, at = top_k(scores.at[mask.row, column].set(-jnp.inf, mode="drop"), min(n, size))
            return values, at + start

        # Users within items: a block of items is cut out once a call, and not once a block of users.
        return lax.map(of_users, (users, masks))

    with jax.default_matmul_precision("highest"):  # a ranking is exact on every device
        found = lax.map(of_items, (starts, items))
    values, at = (jnp.moveaxis(x, 0, 2).reshape(*users.shape, -1) for x in found)
    values, chosen = lax.top_k(values, n)
    return values, jnp.take_along_axis(at, chosen, -1)


def block_size(n_items: int) -> int:
    """Items a block: as few blocks as `ITEMS` allows, evenly filled, of whole groups."""
    even = -(-n_items // max(1, -(-n_items // ITEMS)))
    return max(1, -(-even // GROUP)) * GROUP if even > GROUP else max(1, even)


def user_blocks(
    users: Int[np.ndarray, " users"], seen: Ratings, position: Int[np.ndarray, " items"]
) -> Iterator[tuple[Int[np.ndarray, "g b"], Mask, slice]]:
    """Users in blocks of few shapes, what each block leaves out, and which of `users` they are.

    Args:
        users: User rows.
        seen: What is left out: the items of each user's ratings.
        position: Position of each item row among the items that are scored; past their end where it is none of them.
    """
    b = min(USERS, _power(len(users)))
    asked = np.zeros(max(seen.n_users, int(users.max(initial=0)) + 1), bool)
    asked[users] = True
    theirs = np.flatnonzero(asked[seen.user])
    items = position[seen.item[theirs[np.argsort(seen.user[theirs], kind="stable")]]]
    count = np.bincount(seen.user[theirs], minlength=len(asked))
    first = np.cumsum(count) - count
    most = np.add.reduceat(count[users], np.arange(0, len(users), b)).max(initial=0) if len(users) else 0
    room = max(SEEN, rung(int(most)))
    for start in range(0, len(users), b * BLOCKS):
        rows = users[start : start + b * BLOCKS]
        g = _power(-(-len(rows) // b))
        blocks = np.zeros(g * b, np.int32)
        blocks[: len(rows)] = rows
        yield blocks.reshape(g, b), _mask(rows, count, first, items, g, b, room), slice(start, start + len(rows))


def _mask(rows: np.ndarray, count: np.ndarray, first: np.ndarray, items: np.ndarray, g: int, b: int, room: int) -> Mask:
    n = count[rows]
    owner = np.repeat(np.arange(len(rows)), n)
    block = owner // b
    slot = np.arange(len(owner)) - np.searchsorted(block, np.arange(g))[block]
    mask = Mask(np.full((g, room), b, np.int32), np.zeros((g, room), np.int32))
    mask.row[block, slot] = owner % b
    mask.position[block, slot] = items[ranges(first[rows], n)]
    return mask


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(0, math.ceil(math.log2(max(1, n))))
