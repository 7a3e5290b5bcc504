"""Where a living model is kept: a folder with its last checkpoint and, unless it is elsewhere, its log."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from jaxmf.data.settings import check_number, check_whole
from jaxmf.keeping.checkpoint import Checkpoint, read, write
from jaxmf.keeping.files import sensible
from jaxmf.keeping.manifests import MANIFEST
from jaxmf.live.log import Log
from jaxmf.live.mood import Mood
from jaxmf.live.state import State
from jaxmf.serving.recommender import Recommender

KIND = "live"
LOCK, EVENTS, CHECKPOINT, REFIT = "lock", "events.db", "checkpoint", "refit"
OURS = {LOCK, EVENTS, f"{EVENTS}-wal", f"{EVENTS}-shm", f"{EVENTS}-journal", CHECKPOINT}


class Rhythm(NamedTuple):
    """How often what costs the whole is done.

    Attributes:
        save: Batches from one checkpoint to the next.
        refit: How many events, as a share of the ratings, call for a new fit; 0 for never.
        worse: What growth of its error, as a share of it, calls for one; 0 for never.
    """

    save: int
    refit: float
    worse: float = 0.0

    def checked(self) -> "Rhythm":
        """Itself, as numbers.

        Raises:
            ValueError: If it makes no sense.
        """
        check_whole("every", self.save, least=1, meaning="the number of batches between two checkpoints")
        return Rhythm(self.save, _share("refit", self.refit, "the ratings"), _share("worse", self.worse, "an error"))


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        state: The state.
        rhythm: How often it is saved and fitted anew.
        log: The id of its log.
    """

    state: State
    rhythm: Rhythm
    log: str


class Home:
    """A folder, which one process at a time has open.

    Attributes:
        folder: Its path.
        checkpoint: Where the last state is.
        refit: Where a fit from behind is put down.
    """

    def __init__(self, folder: str | os.PathLike, *, new: bool = False) -> None:
        """Open the folder of a model, or a `new` one, empty or with what a creation that died has left.

        Raises:
            ValueError: If there is something else in it, or nothing where it is not new, or another process has it.
        """
        self.folder = Path(folder).absolute()
        self.checkpoint, self.refit = self.folder / CHECKPOINT, self.folder / REFIT
        if new:
            self._check_free()
            self.folder.mkdir(parents=True, exist_ok=True)
        elif not lives(self.folder):
            raise ValueError(f"{self.folder} holds no model that lives: make one by Live.create, or name its folder")
        self._lock = FileLock(self.folder / LOCK, thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"{self.folder} is open already: close it there first; one process writes") from error
        if new:
            self._check_free()

    def log(self, url: str | None, known: str | None = None) -> Log:
        """The model's log: the database of this URL, else a SQLite file in the folder.

        Raises:
            ValueError: If it is not the `known` one.
        """
        if url is None and known is not None and not (self.folder / EVENTS).exists():
            raise ValueError(f"{self.folder / EVENTS} is missing: give the url that the model was created with")
        return Log(f"sqlite:///{self.folder / EVENTS}" if url is None else url, known)

    def leave(self) -> None:
        """Let another process have it."""
        self._lock.release()

    def _check_free(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is no folder: name another")
        found = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if found - OURS or lives(self.folder):
            raise ValueError(f"{self.folder} is not empty: open what lives there, or name another folder")


def _share(name: str, given: float, whole: str) -> float:
    share = check_number(name, given, rule="0 or more", meaning=f"a share of {whole}")
    if not share >= 0:
        raise ValueError(f"{name} must be 0 or more, got {share}: it is a share of {whole}, and 0 for never")
    return share


def lives(folder: Path) -> bool:
    """Whether a folder holds a model, whose creation has ended."""
    return (folder / CHECKPOINT / MANIFEST).exists()


def save(path: Path, saved: Saved) -> None:
    """Write a state as a recommender's checkpoint, with what else it is.

    Raises:
        ValueError: As `jaxmf.checkpoint.write`.
    """
    state = saved.state
    arrays, documents = state.recommender().contents()
    mood = state.mood.take(state.user.ids.there())
    arrays |= {"live.pending": state.pending(), "live.mood": np.stack([mood.level, mood.share])}
    live = {"batch": state.batch, "noise": state.noise, "fitted": state.fitted}
    live |= {"log": saved.log, "rhythm": saved.rhythm}
    write(path, Checkpoint(KIND, arrays, documents | {"live": live}))


def load(path: Path) -> Saved:
    """What `save` wrote.

    Raises:
        ValueError: If there is none, or it was truncated or altered.
    """
    _, arrays, documents = read(path, KIND)
    with sensible(path):
        live = documents["live"]
        mood = Mood()
        mood.level, mood.share = arrays["live.mood"].copy()
        like = Recommender.of_contents(arrays, documents)
        known = {"pending": arrays["live.pending"], "noise": live["noise"], "mood": mood}
        state = State(like, batch=int(live["batch"]), fitted=int(live["fitted"]), **known)
        every, *shares = live["rhythm"]
        return Saved(state, Rhythm(int(every), *map(float, shares)), str(live["log"]))
