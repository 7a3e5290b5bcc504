"""A whole fit behind a model that lives: from its ratings at an instant, in a process of its own."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import jax

from jaxmf.data.history import History
from jaxmf.live.home import Home, load, save
from jaxmf.live.state import State
from jaxmf.model.posterior import Posterior
from jaxmf.serving.fitting import Settings, fit_model
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommender import Recommender

LOGGER = logging.getLogger(__name__)

PROGRAM = "import sys; from jaxmf.live.refit import main; main(*sys.argv[1:])"
"""What the process runs, with its arguments."""


def refitted(known: Recommender, *, seed: int = 0) -> Recommender:
    """The recommender that a fit makes of all the ratings of one: the same kernel, rank and kind of model.

    A point model is fitted by alternating least squares, a posterior by Gibbs sampling. Without ratings it stays as it
    is.
    """
    if not len(known.history):
        return known
    model = known.model
    method = "gibbs" if isinstance(model, Posterior) else "als"
    settings = Settings(model.kernel, method, model.params.item.rank, implicit=any(model.implicit))
    fitted = Layered.of(fit_model(jax.random.key(seed), known.ratings, settings))
    ids = {"columns": known.columns, "scale": known.scale, "library": known.library}
    return Recommender(fitted, known.users, known.items, History(known.ratings), **ids)


def anew(state: State, *, seed: int = 0) -> State:
    """A state of what one knows, `refitted`; moods stay."""
    before = state.settle()
    return State(refitted(before.recommender(), seed=seed), mood=before.mood, batch=before.batch)


class Behind:
    """A fit of the model in a folder, in a process of its own."""

    def __init__(self, home: Home) -> None:
        self._home, self._seed = home, 0
        self._process: subprocess.Popen | None = None

    def begin(self, seed: int | None = None) -> None:
        """Start to fit what the checkpoint holds; with the seed of before, unless one is given."""
        self._seed = self._seed if seed is None else seed
        command = [sys.executable, "-c", PROGRAM, self._home.checkpoint, self._home.refit, self._seed]
        self._process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._ended = weakref.finalize(self, _end, self._process)  # by hand, or with the model itself

    @property
    def running(self) -> bool:
        """Whether there is one that was not taken over yet."""
        return self._process is not None

    def wait(self, timeout: float | None) -> None:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: If it takes longer than so many seconds.
        """
        process = self._process
        if process is not None:
            process.wait(timeout)

    def ended(self) -> bool:
        """Whether a fit is there to be taken over; one that failed is let go."""
        status = None if self._process is None else self._process.poll()
        if status:
            LOGGER.warning("the fit behind ended with status %d, and the model stays as it is", status)
            self.stop()
        return status == 0

    def stop(self) -> bool:
        """Leave nothing of a fit; returns whether there was one."""
        process, self._process = self._process, None
        if process is not None:
            self._ended()
        shutil.rmtree(self._home.refit, ignore_errors=True)
        return process is not None


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def main(checkpoint: str, out: str, seed: str) -> None:
    """What that process does; it ends where the one that began it does, whose end of the pipe is closed then."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    saved = load(Path(checkpoint))
    save(Path(out), saved._replace(state=anew(saved.state, seed=int(seed))))
