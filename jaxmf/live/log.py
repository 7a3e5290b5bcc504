"""The log of events: what was acknowledged is on disk, in order, in the batches in which it was learnt.

A database that SQLAlchemy speaks to: SQLite in a file of its own, unless a URL names another. One process writes.
"""

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.event import listen

from jaxmf.live.events import Event, parse

METADATA = sa.MetaData()

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("batch", sa.BigInteger, nullable=False, index=True),
    sa.Column("id", sa.String(256), nullable=False, unique=True),
    sa.Column("user", sa.Text, index=True),
    sa.Column("document", sa.Text, nullable=False),
)
"""What was accepted. The user is there as JSON, by which his events are found again."""

DEAD = sa.Table(
    "dead",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("user", sa.Text, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
"""What was not, and why."""

LONGEST = 2000
"""Most characters of a refused document that are kept."""


class Refused(NamedTuple):
    """A document that is no event, and why."""

    document: Any
    reason: str


class Log:
    """Events in batches.

    Example:
        >>> log = Log("sqlite://")
        >>> log.append([parse({"id": "a", "kind": "click", "user": 1, "item": 2})])
        1
        >>> [(batch, [event.id for event in events]) for batch, events in log.batches()]
        [(1, ['a'])]
    """

    def __init__(self, url: str) -> None:
        """The log at a database's URL, made where there is none; `sqlite://` is one in memory alone.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database can't be reached.
        """
        self._engine = sa.create_engine(url, pool_pre_ping=True, **_pool(url))
        if self._engine.dialect.name == "sqlite":
            listen(self._engine, "connect", _durable)
        self.close = weakref.finalize(self, self._engine.dispose)  # by hand, or with the log itself
        METADATA.create_all(self._engine)
        with self._engine.connect() as connection:
            self.last = connection.scalar(sa.select(sa.func.max(EVENTS.c.batch))) or 0

    def append(self, events: Sequence[Event], refused: Sequence[Refused] = ()) -> int | None:
        """Keep a batch of events and what was refused beside it; returns the batch's number once both are on disk.

        `None` where there is no event.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If it could not be kept, nothing of it.
        """
        batch = self.last + 1
        with self._engine.begin() as connection:
            if events:
                rows = [_row(event) | {"batch": batch} for event in events]
                connection.execute(sa.insert(EVENTS), rows)
            if refused:
                connection.execute(sa.insert(DEAD), [_refused(*one) for one in refused])
        if not events:
            return None
        self.last = batch
        return batch

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these events' ids the log has."""
        with self._engine.connect() as connection:
            return set(connection.scalars(sa.select(EVENTS.c.id).where(EVENTS.c.id.in_(list(ids)))))

    def batches(self, after: int = 0) -> Iterator[tuple[int, list[Event]]]:
        """The batches since one, in order; events whose user is gone are left out."""
        asked = sa.select(EVENTS.c.batch, EVENTS.c.document).where(EVENTS.c.batch > after).order_by(EVENTS.c.seq)
        number, events = after, []
        with (
            self._engine.connect() as connection,
            closing(connection.execution_options(yield_per=1000).execute(asked)) as found,
        ):
            for batch, document in found:
                if batch != number and events:
                    yield number, events
                    events = []
                number = batch
                if document:
                    events.append(parse(json.loads(document)))
        if events:
            yield number, events

    def refused(self) -> list[Refused]:
        """What was refused, in order."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(DEAD.c.document, DEAD.c.reason).order_by(DEAD.c.seq))
            return [Refused(json.loads(document), reason) for document, reason in rows]

    def departed(self) -> list[str | int]:
        """Users who left, and of whom the log still has something."""
        with self._engine.connect() as connection:
            documents = connection.scalars(
                sa.select(EVENTS.c.document).where(EVENTS.c.document.like('%"kind": "user"%'))
            )
            events = [parse(json.loads(document)) for document in documents]
        return [event.user for event in events if event.kind == "user" and event.user is not None]

    def purge(self, users: Sequence[str | int]) -> None:
        """Leave nothing of these users' events but that there were such, and nothing of what was refused of theirs.

        The ids of the events stay, so that one that comes again is known; of SQLite's file every byte that is not
        needed is overwritten.
        """
        texts = [json.dumps(user) for user in users]
        with self._engine.begin() as connection:
            connection.execute(sa.update(EVENTS).where(EVENTS.c.user.in_(texts)).values(user=None, document=""))
            connection.execute(sa.delete(DEAD).where(DEAD.c.user.in_(texts)))
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _pool(url: str) -> dict[str, Any]:
    """One connection for a database in memory, which lives and dies with it."""
    memory = sa.make_url(url).get_backend_name() == "sqlite" and sa.make_url(url).database in (None, "", ":memory:")
    return {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}} if memory else {}


def _durable(connection: Any, _: Any) -> None:  # noqa: ANN401 a driver's connection
    """A commit of SQLite is on disk when it returns, readers don't wait for it, and what is deleted is overwritten."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _row(event: Event) -> dict[str, Any]:
    user = None if event.user is None else json.dumps(event.user)
    return {"id": event.id, "user": user, "document": json.dumps(event.document())}


def _refused(document: Any, reason: str) -> dict[str, str | None]:  # noqa: ANN401 whatever came
    text = json.dumps(document, default=repr)
    user = document.get("user") if isinstance(document, Mapping) else None
    return {
        "user": json.dumps(user) if isinstance(user, str | int) else None,
        "document": text if len(text) <= LONGEST else json.dumps(text[:LONGEST]),
        "reason": reason,
    }
