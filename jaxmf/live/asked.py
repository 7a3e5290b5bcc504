"""What may be asked of a living model while it learns."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from jaxmf.live import answers
from jaxmf.live.answers import About, Counts, Predicted, Rated, Reason, Scored
from jaxmf.live.events import Id
from jaxmf.live.state import State
from jaxmf.live.warm import Limits, warm
from jaxmf.serving.recommender import Recommender


class Asked:
    """A state that changes in steps, between which it answers; from any thread."""

    def __init__(self, state: State) -> None:
        self._state, self._lock, self._refusal = state, threading.RLock(), ""

    def __repr__(self) -> str:
        with self._lock:
            about = answers.about(self._state)
        counts = f"{about.users:,} users, {about.items:,} items, {about.ratings:,}"
        return f"<{type(self).__name__}: {counts} {'clicks' if about.clicked else 'ratings'}; batch {about.batches:,}>"

    def recommend(self, user: Id, n: int = 10, *, exclude_seen: bool = True) -> list[Scored]:
        """The `n` items with the highest predictions for a user; a stranger's are those of a row at the prior mean.

        Raises:
            ValueError: If `n` is below 1.
        """
        with self._reading() as state:
            return answers.best(state, [(user, n)], exclude_seen=exclude_seen)[0]

    def session(self, ratings: Mapping[Id, float], n: int = 10) -> list[Scored]:
        """The `n` best items for somebody of whom nothing is known but these ratings, by item; nothing is kept.

        Raises:
            ValueError: If `n` is below 1, an item is not known, or a rating outside the scale.
        """
        with self._reading() as state:
            return answers.of_ratings(state, [(ratings, n)])[0]

    def predict(self, user: Id, items: Sequence[Id]) -> list[Predicted]:
        """What a user would rate these items, and how sure that is; who or what is unknown is at the prior mean."""
        with self._reading() as state:
            return answers.predicted(state, [(user, items)])[0]

    def recommend_each(self, asked: Sequence[tuple[Id, int]]) -> list[list[Scored]]:
        """`recommend` for each user and `n`: several cost little more than one."""
        with self._reading() as state:
            return answers.best(state, asked)

    def session_each(self, asked: Sequence[tuple[Mapping[Id, float], int]]) -> list[list[Scored]]:
        """`session` for each one's ratings and `n`, likewise.

        Raises:
            ValueError: As `session`, where one of them is at fault.
        """
        with self._reading() as state:
            return answers.of_ratings(state, asked)

    def predict_each(self, asked: Sequence[tuple[Id, Sequence[Id]]]) -> list[list[Predicted]]:
        """`predict` for each user and items, likewise."""
        with self._reading() as state:
            return answers.predicted(state, asked)

    def explain(self, user: Id, item: Id) -> list[Reason]:
        """Each rating of a user by what it contributes to the prediction of an item, the largest first.

        Raises:
            ValueError: If either is not known, or the model is a posterior.
        """
        with self._reading() as state:
            return answers.reasons(state, user, item)

    def ratings(self, user: Id) -> list[Rated]:
        """What is known of a user: their ratings, by item in the order in which items came; a stranger has none."""
        with self._reading() as state:
            return answers.rated(state, user)

    def counts(self, items: Sequence[Id] | None = None) -> Counts:
        """How many ratings each of these items has, and of one that is not known none; else of all: O(items)."""
        with self._reading() as state:
            return answers.counts(state, items)

    def about(self) -> About:
        """What the model is: how large, of what ratings and ids, and what it can answer."""
        with self._reading() as state:
            return answers.about(state)

    def similar(self, item: Id, n: int = 10) -> list[Scored]:
        """The `n` items nearest to one by their factors, and how near.

        Raises:
            ValueError: If `n` is below 1, the item is not known, or the model is a posterior.
        """
        with self._reading() as state:
            return answers.alike(state, item, n)

    def warm(self, limits: Limits = Limits()) -> None:
        """Compile all programs of requests within the limits, so that no request waits for that; nothing is changed.

        It takes up to minutes; seconds where JAX keeps compiled programs on disk.
        """
        with self._reading() as state:
            warm(state, limits)

    @property
    def kinds(self) -> dict[str, str | None]:
        """What ids of a "user" and an "item" are, "int" or "str"; `None` where none is known yet. Waits for nothing."""
        return {"user": self._state.user.ids.kind, "item": self._state.item.ids.kind}

    @property
    def broken(self) -> bool:
        """Whether it is closed or an update failed half-way, so that nothing is answered. Waits for nothing."""
        return bool(self._refusal)

    def snapshot(self) -> Recommender:
        """What the model is now, as a recommender of its own that never changes: O(all)."""
        with self._reading() as state:
            return state.recommender()

    @contextmanager
    def _reading(self) -> Iterator[State]:
        with self._lock:
            self._check()
            yield self._state

    def _check(self) -> None:
        if self._refusal:
            raise RuntimeError(self._refusal)
