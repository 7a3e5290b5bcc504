"""What Prometheus is told of a server: how many requests, how long they take, what becomes of events, who waits."""

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from jaxmf.live import Ack
from jaxmf.live.server.work import Work

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the histogram's buckets, in seconds."""


class Metrics:
    """The numbers of one server."""

    def __init__(self, work: Work) -> None:
        self._registry = CollectorRegistry()
        settings = {"namespace": "jaxmf", "registry": self._registry}
        self._requests = Counter("requests", "Requests.", ["method", "route", "status"], **settings)
        self._seconds = Histogram("request_seconds", "Their time.", ["route"], buckets=BUCKETS, **settings)
        self._events = Counter("events", "Events, by what became of them.", ["status"], **settings)
        waiting = Gauge("waiting", "What waits: events to be told, questions to be asked.", ["what"], **settings)
        waiting.labels("events").set_function(lambda: work.tell.waiting)
        waiting.labels("questions").set_function(lambda: work.asking)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def told(self, acks: Iterable[Ack]) -> None:
        """Count events."""
        for status, number in Count(ack.status for ack in acks).items():
            self._events.labels(status).inc(number)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)
