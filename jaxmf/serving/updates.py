"""How what a recommender holds changes: ratings that come and go, and the rows that are solved again for them.

Each function gives a bundle, of the kind that it was given, which shares with that one what stays the same.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from jaxmf.data import changes
from jaxmf.data.history import NONE, History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Dataset
from jaxmf.model.kernels import check_ratings
from jaxmf.serving.answers import check_history
from jaxmf.serving.bundle import Bundle, Held
from jaxmf.serving.layered import Layered


def folded(known: Held, new: Dataset, *, touched: bool) -> Held:
    """With new ratings, and the rows of their users and new items solved; of known items too where `touched`.

    Args:
        known: What is held.
        new: Ratings beside the known ids.
        touched: Whether known items that were rated are solved again.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or a row to solve has lost its history.
    """
    check_ratings(known.layered.model.kernel, new.ratings.rating)
    users, rated = np.unique(new.ratings.user), np.unique(new.ratings.item)
    items = rated if touched else rated[rated >= len(known.items)]
    for side, rows in zip(known.sides, (users, items), strict=True):
        check_history(side, rows)
    low, high = known.scale
    scale = (min(low, float(new.ratings.rating.min())), max(high, float(new.ratings.rating.max())))
    history = known.history.merged(new.ratings, add=known.clicked)
    return _solved(replace(known, users=new.users, items=new.items, history=history, scale=scale), users, items)


def without_pairs(known: Held, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Held:
    """Without the ratings of these pairs; the rows of both sides solved again.

    Raises:
        ValueError: With the ids of the first pair that has no rating, or of a user whose history was dropped.
    """
    check_history(known.sides.user, user)
    theirs = known.history.of_users(user)
    unrated = ~np.isin(changes.pairs(user, item), changes.pairs(theirs.user, theirs.item))
    if unrated.any():
        at = int(unrated.argmax())
        who, what = (
            side.known.index[[row[at]]].tolist()[0] for side, row in zip(known.sides, (user, item), strict=True)
        )
        raise ValueError(f"user {who!r} has not rated item {what!r}: there is nothing to forget")
    left = replace(known, history=known.history.without(user, item))
    return _solved(left, np.unique(user), _with_history(known, np.unique(item)))


def without_users(known: Held, rows: Int[np.ndarray, " b"]) -> Held:
    """Without the users of `rows` and their ratings; the others are numbered anew, and items that they rated solved.

    Raises:
        ValueError: If nobody would be left.
    """
    kept = np.setdiff1d(np.arange(len(known.users)), rows)
    if not len(kept):
        raise ValueError(f"forgetting {len(rows)} users leaves nobody: keep at least one")
    items = np.unique(known.history.of_users(rows).item)
    left = replace(
        known,
        layered=Layered.of(known.model.take_users(kept)),
        users=Vocabulary(known.users.index[kept]),
        history=known.history.take_users(kept),
        frozen=(int(np.searchsorted(kept, known.frozen[0])), known.frozen[1]),
    )
    return _solved(left, NONE, _with_history(known, items))


def without_history(known: Held) -> Held:
    """Without the ratings: rows stay as they are for good."""
    history = History(known.ratings.take(NONE))
    return replace(known, history=history, frozen=(len(known.users), len(known.items)))


def items_alone(known: Held) -> Held:
    """Without users and ratings."""
    model = known.model
    alone = model.take_users(NONE)
    if known.clicked:  # a stranger is still the average of those who were here
        alone = alone.with_users(alone.params.user.replace(gram=model.params.user.gram))
    layered, history = Layered.of(alone), History(known.ratings.take(NONE).replace(n_users=0))
    return replace(known, layered=layered, users=Vocabulary(), history=history, frozen=(0, len(known.items)))


def _with_history(known: Bundle, items: Int[np.ndarray, " c"]) -> Int[np.ndarray, " c"]:
    return items[items >= known.frozen[1]]


def _solved(known: Held, users: Int[np.ndarray, " b"], items: Int[np.ndarray, " c"]) -> Held:
    """With these rows solved from the history."""
    touched = known.history.touching(users=users, items=items).replace(n_users=len(known.users))
    return replace(known, layered=known.layered.solved(touched, users, items))
