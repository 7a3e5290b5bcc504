"""What a living model knows, changed in place: an event costs the ratings of the rows that it touches.

Tables have room to grow, and rows are written where they are; ratings lie in ledgers by user and by item. What the
state is follows from what it was and the batches since, bit for bit.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxmf.data.histories import CACHED_PAGES, PADDING, Block, blocks, packed_row
from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary, kind
from jaxmf.live.events import Event, Id
from jaxmf.live.ledger import Ledger
from jaxmf.model.kernels import Clicks
from jaxmf.model.posterior import Posterior
from jaxmf.online.update import check_given, on_device, unstack, update, update_user
from jaxmf.serving.layered import Layered, room
from jaxmf.serving.recommender import Recommender

SHARE = 1 / 16
"""Share of an item's ratings that may change before its row is solved again: it then costs the same an event, however
many ratings it has, and hardly moves in between."""

ALL = np.iinfo(np.int32).max // 2
"""Changes of a row that has to be solved again."""


class Ids:
    """Ids and their rows, of which some may have gone."""

    def __init__(self, ids: Iterable[Id | None] = ()) -> None:
        """In row order; `None` where one has gone."""
        self.of_row = list(ids)
        self.row: dict[Id | None, int] = {name: row for row, name in enumerate(self.of_row) if name is not None}
        self.kind = next((kind(name) for name in self.row), None)

    def admit(self, side: str, name: Id | None) -> None:
        """Take an id's kind for that of all, where it is the first.

        Raises:
            ValueError: If it is of another kind than the rest.
        """
        if name is None:
            return
        if self.kind not in (None, kind(name)):
            raise ValueError(f"{side} {name!r:.80} is of kind {kind(name)}, the known ids of {self.kind}")
        self.kind = kind(name)

    def add(self, name: Id | None) -> int:
        """The id's row, a new one where it has none."""
        row = self.row.setdefault(name, len(self.of_row))
        if row == len(self.of_row):
            self.of_row.append(name)
        return row

    def drop(self, name: Id | None) -> int | None:
        """Forget an id; returns the row that it had."""
        row = self.row.pop(name, None)
        if row is not None:
            self.of_row[row] = None
        return row

    def there(self) -> Int[np.ndarray, " n"]:
        """The rows that have an id."""
        return np.flatnonzero([name is not None for name in self.of_row])


@dataclasses.dataclass
class Side:
    """The users' or the items' ids and ratings, and how many ratings of each row changed since it was solved."""

    ids: Ids
    ledger: Ledger
    changes: Int[np.ndarray, " rows"]

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        self.ledger.grow(rows)
        self.changes = np.pad(self.changes, (0, max(0, rows - len(self.changes))))


class State:
    """A model, its ids and its ratings.

    Attributes:
        model: The model, its tables with room to grow; spare items have a bias of −∞, with which nobody is shown them.
        user: The users.
        item: The items.
        batch: The last batch that it has learnt.
        scale: Smallest and largest rating seen.
        columns: Names of the frames' columns, for the recommenders that it is made into.
        library: The frames' library, likewise.
    """

    def __init__(self, like: Recommender, batch: int = 0, pending: Int[np.ndarray, " items"] | None = None) -> None:
        """From a recommender and its whole history, the last batch in it, and what is `pending` of its items.

        Raises:
            ValueError: If the recommender has no history of some rows.
        """
        if any(like.frozen):
            raise ValueError("the recommender was made without its history: fit it with keep_history=True")
        ratings = like.ratings
        self.batch, self.scale, self.columns, self.library = batch, like.scale, like.columns, like.library
        sides = ((like.users, ratings), (like.items, ratings.transpose()))
        self.user, self.item = (
            Side(Ids(known.index.tolist()), Ledger(len(known), given), np.zeros(len(known), np.int32))
            for known, given in sides
        )
        if pending is not None:
            self.item.changes[:] = pending
        self.model = jax.tree.map(jnp.array, like.model)
        self._make_room()

    @property
    def clicked(self) -> bool:
        """Whether it is of clicks."""
        return isinstance(self.model.kernel, Clicks)

    def admit(self, event: Event) -> None:
        """Refuse an event that it could not learn, before anything is changed.

        Raises:
            ValueError: If the event is of another kind than the model's, its rating outside the scale, or an id of
                another kind than the rest.
        """
        if event.kind in ("rating", "click"):
            if self.clicked != (event.kind == "click"):
                raise ValueError(f"a model of {'clicks' if self.clicked else 'ratings'} learns no {event.kind}")
            check_given(self.model, np.float32([event.rating]), np.float32([event.weight]))
        self.user.ids.admit("user", event.user)
        self.item.ids.admit("item", event.item)

    def learn(self, batch: int, events: Sequence[Event]) -> None:
        """Learn a batch: its items' rows, where enough has changed, and then its users' are solved."""
        users, items = self._told(events)
        due = items[self.item.changes[items] >= SHARE * self.item.ledger.count[items]]
        self._solve(self.item, self.user, due, items=True)
        self._solve(self.user, self.item, users, items=False)
        self.batch = batch

    def settle(self) -> "State":
        """The state that whoever saves it and reads it again finds; itself where that is the same, else O(all).

        Rows that have gone are left out, and what is kept by differences is counted anew.
        """
        sides = self.user, self.item
        if not self.clicked and all(len(side.ids.row) == len(side.ids.of_row) for side in sides):
            return self
        return State(self.recommender(), self.batch, self.pending())

    def pending(self) -> Int[np.ndarray, " items"]:
        """How many ratings of each item have changed since its row was solved."""
        return self.item.changes[self.item.ids.there()]

    def recommender(self) -> Recommender:
        """What it is now, as a recommender of its own; O(all)."""
        users, items = self.user.ids.there(), self.item.ids.there()
        n_items = len(self.item.ids.of_row)
        ratings = self.user.ledger.ratings(users, n_items)
        place = np.full(n_items, -1, np.int32)
        place[items] = np.arange(len(items))
        ratings = ratings.replace(item=place[ratings.item], n_items=len(items))
        model = self.model.take_users(users).transpose().take_users(items).transpose()
        known_users, known_items = (
            Vocabulary([side.ids.of_row[row] for row in rows])
            for side, rows in ((self.user, users), (self.item, items))
        )
        return Recommender(
            Layered.of(jax.tree.map(jnp.array, model)),
            known_users,
            known_items,
            History(ratings),
            self.columns,
            self.scale,
            library=self.library,
        )

    def _told(self, events: Sequence[Event]) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " c"]]:
        """Write the events into the ledgers; returns the users and items that they touch."""
        touched: tuple[dict[int, None], dict[int, None]] = ({}, {})
        for event in events:
            for side, rows in zip(touched, self._write(event), strict=True):
                side.update(dict.fromkeys(rows))
        users, items = (np.fromiter(sorted(side), np.int32, len(side)) for side in touched)
        return users, items

    def _write(self, event: Event) -> tuple[Sequence[int], Sequence[int]]:
        """Write one event into the ledgers; returns the users and items that it touches."""
        if event.kind == "user":
            return _leave(self.user, self.item, event.user)
        if event.kind == "item":
            items, users = _leave(self.item, self.user, event.item)
            return users, items
        if event.kind == "removal":
            user, item = self.user.ids.row.get(event.user), self.item.ids.row.get(event.item)
            if user is None or item is None or not self.user.ledger.remove(user, item):
                return (), ()
            self.item.ledger.remove(item, user)
        else:
            user, item = self.user.ids.add(event.user), self.item.ids.add(event.item)
            self._make_room()
            rating, weight = float(np.float32(event.rating)), event.weight
            self.user.ledger.put(user, item, rating, weight, add=self.clicked)
            self.item.ledger.put(item, user, rating, weight, add=self.clicked)
            self.scale = (min(self.scale[0], rating), max(self.scale[1], rating))
        self.item.changes[item] += 1
        return (user,), (item,)

    def _solve(self, side: Side, other: Side, rows: Int[np.ndarray, " b"], *, items: bool) -> None:
        """Solve rows of a side from all their ratings, and write them where they are."""
        if not len(rows):
            return
        model = self.model.transpose() if items else self.model
        table, frozen = model.params.user, on_device(model.frozen())
        ratings = side.ledger.ratings(rows, len(other.ids.of_row))
        if len(rows) == 1 and not isinstance(model, Posterior):
            packed = packed_row(ratings.item, ratings.rating, ratings.weight)
            table = update_user(table, frozen, np.int32(rows[0]), packed)
        else:
            for stack in blocks(ratings, pages=CACHED_PAGES, ladder=True):
                for block in unstack(_renumbered(stack, rows)):
                    table = update(table, frozen, block)
        model = model.with_users(table).advanced()
        side.changes[rows] = 0
        self.model = model.transpose() if items else model
        if items:
            self._hide(rows[[self.item.ids.of_row[row] is None for row in rows]])

    def _make_room(self) -> None:
        """Room for twice the rows, where there is too little."""
        sizes = {name: len(side.ids.of_row) for name, side in (("user", self.user), ("item", self.item))}
        held = {name: getattr(self.model.params, name).bias.shape[-1] for name in sizes}
        rooms = {name: max(held[name], room(size)) for name, size in sizes.items()}
        for side, name in ((self.user, "user"), (self.item, "item")):
            side.grow(rooms[name])
        if rooms != held:
            self.model = self.model.grown(rooms["user"], rooms["item"])
            self._hide(np.arange(held["item"], rooms["item"]))

    def _hide(self, items: Int[np.ndarray, " n"]) -> None:
        """Show these items to nobody."""
        if len(items):
            params = self.model.params
            hidden = params.item.replace(bias=params.item.bias.at[..., items].set(-jnp.inf))
            self.model = self.model.transpose().with_users(hidden).transpose()


def _leave(side: Side, other: Side, name: Id | None) -> tuple[Sequence[int], Sequence[int]]:
    """One of a side goes; returns its row, and those of the other side who lose a rating."""
    row = side.ids.drop(name)
    if row is None:
        return (), ()
    theirs = side.ledger.of(row)["other"].tolist()
    for of_other in theirs:
        other.ledger.remove(of_other, row)
    other.changes[theirs] = ALL  # they are solved again at once, whatever their number
    side.ledger.clear(row)
    side.changes[row] = ALL
    return (row,), theirs


def _renumbered(stack: Block, rows: Int[np.ndarray, " b"]) -> Block:
    """The stack with the numbers that its rows have in their table."""
    real = stack.rows < len(rows)
    return stack.replace(rows=np.where(real, rows[np.where(real, stack.rows, 0)], PADDING).astype(np.int32))
