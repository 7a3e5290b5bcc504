"""What is done beside the answers: where it fails it stops nobody, and is tried again."""

import logging
from collections.abc import Callable

MOST = 15
"""Most times that what failed is left out before it is tried again."""

LOGGER = logging.getLogger(__name__)


class Chores:
    """What has failed, and how often it is left out until it is tried again: at first not at all, then ever longer.

    So a disk that is full for long is not tried with every event.

    Example:
        >>> chores, done = Chores(), []
        >>> chores.do("a chore", lambda: done.append("called for"))
        >>> chores.do("a chore", lambda: done.append("not called for"), called=False)
        >>> done
        ['called for']
    """

    def __init__(self) -> None:
        self._out: dict[str, tuple[int, int]] = {}  # how often still, and how often in all

    def do(self, what: str, chore: Callable[[], object], *, called: bool = True) -> None:
        """Do what is `called` for, or has failed before and has been left out for long enough."""
        left, out = self._out.get(what, (0, 0))
        if left:
            self._out[what] = left - 1, out
        elif called or what in self._out:
            try:
                chore()
                self._out.pop(what, None)
            except Exception:
                LOGGER.warning("%s failed, and is tried again", what, exc_info=True)
                self._out[what] = out, min(MOST, 2 * out + 1)
