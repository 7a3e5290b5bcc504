"""What answers requests: each method is a route."""

import uuid

from fastapi import HTTPException, Response

from jaxmf.live.answers import Unknown
from jaxmf.live.server.bodies import (
    Acknowledged,
    Events,
    InPath,
    Length,
    Pairs,
    Prediction,
    Score,
    Session,
    Why,
    named,
)
from jaxmf.live.server.metrics import Metrics
from jaxmf.live.server.work import Work


class Desk:
    """The questions of a model, by their routes."""

    def __init__(self, work: Work, metrics: Metrics) -> None:
        self._work, self._live, self._metrics = work, work.live, metrics

    async def tell(self, events: Events) -> list[Acknowledged]:
        """Tell of events, and hear what became of each once it is on disk; one that is refused stops no other."""
        acks = await self._work.tell.do([event.model_dump(exclude_unset=True) for event in events])
        self._metrics.told(acks)
        return [Acknowledged.of(ack) for ack in acks]

    async def leave(self, user: InPath) -> Acknowledged:
        """A user leaves: nothing of theirs is kept, in no file."""
        event = {"id": uuid.uuid4().hex, "kind": "user", "user": named(user, self._live.kinds["user"])}
        (ack,) = acks = await self._work.tell.do([event])
        self._metrics.told(acks)
        if ack.status == "refused":
            raise Unknown(ack.reason)
        return Acknowledged.of(ack)

    async def recommend(self, user: InPath, n: Length = 10) -> list[Score]:
        """The items with the highest predictions for a user; a stranger's are those of the average one."""
        found = await self._work.recommend.do((named(user, self._live.kinds["user"]), n))
        return [Score.of(one) for one in found]

    async def explain(self, user: InPath, item: InPath) -> list[Why]:
        """Each rating of a user by what it adds to the prediction of an item, the largest first."""
        kinds = self._live.kinds
        asked = named(user, kinds["user"]), named(item, kinds["item"])
        return [Why.of(one) for one in await self._work.others.do(lambda: self._live.explain(*asked))]

    async def similar(self, item: InPath, n: Length = 10) -> list[Score]:
        """The items nearest to one, and how near."""
        asked = named(item, self._live.kinds["item"])
        return [Score.of(one) for one in await self._work.others.do(lambda: self._live.similar(asked, n))]

    async def predict(self, pairs: Pairs) -> list[Prediction]:
        """What a user would rate items, and how sure that is; who or what is unknown stands at the prior mean."""
        return [Prediction.of(one) for one in await self._work.predict.do((pairs.user, pairs.items))]

    async def session(self, given: Session) -> list[Score]:
        """The best items for somebody of whom nothing is known but these ratings; nothing is kept."""
        ratings = {one.item: one.rating for one in given.ratings}
        return [Score.of(one) for one in await self._work.session.do((ratings, given.n))]

    async def numbers(self) -> Response:
        """Numbers for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def health(self) -> dict[str, str]:
        """Whether it can answer: not after an update that failed half-way."""
        if self._live.broken:
            raise HTTPException(503, "an update failed half-way: start the server again", {"Retry-After": "1"})
        return {"status": "ok"}
