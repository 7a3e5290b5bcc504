"""What answers requests: each method is a route."""

import uuid
from collections.abc import Iterable

from fastapi import HTTPException, Response
from fastapi.responses import JSONResponse

from jaxmf.live.answers import Predicted, Rated, Reason, Scored, Unknown
from jaxmf.live.intake import Ack
from jaxmf.live.server.bodies import Events, InPath, Items, Length, Pairs, Session, Words, named
from jaxmf.live.server.catalogue import Catalogue, Listed
from jaxmf.live.server.metrics import Metrics
from jaxmf.live.server.work import Work

NINETY = 1.6448536269514722
"""Standard deviations on either side of a normal mean that 90 % lie within."""


class Desk:
    """The questions of a model, by their routes; `jaxmf.live.server.bodies` says what the answers look like."""

    def __init__(self, work: Work, metrics: Metrics, catalogue: Catalogue) -> None:
        self._work, self._live, self._metrics, self._catalogue = work, work.live, metrics, catalogue

    async def tell(self, events: Events) -> Response:
        """Tell of events, and hear what became of each once it is on disk; one that is refused stops no other."""
        acks = await self._work.tell.do([event.model_dump(exclude_unset=True, exclude_none=True) for event in events])
        self._metrics.told(acks)
        return _json(acks)

    async def leave(self, user: InPath) -> Response:
        """A user leaves: nothing of theirs is kept, in no file."""
        event = {"id": uuid.uuid4().hex, "kind": "user", "user": named(user, self._live.kinds["user"])}
        (ack,) = acks = await self._work.tell.do([event])
        self._metrics.told(acks)
        if ack.status == "refused":
            raise Unknown(ack.reason)
        return JSONResponse(ack._asdict())

    async def recommend(self, user: InPath, n: Length = 10) -> Response:
        """The items with the highest predictions for a user; a stranger's are those of the average one."""
        found = await self._work.recommend.do((named(user, self._live.kinds["user"]), n))
        return _json(found)

    async def explain(self, user: InPath, item: InPath) -> Response:
        """Each rating of a user by what it adds to the prediction of an item, the largest first."""
        kinds = self._live.kinds
        asked = named(user, kinds["user"]), named(item, kinds["item"])
        return _json(await self._work.others.do(lambda: self._live.explain(*asked)))

    async def similar(self, item: InPath, n: Length = 10) -> Response:
        """The items nearest to one, and how near."""
        asked = named(item, self._live.kinds["item"])
        return _json(await self._work.others.do(lambda: self._live.similar(asked, n)))

    async def predict(self, pairs: Pairs) -> Response:
        """What a user would rate items, and how sure that is; who or what is unknown stands at the prior mean."""
        found = await self._work.predict.do((pairs.user, pairs.items))
        return JSONResponse([one._asdict() | interval(one) for one in found])

    async def session(self, given: Session) -> Response:
        """The best items for somebody of whom nothing is known but these ratings; nothing is kept."""
        ratings = {one.item: one.rating for one in given.ratings}
        return _json(await self._work.session.do((ratings, given.n)))

    async def ratings(self, user: InPath) -> Response:
        """What is known of a user: all their ratings; a stranger has none."""
        asked = named(user, self._live.kinds["user"])
        return _json(await self._work.others.do(lambda: self._live.ratings(asked)))

    async def search(self, search: Words = "", n: Length = 10) -> Response:
        """The items that a text fits best, of which it is the id or has words of the title."""
        return _json(await self._work.others.do(lambda: self._catalogue.search(search, n, self._live.counts())))

    async def titles(self, given: Items) -> Response:
        """What items are called, and how many ratings they have."""
        return _json(await self._work.others.do(lambda: self._catalogue.listed(self._live.counts(given.items))))

    async def state(self) -> Response:
        """What the model is just now, and how its stream goes."""
        about = await self._work.others.do(self._live.about)
        return JSONResponse({"model": about._asdict(), "stream": self._metrics.stream()})

    async def numbers(self) -> Response:
        """Numbers for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def health(self) -> dict[str, str]:
        """Whether it can answer: not after an update that failed half-way."""
        if self._live.broken:
            raise HTTPException(503, "an update failed half-way: start the server again", {"Retry-After": "1"})
        return {"status": "ok"}


def interval(one: Predicted) -> dict[str, float | None]:
    """What 90 % of such ratings lie within, if their standard deviation is known.

    Example:
        >>> interval(Predicted("a", 4.0, 1.0))
        {'low': 2.3551463730485276, 'high': 5.644853626951472}
    """
    if one.std is None:
        return {"low": None, "high": None}
    return {"low": one.rating - NINETY * one.std, "high": one.rating + NINETY * one.std}


def _json(rows: Iterable[Ack | Listed | Rated | Scored | Reason]) -> Response:
    return JSONResponse([row._asdict() for row in rows])
