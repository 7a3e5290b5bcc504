"""The living model: events go in, are kept, and change what comes out."""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxmf.keeping.checkpoint import Checkpoint, read, write
from jaxmf.keeping.files import sensible
from jaxmf.live.events import Event, Id, parse
from jaxmf.live.log import Log, Refused
from jaxmf.live.state import State
from jaxmf.serving import shapes
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommender import Recommender

KIND = "live"
EVERY = 1024
"""Batches between two checkpoints."""


class Ack(NamedTuple):
    """What became of an event.

    Attributes:
        id: The event's id; `None` where it had none that makes sense.
        status: "learnt": it is on disk, and in the model. "known": it was already. "refused": it is no event, or not
            one for this model, and is kept beside the log.
        reason: Why it was refused.
    """

    id: str | None
    status: Literal["learnt", "known", "refused"]
    reason: str = ""


class Scored(NamedTuple):
    """An item and its predicted rating."""

    item: Id
    score: float


class Live:
    """A model that learns from events one by one, in a folder of its own; one process writes.

    An event is acknowledged once it is on disk. A process that dies loses nothing of those: `open` reads the last
    checkpoint and learns the batches since, to the same state bit for bit.

    Every method may be called from any thread. An update changes tables in place, in one step that readers wait for.

    Not yet for data that matter. That nothing is lost holds where one process opens the folder, with the log and the
    `every` that it was made with, and no update and no write fails half-way; nothing checks these. A departure costs
    all that there is. Where the first item departs from a model of a kernel other than the logistic, its rows become
    NaN, and so they do from numbers near the end of float32's range.
    """

    def __init__(self, folder: str | os.PathLike, state: State, log: Log, *, every: int = EVERY) -> None:
        """Of parts that belong together; see `create` and `open`."""
        self._folder, self._state, self._log, self._every = Path(folder), state, log, every
        self._writing, self._lock = threading.Lock(), threading.RLock()

    def __repr__(self) -> str:
        with self._lock:
            state = self._state
            counts = f"{len(state.user.ids.row):,} users, {len(state.item.ids.row):,} items, {len(state.user.ledger):,}"
            events = "clicks" if state.clicked else "ratings"
            return f"<Live: {counts} {events}; batch {state.batch:,}, in {self._folder}>"

    @classmethod
    def create(
        cls, folder: str | os.PathLike, start: Recommender, *, url: str | None = None, every: int = EVERY
    ) -> "Live":
        """A model that starts as a recommender, with the history that it has.

        Args:
            folder: Where it is to live: a new or empty folder.
            start: What it starts from; it is not changed.
            url: The database of the log, as SQLAlchemy names it; else a SQLite file in the folder.
            every: Batches between two checkpoints.

        Raises:
            ValueError: If there is something in the folder, the log has events, or the recommender has no history.
            ImportError: If SQLAlchemy or Orbax is not installed.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty: open what lives there, or name another folder")
        state = State(start)
        folder.mkdir(parents=True, exist_ok=True)
        log = Log(_url(folder, url))
        if log.last:
            log.close()
            raise ValueError(f"the log has {log.last} batches already: it belongs to another model")
        made = cls(folder, state, log, every=every)
        made.save()
        return made

    @classmethod
    def open(cls, folder: str | os.PathLike, *, url: str | None = None, every: int = EVERY) -> "Live":
        """The model that lives in a folder, as it was when its last event was acknowledged.

        Raises:
            ValueError: If there is none, or its checkpoint was truncated or altered.
            ImportError: If SQLAlchemy or Orbax is not installed.
        """
        folder = Path(folder)
        state = _loaded(folder / "checkpoint")
        opened = cls(folder, state, Log(_url(folder, url)), every=every)
        for batch, events in opened._log.batches(after=state.batch):
            opened._learn(batch, events)
        opened._purge(opened._log.departed())
        return opened

    def tell(self, documents: Sequence[Mapping[str, Any]]) -> list[Ack]:
        """Learn events, all that can be learnt as one batch; returns what became of each once they are on disk.

        An event is a mapping that `jaxmf.live.events.parse` reads. One that is no event stops none of the others.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the log can't be written. Nothing was learnt then.
        """
        with self._writing:
            acks, events, refused = self._sorted(documents)
            batch = self._log.append(events, refused)
            if batch is not None:
                self._learn(batch, events)
                gone = [event.user for event in events if event.kind == "user" and event.user is not None]
                self._purge(gone)
            return acks

    def recommend(self, user: Id, n: int = 10, *, exclude_seen: bool = True) -> list[Scored]:
        """The `n` items with the highest predictions for a user; a stranger's are those of a row at the prior mean."""
        with self._lock:
            state = self._state
            row = state.user.ids.row.get(user, -1)
            rows = np.array([row], np.int32)
            seen = state.user.ledger.ratings(rows, len(state.item.ids.of_row)) if row >= 0 and exclude_seen else None
            found = shapes.best(Layered.of(state.model), rows, n=n, seen=seen)
            shown = np.isfinite(found.score[0])
            return [
                Scored(state.item.ids.of_row[item], float(score))
                for item, score in zip(found.item[0][shown], found.score[0][shown], strict=True)
            ]

    def recommender(self) -> Recommender:
        """What the model is now, as a recommender of its own that never changes: O(all)."""
        with self._lock:
            return self._state.recommender()

    def save(self) -> None:
        """Save a checkpoint, from which an `open` has less to learn."""
        with self._writing:
            self._save()

    def close(self) -> None:
        """Save, and let go of the log."""
        self.save()
        self._log.close()

    @property
    def refused(self) -> list[Refused]:
        """What was no event for this model, and why."""
        return self._log.refused()

    def _sorted(self, documents: Sequence[Mapping[str, Any]]) -> tuple[list[Ack], list[Event], list[Refused]]:
        """What becomes of each document: the events to be learnt, and what is refused."""
        acks, events, refused = [], [], []
        named = [document.get("id") for document in documents if isinstance(document, Mapping)]
        known = self._log.known([name for name in named if isinstance(name, str)])
        for document in documents:
            try:
                event = parse(document)
                if event.id not in known:
                    self._state.admit(event)
            except ValueError as error:
                name = document.get("id") if isinstance(document, Mapping) else None
                acks.append(Ack(name if isinstance(name, str) else None, "refused", str(error)))
                refused.append(Refused(document, str(error)))
                continue
            acks.append(Ack(event.id, "known" if event.id in known else "learnt"))
            if event.id not in known:
                known.add(event.id)
                events.append(event)
        return acks, events, refused

    def _learn(self, batch: int, events: Sequence[Event]) -> None:
        with self._lock:
            self._state.learn(batch, events)
        if batch % self._every == 0:
            self._save()

    def _save(self) -> None:
        with self._lock:
            self._state = self._state.settle()
            found = _checkpoint(self._state)
        write(self._folder / "checkpoint", found)

    def _purge(self, users: Sequence[Id]) -> None:
        """Leave nothing of users who left, in no file: first a state that does without their events is saved."""
        if users:
            self._save()
            self._log.purge(users)


def _url(folder: Path, url: str | None) -> str:
    return f"sqlite:///{folder.absolute() / 'events.db'}" if url is None else url


def _checkpoint(state: State) -> Checkpoint:
    """A state as a recommender's checkpoint, with what else it is."""
    arrays, documents = state.recommender().contents()
    arrays["live.pending"] = state.pending()
    return Checkpoint(KIND, arrays, documents | {"live": {"batch": state.batch}})


def _loaded(path: Path) -> State:
    _, arrays, documents = read(path, KIND)
    with sensible(path):
        like = Recommender.of_contents(arrays, documents)
        return State(like, int(documents["live"]["batch"]), arrays["live.pending"])
