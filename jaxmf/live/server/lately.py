"""What a server's last minute was like: how many events it was told, and how long whoever told them waited."""

import math
import time
from collections import deque
from collections.abc import Callable

MINUTE = 60.0
"""Seconds that are looked back on."""

MOST = 10_000
"""Most requests that are looked back on: of more in a minute the last ones."""


class Lately:
    """The last minute.

    Example:
        >>> now = iter([0.0, 1.0, 9.0, 10.0, 75.0])
        >>> lately = Lately(clock=lambda: next(now))
        >>> lately.told(30), lately.took(0.005)
        (None, None)
        >>> lately.events_a_second(), lately.events_a_second()
        (3.0, 0.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """By a clock of seconds."""
        self._clock, self._began = clock, clock()
        self._events: deque[tuple[float, int]] = deque(maxlen=MOST)
        self._seconds: deque[tuple[float, float]] = deque(maxlen=MOST)

    def told(self, events: int) -> None:
        """So many events have been learnt, which count together where they come within a tenth of a second."""
        now = self._clock()
        if self._events and now - self._events[-1][0] < 0.1:
            then, before = self._events.pop()
            self._events.append((then, before + events))
        else:
            self._events.append((now, events))

    def took(self, seconds: float) -> None:
        """A request that told of events was answered after so long."""
        self._seconds.append((self._clock(), seconds))

    def events_a_second(self) -> float:
        """How many events a second were learnt, on average; over a shorter time where the server is younger."""
        now = self._clock()
        events = sum(number for at, number in self._events if now - at < MINUTE)
        return events / min(MINUTE, max(1.0, now - self._began))

    def milliseconds(self, *shares: float) -> list[float | None]:
        """Within how many milliseconds these shares of the requests that told of events were answered.

        Example:
            >>> lately = Lately()
            >>> lately.milliseconds(0.5)
            [None]
            >>> for seconds in (0.001, 0.002, 0.003, 0.25):
            ...     lately.took(seconds)
            >>> lately.milliseconds(0.5, 0.99)
            [2.0, 250.0]
        """
        now = self._clock()
        known = sorted(seconds for at, seconds in self._seconds if now - at < MINUTE)
        return [1e3 * known[math.ceil(share * len(known)) - 1] if known else None for share in shares]
