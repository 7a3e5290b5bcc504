"""What a living model knows, changed in place: an event costs the ratings of the rows that it touches.

Tables have room to grow, and rows are written where they are; ratings lie in ledgers by user and by item. What the
state is follows from what it was and the batches since, bit for bit.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from jaxmf.data.histories import CACHED_PAGES, blocks, packed_row
from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary, kind
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.live.events import Event
from jaxmf.live.ledger import Ledger
from jaxmf.live.mood import Mood
from jaxmf.live.sides import Ids, Side, leave, numbered, renumbered
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.online.update import check_given, check_priors, on_device, unstack, update, update_user
from jaxmf.serving import models
from jaxmf.serving.layered import Layered, room
from jaxmf.serving.recommender import Recommender

SHARE = 1 / 16
"""Share of an item's ratings that may change before its row is solved again: it then costs the same an event, however
many ratings it has, and hardly moves in between."""


class State:
    """A model, its ids and its ratings.

    Attributes:
        model: The model, its tables with room to grow.
        user: The users.
        item: The items.
        batch: The last batch that it has learnt.
        fitted: Ratings that changed since the model was fitted as a whole.
        hidden: Which rows of items are spare, or have gone.
        mood: How the users rate just now; of clicks nobody has one.
        noise: Variance of a point model's noise, measured then; 0 for what tells its own, and for clicks.
        scale: Smallest and largest rating seen.
        columns: Names of the frames' columns, for the recommenders that it is made into.
        library: The frames' library, likewise.
        measured: The noise as the recommender that it began as had it `measured`, likewise.
    """

    def __init__(
        self,
        like: Recommender,
        *,
        pending: Int[np.ndarray, " items"] | None = None,
        noise: float | None = None,
        mood: Mood | None = None,
        batch: int = 0,
        fitted: int = 0,
    ) -> None:
        """From a recommender and its whole history, with what is `pending` of its items, and else what is known.

        Raises:
            ValueError: If the recommender has no history of some rows, or priors that can't be.
        """
        if any(like.frozen):
            raise ValueError("the recommender was made without its history: fit it with keep_history=True")
        check_priors(like.model)  # once: what is learnt later changes none of them
        ratings = like.ratings
        self.batch, self.fitted = batch, fitted
        self.scale, self.columns, self.library, self.measured = like.scale, like.columns, like.library, like.measured
        self.noise = _noise(like) if noise is None else noise
        self.mood = mood or Mood(len(like.users))
        sides = ((like.users, ratings), (like.items, ratings.transpose()))
        self.user, self.item = (
            Side(Ids(known.index.tolist()), Ledger(len(known), given), np.zeros(len(known), np.int32))
            for known, given in sides
        )
        if pending is not None:
            self.item.changes[:] = pending
        self.model = _on_host(like.model)
        self.hidden = np.zeros(len(like.items), bool)
        self._make_room()
        self.model = _on_device(self.model)
        if self.clicked:
            self.model = self.model.replace(params=self.model.params.counted())
        self._beside = Layered.of(self.model)

    @property
    def clicked(self) -> bool:
        """Whether it is of clicks."""
        return isinstance(self.model.kernel, Clicks)

    def admit(self, event: Event, kinds: dict[str, str]) -> None:
        """Refuse an event that it could not learn, before anything is changed.

        Args:
            event: The event.
            kinds: Kinds of the ids of users and items in the events before it, to which its own are added.

        Raises:
            ValueError: If the event is of another kind than the model's, its rating outside the scale, or an id of
                another kind than the rest.
        """
        tells = event.kind in ("rating", "click")
        if tells and self.clicked != (event.kind == "click"):
            raise ValueError(f"a model of {'clicks' if self.clicked else 'ratings'} learns no {event.kind}")
        if tells:
            check_given(self.model, np.float32([event.rating]), np.float32([event.weight]))
        found = {}
        for name, ids in (("user", self.user.ids), ("item", self.item.ids)):
            given = getattr(event, name)
            if given is None:
                continue
            found[name] = kind(given)
            if (known := ids.kind or kinds.get(name)) not in (None, found[name]):
                raise ValueError(f"{name} {given!r:.80} is of kind {found[name]}, the known ids of {known}")
        if tells:
            kinds |= found

    def learn(self, batch: int, events: Sequence[Event]) -> Float[np.ndarray, " n"]:
        """Learn a batch: its items' rows, where enough has changed, and then its users' are solved.

        Returns by how much each of its ratings was above what was expected of it.
        """
        rated = [] if self.clicked else [event for event in events if event.kind == "rating"]
        errors, missed = self._errors(rated)
        users, items = self._told(events)
        for event, error in zip(rated, errors, strict=True):
            if (row := self.user.ids.row.get(event.user)) is not None:
                self.mood.learn(row, error, event.weight)
        due = items[self.item.changes[items] >= SHARE * self.item.ledger.count[items]]
        self._solve(self.item, self.user, due, items=True)
        self._solve(self.user, self.item, users, items=False)
        self.fitted += len(events)
        self.batch = batch
        return missed

    def settle(self) -> "State":
        """The state that whoever saves it and reads it again finds; itself where that is the same, else O(all).

        Rows that have gone are left out, and what is kept by differences is counted anew.
        """
        sides = self.user, self.item
        if not self.clicked and all(len(side.ids.row) == len(side.ids.of_row) for side in sides):
            return self
        mood = self.mood.take(self.user.ids.there())
        known = {"pending": self.pending(), "noise": self.noise, "mood": mood}
        return State(self.recommender(), batch=self.batch, fitted=self.fitted, **known)

    def pending(self) -> Int[np.ndarray, " items"]:
        """How many ratings of each item have changed since its row was solved."""
        return self.item.changes[self.item.ids.there()]

    def of_users(self, rows: ArrayLike) -> Ratings:
        """The ratings of these users, in the numbers of the tables."""
        return numbered(self.user, self.item, rows)

    def of_items(self, rows: ArrayLike) -> Ratings:
        """The ratings of these items, likewise."""
        return numbered(self.item, self.user, rows).transpose()

    def layered(self) -> Layered:
        """The model as predictions are made from it."""
        return self._beside.replace(model=self.model)

    def shown(self) -> Layered:
        """The model as lists are made from it: spare items, and those that have gone, have a bias of −∞."""
        item = self.model.params.item
        shown = item.replace(bias=_shown(item.bias, self.hidden))
        return self._beside.replace(model=self.model.transpose().with_users(shown).transpose())

    def recommender(self) -> Recommender:
        """What it is now, as a recommender of its own; O(all), and nothing is compiled."""
        users, items = self.user.ids.there(), self.item.ids.there()
        n_items = len(self.item.ids.of_row)
        ratings = self.user.ledger.ratings(users, n_items)
        place = np.full(n_items, -1, np.int32)
        place[items] = np.arange(len(items))
        ratings = ratings.replace(item=place[ratings.item], n_items=len(items))
        model = _on_host(self.model).take_users(users).transpose().take_users(items).transpose()
        known_users, known_items = (
            Vocabulary([side.ids.of_row[row] for row in rows])
            for side, rows in ((self.user, users), (self.item, items))
        )
        return Recommender(
            Layered.of(_on_device(model)),
            known_users,
            known_items,
            History(ratings),
            self.columns,
            self.scale,
            library=self.library,
            measured=self.measured,
        )

    def _errors(self, events: Sequence[Event]) -> tuple[list[float], Float[np.ndarray, " n"]]:
        """By how much each rating is above what the model alone predicts, and above that with the user's mood."""
        user = self.user.ids.rows(event.user for event in events)
        item = self.item.ids.rows(event.item for event in events)
        predicted, rating = models.predict(self.layered(), user, item), np.float32([event.rating for event in events])
        expected = np.clip(predicted + self.mood.expected(user), *self.scale)
        return (rating - np.clip(predicted, *self.scale)).tolist(), rating - expected

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
            return leave(self.user, self.item, event.user)
        if event.kind == "item":
            items, users = leave(self.item, self.user, event.item)
            self.hidden[list(items)] = True
            return users, items
        if event.kind == "removal":
            user, item = self.user.ids.row.get(event.user), self.item.ids.row.get(event.item)
            if user is None or item is None or not self.user.ledger.remove(user, item):
                return (), ()
            self.item.ledger.remove(item, user)
        else:
            user, item = self.user.ids.add(event.user), self.item.ids.add(event.item)
            self._make_room()
            self.hidden[item] = False
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
                for block in unstack(renumbered(stack, rows)):
                    table = update(table, frozen, block)
        model = model.with_users(table).advanced()
        side.changes[rows] = 0
        self.model = model.transpose() if items else model

    def _make_room(self) -> None:
        """Room for twice the rows, where there is too little for one more: a stranger has a row, after the last."""
        sizes = {name: len(side.ids.of_row) for name, side in (("user", self.user), ("item", self.item))}
        held = {name: getattr(self.model.params, name).bias.shape[-1] for name in sizes}
        rooms = {name: max(held[name], room(size + 1)) for name, size in sizes.items()}
        for side, name in ((self.user, "user"), (self.item, "item")):
            side.grow(rooms[name])
        self.mood.grow(rooms["user"])
        more = rooms["item"] - len(self.hidden)
        if more > 0:
            self.hidden = np.pad(self.hidden, (0, more), constant_values=True)
        if rooms != held:
            self.model = self.model.grown(rooms["user"], rooms["item"])
            self._beside = Layered.of(self.model)


def _on_host(model: Model | Posterior) -> Model | Posterior:
    """The model's arrays on the host, where to take or add rows of ever new numbers compiles nothing; its key stays.

    A process has room for some thousands of compiled programs, and a living model is saved more often.
    """

    def moved(x: object) -> object:
        plain = isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(x) if plain else x

    return jax.tree.map(moved, model)


def _on_device(model: Model | Posterior) -> Model | Posterior:
    """The model's arrays on the device; a prior's plain numbers stay, which are compared with every request."""
    return jax.tree.map(lambda x: jnp.array(x) if isinstance(x, np.ndarray) else x, model)


@jax.jit
def _shown(bias: Float[Array, "*draws items"], hidden: Bool[AnyArray, " items"]) -> Float[Array, "*draws items"]:
    return jnp.where(hidden, -jnp.inf, bias)


def _noise(like: Recommender) -> float:
    """What `State.noise` says."""
    return like.noise if isinstance(like.model, Model) and len(like.history) and not like.clicked else 0.0
