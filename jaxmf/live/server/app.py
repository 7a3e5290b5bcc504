"""The server of a model: its routes, each a question of `jaxmf.live.Live` or events for it, and who may take them."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError

from jaxmf.live import Live
from jaxmf.live.answers import Unknown
from jaxmf.live.events import Id
from jaxmf.live.server.bodies import Acknowledged, Listed, Now, Prediction, Problem, Rated, Score, Why
from jaxmf.live.server.catalogue import Catalogue
from jaxmf.live.server.desk import Desk
from jaxmf.live.server.door import Door
from jaxmf.live.server.keys import Keys
from jaxmf.live.server.metrics import Metrics
from jaxmf.live.server.page import add_page
from jaxmf.live.server.work import FullError, Room, Work

LOGGER = logging.getLogger(__name__)

REFUSALS = {
    400: "a body that is no JSON",
    401: "no key, or an unknown one",
    403: "a key that may not do this",
    404: "an id of which nothing is known",
    408: "a body that did not arrive",
    413: "a body that is too large",
    422: "a request that makes no sense",
    500: "a fault of the server's, which its log has under the id that is named",
    503: "more requests than can wait, or a log that can't be written",
}

ROUTES = {
    "write": (
        ("POST", "/events", Desk.tell, list[Acknowledged]),
        ("DELETE", "/users/{user}", Desk.leave, Acknowledged),
    ),
    "read": (
        ("POST", "/predictions", Desk.predict, list[Prediction]),
        ("POST", "/session", Desk.session, list[Score]),
        ("GET", "/users/{user}/recommendations", Desk.recommend, list[Score]),
        ("GET", "/users/{user}/reasons/{item}", Desk.explain, list[Why]),
        ("GET", "/users/{user}/ratings", Desk.ratings, list[Rated]),
        ("GET", "/items", Desk.search, list[Listed]),
        ("GET", "/items/{item}/similar", Desk.similar, list[Score]),
        ("POST", "/titles", Desk.titles, list[Listed]),
        ("GET", "/state", Desk.state, Now),
    ),
}
"""Method, path, what answers and what that looks like, by the scope of the key that it takes."""

SHOWN = 5
"""Most faults of a request that one answer tells of."""


def application(
    live: Live, *, keys: Keys | None = None, room: Room = Room(), titles: Mapping[Id, str] | None = None
) -> FastAPI:
    """The server of a model, which it closes, saved, when it ends.

    Args:
        live: The model.
        keys: Who may ask and tell; else everybody.
        room: How much may wait before others are sent away.
        titles: What items are called, by which they are found and shown on the page; without one it is the id.
    """
    work = Work(live, room)
    metrics = Metrics(work)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await work.close()

    version = metadata.version("jaxmf")
    app = FastAPI(title="jaxmf", version=version, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    _add_routes(app, Desk(work, metrics, Catalogue(titles)), keys)
    add_page(app)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(ValueError, _refused)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(SQLAlchemyError, _unwritten)
    app.add_middleware(Door, answered=metrics.answered)
    return app


def _add_routes(app: FastAPI, desk: Desk, keys: Keys | None) -> None:
    responses: dict[int | str, Any] = {
        status: {"model": Problem, "description": why} for status, why in REFUSALS.items()
    }
    may = {scope: [] if keys is None else [Depends(_may(scope, keys))] for scope in ROUTES}
    for scope, routes in ROUTES.items():
        for method, path, answer, shape in routes:
            bound, settings = getattr(desk, answer.__name__), {"responses": responses, "dependencies": may[scope]}
            app.add_api_route(path, bound, methods=[method], response_model=shape, **settings)
    text = {200: {"content": {"text/plain": {}}}}
    app.add_api_route(
        "/metrics", desk.numbers, response_class=Response, responses=responses | text, dependencies=may["read"]
    )
    app.add_api_route("/health", desk.health, responses={503: responses[503]})


def _may(scope: str, keys: Keys) -> Callable[..., Awaitable[None]]:
    """A check that the request's key may do what a scope names."""

    async def check(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
    ) -> None:
        holder = None if given is None else keys.holder(given.credentials)
        if holder is None:
            detail = "no key, or an unknown one: send the header `Authorization: Bearer KEY`"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        request.state.key = holder.name
        if scope not in holder.scopes:
            raise HTTPException(403, f"this key may not {scope}: use one whose scopes have {scope}")

    return check


async def _not_understood(_: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = [f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults[:SHOWN]]
    return JSONResponse({"detail": "; ".join(said).encode("utf-8", "backslashreplace").decode()}, 422)


def _place(loc: Sequence[str | int]) -> str:
    """Where a fault is, without the names that Pydantic has for the kinds of an id."""
    return ".".join(str(part) for part in loc if not str(part).startswith(("function-", "constrained-")))


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, Unknown) else 422)


async def _full(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})


async def _unwritten(_: Request, error: Exception) -> Response:
    LOGGER.error("the log can't be written: %s", error)
    detail = "the log can't be written now: tell the same events again later; what was kept all the same is then known"
    return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})
