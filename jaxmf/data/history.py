"""A history: ratings indexed by user and by item, to which new ones are added without looking at the old.

`jaxmf.data.changes` for one who does it again and again: the same merging and removing, at the cost of what changes.
A history never changes; the one that comes out of a change shares its large arrays with the one that went in.
"""

from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

from jaxmf.data.changes import merge, pairs, rated_pairs
from jaxmf.data.layers import settled
from jaxmf.data.packing import ranges
from jaxmf.data.ratings import Ratings

NONE = np.zeros(0, np.int32)
"""No row."""

COLUMNS = ("user", "item", "rating", "weight")


class Index(NamedTuple):
    """Where the ratings of each row of a side are.

    Attributes:
        rows: The rows that have some, ascending.
        start: Where each row's begin in `order`; the last number is their total.
        order: Positions of ratings, those of a row ascending.
    """

    rows: Int[np.ndarray, " rows"]
    start: Int[np.ndarray, " ends"]
    order: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, rows: Int[np.ndarray, " n"]) -> "Index":
        """The index of ratings by their row; O(n + rows), and where they are few O(n log n)."""
        found, local = np.unique(rows, return_inverse=True) if len(rows) < rows.max(initial=0) else (None, rows)
        n = len(local)
        one_each = np.broadcast_to(np.int8(1), n), local, np.arange(n + 1)
        by_row = scipy.sparse.csr_array(one_each, shape=(n, int(local.max(initial=-1)) + 1)).tocsc()
        some = np.flatnonzero(np.diff(by_row.indptr))
        start = np.append(by_row.indptr[some], n)
        return cls(some if found is None else found, start, by_row.indices)

    def positions(self, rows: Int[np.ndarray, " b"]) -> Int[np.ndarray, " n"]:
        """Positions of the ratings of the `rows`, which differ."""
        if not len(self.rows):
            return NONE
        at = np.searchsorted(self.rows, rows)
        at = at[self.rows[np.minimum(at, len(self.rows) - 1)] == rows]
        first, n = self.start[at], self.start[at + 1] - self.start[at]
        return self.order[ranges(first, n)]


class Layer:
    """Ratings that came together, and pairs that lost theirs: both count before what older layers say of the pair.

    Attributes:
        ratings: A rating a pair.
        gone: Which of them are pairs that have none any more.
    """

    def __init__(self, ratings: Ratings, gone: Bool[np.ndarray, " n"] | None = None) -> None:
        """Read-only from now on."""
        self.ratings = ratings
        self.gone = np.broadcast_to(np.False_, len(ratings)) if gone is None else gone
        for name in COLUMNS:
            getattr(ratings, name).setflags(write=False)

    def __len__(self) -> int:
        return len(self.ratings)

    @cached_property
    def by_user(self) -> Index:
        """Where each user's are."""
        return Index.of(self.ratings.user)

    @cached_property
    def by_item(self) -> Index:
        """Where each item's are."""
        return Index.of(self.ratings.item)

    def take(self, index: np.ndarray) -> "Layer":
        """What is at `index`, positions or a mask."""
        return Layer(self.ratings.take(index), self.gone[index])

    def join(self, newer: "Layer") -> "Layer":
        """Both as one: what is newer comes last, and in place of what is older."""
        if not (len(self) and len(newer)):
            return newer if len(newer) else self
        theirs = self.by_user.positions(np.unique(newer.ratings.user))
        kept = np.ones(len(self), bool)
        kept[theirs[np.isin(_pairs(self.ratings.take(theirs)), _pairs(newer.ratings))]] = False
        left = self.take(kept)
        columns = (np.concatenate([getattr(part.ratings, name) for part in (left, newer)]) for name in COLUMNS)
        both = dict(zip(COLUMNS, columns, strict=True))
        return Layer(newer.ratings.replace(**both), np.concatenate([left.gone, newer.gone]))

    def live(self) -> "Layer":
        """Without the pairs that have no rating."""
        return self.take(~self.gone) if self.gone.any() else self


class History:
    """Ratings, each pair's last, in the order in which they came.

    Attributes:
        n_users: Number of rows that users may have.
        n_items: Likewise.

    Example:
        >>> one = Ratings(np.array([0, 1]), np.array([0, 0]), np.array([3.0, 4.0]), np.ones(2), 2, 1)
        >>> changed = Ratings(np.array([1]), np.array([0]), np.array([5.0]), np.ones(1), 2, 1)
        >>> history = History(one).merged(changed)
        >>> history.ratings.rating, history.of_users([1]).rating
        (array([3., 5.]), array([5.]))
    """

    def __init__(self, ratings: Ratings) -> None:
        """Of these ratings, which become read-only; of a pair there is one, as `jaxmf.ratings.from_frame` sees to.

        Indexing them is put off until it is asked for: O(n), once.
        """
        self._set((Layer(ratings),), len(ratings), ratings.n_users, ratings.n_items)

    def __len__(self) -> int:
        return self._n

    @cached_property
    def ratings(self) -> Ratings:
        """All of them, in one piece: O(n) after a change, once."""
        whole = reduce(Layer.join, self._layers)
        whole = whole.live() if len(self._layers) > 1 else whole
        return whole.ratings.replace(n_users=self.n_users, n_items=self.n_items)

    def of_users(self, rows: ArrayLike) -> Ratings:
        """The ratings of these users: O(their number and log n)."""
        return self.touching(users=rows)

    def of_items(self, rows: ArrayLike) -> Ratings:
        """The ratings of these items: likewise."""
        return self.touching(items=rows)

    def touching(self, *, users: ArrayLike = NONE, items: ArrayLike = NONE) -> Ratings:
        """The ratings of these users and of these items, each once: what `jaxmf.fold_in` solves both from."""
        users, items = (np.unique(np.asarray(rows, np.int32)) for rows in (users, items))
        parts = []
        for layer in self._layers:
            at = layer.by_user.positions(users)
            if len(items):
                at = np.concatenate([at, layer.by_item.positions(items)])
            parts.append(layer.take(np.unique(at)))
        found = reduce(Layer.join, parts).live().ratings
        return found.replace(n_users=self.n_users, n_items=self.n_items)

    def merged(self, new: Ratings, *, add: bool = False) -> "History":
        """The history with `new` ratings, which `add` to the weights of equal ones: `jaxmf.changes.merge`."""
        new = merge(new.take(NONE), new, add=add)
        old = self.of_users(new.user)
        old = old.take(np.isin(_pairs(old), _pairs(new)))
        n = len(self) + len(new) - len(old)
        new = merge(old, new, add=True) if add else new
        return self._with(Layer(new), n, int(max(self.n_users, new.n_users)), int(max(self.n_items, new.n_items)))

    def without(self, user: ArrayLike, item: ArrayLike) -> "History":
        """The history without the ratings of the pairs (`user`, `item`): `jaxmf.changes.remove`.

        Raises:
            ValueError: If one of the pairs has no rating.
        """
        theirs = self.of_users(user)
        known = _pairs(theirs)
        return self._without(theirs.take(np.isin(known, rated_pairs(known, np.asarray(user), np.asarray(item)))))

    def without_users(self, user: ArrayLike) -> "History":
        """The history without the ratings of the `user` rows: `jaxmf.changes.remove_users`."""
        return self._without(self.of_users(user))

    def take_users(self, kept: Int[np.ndarray, " b"]) -> "History":
        """The history of the users `kept`, who are numbered anew in this order; O(n)."""
        place = np.full(self.n_users, -1, np.int32)
        place[kept] = np.arange(len(kept))
        user = place[self.ratings.user]
        theirs = self.ratings.replace(user=user, n_users=len(kept))
        return History(theirs if (user >= 0).all() else theirs.take(user >= 0))

    def _set(self, layers: tuple[Layer, ...], n: int, n_users: int, n_items: int) -> "History":
        self._layers, self._n, self.n_users, self.n_items = layers, n, n_users, n_items
        return self

    @cached_property
    def _settled(self) -> tuple[Layer, ...]:
        """The layers, few and ever smaller: kept, so that all that grow from here share what joining them cost."""
        first, *rest = settled(self._layers, Layer.join)
        return first.live(), *rest

    def _with(self, layer: Layer, n: int, n_users: int, n_items: int) -> "History":
        layers = (*self._settled, layer) if len(layer) else self._layers
        return History.__new__(History)._set(layers, n, n_users, n_items)

    def _without(self, gone: Ratings) -> "History":
        layer = Layer(gone, np.ones(len(gone), bool))
        return self._with(layer, len(self) - len(gone), self.n_users, self.n_items)


def _pairs(ratings: Ratings) -> Int[np.ndarray, " n"]:
    return pairs(ratings.user, ratings.item)
