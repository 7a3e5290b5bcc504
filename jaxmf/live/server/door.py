"""The door of the server: bodies of a bounded size, a line of log a request, and no error that tells of the inside."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 2**20
"""Bytes of the largest body."""

PATIENCE = 10.0
"""Seconds that a body may take to arrive."""

ACCESS = logging.getLogger("jaxmf.live.server.access")
LOGGER = logging.getLogger(__name__)


class Door:
    """What every request comes in by and every answer goes out by.

    Paths are matched as they are sent, so that a slash in an id, as %2F, is none of the path's. The log has routes and
    no ids: whoever leaves has left it too.
    """

    def __init__(self, app: ASGIApp, answered: Callable[[str, str, int, float], None]) -> None:
        """Before `app`; `answered` is told of each request its method, route, status and seconds."""
        self._app, self._answered = app, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, answer = time.perf_counter(), _Answer(send)
        scope["path"] = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        scope.setdefault("state", {})["request"] = answer.id
        try:
            await self._let_in(scope, receive, answer)
        except Exception:
            LOGGER.exception("request %s failed", answer.id)
            if not answer.status:
                detail = f"something went wrong here; the log has it as {answer.id}"
                await _refuse(500, detail)(scope, receive, answer)
        finally:
            self._note(scope, answer, time.perf_counter() - began)

    async def _let_in(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = dict(scope["headers"])
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return await self._app(scope, receive, answer)
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(headers, receive)
        except TimeoutError:
            await _refuse(408, f"the body did not arrive within {PATIENCE:g} s")(scope, receive, answer)
            return None
        if body is None:
            detail = f"the body is larger than {LARGEST_BODY:,} bytes: send it in parts"
            await _refuse(413, detail, close=True)(scope, receive, answer)
            return None
        return await self._app(scope, _again(body, receive), answer)

    def _note(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        method, route = scope["method"], getattr(scope.get("route"), "path", "none")
        self._answered(method, route, answer.status, seconds)
        said = {"request": answer.id, "method": method, "route": route, "status": answer.status}
        said |= {"ms": round(1e3 * seconds, 2), "key": scope["state"].get("key")}
        ACCESS.info(said)


class _Answer:
    """A way out that knows its request's id and remembers the status."""

    def __init__(self, send: Send) -> None:
        # Not by `uuid`, whose system call gives other threads a turn: to get it back takes longer than all else here.
        self.id, self.status, self._send = f"{random.getrandbits(128):032x}", 0, send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
        await self._send(message)


async def _body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
    """The whole body; `None` where it is too large."""
    said = headers.get(b"content-length", b"0")
    if not said.isdigit() or int(said[:20]) > LARGEST_BODY:
        return None
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body as one message, and then whatever comes."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def one() -> Message:
        return messages.pop() if messages else await receive()

    return one


def _refuse(status: int, detail: str, *, close: bool = False) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers={"connection": "close"} if close else None)
