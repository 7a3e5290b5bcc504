"""What requests wait for: events that arrive together are told as one batch, and questions come one after the other."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, ParamSpec, TypeVar

from jaxmf.live import Ack, Live

P, T = ParamSpec("P"), TypeVar("T")

LINGER = 0.002
"""Seconds that the first event of a batch waits for others: what they share, a write to disk, takes longer."""


class FullError(Exception):
    """So many wait that one more would wait too long."""


class Room(NamedTuple):
    """How much may wait.

    Attributes:
        events: Events.
        questions: Questions.
    """

    events: int = 10_000
    questions: int = 500


class _Waiting(NamedTuple):
    documents: Sequence[Mapping[str, Any]]
    acks: "asyncio.Future[list[Ack]]"


class Work:
    """A living model asked and told from an event loop, which never waits for it.

    One thread tells and one asks: what is asked waits for no disk.

    Attributes:
        live: The model.
        telling: Events that wait or are being told.
        asking: Questions that wait or are being asked.
    """

    def __init__(self, live: Live, *, room: Room = Room(), most: int = 1000) -> None:
        """With `most` events a batch, where requests of fewer arrive together."""
        self.live, self.telling, self.asking = live, 0, 0
        self._room, self._most = room, most
        self._queue: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._teller, self._asker = ThreadPoolExecutor(1, "teller"), ThreadPoolExecutor(1, "asker")

    async def tell(self, documents: Sequence[Mapping[str, Any]]) -> list[Ack]:
        """What becomes of each event, as `Live.tell`.

        Raises:
            FullError: If too many wait.
        """
        if self.telling + len(documents) > self._room.events:
            raise FullError(f"{self.telling:,} events wait already: send these again later")
        waiting = _Waiting(documents, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self.telling += len(documents)
        if self._task is None:
            self._task = asyncio.create_task(self._tell_all())
        return await waiting.acks

    async def ask(self, question: Callable[P, T], *args: P.args, **settings: P.kwargs) -> T:
        """The answer of a method of the model.

        Raises:
            FullError: If too many wait.
        """
        if self.asking >= self._room.questions:
            raise FullError(f"{self.asking:,} questions wait already: ask again later")
        self.asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._asker, lambda: question(*args, **settings))
        finally:
            self.asking -= 1

    async def close(self) -> None:
        """Tell what waits, and save and close the model."""
        if self._task is not None:
            await self._task
        await asyncio.get_running_loop().run_in_executor(self._teller, self.live.close)
        for threads in (self._teller, self._asker):
            threads.shutdown()

    async def _tell_all(self) -> None:
        """Tell batches until nothing waits."""
        await asyncio.sleep(LINGER)
        while self._queue:
            batch = self._next()
            documents = [document for waiting in batch for document in waiting.documents]
            told = asyncio.get_running_loop().run_in_executor(self._teller, self.live.tell, documents)
            (result,) = await asyncio.gather(told, return_exceptions=True)
            self.telling -= len(documents)
            self._share(batch, result)
        self._task = None

    def _next(self) -> list[_Waiting]:
        """The first that waits, and those after it while they fit into a batch."""
        batch, size = [], 0
        while self._queue and (not batch or size + len(self._queue[0].documents) <= self._most):
            batch.append(self._queue.popleft())
            size += len(batch[-1].documents)
        return batch

    @staticmethod
    def _share(batch: list[_Waiting], result: list[Ack] | BaseException) -> None:
        """Give each request its own; one whose client has gone wants nothing."""
        at = 0
        for documents, acks in batch:
            if not acks.done():
                if isinstance(result, BaseException):
                    acks.set_exception(result)
                else:
                    acks.set_result(result[at : at + len(documents)])
            at += len(documents)
