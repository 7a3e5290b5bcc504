"""What Prometheus is told of a server: how many requests, how long they take, what becomes of events, who waits."""

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from jaxmf.live import Ack
from jaxmf.live.server.lately import Lately
from jaxmf.live.server.work import Work

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the histogram's buckets, in seconds."""


NONE = float("nan")
"""What Prometheus takes for no number."""


class Metrics:
    """The numbers of one server."""

    def __init__(self, work: Work) -> None:
        self._registry, self._work, self._lately = CollectorRegistry(), work, Lately()
        settings = {"namespace": "jaxmf", "registry": self._registry}
        self._requests = Counter("requests", "Requests.", ["method", "route", "status"], **settings)
        self._seconds = Histogram("request_seconds", "Their time.", ["route"], buckets=BUCKETS, **settings)
        self._events = Counter("events", "Events, by what became of them.", ["status"], **settings)
        waiting = Gauge("waiting", "What waits: events to be told, questions to be asked.", ["what"], **settings)
        waiting.labels("events").set_function(lambda: work.tell.waiting)
        waiting.labels("questions").set_function(lambda: work.asking)
        errors = Gauge("rmse", "Errors of predictions made before each rating was learnt.", ["ratings"], **settings)
        errors.labels("first").set_function(lambda: NONE if (error := work.live.drift.first) is None else error)
        errors.labels("last").set_function(lambda: NONE if (error := work.live.drift.last) is None else error)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)
        if route == "/events" and status == 200:
            self._lately.took(seconds)

    def told(self, acks: Iterable[Ack]) -> None:
        """Count events."""
        counts = Count(ack.status for ack in acks)
        for status, number in counts.items():
            self._events.labels(status).inc(number)
        self._lately.told(counts["learnt"])

    def stream(self) -> dict[str, float | None]:
        """How the stream goes, as `jaxmf.live.server.bodies.Stream`."""
        drift, (median, p99) = self._work.live.drift, self._lately.milliseconds(0.5, 0.99)
        return {
            "events_a_second": self._lately.events_a_second(),
            "median_ms": median,
            "p99_ms": p99,
            "waiting": self._work.tell.waiting,
            "rated": drift.seen,
            "rmse_first": drift.first,
            "rmse_last": drift.last,
        }

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)
