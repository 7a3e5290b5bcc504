"""What requests will run, compiled before anybody waits for it: on copies, so that nothing is changed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmf.data.histories import PADDING, WIDTHS, Block, ladder_shapes, packed_row, rung
from jaxmf.data.ratings import Ratings
from jaxmf.live.state import State
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.online.fold_in import fold_in_user
from jaxmf.online.laplace import leverage
from jaxmf.online.update import on_device, update, update_user
from jaxmf.serving import models, neighbours, shapes
from jaxmf.serving.explain import explain
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
    _list(state, max(longest, limits.ratings), limits)
    for slots in _slots(limits.ratings):
        few = _ratings(state, np.zeros(slots, np.int32))
        fold_in_user(state.model, few.item, few.rating)
    _predict(state, limits)
    if isinstance(state.model, Model):
        for slots in _slots(longest):
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


def _list(state: State, ratings: int, limits: Limits) -> None:
    """Lists for one who has so many ratings, and those of similar items."""
    shown, one, hidden = state.shown(), np.zeros(1, np.int32), np.flatnonzero(state.hidden)
    for n in sorted({rung(min(some, max(1, len(state.item.ids.row)))) for some in range(1, limits.n + 1)}):
        for seen in sorted({rung(some) for some in range(SEEN, max(SEEN, ratings) + 1)}):
            shapes.best(shown, one, n=n, seen=_ratings(state, np.zeros(seen, np.int32)))
        if isinstance(state.model, Model):
            neighbours.similar_items(state.model, one, n=n, exclude=hidden)


def _predict(state: State, limits: Limits) -> None:
    """Predictions of one user's ratings, and how sure they are."""
    layered, model = state.layered(), state.model
    for size in (1 << power for power in range((limits.items - 1).bit_length() + 1)):
        rows = np.zeros(size, np.int32)
        models.predict(layered, rows, rows)
        if isinstance(model, Posterior):
            models.spread(layered, rows, rows)
        elif not state.clicked:
            leverage(model, _ratings(state, rows[:1]), rows, rows)
            leverage(model.transpose(), _ratings(state, rows[:1]), rows, rows)
    if isinstance(model, Model) and not state.clicked:
        _sure(state, model, state.user.ledger.count, 1)
        _sure(state, model.transpose(), state.item.ledger.count, limits.items)


def _sure(state: State, model: Model, count: Int[np.ndarray, " rows"], rows: int) -> None:
    """How sure a model's rows of users are, of whom so many are asked about who have so many ratings."""
    most = 2 * int(np.sort(count)[-rows:].sum())
    for width, pages in ladder_shapes(most, rows):
        each = width if width == max(WIDTHS) else 1
        user = (np.arange(pages * each) // each % min(rows, len(model.params.user))).astype(np.int32)
        given = _ratings(state, user).replace(n_users=len(model.params.user))
        leverage(model, given.replace(item=np.zeros_like(user)), np.unique(user), np.zeros_like(np.unique(user)))


def _slots(ratings: int) -> list[int]:
    """The sizes of `packed_row` for up to so many ratings."""
    return [WIDTHS[0] * pages for pages in sorted({rung(some) for some in range(1, ratings // WIDTHS[0] + 2)})]


def _ratings(state: State, user: Int[np.ndarray, " n"]) -> Ratings:
    """A rating for each of these users."""
    n, n_items = len(user), len(state.model.params.item)
    rating: Float[np.ndarray, " n"] = np.full(n, state.scale[1], np.float32)
    return Ratings(user, np.arange(n, dtype=np.int32) % n_items, rating, np.ones_like(rating), 1, n_items)
