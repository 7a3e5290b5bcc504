"""Many clients at once against the server, on this machine: how many requests a second, and how long each takes.

A fifth of the requests are strangers' sessions; the rest are events, recommendations and predictions in equal parts.
Clients ask at times of their own, as people do, so that a slow answer is no reprieve: what a request takes counts from
when it was due, also where its client was still waiting for the answer before.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import common
import numpy as np
import start

import jaxmf

MOST_CLIENTS, MOST_SECONDS = 500, 600
PATIENCE = 600
"""Seconds that a server may take to start."""

FRESH = 0.02
"""Share of events that are a new user's first."""


@dataclasses.dataclass
class Load:
    """What to send, and where."""

    url: str | None = None
    """The server, on this machine; else one is started and ended."""
    clients: int = 50
    """Clients at once, 500 at most, each with one connection."""
    rate: float = 320.0
    """Requests a second that fall due, of all clients together; 0: each asks again once it has its answer."""
    seconds: float = 30.0
    """How long requests fall due, 600 at most; what is behind then is still sent."""
    rank: int = 32
    """Factors of the model that is served."""
    seed: int = 0
    """Seed of the requests."""
    key: str | None = None
    """Key of a server that asks for one."""
    json: Path | None = None
    """File for the numbers."""


@dataclasses.dataclass
class Client:
    """One connection, which stays open."""

    host: str
    port: int
    key: str | None
    every: float
    random: random.Random
    films: list[int]
    users: list[int]
    taken: dict[str, list[float]]
    errors: list[str]

    async def run(self, until: float) -> None:
        """Ask until then, every so many seconds from some moment of the first of them on."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            await self._ask(reader, writer, until)
        finally:
            writer.close()
        await writer.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float) -> None:
        due = time.perf_counter() + self.random.random() * self.every
        while due < until:
            kind, head, body = self.request()
            await asyncio.sleep(due - time.perf_counter())
            began = due if self.every else time.perf_counter()
            writer.write(self.bytes(head, body))
            status, answer = await _answer(reader)
            self.taken[kind].append(time.perf_counter() - began)
            if status != 200 or (kind == "events" and b'"refused"' in answer):
                self.errors.append(f"{head}: {status} {answer[:200]!r}")
            due = due + self.every if self.every else time.perf_counter()

    def request(self) -> tuple[str, str, Any]:
        """A kind, a method with its path, and a body."""
        draw, rated = self.random.random(), self.random.sample(self.films, 5)
        user = self.random.choice(self.users)
        if draw < 0.2:
            stars = [{"item": film, "rating": self.random.randint(1, 10) / 2} for film in rated]
            return "session", "POST /session", {"ratings": stars}
        if draw < 0.2 + 0.8 / 3:
            if self.random.random() < FRESH:
                user = 10**9 + self.random.randrange(10**9)
            event = {"id": uuid.uuid4().hex, "kind": "rating", "user": user, "item": rated[0]}
            return "events", "POST /events", [event | {"rating": self.random.randint(1, 10) / 2}]
        if draw < 0.2 + 1.6 / 3:
            return "recommendations", f"GET /users/{user}/recommendations", None
        return "predictions", "POST /predictions", {"user": user, "items": rated}

    def bytes(self, head: str, body: Any) -> bytes:  # noqa: ANN401 any JSON
        """The request as it is sent."""
        text = b"" if body is None else json.dumps(body).encode()
        key = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        kind = f"content-type: application/json\r\ncontent-length: {len(text)}\r\n" if text else ""
        return f"{head} HTTP/1.1\r\nhost: {self.host}\r\n{key}{kind}\r\n".encode() + text


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def loaded(
    args: Load, url: str, *, films: list[int], users: list[int]
) -> tuple[dict[str, list[float]], list[str], float]:
    """Seconds by kind of request, errors, and how many seconds it took."""
    taken: dict[str, list[float]] = {kind: [] for kind in ("session", "events", "recommendations", "predictions")}
    errors: list[str] = []
    at, every = urlsplit(url), args.clients / args.rate if args.rate else 0.0
    where = at.hostname or "", at.port or 80, args.key, every
    randoms = [random.Random(f"{args.seed} {one}") for one in range(args.clients)]
    clients = [Client(*where, one, films, users, taken, errors) for one in randoms]
    began = time.perf_counter()
    ended = await asyncio.gather(*(one.run(began + args.seconds) for one in clients), return_exceptions=True)
    errors += [f"a client ended: {error!r}" for error in ended if error is not None]
    return taken, errors, time.perf_counter() - began


@contextlib.contextmanager
def served(args: Load) -> Iterator[str]:
    """The URL of a server, of one that is started where none is given."""
    if args.url is not None:
        yield args.url
        return
    with tempfile.TemporaryDirectory() as folder:
        begin, port = start.Start(Path(folder) / "start", rank=args.rank), _free_port()
        start.main(begin)
        command = [sys.executable, "-m", "jaxmf.live", f"{folder}/live", "--start", begin.out, "--port", port]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen([str(part) for part in command], stderr=log)
            try:
                _wait(process, port, log.name)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(process: subprocess.Popen, port: int, log: str) -> None:
    for _ in range(10 * PATIENCE):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise ValueError(f"the server did not start:\n{Path(log).read_text()[-2000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def check(args: Load) -> None:
    """Refuse a load that is none of this script's.

    Raises:
        ValueError: If there is too much of it, or the server is elsewhere.
    """
    if not (1 <= args.clients <= MOST_CLIENTS and 0 < args.seconds <= MOST_SECONDS):
        raise ValueError(
            f"{args.clients} clients for {args.seconds} s: give 1 to {MOST_CLIENTS}, and up to {MOST_SECONDS} s"
        )
    if not 0 <= args.rate < math.inf:
        raise ValueError(f"--rate {args.rate}: a number of requests a second, or 0 for as many as are answered")
    host = urlsplit(args.url or "http://127.0.0.1").hostname
    if host != "localhost" and not ipaddress.ip_address(host or "0.0.0.0").is_loopback:
        raise ValueError(f"--url {args.url}: a load is for a server on this machine, such as http://127.0.0.1:8000")


def main(args: Load) -> None:
    """Load, measure, tell."""
    check(args)
    if args.json is not None:
        common.check_writable(f"--json {args.json}", args.json)
    frame = jaxmf.datasets.movielens_small_frame()
    films, users = frame["movieId"].unique().tolist(), frame["userId"].unique().tolist()
    with served(args) as url:
        taken, errors, seconds = asyncio.run(loaded(args, url, films=films, users=users))
    for error in errors[:5]:
        common.say(f"error: {error}")
    result = measured(taken, errors, seconds)
    common.say("\n" + common.text(result))
    if args.json is not None:
        args.json.write_text(json.dumps(result) + "\n")


def measured(taken: dict[str, list[float]], errors: list[str], seconds: float) -> dict[str, float]:
    """The numbers of a run, after a table by kind of request.

    Raises:
        ValueError: If nothing was answered.
    """
    ms = {kind: 1e3 * np.array(times) for kind, times in taken.items() if times}
    if not ms:
        raise ValueError(f"nothing was answered; the first error: {errors[0] if errors else 'none'}")
    ms["all"] = np.concatenate(list(ms.values()))
    rows = [
        {
            "requests": kind,
            "number": len(of),
            "p50 ms": np.median(of),
            "p99 ms": np.percentile(of, 99),
            "max ms": of.max(),
        }
        for kind, of in ms.items()
    ]
    common.show(f"{seconds:.1f} s on {os.cpu_count()} cores", rows)
    return {
        "errors": len(errors),
        "p50_ms": float(np.median(ms["all"])),
        "p99_ms": float(np.percentile(ms["all"], 99)),
        "requests_per_second": len(ms["all"]) / seconds,
    }


if __name__ == "__main__":
    common.run(main, Load)
