"""The routes of the server, each a question of `jaxmf.live.Live`, or events for it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from jaxmf.live import Live
from jaxmf.live.answers import Unknown
from jaxmf.live.server.bodies import (
    Acknowledged,
    Events,
    InPath,
    Length,
    Pairs,
    Prediction,
    Problem,
    Score,
    Session,
    Why,
    named,
)
from jaxmf.live.server.door import Door
from jaxmf.live.server.keys import Keys
from jaxmf.live.server.metrics import Metrics
from jaxmf.live.server.work import FullError, Room, Work

REFUSALS = {401: "no key", 403: "not with this key", 413: "too large", 422: "not understood", 503: "too busy"}
RESPONSES = {status: {"model": Problem, "description": why} for status, why in REFUSALS.items()}
UNKNOWN = {404: {"model": Problem, "description": "unknown"}}
SHOWN = 5
"""Most faults of a body that one answer tells of."""


class Desk(NamedTuple):
    """What the routes work with."""

    work: Work
    metrics: Metrics
    keys: Keys | None


def application(live: Live, *, keys: Keys | None = None, room: Room = Room()) -> FastAPI:
    """The server of a model, which it closes, saved, when it ends.

    Args:
        live: The model.
        keys: Who may ask and tell; else everybody.
        room: How much may wait before others are sent away.
    """
    work = Work(live, room)
    desk = Desk(work, Metrics(work), keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await work.close()

    app = FastAPI(
        title="jaxmf",
        version=metadata.version("jaxmf"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.include_router(READ)
    app.include_router(WRITE)
    app.include_router(OPEN)
    for error, handler in HANDLERS.items():
        app.add_exception_handler(error, handler)
    app.add_middleware(Door, answered=desk.metrics.answered)
    return app


def _desk(request: Request) -> Desk:
    return request.app.state.desk


AtDesk = Annotated[Desk, Depends(_desk)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def _may(scope: str) -> Callable[..., Awaitable[None]]:
    """A check that the request's key may do what a scope names."""

    async def check(request: Request, desk: AtDesk, given: Bearer) -> None:
        if desk.keys is None:
            return
        holder = None if given is None else desk.keys.holder(given.credentials)
        if holder is None:
            detail = "no key, or an unknown one: send `Authorization: Bearer KEY`"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        request.state.key = holder.name
        if scope not in holder.scopes:
            raise HTTPException(403, f"this key may not {scope}: ask for one whose scopes have {scope}")

    return check


READ = APIRouter(responses=RESPONSES, dependencies=[Depends(_may("read"))])
WRITE = APIRouter(responses=RESPONSES, dependencies=[Depends(_may("write"))])
OPEN = APIRouter()


@WRITE.post("/events")
async def tell(events: Events, desk: AtDesk) -> list[Acknowledged]:
    """Tell of events, and hear what became of each once it is on disk; one that is refused stops none of the others."""
    acks = await desk.work.tell.do([event.model_dump(exclude_unset=True) for event in events])
    desk.metrics.told(acks)
    return [Acknowledged.of(ack) for ack in acks]


@WRITE.delete("/users/{user}", responses=UNKNOWN)
async def leave(user: InPath, desk: AtDesk) -> Acknowledged:
    """A user leaves: nothing of theirs is kept, in no file."""
    known = named(user, desk.work.live.kinds["user"])
    (ack,) = acks = await desk.work.tell.do([{"id": uuid.uuid4().hex, "kind": "user", "user": known}])
    desk.metrics.told(acks)
    if ack.status == "refused":
        raise Unknown(ack.reason)
    return Acknowledged.of(ack)


@READ.get("/users/{user}/recommendations")
async def recommend(user: InPath, desk: AtDesk, n: Length = 10) -> list[Score]:
    """The items with the highest predictions for a user; a stranger's are those of the average one."""
    found = await desk.work.recommend.do((named(user, desk.work.live.kinds["user"]), n))
    return [Score.of(one) for one in found]


@READ.get("/users/{user}/reasons/{item}", responses=UNKNOWN)
async def explain(user: InPath, item: InPath, desk: AtDesk) -> list[Why]:
    """Each rating of a user by what it adds to the prediction of an item, the largest first."""
    live, kinds = desk.work.live, desk.work.live.kinds
    asked = named(user, kinds["user"]), named(item, kinds["item"])
    return [Why.of(one) for one in await desk.work.others.do(lambda: live.explain(*asked))]


@READ.get("/items/{item}/similar", responses=UNKNOWN)
async def similar(item: InPath, desk: AtDesk, n: Length = 10) -> list[Score]:
    """The items nearest to one, and how near."""
    live = desk.work.live
    asked = named(item, live.kinds["item"])
    return [Score.of(one) for one in await desk.work.others.do(lambda: live.similar(asked, n))]


@READ.post("/predictions")
async def predict(pairs: Pairs, desk: AtDesk) -> list[Prediction]:
    """What a user would rate items, and how sure that is; who or what is unknown stands at the prior mean."""
    return [Prediction.of(one) for one in await desk.work.predict.do((pairs.user, pairs.items))]


@READ.post("/session", responses=UNKNOWN)
async def session(given: Session, desk: AtDesk) -> list[Score]:
    """The best items for somebody of whom nothing is known but these ratings; nothing is kept."""
    ratings = {one.item: one.rating for one in given.ratings}
    return [Score.of(one) for one in await desk.work.session.do((ratings, given.n))]


@READ.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(desk: AtDesk) -> Response:
    """Numbers for Prometheus."""
    return Response(desk.metrics.text(), media_type="text/plain; version=0.0.4")


@OPEN.get("/health")
async def health() -> dict[str, str]:
    """That it answers."""
    return {"status": "ok"}


async def _not_understood(_: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:SHOWN]]
    return JSONResponse({"detail": "; ".join(said).encode("utf-8", "backslashreplace").decode()}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, Unknown) else 422)


async def _busy(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})


HANDLERS = {RequestValidationError: _not_understood, ValueError: _refused, FullError: _busy}
