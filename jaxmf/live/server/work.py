"""What requests wait for: those that arrive together share a batch of events, or a program that answers them."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from jaxmf.live import Ack, Live
from jaxmf.live.answers import AT_ONCE

Q = TypeVar("Q")
A = TypeVar("A")

Documents = Sequence[Mapping[str, Any]]

LINGER = 0.002
"""Seconds that the first of a batch of events waits for others: the write to disk that they share takes longer."""

REST = 0.02
"""Most seconds that what came while a batch was done goes on waiting, else for as long as that took: it is then one
batch with what comes meanwhile, which costs hardly more than each alone would, and others have their turn. With it 50
clients are answered a quarter more."""


class FullError(Exception):
    """So many wait that one more would wait too long."""


class Room(NamedTuple):
    """How much may wait, and how much is done at once.

    Attributes:
        events: Events that may wait.
        questions: Questions of each kind that may wait.
        batch: Most events a batch, where they come in several requests.
    """

    events: int = 10_000
    questions: int = 500
    batch: int = 1000


class Together(Generic[Q, A]):
    """Work that is done together where it arrives together: what comes while a batch is done is the next batch.

    That begins a moment later, unless it is full.

    Attributes:
        waiting: How much of it waits or is being done.
    """

    def __init__(
        self,
        work: Callable[[list[Q]], list[A]],
        threads: Executor,
        *,
        room: int,
        most: int,
        size: Callable[[Q], int] = lambda _: 1,
        linger: float = 0.0,
    ) -> None:
        """Of a function that does several at once.

        Args:
            work: The function.
            threads: Where it runs.
            room: How much may wait.
            most: How much is done at once, where it came as several.
            size: How much one is.
            linger: Seconds that the first waits for others.
        """
        self.waiting = 0
        self._work, self._threads, self._size = work, threads, size
        self._room, self._most, self._linger = room, most, linger
        self._queue: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def do(self, one: Q) -> A:
        """What comes of one.

        Raises:
            FullError: If too much waits.
        """
        size = self._size(one)
        if self.waiting and self.waiting + size > self._room:
            raise FullError(f"{self.waiting:,} wait already: come again later")
        future = asyncio.get_running_loop().create_future()
        self._queue.append((one, future))
        self.waiting += size
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def done(self) -> None:
        """Once nothing waits."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        """Do batches until nothing waits."""
        await asyncio.sleep(self._linger)
        while self._queue:
            began, batch = time.perf_counter(), self._next()
            ran = asyncio.get_running_loop().run_in_executor(self._threads, self._each, [one for one, _ in batch])
            (found,) = await asyncio.gather(ran, return_exceptions=True)
            for at, (one, future) in enumerate(batch):
                self.waiting -= self._size(one)
                _give(future, found if isinstance(found, BaseException) else found[at])
            if 0 < self.waiting < self._most:
                await asyncio.sleep(min(REST, time.perf_counter() - began))
        self._task = None

    def _next(self) -> list[tuple[Q, "asyncio.Future[A]"]]:
        """The first that waits, and those after it that fit into a batch with it."""
        batch = [self._queue.popleft()]
        size = self._size(batch[0][0])
        while self._queue and size + self._size(self._queue[0][0]) <= self._most:
            batch.append(self._queue.popleft())
            size += self._size(batch[-1][0])
        return batch

    def _each(self, batch: list[Q]) -> list[A | ValueError]:
        """What comes of each; where one of several is at fault, of each alone."""
        try:
            return list(self._work(batch))
        except ValueError as error:
            return [error] if len(batch) == 1 else [found for one in batch for found in self._each([one])]


def _give(future: "asyncio.Future[A]", found: A | BaseException) -> None:
    """Unless whoever waited has gone."""
    if future.done():
        return
    if isinstance(found, BaseException):
        future.set_exception(found)
    else:
        future.set_result(found)


class Work:
    """A living model asked and told from an event loop, which never waits for it: one thread tells, another asks.

    Attributes:
        live: The model.
        tell: Events, a list a request.
        recommend: As `Live.recommend_each`.
        session: As `Live.session_each`.
        predict: As `Live.predict_each`.
        others: All other questions, one after the other.
    """

    def __init__(self, live: Live, room: Room) -> None:
        self.live = live
        self._teller, self._asker = ThreadPoolExecutor(1, "teller"), ThreadPoolExecutor(1, "asker")
        asked = {"threads": self._asker, "room": room.questions, "most": AT_ONCE}
        self.tell = Together(self._told, self._teller, room=room.events, most=room.batch, size=len, linger=LINGER)
        self.recommend = Together(live.recommend_each, **asked)
        self.session = Together(live.session_each, **asked)
        self.predict = Together(live.predict_each, **asked)
        self.others = Together(self._one_by_one, **asked)

    @property
    def asking(self) -> int:
        """Questions that wait."""
        return sum(some.waiting for some in (self.recommend, self.session, self.predict, self.others))

    async def close(self) -> None:
        """Do what waits, and save and close the model."""
        for some in (self.tell, self.recommend, self.session, self.predict, self.others):
            await some.done()
        await asyncio.get_running_loop().run_in_executor(self._teller, self.live.close)
        for threads in (self._teller, self._asker):
            threads.shutdown()

    def _told(self, requests: list[Documents]) -> list[list[Ack]]:
        acks = iter(self.live.tell([document for documents in requests for document in documents]))
        return [list(itertools.islice(acks, len(documents))) for documents in requests]

    @staticmethod
    def _one_by_one(questions: list[Callable[[], Any]]) -> list[Any]:
        return [question() for question in questions]
