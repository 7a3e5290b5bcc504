"""The load script: what it sends is answered, what fails is told, and a late answer counts from when it was due."""

import asyncio
import random
import time

import load
import numpy as np
import pandas as pd
import pytest
from load import Client, Load
from web import served

import jaxmf
from jaxmf.live import Live

FILMS, USERS = list(range(12)), list(range(30))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    rng = np.random.default_rng(0)
    pairs = rng.permutation(len(USERS) * len(FILMS))
    rating = rng.integers(1, 11, len(pairs)) / 2
    frame = pd.DataFrame({"user": pairs // len(FILMS), "item": pairs % len(FILMS), "rating": rating})
    return Live.create(tmp_path_factory.mktemp("load") / "model", jaxmf.Recommender.fit(frame, rank=2, epochs=2))


@pytest.fixture(scope="module")
def url(live):
    """Of a server that has compiled what it will be asked for."""
    with served(live) as url:
        asyncio.run(load.loaded(Load(clients=8, seconds=6, rate=0), url, films=FILMS, users=USERS))
        yield url


@pytest.mark.parametrize("rate", [0, 20])
def test_every_kind_of_request_is_answered(live, url, rate):
    before = live.about().batches
    args = Load(clients=4, seconds=3, rate=rate)
    for _ in range(5):  # kinds are drawn at random, and on a busy machine few are answered
        taken, errors, seconds = asyncio.run(load.loaded(args, url, films=FILMS, users=USERS))
        if all(taken.values()):
            break
    assert live.about().batches > before
    found = load.measured(taken, errors, seconds)
    assert errors == []
    assert all(taken.values())
    assert found["errors"] == 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["requests_per_second"] == pytest.approx(sum(map(len, taken.values())) / seconds)
    if rate:
        assert sum(map(len, taken.values())) == pytest.approx(rate * args.seconds, abs=args.clients)


def test_an_answer_that_is_no_success_is_an_error_with_its_text(url):
    args = Load(clients=1, seconds=2, rate=10)
    _, errors, _ = asyncio.run(load.loaded(args, url, films=[*range(900, 910)], users=USERS))
    assert any("session: 404" in error and "is not known" in error for error in errors)


def test_where_nothing_is_answered_it_says_why():
    taken, errors, seconds = asyncio.run(
        load.loaded(Load(clients=2, seconds=0.1), "http://127.0.0.1:9", films=FILMS, users=USERS)
    )
    with pytest.raises(ValueError, match="nothing was answered; the first error: a client ended: ConnectionRefused"):
        load.measured(taken, errors, seconds)


def test_a_late_answer_counts_from_when_it_was_due():
    """One answer of .3 s, with three more due meanwhile: the wait for it is theirs too."""

    async def answers(reader, writer):
        for number in range(5):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.3 if number == 0 else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
        writer.close()

    async def run():
        async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
            client = Client(*server.sockets[0].getsockname(), None, 0.1, random.Random(0), FILMS, USERS, {}, [])
            client.request = lambda: ("any", "GET /", None)
            client.taken["any"] = []
            with pytest.raises(asyncio.IncompleteReadError):
                await client.run(time.perf_counter() + 60)
            return client.taken["any"]

    first, second, third, *_ = asyncio.run(run())
    assert first >= 0.3
    assert second > 0.15
    assert third > 0.05


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clients": 0}, "give 1 to 500"),
        ({"seconds": 1e9}, "up to 600 s"),
        ({"rate": -1}, "--rate -1: a number of requests a second, or 0"),
        ({"url": "http://192.0.2.7"}, "a load is for a server on this machine"),
    ],
)
def test_a_load_that_is_none_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        load.check(Load(**wrong))
