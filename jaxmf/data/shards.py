"""Ratings dealt out to shards: each user to one, with all of its ratings, and items to all."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxmf.data.histories import PAGES, WASTE, WIDTHS, Block, Side, even_shape, stack_of
from jaxmf.data.layout import Places, Sorted, places
from jaxmf.data.packing import page_width, pages_needed
from jaxmf.data.ratings import Ratings


class Deal(NamedTuple):
    """Which shard each user is dealt to.

    In the table of all shards their users stand one shard after the other, `size` rows each, of which the last may be
    nobody's.

    Attributes:
        row: Each user's row in that table.
        size: Users a shard.
        shards: How many shards there are.
    """

    row: Int[np.ndarray, " users"]
    size: int
    shards: int


def deal(ratings: Ratings, shards: int) -> Deal:
    """As many users to each shard, and about as many ratings.

    Users come in the order of how much they rated, and the shards in turn, there and back again.

    Example:
        >>> ratings = Ratings(np.array([2, 2, 2, 0, 1, 1]), np.arange(6), np.ones(6), np.ones(6), n_users=4, n_items=6)
        >>> deal(ratings, 2).row
        array([3, 2, 0, 1], dtype=int32)
    """
    count = np.bincount(ratings.user, minlength=ratings.n_users)
    turn, place = np.divmod(np.arange(ratings.n_users), shards)
    size = max(1, -(-ratings.n_users // shards))
    row = np.empty(ratings.n_users, np.int32)
    row[np.argsort(-count, kind="stable")] = np.where(turn % 2, shards - 1 - place, place) * size + turn
    return Deal(row, size, shards)


class Stack(NamedTuple):
    """Where rows stand in a stack that has one shape on every shard, and each shard's ratings of them."""

    sides: list[Side]
    at: Places
    shape: tuple[int, int, int, int]

    def of(self, shard: int) -> Block:
        """The stack of one shard."""
        return stack_of([(self.sides[shard], self.at)], self.shape)


def stacks(ratings: Ratings, dealt: Deal, *, pages: int = PAGES, joint: bool = True) -> tuple[list[Stack], list[Stack]]:
    """Both sides' histories on each shard, over a table of its users and then all items, or one each.

    A row has the same place on every shard, with as many pages as the shard needs that has the most of its ratings:
    blocks of items can be summed over all shards, and one program serves all.

    Returns:
        The users' stacks and the items'.

    Memory: 12 bytes a rating above the blocks of a shard.
    """
    (row, size, shards), n_items = dealt, ratings.n_items
    user = row[ratings.user]
    by_user = Sorted.by(user, shards * size)
    wide = np.int32 if shards * n_items <= np.iinfo(np.int32).max else np.int64
    by_item = Sorted.by((user // size).astype(wide) * n_items + np.asarray(ratings.item), shards * n_items)
    of_users = ratings.replace(user=user, n_users=shards * size)
    of_items, after = of_users.transpose(), size if joint else 0
    users = [Side(of_users, by_user, at * size + np.arange(size), -at * size, after) for at in range(shards)]
    items = [
        Side(of_items, by_item, at * n_items + np.arange(n_items), after - at * n_items, -at * size)
        for at in range(shards)
    ]
    width = page_width(np.concatenate([side.counts for side in (*users, *items)]), WIDTHS, WASTE)
    return _stacks(users, width, pages), _stacks(items, width, pages)


def _stacks(sides: list[Side], width: int, pages: int) -> list[Stack]:
    most = np.max([side.counts for side in sides], 0)
    found = places(pages_needed(most, width), pages, PAGES)
    return [Stack(sides, at, (*even_shape(*at.shape), width)) for at in found]
