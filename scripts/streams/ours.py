"""jaxmf on a stream: rows that follow every rating, and a fit of the whole whenever it has grown by enough."""

import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

import jaxmf
from jaxmf.live import answers
from jaxmf.live.events import Event
from jaxmf.live.refit import anew, refitted
from jaxmf.live.state import State
from jaxmf.training import loop

SAMPLE = 20
"""Of how many batches the standard deviation about one prediction is looked at."""
RANK = 16
Kind = Literal["point", "posterior"]


class Stream(NamedTuple):
    """Ratings in order of time, and the scale that they are on."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    scale: tuple[float, float]

    @classmethod
    def of(cls, data: jaxmf.ratings.Dataset) -> "Stream":
        """The ratings of a data set with times."""
        order = np.argsort(data.timestamp, kind="stable")
        ratings = data.ratings.take(order)
        rating = np.asarray(ratings.rating, np.float64)
        return cls(ratings.user, ratings.item, rating, (float(rating.min()), float(rating.max())))

    def until(self, n: int) -> "Stream":
        """Its first `n` ratings."""
        return self._replace(user=self.user[:n], item=self.item[:n], rating=self.rating[:n])

    def frame(self, start: int, stop: int) -> pd.DataFrame:
        """Some of them as a frame."""
        part = slice(start, stop)
        return pd.DataFrame({"user": self.user[part], "item": self.item[part], "rating": self.rating[part]})

    def events(self, start: int, stop: int) -> list[Event]:
        """Ratings as events."""
        rows = zip(self.user[start:stop], self.item[start:stop], self.rating[start:stop], strict=True)
        return [
            Event(str(at), "rating", int(user), int(item), float(rating))
            for at, (user, item, rating) in enumerate(rows, start)
        ]


class Pace(NamedTuple):
    """How often what is done.

    Attributes:
        size: Ratings that are predicted and then learnt at a time.
        begin: Ratings before the first fit.
        growth: Share by which they have grown when all is fitted anew.
    """

    size: int
    begin: int
    growth: float


class Course(NamedTuple):
    """What was predicted of a stream before it was learnt.

    Attributes:
        online: By rows that followed every batch.
        fitted: By the last fit alone.
        std: Standard deviations of ratings about `online`, where they were looked at; else NaN.
        seconds: Of predicting and learning online.
        fit_seconds: Of fits.
        kept: What the state was at the instants that were asked for.
    """

    online: np.ndarray
    fitted: np.ndarray
    std: np.ndarray
    seconds: float
    fit_seconds: float
    kept: dict[int, jaxmf.Recommender]


def replay(stream: Stream, kind: Kind, pace: Pace, *, keep: Sequence[int] = ()) -> Course:
    """Predict and then learn each batch, and now and then fit all anew; keep what is known after so many ratings."""
    size, n, due = pace.size, len(stream.user), pace.size * max(1, pace.begin // pace.size)
    fitted, std, kept = np.zeros(n), np.full(n, np.nan), {}
    online = np.cumsum(stream.rating) - stream.rating + np.mean(stream.scale)  # until there is a fit the mean so far
    online /= 1 + np.arange(n)
    fitted[:due] = online[:due]
    began, begin, seconds = time.perf_counter(), due, 0.0
    state, fit_seconds = first(stream, due, kind), time.perf_counter() - began
    for batch, start in enumerate(tqdm(range(due, n, size), disable=None, leave=False, unit=" batches")):
        stop, began = min(n, start + size), time.perf_counter()
        if start >= due:
            if start > begin:
                forget_programs()
                state = anew(state)
            due = max(start + size, size * -(-int(start * (1 + pace.growth)) // size))
            last, fit_seconds = state.recommender(), fit_seconds + time.perf_counter() - began
            fitted[start:due] = last.predict(stream.frame(start, due))
            began = time.perf_counter()
        users, items = state.user.ids.rows(stream.user[start:stop]), state.item.ids.rows(stream.item[start:stop])
        online[start:stop] = answers.expected(state, users, items)
        if batch % SAMPLE == 0:
            std[start] = answers.spread(state, users[:1], items[:1])[0]
        state.learn(stop, stream.events(start, stop))
        seconds += time.perf_counter() - began
        kept |= {at: state.recommender() for at in keep if start < at <= stop}
    return Course(online, fitted, std, seconds, fit_seconds, kept)


def forget_programs() -> None:
    """Let compiled programs go, of which a process has room for some thousands: each fit is of sizes of its own."""
    jax.clear_caches()
    loop.program.cache_clear()


def first(stream: Stream, n: int, kind: Kind) -> State:
    """A state fitted to the first `n` ratings: the paper's kernel by ALS, or a linear one with implicit feedback."""
    kernel = jaxmf.kernels.for_range(*stream.scale, "logistic" if kind == "point" else "linear")
    how = {"method": "als"} if kind == "point" else {"method": "gibbs", "implicit": True}
    return State(jaxmf.Recommender.fit(stream.frame(0, n), rank=RANK, kernel=kernel, **how))


def against_refit(stream: Stream, kept: Mapping[int, jaxmf.Recommender], after: int) -> list[dict[str, float]]:
    """The online state and a fit of all that it knew, at the same instants: RMSE on the ratings that came next."""

    def rmse(known: jaxmf.Recommender, at: int) -> float:
        predicted = np.clip(known.predict(stream.frame(at, at + after)), *stream.scale)
        return jaxmf.metrics.rmse(predicted, stream.rating[at : at + after])

    found = []
    for at, known in sorted(kept.items()):
        forget_programs()
        found.append({"seen": at, "online": rmse(known, at), "refit": rmse(refitted(known), at)})
    return found
