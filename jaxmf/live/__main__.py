"""`python -m jaxmf.live FOLDER`: the model that lives in a folder, behind HTTP."""

import atexit
import dataclasses
import gc
import ipaddress
import json
import logging
import queue
import sys
import time
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path

import tyro
import uvicorn

from jaxmf.keeping.programs import keep_programs
from jaxmf.live import Live
from jaxmf.live.home import lives
from jaxmf.live.server.app import application
from jaxmf.live.server.catalogue import read_titles
from jaxmf.live.server.keys import Keys
from jaxmf.serving.recommender import Recommender

PATIENCE = 30
"""Seconds that requests have to end in when the server is told to."""

TURN = 0.0005
"""Seconds until Python's threads take turns: the model's come to it often and briefly, and a tenth of what is usual
spares them most of the wait for the event loop's."""

REST = 0.1
"""Seconds that records of the log may wait for others, with which they are written."""


@dataclasses.dataclass
class Serve:
    """Serve the model that lives in a folder; ended by SIGTERM or Ctrl-C it answers what it has, and saves."""

    folder: tyro.conf.Positional[Path]
    """Where it lives."""
    start: Path | None = None
    """A saved recommender that it starts from, where the folder holds none yet."""
    url: str | None = None
    """Database of the log, as SQLAlchemy names it, of SQLite or PostgreSQL; else a file in the folder."""
    host: str = "127.0.0.1"
    """Address to serve on; any but a loopback one needs keys."""
    port: int = 8000
    """Port; 0 for a free one."""
    keys: Path | None = None
    """File of keys, as `python -m jaxmf.live.server.keys NAME read,write` makes its lines."""
    titles: Path | None = None
    """CSV file of what items are called, with columns id and title, for the page that it shows."""
    refit: float = 0.0
    """Of a new model: how many events, as a share of the ratings, make it fit itself anew; 0 for never."""
    worse: float = 0.0
    """Of a new model: what growth of its error, as a share of it, makes it fit itself anew; 0 for never."""
    warm: bool = True
    """Compile what requests will run before the first is answered."""


def main(args: Serve) -> None:
    """Open or make the model, warm it, serve it.

    Raises:
        ValueError: If the folder, the recommender, the keys, the titles or the address are not what they should be.
    """
    keys = None if args.keys is None else Keys.read(args.keys)
    titles = None if args.titles is None else read_titles(args.titles)
    if keys is None and not _loopback(args.host):
        raise ValueError(
            f"host {args.host} without keys: whoever reaches it could tell it anything; name a file with --keys, or "
            "serve on 127.0.0.1"
        )
    keep_log()
    keep_programs()
    sys.setswitchinterval(TURN)
    live = opened(args)
    logger, began = logging.getLogger("jaxmf.live.server"), time.perf_counter()
    if args.warm:
        live.warm()
        gc.collect()
        gc.freeze()  # what is there stays: looking through it again would stop all requests for half a second
        logger.info({"warm": round(time.perf_counter() - began, 1), "model": repr(live)})
    config = uvicorn.Config(
        application(live, keys=keys, titles=titles),
        host=args.host,
        port=args.port,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    uvicorn.Server(config).run()


def opened(args: Serve) -> Live:
    """The model of the folder, or a new one there."""
    new = not lives(args.folder)
    if new and args.start is None:
        raise ValueError(f"{args.folder} holds no model: name a saved recommender that it starts from with --start")
    if not new:
        return Live.open(args.folder, url=args.url)
    start = Recommender.load(args.start or "")
    return Live.create(args.folder, start, url=args.url, refit=args.refit, worse=args.worse)


class Records(QueueHandler):
    """Records on their way to the thread that writes them, which formats them too."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """As it is: it stays in this process."""
        return record


class Listener(QueueListener):
    """A thread that writes what was logged, and is woken a few times a second: each time costs the others a turn."""

    def __init__(self, lines: "queue.SimpleQueue[logging.LogRecord]", handler: logging.Handler) -> None:
        super().__init__(lines, handler)
        self._lines = lines

    def dequeue(self, block: bool) -> logging.LogRecord:
        """The next record, of those that came meanwhile."""
        if self._lines.empty():
            time.sleep(REST)
        return super().dequeue(block)


class Lines(logging.Formatter):
    """A line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        """With the message's own fields, where it is a mapping of some."""
        said = dict(record.msg) if isinstance(record.msg, dict) else {"message": record.getMessage()}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        return json.dumps({"time": at, "level": record.levelname, "logger": record.name} | said)


def keep_log() -> None:
    """Log to the standard error, in a thread of its own: who logs never waits for it."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    lines = queue.SimpleQueue()
    listener = Listener(lines, handler)
    listener.start()
    atexit.register(listener.stop)  # with what is still in the queue
    logging.basicConfig(level=logging.WARNING, handlers=[Records(lines)])
    for name in ("jaxmf", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    try:
        main(tyro.cli(Serve))
    except ValueError as error:
        sys.exit(f"error: {error}")
