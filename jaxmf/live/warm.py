"""What requests will run, compiled before anybody waits for it: on copies, so that nothing is changed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmf.data.histories import PADDING, WIDTHS, Block, ladder_shapes, packed_row, rung
from jaxmf.data.ratings import Ratings
from jaxmf.live.answers import AT_ONCE, PAIRS, RATINGS, SHORT, strangers
from jaxmf.live.state import State
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.online.laplace import leverage
from jaxmf.online.update import on_device, update, update_user
from jaxmf.serving import models, neighbours, shapes
from jaxmf.serving.explain import explain
from jaxmf.serving.layered import zeros
from jaxmf.serving.top import SEEN


class Limits(NamedTuple):
    """The largest requests that are expected.

    Attributes:
        events: Events of a batch.
        ratings: Ratings of a session.
        items: Items whose ratings are predicted.
        n: Length of a list.
    """

    events: int = 1000
    ratings: int = 500
    items: int = 100
    n: int = 100


def warm(state: State, limits: Limits = Limits()) -> None:
    """Run the programs of all requests within the limits, for tables of the size that they have now.

    Programs for histories of more than twice the longest now are not among them. Costs what compiling them does, up to
    minutes, and seconds where JAX finds them on disk.
    """
    longest = 2 * int(state.user.ledger.count.max(initial=0))
    _solve(state.model, state.user.ledger.count, limits)
    _solve(state.model.transpose(), state.item.ledger.count, limits)
    _list(state, limits, {1: max(longest, limits.ratings), AT_ONCE: RATINGS})
    _strangers(state, limits)
    _predict(state, limits)
    for slots in _slots(longest) if isinstance(state.model, Model) else []:
        explain(state.model, _ratings(state, np.zeros(slots, np.int32)), 0)


def _solve(model: Model | Posterior, count: Int[np.ndarray, " rows"], limits: Limits) -> None:
    """The updates of a model's users, who have so many ratings."""
    frozen, table = on_device(model.frozen()), jax.tree.map(jnp.copy, model.params.user)
    for slots in _slots(2 * int(count.max(initial=0))) if isinstance(model, Model) else []:
        none = np.zeros(slots, np.int32)
        table = update_user(table, frozen, np.int32(PADDING), packed_row(none, none.astype(np.float32), 0.0))
    for width, pages in ladder_shapes(2 * int(count.sum()), limits.events):
        table = update(table, frozen, _empty(width, pages))
    jax.block_until_ready(jax.tree.leaves(table))


def _empty(width: int, pages: int) -> Block:
    """A block without rows."""
    rows, owner = np.full(pages, PADDING, np.int32), np.full(pages, pages - 1, np.int32)
    rating, weight = np.zeros((2, pages, width), np.float32)
    return Block(rows, owner, np.zeros((pages, width), np.int32), rating, weight)


def _strangers(state: State, limits: Limits) -> None:
    """Rows of users who come with their ratings, and their lists, whose program is that of all others from there on."""
    for slots in _slots(limits.ratings):
        given = _ratings(state, np.zeros(slots, np.int32))
        _list(state, Limits(n=1), {1: 1}, strangers(state.model, given))
    if isinstance(state.model, Model):
        frozen, table = state.model.frozen(), jax.tree.map(jnp.asarray, zeros(state.model, AT_ONCE))
        for width, pages in ladder_shapes(RATINGS, AT_ONCE):
            table = update(table, frozen, _empty(width, pages), None)
        _list(state, Limits(n=1), {AT_ONCE: 1}, table)


def _list(state: State, limits: Limits, ratings: dict[int, int], users: Table | None = None) -> None:
    """Lists for so many users at once who have so many ratings together, and those of similar items."""
    shown, hidden, most = state.shown(), np.flatnonzero(state.hidden), max(1, len(state.item.ids.row))
    shown = shown if users is None else shown.replace(model=shown.model.with_strangers(users))
    for n in sorted({rung(max(SHORT, min(some, most))) for some in range(1, limits.n + 1)}):
        for asked, together in ratings.items():
            for seen in sorted({rung(some) for some in range(SEEN, max(SEEN, together) + 1)}):
                shapes.best(shown, np.zeros(asked, np.int32), n=n, seen=_ratings(state, np.zeros(seen, np.int32)))
        if isinstance(state.model, Model):
            neighbours.similar_items(state.model, np.zeros(1, np.int32), n=n, exclude=hidden)


def _predict(state: State, limits: Limits) -> None:
    """Predictions of ratings, and how sure they are."""
    layered, model, most = state.layered(), state.model, max(PAIRS, limits.items)
    for size in (1 << power for power in range((max(most, limits.events) - 1).bit_length() + 1)):
        rows = np.zeros(size, np.int32)
        models.predict(layered, rows, rows)  # of events too, before they are learnt
        if size >= 2 * most:
            continue
        if isinstance(model, Posterior):
            models.spread(layered, rows, rows)
        elif not state.clicked:
            one = _ratings(state, rows[:1])
            leverage(model, one, rows, rows)
            leverage(model.transpose(), one, rows, rows)
    if isinstance(model, Model) and not state.clicked:
        _sure(state, model, state.user.ledger.count, AT_ONCE)
        _sure(state, model.transpose(), state.item.ledger.count, most)


def _sure(state: State, model: Model, count: Int[np.ndarray, " rows"], rows: int) -> None:
    """How sure a model's rows of users are, of whom so many are asked about who have so many ratings."""
    n_users, below = len(model.params.user), 0
    for width, pages in ladder_shapes(2 * int(np.sort(count)[-rows:].sum()), rows):
        below = 0 if pages == 1 else below
        user = _filling(width, below, min(rows, n_users))
        given = _ratings(state, user).replace(item=np.zeros_like(user), n_users=n_users)
        leverage(model, given, np.unique(user), np.zeros_like(np.unique(user)))
        below = pages


def _filling(width: int, below: int, users: int) -> Int[np.ndarray, " n"]:
    """Users of ratings that fill some more than `below` pages of a width; as many as there are, where that is fewer.

    Of the narrow pages a user has a number that wastes much of the wide ones.
    """
    wide, narrow = WIDTHS
    if width == wide:
        return (np.arange((below + 1) * wide) // wide % users).astype(np.int32)
    each = next((pages for pages in (1, 3, 5, 9) if pages * users > below), 9)
    few = min(users, below // each + 1)
    return np.repeat(np.arange(few, dtype=np.int32), narrow * (each - 1) + 1)


def _slots(ratings: int) -> list[int]:
    """The sizes of `packed_row` for up to so many ratings."""
    return [WIDTHS[0] * pages for pages in sorted({rung(some) for some in range(1, ratings // WIDTHS[0] + 2)})]


def _ratings(state: State, user: Int[np.ndarray, " n"]) -> Ratings:
    """A rating for each of these users."""
    n, n_items = len(user), len(state.model.params.item)
    rating: Float[np.ndarray, " n"] = np.full(n, state.scale[1], np.float32)
    return Ratings(user, np.arange(n, dtype=np.int32) % n_items, rating, np.ones_like(rating), 1, n_items)
