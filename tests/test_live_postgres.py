"""The log of a living model in PostgreSQL: a server of its own, on loopback, in a folder that goes with the test."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from test_live import FRAME, fitted, happening, same, told

import jaxmf
from jaxmf.live import Live

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
FOUND = next((str(folder / "initdb") for folder in PROGRAMS[::-1]), None) or shutil.which("initdb")


class Server:
    """A PostgreSQL server."""

    def __init__(self, folder):
        """In a folder, which is made its user's: PostgreSQL refuses to run as root."""
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            try:
                shutil.chown(folder, self.user)
            except LookupError:
                pytest.skip("there is no user postgres, and root may not run PostgreSQL")
        self.folder = Path(folder) / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self.start()

    def run(self, program, *options):
        command = [Path(FOUND).parent / program, f"--pgdata={self.folder}", *options]
        subprocess.run(command, check=True, user=self.user, cwd=self.folder.parent, stdout=subprocess.DEVNULL)

    def start(self):
        where = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        self.run("pg_ctl", "--wait", f"--log={self.folder}.log", f"--options={where}", "start")

    def kill(self):
        self.run("pg_ctl", "--mode=immediate", "stop")

    def rows(self):
        """All that the log's tables hold, as text."""
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            found = [connection.execute(sa.text(f"SELECT * FROM {table}")).all() for table in ("events", "dead", "log")]
        engine.dispose()
        return repr(found)


@pytest.fixture(scope="module")
def running():
    if FOUND is None:
        pytest.skip("PostgreSQL is not installed: its Debian package is postgresql")
    folder = tempfile.mkdtemp(prefix="jaxmf-")
    server = Server(folder)
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def server(running):
    engine = sa.create_engine(running.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS events, dead, log"))
    engine.dispose()
    return running


def test_what_it_was_told_is_there_again_bit_for_bit(tmp_path, server):
    live = Live.create(tmp_path / "live", fitted(), url=server.url, every=8)
    events = happening(60)
    assert {ack.status for ack in told(live, events[:40])} == {"learnt"}
    before = live.snapshot()
    live._log.close()  # as a process that dies would leave it
    live._home.leave()
    again = Live.open(tmp_path / "live", url=server.url)
    same(before, again.snapshot())
    assert [ack.status for ack in told(again, events)] == ["known"] * 40 + ["learnt"] * 20
    again.close()
    with pytest.raises(ValueError, match="batches already"):
        Live.create(tmp_path / "other", fitted(), url=server.url)


def test_a_database_that_goes_away_and_comes_back_loses_nothing(tmp_path, server):
    live = Live.create(tmp_path / "live", fitted(), url=server.url)
    events, acks = happening(40), []
    told(live, events[:10])
    for at in range(10, 40, 10):
        server.kill()
        with pytest.raises(sa.exc.SQLAlchemyError):
            live.tell(events[at : at + 10])
        assert live.recommend(1)
        server.start()
        acks += live.tell(events[at : at + 10])
    assert [ack.status for ack in acks] == ["learnt"] * 30
    before = live.snapshot()
    live.close()
    same(before, (again := Live.open(tmp_path / "live", url=server.url)).snapshot())
    again.close()


def test_whoever_leaves_is_not_in_the_database(tmp_path, server):
    start = jaxmf.Recommender.fit(FRAME.assign(user="user-" + FRAME["user"].astype(str)), rank=2, epochs=2)
    live = Live.create(tmp_path / "live", start, url=server.url)
    name = "somebody-who-leaves"
    live.tell([{"id": f"r{at}", "kind": "rating", "user": name, "item": at, "rating": 1.0} for at in range(9)])
    live.tell([{"id": "wrong", "kind": "rating", "user": name, "item": 1, "rating": 99.0}])
    assert name in server.rows()
    live.tell([{"id": "gone", "kind": "user", "user": name}])
    live.close()
    assert name not in server.rows()


def test_strange_texts_are_refused_before_the_database_sees_them(tmp_path, server):
    frame = pd.DataFrame(FRAME).assign(user="user-" + FRAME["user"].astype(str))
    live = Live.create(tmp_path / "live", jaxmf.Recommender.fit(frame, rank=2, epochs=2), url=server.url)
    acks = live.tell(
        [
            {"id": "a\0", "kind": "user", "user": "x"},
            {"id": "b", "kind": "user", "user": "\ud800"},
            {"id": "c", "kind": "user", "user": "x", "\0": "\0"},
            {"id": "d", "kind": "rating", "user": "Ünï 🎬", "item": 1, "rating": 3.0},
        ]
    )
    assert [ack.status for ack in acks] == ["refused"] * 3 + ["learnt"]
    assert len(live.refused) == 3
    live.close()
