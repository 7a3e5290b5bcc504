"""The log of events: what was acknowledged is on disk, in order, in the batches in which it was learnt.

A database that SQLAlchemy speaks to and that keeps whole texts: SQLite in a file of its own, or PostgreSQL. One process
writes.
"""

import itertools
import json
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.event import listen

from jaxmf.live.events import LONGEST, Event, Id, checked_id, parse

METADATA = sa.MetaData()
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

LOG = sa.Table("log", METADATA, sa.Column("id", sa.String(32), primary_key=True))
"""One row: the log's own id, by which a model knows it."""

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("batch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(LONGEST), nullable=False, unique=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("user", sa.Text, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index("departures", "kind", sqlite_where=sa.text("kind = 'user'"), postgresql_where=sa.text("kind = 'user'")),
)
"""What was accepted, each event in a place of its batch: no two batches have one number, not even where a connection is
lost with a commit on its way. The user is there as JSON, by which his events are found again."""

DEAD = sa.Table(
    "dead",
    METADATA,
    sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("user", sa.Text, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
"""What was not, and why."""

KEPT = 2000
"""Most characters of a refused document that are kept."""

AT_ONCE = 500
"""Ids that one question to the database names."""


class Refused(NamedTuple):
    """A document that is no event, and why."""

    document: Any
    reason: str


class Log:
    """Events in batches.

    Attributes:
        id: The log's own.

    Example:
        >>> log = Log("sqlite://")
        >>> log.append([parse({"id": "a", "kind": "click", "user": 1, "item": 2})])
        1
        >>> [(batch, [event.id for event in events]) for batch, events in log.batches()]
        [(1, ['a'])]
    """

    def __init__(self, url: str, known: str | None = None) -> None:
        """The log at a database's URL, made where there is none; `sqlite://` is one in memory alone.

        Raises:
            ValueError: If a `known` log is asked for by its id, and it is another's, or there is none.
            sqlalchemy.exc.SQLAlchemyError: If the database can't be reached.
        """
        self._engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True, **_pool(url))
        if self._engine.dialect.name == "sqlite":
            listen(self._engine, "connect", _durable)
        self.close = weakref.finalize(self, self._engine.dispose)  # by hand, or with the log itself
        self._last: int | None = None
        if known is None:
            METADATA.create_all(self._engine)
        self.id = self._named(known)

    def _named(self, known: str | None) -> str:
        with self._engine.begin() as connection:
            found = connection.scalar(sa.select(LOG.c.id)) if sa.inspect(connection).has_table(LOG.name) else None
            if known not in (None, found):
                where = self._engine.url.render_as_string()
                raise ValueError(f"{where} holds {'another' if found else 'no'} log: name the one of this model")
            if found is None:
                found = uuid.uuid4().hex
                connection.execute(sa.insert(LOG).values(id=found))
        return found

    @property
    def last(self) -> int:
        """The number of the last batch, 0 where there is none."""
        if self._last is None:
            with self._engine.connect() as connection:
                self._last = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.batch), 0)))
        return int(self._last or 0)

    def append(self, events: Sequence[Event], refused: Sequence[Refused] = ()) -> int | None:
        """Keep a batch of events and what was refused beside it; returns the batch's number once both are on disk.

        `None` where there is no event.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If it could not be kept, nothing of it; or if the connection was lost, when
                only `last` tells whether it was.
        """
        batch, self._last = self.last + 1, None
        with self._engine.begin() as connection:
            if events:
                rows = [_row(event) | {"batch": batch, "place": place} for place, event in enumerate(events)]
                connection.execute(sa.insert(EVENTS), rows)
            if refused:
                connection.execute(sa.insert(DEAD), [_refused(*one) for one in refused])
        self._last = batch if events else batch - 1
        return batch if events else None

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these events' ids the log has."""
        found: set[str] = set()
        with self._engine.connect() as connection:
            for some in _parts(ids):
                found.update(connection.scalars(sa.select(EVENTS.c.id).where(EVENTS.c.id.in_(some))))
        return found

    def batches(self, after: int = 0) -> Iterator[tuple[int, list[Event]]]:
        """The batches since one, in order; events whose user is gone are left out."""
        asked = sa.select(EVENTS.c.batch, EVENTS.c.document).where(EVENTS.c.batch > after).order_by(*EVENTS.primary_key)
        with (
            self._engine.connect() as connection,
            closing(connection.execution_options(yield_per=1000).execute(asked)) as found,
        ):
            for batch, rows in itertools.groupby(found, lambda row: row.batch):
                yield batch, [parse(json.loads(row.document)) for row in rows if row.document]

    def refused(self) -> list[Refused]:
        """What was refused, in order."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(DEAD.c.document, DEAD.c.reason).order_by(DEAD.c.seq))
            return [Refused(json.loads(document), reason) for document, reason in rows]

    def departed(self) -> list[Id]:
        """Users who left, and of whom the log still has something: O(users who ever left)."""
        asked = sa.select(EVENTS.c.user).where(EVENTS.c.kind == "user", EVENTS.c.user.is_not(None))
        with self._engine.connect() as connection:
            return [json.loads(user) for user in connection.scalars(asked)]

    def purge(self, users: Sequence[Id], until: int) -> None:
        """Leave nothing of these users' events but that there were such, and nothing of what was refused of theirs.

        Events after the batch `until` stay: they are of somebody who came back. The ids of the events stay, so that one
        that comes again is known. SQLite overwrites what is deleted, in its journal too; PostgreSQL keeps old versions
        of rows in its files until it vacuums them and recycles its journal. Not found are a removal that is told after
        the departure, and refused documents whose user can't be read.

        Raises:
            RuntimeError: If somebody else reads SQLite's file, so that its journal can't be cut: purge again.
        """
        with self._engine.begin() as connection:
            for some in _parts([json.dumps(user) for user in users]):
                theirs = sa.update(EVENTS).where(EVENTS.c.user.in_(some), EVENTS.c.batch <= until)
                connection.execute(theirs.values(user=None, document=""))
                connection.execute(sa.delete(DEAD).where(DEAD.c.user.in_(some)))
        self.scrub()

    def scrub(self) -> None:
        """Leave nothing in SQLite's journal of what was there before.

        Raises:
            RuntimeError: As `purge`.
        """
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            if busy:
                raise RuntimeError(f"{self._engine.url} is being read by others: end them, and purge again")


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[at : at + AT_ONCE] for at in range(0, len(values), AT_ONCE))


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
    return {"id": event.id, "kind": event.kind, "user": user, "document": json.dumps(event.document())}


def _refused(document: Any, reason: str) -> dict[str, str | None]:  # noqa: ANN401 whatever came
    try:
        text = json.dumps(document, default=repr)
    except (TypeError, ValueError, RecursionError):  # names that are no text, numbers of thousands of digits, itself
        text = json.dumps(f"a {type(document).__name__} that JSON can't tell of")
    try:
        user = json.dumps(checked_id("user", document["user"])) if isinstance(document, Mapping) else None
    except (KeyError, ValueError):  # nobody's, whom no event can name
        user = None
    reason = reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return {"user": user, "document": text if len(text) <= KEPT else json.dumps(text[:KEPT]), "reason": reason}
