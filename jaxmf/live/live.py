"""The living model: events go in, are kept, and change what comes out."""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jaxmf.live.asked import Asked
from jaxmf.live.chores import Chores
from jaxmf.live.drift import WINDOW, Drift
from jaxmf.live.events import Event, Id, checked_id
from jaxmf.live.home import Home, Rhythm, Saved, load, save
from jaxmf.live.intake import Ack, sort_out
from jaxmf.live.log import Log, Refused
from jaxmf.live.refit import Behind
from jaxmf.live.state import State
from jaxmf.serving.recommender import Recommender

EVERY = 1024
"""Batches between two checkpoints."""

FORGETTING = "forgetting who left"


class Live(Asked):
    """A model that learns from events one by one, in a folder of its own, which one process has open.

    An event is acknowledged once it is on disk. A process that dies loses nothing of those: `open` reads the last
    checkpoint and learns the batches since, to the same state bit for bit.

    Every method may be called from any thread. An update changes tables in place, in one step that readers wait for.
    An update that fails half-way, as where memory runs out, leaves nothing to go on from: whatever is asked then is
    refused, until the folder is opened again.

    Attributes:
        drift: How far off predictions were, each made before its rating was learnt, since this was opened or took a
            fit over.
    """

    def __init__(self, home: Home, saved: Saved, log: Log) -> None:
        """Of parts that belong together; see `create` and `open`."""
        super().__init__(saved.state)
        self._home, self._log, self._rhythm = home, log, saved.rhythm
        self._writing = threading.RLock()
        self._leaving: set[Id] = set()  # who is still in the checkpoint
        self._purging: dict[Id, int] = {}  # who is still in the log, until which batch
        self._again, self._asked = False, 0  # a fit to begin again, and the events when the last one was called for
        self._behind, self._taken = Behind(home), False
        self._chores = Chores()
        self.drift = Drift()

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike,
        start: Recommender,
        *,
        url: str | None = None,
        every: int = EVERY,
        refit: float = 0.0,
        worse: float = 0.0,
    ) -> "Live":
        """A model that starts as a recommender, with the history that it has.

        Args:
            folder: Where it is to live: a new or empty folder, or one where this was begun and did not end.
            start: What it starts from; it is not changed.
            url: The database of the log, as SQLAlchemy names it, of SQLite or PostgreSQL; else a file in the folder.
            every: Batches between two checkpoints.
            refit: How many events since its last fit, as a share of the ratings, make it `refit` by itself; 0: never.
            worse: By what share of its first error, since it was opened or took a fit over, its last one has to be
                larger (see `drift`) to make it `refit` by itself; 0 for never.

        Raises:
            ValueError: If there is something else in the folder, the log has events, the recommender has no history or
                an id that no event can name: ids are texts or whole numbers.
            ImportError: If SQLAlchemy or Orbax is not installed.
        """
        rhythm = Rhythm(every, refit, worse).checked()
        for name, known in (("user", start.users), ("item", start.items)):
            for one in known.index.tolist():
                checked_id(name, one)
        state, home = State(start), Home(folder, new=True)
        with ExitStack() as undone:
            undone.callback(home.leave)
            log = home.log(url)
            undone.callback(log.close)
            if log.last:
                raise ValueError(f"the log has {log.last} batches already: it belongs to another model")
            saved = Saved(state, rhythm, log.id)
            save(home.checkpoint, saved)
            undone.pop_all()
        return cls(home, saved, log)

    @classmethod
    def open(cls, folder: str | os.PathLike, *, url: str | None = None) -> "Live":
        """The model that lives in a folder, as it was when its last event was acknowledged.

        Raises:
            ValueError: If there is none, its checkpoint was truncated or altered, the log is not its own or has lost
                events, or another process has it open.
            ImportError: If SQLAlchemy or Orbax is not installed.
        """
        home = Home(folder)
        with ExitStack() as undone:
            undone.callback(home.leave)
            saved = load(home.checkpoint)
            log = home.log(url, saved.log)
            undone.callback(log.close)
            if log.last < saved.state.batch:
                raise ValueError(
                    f"the model has learnt {saved.state.batch} batches, of which its log has {log.last}: restore the "
                    "log, which has lost events"
                )
            opened = cls(home, saved, log)
            opened._recover()
            undone.pop_all()
        return opened

    def tell(self, documents: Sequence[Mapping[str, Any]]) -> list[Ack]:
        """Learn events, all that can be learnt as one batch; returns what became of each once they are on disk.

        An event is a mapping that `jaxmf.live.events.parse` reads. One that is no event stops none of the others.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the log can't be written. Tell them again: what was kept all the same is
                then known.
            RuntimeError: If an update failed half-way before.
        """
        with self._writing:
            self._check()
            self._catch_up()
            self._chores.do("taking over what was fitted behind", self._swap)
            acks, events, refused = sort_out(documents, self._state, self._log)
            batch = self._log.append(events, refused) if events or refused else None
            if batch is not None:
                self._learn(batch, events)
            self._follow_up(saving=batch is not None and batch % self._rhythm.save == 0)
            return acks

    def save(self) -> None:
        """Save a checkpoint, from which an `open` has less to learn: O(all)."""
        with self._writing:
            self._check()
            self._catch_up()
            self._save()

    def refit(self, *, seed: int | None = None) -> None:
        """Fit the model anew from all that it knows, in a process of its own, while this one goes on.

        What comes of it takes this one's place at the first `tell` or `settled` after its end, with the events since
        learnt onto it. Whoever leaves meanwhile is in it, so that it is then begun again.
        """
        with self._writing:
            self.save()
            self._behind.stop()
            self._behind.begin(seed)
            self._taken = False

    def settled(self, timeout: float | None = None) -> bool:
        """Wait for the fit that was begun last, and say whether it took this model's place.

        Raises:
            subprocess.TimeoutExpired: If it takes longer than so many seconds.
        """
        while True:
            self._behind.wait(timeout)
            with self._writing:
                self._check()
                self._catch_up()
                self._swap()
                if not self._behind.running:  # else it was begun again, without somebody who left
                    return self._taken

    def close(self) -> None:
        """Save, and let go of the log and the folder; nothing is answered from then on."""
        with self._writing:
            self._behind.stop()
            self._again = False
            try:
                if not self._refusal:
                    self.save()
                    self._forget()
            finally:
                self._refusal = self._refusal or "it is closed: open the folder again"
                self._log.close()
                self._home.leave()

    @property
    def refused(self) -> list[Refused]:
        """What was no event for this model, and why."""
        return self._log.refused()

    def _follow_up(self, *, saving: bool) -> None:
        """What a batch may call for, beside the answer to it."""
        do = self._chores.do
        do("cleaning the log", self._log.scrub, called=False)  # which `open` has called for
        do(FORGETTING, self._forget)
        do("saving a checkpoint", self._save, called=saving)
        do("fitting anew behind", self._begin)

    def _has_aged(self) -> bool:
        """Whether the state calls for a fit: it has learnt much, or foresees less than it did, since the last one."""
        learnt = self._state.fitted - self._asked
        share, worse = self._rhythm.refit, self._rhythm.worse
        if self._behind.running or not learnt:
            return False
        if share and learnt >= share * max(1, len(self._state.user.ledger)):
            return True
        known = learnt >= WINDOW and self.drift.seen >= 2 * WINDOW
        return bool(worse) and known and (self.drift.last or 0) > (1 + worse) * (self.drift.first or 0)

    def _begin(self) -> None:
        """Fit anew if the state calls for it."""
        if self._has_aged():
            self.refit()
            self._asked = self._state.fitted

    def _recover(self) -> None:
        """Learn the batches since the checkpoint, and end what was begun."""
        self._behind.stop()
        self._catch_up()
        self._leaving.update(self._log.departed())
        self._chores.do("cleaning the log", self._log.scrub)
        self._chores.do(FORGETTING, self._forget)

    def _catch_up(self) -> None:
        """Learn what the log has and the state has not."""
        if self._log.last > self._state.batch:
            for batch, events in self._log.batches(after=self._state.batch):
                self._learn(batch, events)

    def _learn(self, batch: int, events: Sequence[Event]) -> None:
        with self._lock:
            try:
                missed = self._state.learn(batch, events)
                self._state = self._due(self._state)
            except BaseException as error:
                self._refusal = f"an update failed half-way ({error!r}): close this, and open the folder again"
                raise
        self.drift.add(missed)
        if left := {event.user for event in events if event.kind == "user" and event.user is not None}:
            self._leaving |= left
            self._chores.hasten(FORGETTING)

    def _save(self) -> None:
        """Save the state, which is then the one that whoever opens it finds; where that fails it stays as it is.

        A fit behind that knows somebody who has left since is begun again.
        """
        self._again |= bool(self._leaving) and self._behind.stop()
        with self._lock:
            settled = self._state.settle()
        save(self._home.checkpoint, Saved(settled, self._rhythm, self._log.id))
        with self._lock:
            self._state = settled
        self._purging |= dict.fromkeys(self._leaving, settled.batch)
        self._leaving.clear()
        if self._again:
            self._behind.begin()
            self._again = False

    def _forget(self) -> None:
        """Leave nothing of users who left, in no file: first a state that does without their events is saved."""
        if self._leaving:
            self._save()
        for until in sorted(set(self._purging.values())):
            self._log.purge([user for user, batch in self._purging.items() if batch == until], until)
        self._purging.clear()

    def _swap(self) -> None:
        """Put what was fitted behind in this model's place, if it is ready, with the batches since.

        It is kept for another time where a disk or a database fails, and let go for good where anything else does.
        """
        if self._leaving and self._behind.running:
            self._save()  # which begins the fit again, without them
        if not self._behind.ended():
            return
        try:
            state = load(self._home.refit).state
            for batch, events in self._log.batches(after=state.batch):
                state.learn(batch, events)
                state = self._due(state)
            state = state.settle()
            save(self._home.checkpoint, Saved(state, self._rhythm, self._log.id))
        except Exception as error:
            if not isinstance(error, OSError | SQLAlchemyError):
                self._behind.stop()
            raise
        self._behind.stop()
        with self._lock:
            self._state, self._asked, self._taken, self.drift = state, 0, True, Drift()

    def _due(self, state: State) -> State:
        """The state, settled where a checkpoint is due, as whoever learns its last batch again does too."""
        return state.settle() if state.batch % self._rhythm.save == 0 else state
