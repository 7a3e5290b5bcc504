"""What is done beside the answers: where it fails it stops nobody, and is tried again."""

import logging
import time
from collections.abc import Callable

LONGEST = 60.0
"""Most seconds until what failed is tried again."""

LOGGER = logging.getLogger(__name__)


class Chores:
    """What has failed, and when it is tried again: at once the first time, and then after twice as long each time.

    So a disk that is full for long is not tried with every event.

    Example:
        >>> chores, done = Chores(), []
        >>> chores.do("a chore", lambda: done.append("called for"))
        >>> chores.do("a chore", lambda: done.append("not called for"), called=False)
        >>> done
        ['called for']
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[float, float]] = {}  # from when on to try again, and the wait after that

    def do(self, what: str, chore: Callable[[], object], *, called: bool = True) -> None:
        """Do what is `called` for, or has failed before and is due again."""
        due, wait = self._failed.get(what, (0.0, 0.0))
        if not (called or what in self._failed) or self._clock() < due:
            return
        try:
            chore()
            self._failed.pop(what, None)
        except Exception:
            LOGGER.warning("%s failed, and is tried again where it is still called for", what, exc_info=True)
            self._failed[what] = self._clock() + wait, min(LONGEST, max(1.0, 2 * wait))

    def hasten(self, what: str) -> None:
        """Try what has failed again with the next call."""
        self._failed.pop(what, None)
