"""A model that lives: what it was told is kept, learnt once, and there again after a crash, bit for bit."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxmf
from jaxmf.live import Live
from jaxmf.live.chores import Chores
from jaxmf.live.drift import WINDOW, Drift
from jaxmf.live.events import Event, parse
from jaxmf.live.ledger import Ledger
from jaxmf.live.log import Log
from jaxmf.live.mood import KEEP, SHARE, Mood
from jaxmf.live.state import State

RNG = np.random.default_rng(0)
PAIRS = np.unique(RNG.integers(0, 20 * 15, 220))
FRAME = pd.DataFrame(
    {"user": PAIRS // 15, "item": PAIRS % 15, "rating": RNG.integers(1, 6, len(PAIRS)).astype(np.float32)}
)


def fitted(kind="als"):
    if kind == "clicks":
        return jaxmf.Recommender.fit(FRAME.drop(columns="rating"), rating=None, rank=4)
    method = {"method": "gibbs", "epochs": 12} if kind == "gibbs" else {"epochs": 6}
    return jaxmf.Recommender.fit(FRAME, rank=4, implicit=kind == "implicit", **method)


@pytest.fixture(scope="module", params=["als", "gibbs", "clicks", "implicit"])
def start(request):
    return fitted(request.param)


def happening(n, *, clicks=False, seed=1):
    """Events of every kind, of users and items known, new and gone."""
    rng, found = np.random.default_rng(seed), []
    for at in range(n):
        user, item = int(rng.integers(0, 26)), int(rng.integers(0, 19))
        kind = rng.choice(["told", "told", "told", "told", "told", "told", "told", "removal", "user", "item"])
        event = {"id": f"e{at}", "kind": str(kind)}
        if kind == "told":
            event |= {"kind": "click"} if clicks else {"kind": "rating", "rating": float(rng.integers(1, 6))}
        event |= {} if kind == "item" else {"user": user}
        event |= {} if kind == "user" else {"item": item}
        found.append(event)
    return found


def told(live, events, sizes=(1, 3, 2, 7)):
    """The events told in batches of changing size."""
    at, turn, acks = 0, 0, []
    while at < len(events):
        acks += live.tell(events[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    return acks


def crashed(folder):
    """The model of a folder as a power cut would leave it."""
    copy = folder.with_name(f"{folder.name}-{len(list(folder.parent.iterdir()))}")
    shutil.copytree(folder, copy)
    return Live.open(copy)


def same(one, other):
    """Whether two recommenders are the same, bit for bit."""
    assert one.users == other.users
    assert one.items == other.items
    assert one.scale == other.scale
    trees = [jax.tree.leaves((known.model.params, known.ratings)) for known in (one, other)]
    for left, right in zip(*trees, strict=True):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (5, "mapping of names"),
        ({"kind": "wave", "id": "a"}, "kind 'wave'"),
        ({"kind": "user", "id": "a"}, "user is missing"),
        ({"kind": "user", "id": "", "user": 1}, "1 to 256 characters"),
        ({"kind": "user", "id": "a", "user": True}, "user True"),
        ({"kind": "user", "id": "a", "user": "x" * 10_000}, "1 to 256 characters"),
        ({"kind": "user", "id": "a", "user": 1, "item": 2}, "'item' is no field"),
        ({"kind": "rating", "id": "a", "user": 1, "item": 2, "rating": float("nan")}, "a number from"),
        ({"kind": "rating", "id": "a", "user": 1, "item": 2, "rating": 3, "weight": -1}, "weight -1.0"),
    ],
)
def test_a_document_that_is_no_event_is_refused_by_its_field(document, said):
    with pytest.raises(ValueError, match=said):
        parse(document)


@pytest.mark.parametrize("kind", ["rating", "click", "removal", "user", "item"])
def test_an_event_is_what_its_document_says(kind):
    event = Event("a", kind, None if kind == "item" else "ann", None if kind == "user" else 3, time=1.5)
    assert parse(json.loads(json.dumps(event.document()))) == event


def test_a_mood_is_what_the_normal_equations_of_all_errors_say():
    """Of errors e = m + noise, m stationary with ρ^|i − j| between two: the filter is their best linear prediction."""
    errors, weights = RNG.normal(size=12), RNG.uniform(0.5, 2, 12)
    mood = Mood(rows=1)
    for error, weight in zip(errors, weights, strict=True):
        mood.learn(0, float(error), float(weight))
    at = np.arange(13)
    together = SHARE * KEEP ** np.abs(at[:, None] - at)
    known = together[:12, :12] + np.diag(1 / weights)
    expected = together[12, :12] @ np.linalg.solve(known, errors)
    np.testing.assert_allclose(mood.expected(np.array([0])), expected, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "put", "add", "remove", "clear"]), st.integers(0, 3), st.integers(0, 9)
        ),
        max_size=120,
    )
)
def test_a_ledger_holds_what_a_dict_would(changes):
    ledger, plain = Ledger(rows=4), {row: {} for row in range(4)}
    for at, (change, row, other) in enumerate(changes):
        before = len(ledger)
        if change in ("put", "add"):
            more = ledger.put(row, other, 1.0, at, add=change == "add")
            old = plain[row].get(other, 0.0) if change == "add" else 0.0
            if at or change == "put":
                plain[row][other] = old + at
        elif change == "remove":
            more = -ledger.remove(row, other)
            plain[row].pop(other, None)
        else:
            more = -len(plain[row])
            ledger.clear(row)
            plain[row] = {}
        assert len(ledger) == before + more
    for row, of_row in plain.items():
        assert ledger.of(row)["other"].tolist() == sorted(of_row)
        assert ledger.of(row)["weight"].tolist() == [of_row[other] for other in sorted(of_row)]
    found = ledger.ratings(np.array([2, 0]), 10)
    assert list(zip(found.user, found.item, strict=True)) == [
        (place, other) for place, row in enumerate((2, 0)) for other in sorted(plain[row])
    ]


def test_the_log_keeps_batches_in_order_and_each_event_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = Log(url)
    events = [Event(str(at), "rating", "ann", at, float(at)) for at in range(5)]
    assert [log.append(events[:2]), log.append([]), log.append(events[2:])] == [1, None, 2]
    log.close()
    log = Log(url)
    assert log.last == 2
    assert list(log.batches()) == [(1, events[:2]), (2, events[2:])]
    assert list(log.batches(after=1)) == [(2, events[2:])]
    assert log.known(["1", "9"]) == {"1"}
    with pytest.raises(Exception, match="UNIQUE"):
        log.append([Event("new", "click", 1, 2), events[0]])
    assert log.last == 2
    assert log.known(["new"]) == set()


def test_what_it_was_told_is_there_again_bit_for_bit(tmp_path, start):
    events = happening(90, clicks=start.clicked)
    live = Live.create(tmp_path / "live", start, every=8)
    acks = told(live, events)
    assert [ack.status for ack in acks] == ["learnt"] * 90
    again = crashed(tmp_path / "live")  # without a last save: from a checkpoint and the batches since
    same(live.snapshot(), again.snapshot())
    moods = [live._state.mood.take(live._state.user.ids.there()) for live in (live, again)]
    np.testing.assert_array_equal(moods[0].level, moods[1].level)
    np.testing.assert_array_equal(moods[0].share, moods[1].share)
    assert moods[0].level.any() != start.clicked
    assert [ack.status for ack in told(again, events)] == ["known"] * 90
    same(live.snapshot(), again.snapshot())
    more = happening(20, clicks=start.clicked, seed=2)
    for event in more:
        event["id"] += "-more"
    told(live, more)
    left = live.snapshot()
    live.close()
    told(again := Live.open(tmp_path / "live"), more)
    same(left, again.snapshot())


def test_drift_is_the_error_of_predictions_made_before(tmp_path, start):
    """As they were answered, moods included; of clicks there are none."""
    live, errors = Live.create(tmp_path / "live", start), []
    for event in happening(60, clicks=start.clicked):
        if event["kind"] == "rating":
            errors.append(event["rating"] - live.predict(event["user"], [event["item"]])[0].rating)
        told(live, [event])
    assert live.drift.seen == len(errors)
    expected = np.sqrt(np.mean(np.square(errors))) if errors else None
    for found in (live.drift.first, live.drift.last):
        assert found == (expected if expected is None else pytest.approx(expected, rel=1e-4))


@given(sizes=st.lists(st.integers(0, 700), max_size=6))
def test_drift_looks_back_on_as_many_ratings_whatever_came_together(sizes):
    errors, drift, at = np.random.default_rng(sum(sizes)).normal(size=sum(sizes)).astype(np.float32), Drift(), 0
    for size in sizes:
        drift.add(errors[at : at + size])
        at += size
    for found, some in ((drift.first, errors[:WINDOW]), (drift.last, errors[-WINDOW:])):
        assert found == (pytest.approx(np.sqrt(np.mean(np.square(some)))) if at else None)


def test_an_event_copies_nothing_that_has_a_place_a_row():
    state = State(fitted())
    event = Event("a", "rating", 3, 4, 1.0)
    state.learn(1, [event])

    def arrays():
        sides = state.user, state.item
        return [state.hidden, state.mood.level, state.mood.share, *(side.changes for side in sides)]

    before = arrays()
    state.learn(2, [event, Event("b", "rating", 99, 5, 2.0)])
    assert all(here is there for here, there in zip(before, arrays(), strict=True))


def test_ratings_are_those_told_and_rows_those_of_a_fold_in(tmp_path):
    start = fitted()
    live = Live.create(tmp_path / "live", start)
    live.tell([{"id": "a", "kind": "rating", "user": 3, "item": 4, "rating": 1.0}])
    live.tell([{"id": "b", "kind": "rating", "user": 99, "item": 4, "rating": 5.0}])
    now = live.snapshot()
    user, item = (
        known.decode(rows).tolist() for known, rows in ((now.users, now.ratings.user), (now.items, now.ratings.item))
    )
    pairs = dict(zip(zip(user, item, strict=True), now.ratings.rating.tolist(), strict=True))
    assert pairs == {(u, i): r for u, i, r in FRAME.itertuples(index=False)} | {(3, 4): 1.0, (99, 4): 5.0}
    row = now.users.encode([99])
    expected = jaxmf.fold_in.fold_in_users(now.model, now.ratings, users=row).params.user.take(row)
    np.testing.assert_allclose(now.model.params.user.take(row).factors, expected.factors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_lists_are_those_of_the_recommender_that_it_is(tmp_path, start, n):
    live = Live.create(tmp_path / "live", start)
    told(live, happening(40, clicks=start.clicked))
    now = live.snapshot()
    for user in (2, 5, 12_345):
        found, expected = live.recommend(user, n), now.recommend([user], n=n)
        np.testing.assert_allclose([one.score for one in found], expected["score"], rtol=1e-4, atol=1e-5)
        assert {one.item for one in found} == set(expected["item"])


def test_a_refused_event_stops_nobody_and_is_kept(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    acks = live.tell(
        [
            {"id": "a", "kind": "click", "user": 1, "item": 2},
            {"id": "b", "kind": "rating", "user": 1, "item": 2, "rating": 3.0},
            {"id": "c", "kind": "rating", "user": 1, "item": 2, "rating": 9.0},
            {"id": "d", "kind": "rating", "user": "one", "item": 2, "rating": 3.0},
            {"id": "b", "kind": "rating", "user": 1, "item": 2, "rating": 4.0},
            "nonsense",
        ]
    )
    assert [ack.status for ack in acks] == ["refused", "learnt", "refused", "refused", "known", "refused"]
    assert "learns no click" in acks[0].reason
    assert "outside the kernel's scale" in acks[2].reason
    assert "of kind" in acks[3].reason
    assert [one.document if isinstance(one.document, str) else one.document["id"] for one in live.refused] == [
        "a", "c", "d", "nonsense",
    ]  # fmt: skip
    assert live.snapshot().ratings.rating[live.snapshot().ratings.item == 2].max() <= 5


def test_whoever_leaves_is_in_no_file_and_the_items_are_as_if_they_never_were(tmp_path):
    name, folder = "somebody-who-leaves", tmp_path / "live"
    frame = FRAME.assign(user="user-" + FRAME["user"].astype(str))
    start = jaxmf.Recommender.fit(frame, rank=4, epochs=6)
    live = Live.create(folder, start)
    live.tell([{"id": f"r{at}", "kind": "rating", "user": name, "item": at, "rating": 1.0} for at in range(9)])
    live.tell([{"id": "wrong", "kind": "rating", "user": name, "item": 1, "rating": 99.0}])
    live.save()
    assert any(name.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    live.tell([{"id": "gone", "kind": "user", "user": name}])
    left = live.snapshot()
    live.close()
    assert not [file for file in folder.rglob("*") if file.is_file() and name.encode() in file.read_bytes()]
    never = State(start)
    never.item.changes[:9] = 1
    never._solve(never.item, never.user, np.arange(9, dtype=np.int32), items=True)
    np.testing.assert_allclose(
        left.model.params.item.factors, never.recommender().model.params.item.factors, rtol=0, atol=1e-6
    )
    again = Live.open(folder)
    same(left, again.snapshot())
    assert again.tell([{"id": "r3", "kind": "rating", "user": name, "item": 3, "rating": 1.0}])[0].status == "known"


def test_readers_never_see_a_half_written_row(tmp_path):
    """Under a writer each answer is one that some batch had left."""
    live = Live.create(tmp_path / "live", fitted())
    allowed, broken, done = [live.recommend(1, 3)], [], threading.Event()

    def read():
        while not done.is_set():
            broken.extend(one for one in live.recommend(1, 3) if not np.isfinite(one.score))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for at, event in enumerate(happening(40)):
        live.tell([event | {"id": f"t{at}"}])
        allowed.append(live.recommend(1, 3))
    done.set()
    for reader in readers:
        reader.join()
    assert not broken
    assert len({tuple(one) for one in allowed}) > 1


CHILD = """
import json, sys
from jaxmf.live import Live
live = Live.open(sys.argv[1])
for number, line in enumerate(sys.stdin):
    if number % 5 == 3:
        live.save()
    if number % 7 == 2 and "refit" in sys.argv:
        live.refit()
    print(json.dumps([ack.status for ack in live.tell(json.loads(line))]), flush=True)
"""
KILLS = int(os.environ.get("JAXMF_KILLS", "3"))


def killed(folder, batches, seconds, *options):
    """Tell a process all batches, and kill it so many seconds after its first answer; returns its answers."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout

    def tell():
        with contextlib.suppress(BrokenPipeError):
            child.stdin.writelines(json.dumps(one) + "\n" for one in batches)
            child.stdin.flush()

    told_all = threading.Thread(target=tell)
    told_all.start()
    answers = [child.stdout.readline()]
    timer = threading.Timer(seconds, child.send_signal, [signal.SIGKILL])
    timer.start()
    answers += list(child.stdout)
    child.wait()
    timer.cancel()
    told_all.join()
    child.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    return [json.loads(answer) for answer in answers if answer.endswith("\n")]


@pytest.mark.parametrize("options", [(), ("refit",)], ids=["alone", "while it is fitted behind"])
def test_a_process_killed_at_any_moment_loses_nothing_that_it_acknowledged(tmp_path, options):
    """While it learns, saves, is fitted anew, or takes that over: the environment's JAXMF_KILLS says how often."""
    start, events, rng = fitted(), happening(60 * KILLS), np.random.default_rng(KILLS)
    batches = [events[at : at + 3] for at in range(0, len(events), 3)]
    whole = Live.create(tmp_path / "whole", start, every=4)
    for batch in batches:
        whole.tell(batch)
    Live.create(tmp_path / "live", start, every=4).close()
    done = 0
    for _ in range(KILLS):
        assert done < len(batches), "all was learnt before the last kill"
        answers = killed(tmp_path / "live", batches[done:], rng.uniform(0.0, 0.3), *options)
        assert all(answer == ["learnt"] * 3 for answer in answers)
        log = Log(f"sqlite:///{tmp_path / 'live' / 'events.db'}")
        assert done + len(answers) <= log.last <= done + len(answers) + 2  # one learnt, not yet told of; one in flight
        done = log.last
        log.close()
    live = Live.open(tmp_path / "live")
    for batch in batches[done:]:
        live.tell(batch)
    if not options:
        same(live.snapshot(), whole.snapshot())
    here, there = live.snapshot().ratings, whole.snapshot().ratings
    for column in ("user", "item", "rating", "weight"):
        np.testing.assert_array_equal(getattr(here, column), getattr(there, column))
    live.close()


@pytest.mark.parametrize("kernel", ["linear", "logistic", "polynomial", "rbf"])
@pytest.mark.parametrize("method", ["als", "gibbs"])
def test_an_item_may_leave_whatever_the_kernel(tmp_path, kernel, method):
    """The first one too, whose row stands where nothing is."""
    if method == "gibbs" and kernel != "linear":
        pytest.skip("draws are of the linear kernel")
    start = jaxmf.Recommender.fit(FRAME, rank=3, epochs=6, kernel=kernel, method=method)
    live = Live.create(tmp_path / "live", start)
    live.tell([{"id": "gone", "kind": "item", "item": 0}])
    told(live, happening(30))
    assert 0 not in {one.item for one in live.recommend(3, 100)} or 0 in live.snapshot().items.index
    for leaf in jax.tree.leaves(live.snapshot().model.params):
        assert np.isfinite(np.asarray(leaf)).all()
    live.close()
    assert 0 <= len(Live.open(tmp_path / "live").recommend(3, 100)) <= 20


@pytest.mark.parametrize("kernel", ["linear", "polynomial"])
def test_the_largest_numbers_leave_finite_rows(tmp_path, kernel):
    live = Live.create(tmp_path / "live", jaxmf.Recommender.fit(FRAME, rank=3, epochs=4, kernel=kernel))
    high = 1e9 if kernel == "linear" else 5.0
    events = [
        {"id": str(at), "kind": "rating", "user": 2, "item": at, "rating": high, "weight": 1e9} for at in range(3)
    ]
    assert {ack.status for ack in live.tell(events)} == {"learnt"}
    assert live.tell([{**events[0], "id": "least", "weight": 2.3e-308}])[0].status == "learnt"
    refused = live.tell([{**events[0], "id": "a", "rating": 1e30}, {**events[0], "id": "b", "weight": 1e39}])
    assert [ack.status for ack in refused] == ["refused", "refused"]
    live.close()
    same(Live.open(tmp_path / "live").snapshot(), crashed(tmp_path / "live").snapshot())


STRANGE = [
    {"id": "a", "kind": "rating", "user": 1, "item": 2, "rating": 10**400},
    {"id": "a", "kind": "rating", "user": 10**5000, "item": 2, "rating": 1.0},
    {"id": "a", "kind": "rating", "user": 1, "item": 2, "rating": 3.0, "time": 1.7e12},
    {"id": "\ud800", "kind": "user", "user": 1},
    {"id": "a\0", "kind": "user", "user": 1},
    {"id": "a", "kind": "user", "user": "\udfff"},
    {"id": "a", "kind": "user", "user": "x" * 10_000},
    {"id": "a", "kind": "user", "user": 1, (1, 2): 3},
    {"id": "a", "kind": "user", "user": 1, "\ud800": 3},
    {"id": ["a"], "kind": {"b": 1}},
    {"id": "a", "kind": "rating", "user": 1, "item": 2, "rating": 3.0, "weight": 0},
    [],
    None,
]


def test_strange_documents_stop_nobody(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    good = {"id": "good", "kind": "rating", "user": 1, "item": 2, "rating": 3.0}
    circle = {"id": "a", "kind": "user"}
    circle["user"] = circle
    acks = live.tell([*STRANGE, circle, good])
    assert [ack.status for ack in acks] == ["refused"] * (len(STRANGE) + 1) + ["learnt"]
    assert len(live.refused) == len(STRANGE) + 1
    many = live.tell([{"id": str(at), "kind": "user", "user": 999} for at in range(40_000)])
    assert {ack.status for ack in many} == {"learnt"}


def test_a_folder_is_open_once_and_its_log_is_its_own(tmp_path):
    start, other = fitted(), f"sqlite:///{tmp_path / 'other.db'}"
    live = Live.create(tmp_path / "live", start)
    live.tell([{"id": "a", "kind": "rating", "user": 1, "item": 2, "rating": 3.0}])
    with pytest.raises(ValueError, match="open already"):
        Live.open(tmp_path / "live")
    with pytest.raises(ValueError, match="not empty"):
        Live.create(tmp_path / "live", start)
    live.close()
    with pytest.raises(ValueError, match="holds no log"):
        Live.open(tmp_path / "live", url=other)
    Live.create(tmp_path / "second", start, url=other).close()
    with pytest.raises(ValueError, match="holds another log"):
        Live.open(tmp_path / "live", url=other)
    with sqlite3.connect(tmp_path / "live" / "events.db") as connection:
        connection.execute("DELETE FROM events")
    connection.close()
    with pytest.raises(ValueError, match="has lost events"):
        Live.open(tmp_path / "live")
    (tmp_path / "live" / "events.db").unlink()
    with pytest.raises(ValueError, match="is missing"):
        Live.open(tmp_path / "live")
    Live.open(tmp_path / "second", url=other).close()


def test_a_creation_that_died_is_done_again(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("jaxmf.live.live.save", die)
        with pytest.raises(KeyboardInterrupt):
            Live.create(tmp_path / "live", fitted())
    with pytest.raises(ValueError, match="no model that lives"):
        Live.open(tmp_path / "live")
    Live.create(tmp_path / "live", fitted()).close()
    Live.open(tmp_path / "live").close()


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_log_that_fails_loses_nothing_and_doubles_nothing(tmp_path, monkeypatch, lost):
    """Whether what it was told had reached the disk before the connection was lost, or not."""
    live = Live.create(tmp_path / "live", fitted())
    events, append = happening(20), Log.append

    def failing(log, *given):
        if lost == "after":
            append(log, *given)
            log._last = None
        raise OSError("the database went away")

    told(live, events[:10])
    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", failing)
        with pytest.raises(OSError, match="went away"):
            live.tell(events[10:13])
    status = "known" if lost == "after" else "learnt"
    assert [ack.status for ack in live.tell(events[10:13])] == [status] * 3
    told(live, events[13:])
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())


def test_after_an_update_that_failed_half_way_nothing_is_answered(tmp_path, monkeypatch):
    live = Live.create(tmp_path / "live", fitted())
    told(live, happening(10))

    def failing(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(State, "_solve", failing)
        with pytest.raises(MemoryError):
            live.tell([{"id": "more", "kind": "rating", "user": 1, "item": 2, "rating": 3.0}])
    for ask in (lambda: live.recommend(1), lambda: live.tell([]), live.save, live.snapshot):
        with pytest.raises(RuntimeError, match="half-way"):
            ask()
    live.close()
    again = Live.open(tmp_path / "live")
    assert again.tell([{"id": "more", "kind": "rating", "user": 1, "item": 2, "rating": 3.0}])[0].status == "known"


def test_a_checkpoint_that_fails_is_made_later_and_the_state_stays_bit_for_bit(tmp_path, monkeypatch, start, caplog):
    live = Live.create(tmp_path / "live", start, every=3)
    events = happening(60, clicks=start.clicked)

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("jaxmf.live.live.save", full)
        told(live, events[:30])
    assert "no space left" in caplog.text
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())
    told(live, events[30:])
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())


def test_a_purge_that_is_in_somebodys_way_is_repeated(tmp_path, caplog):
    live = Live.create(tmp_path / "live", fitted())
    live.tell([{"id": "r", "kind": "rating", "user": 654_321, "item": 1, "rating": 1.0}])
    reader = sqlite3.connect(tmp_path / "live" / "events.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    live.tell([{"id": "gone", "kind": "user", "user": 654_321}])
    assert "forgetting who left failed" in caplog.text
    reader.close()
    live.tell([])
    assert not [file for file in (tmp_path / "live").rglob("*") if file.is_file() and b"654321" in file.read_bytes()]


def test_whoever_comes_back_before_a_purge_is_not_purged(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    event = {"kind": "rating", "user": 654_321, "item": 1, "rating": 1.0}
    live.tell([{**event, "id": "before"}])
    reader = sqlite3.connect(tmp_path / "live" / "events.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    live.tell([{"id": "gone", "kind": "user", "user": 654_321}])
    live.tell([{**event, "id": "back", "rating": 5.0}])
    reader.close()
    live._chores.hasten("forgetting who left")
    live.tell([])
    again = crashed(tmp_path / "live")
    same(live.snapshot(), again.snapshot())
    assert [event.id for _, events in again._log.batches() for event in events] == ["back"]


def test_a_user_who_leaves_while_the_connection_is_lost_is_not_in_a_fit_that_takes_over(tmp_path, monkeypatch):
    live, append = Live.create(tmp_path / "live", fitted()), Log.append

    def lost(log, *given):
        append(log, *given)
        log._last = None
        raise OSError("the database went away")

    live.refit()
    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", lost)
        with pytest.raises(OSError, match="went away"):
            live.tell([{"id": "gone", "kind": "user", "user": 3}])
    live.save()
    live.tell([])
    assert live.settled(timeout=300)
    assert 3 not in live.snapshot().users.index


def test_a_fit_behind_ends_with_the_process_that_began_it(tmp_path):
    Live.create(tmp_path / "live", fitted()).close()
    program = "import sys, time; from jaxmf.live import Live; live = Live.open(sys.argv[1]); live.refit(); "
    program += "print(live._behind._process.pid, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "live")], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    fit = int(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()
    for _ in range(600):
        status = Path(f"/proc/{fit}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the fit goes on")


def test_what_is_closed_answers_nothing(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    live.close()
    for ask in (lambda: live.recommend(1), lambda: live.tell([]), live.save, live.refit):
        with pytest.raises(RuntimeError, match="is closed"):
            ask()
    live.close()


def test_an_error_of_the_log_names_no_one(tmp_path):
    log = Log(f"sqlite:///{tmp_path / 'log.db'}")
    event = Event("e", "rating", "somebody", 1, 2.0)
    log.append([event])
    with pytest.raises(Exception, match="UNIQUE") as error:
        log.append([event])
    assert "somebody" not in str(error.value)


def test_no_two_batches_have_one_number(tmp_path):
    ours, late = (Log(f"sqlite:///{tmp_path / 'log.db'}") for _ in range(2))
    assert (ours.last, late.last) == (0, 0)
    late.append([Event("on its way", "click", 1, 2)])  # a commit that came through after its connection was lost
    with pytest.raises(Exception, match="UNIQUE"):
        ours.append([Event("a", "click", 1, 2), Event("b", "click", 1, 3)])
    assert ours.append([Event("a", "click", 1, 2), Event("b", "click", 1, 3)]) == 2
    assert [(batch, [event.id for event in events]) for batch, events in ours.batches()] == [
        (1, ["on its way"]),
        (2, ["a", "b"]),
    ]


def test_settings_and_ids_that_make_no_sense_are_refused(tmp_path):
    for wrong, said in (
        ({"every": 0}, "every must be"),
        ({"refit": -1.0}, "refit must be"),
        ({"refit": "x"}, "refit"),
        ({"worse": -1.0}, "worse must be"),
    ):
        with pytest.raises(ValueError, match=said):
            Live.create(tmp_path / "live", fitted(), **wrong)
    halves = jaxmf.Recommender.fit(FRAME.assign(user=FRAME["user"] + 0.5), rank=2, epochs=1)
    with pytest.raises(ValueError, match=r"user 0\.5: an id is a whole number"):
        Live.create(tmp_path / "live", halves)
    assert not (tmp_path / "live").exists()


def test_answers_are_those_of_the_recommender_that_it_is(tmp_path, start):
    live = Live.create(tmp_path / "live", start)
    told(live, happening(40, clicks=start.clicked))
    now = live.snapshot()
    user, items = int(now.users.index[3]), [int(item) for item in now.items.index[:5]]
    for who in (user, 12_345):
        pairs = pd.DataFrame({"user": [who] * 6, "item": [*items, 777]})
        found = live.predict(who, [*items, 777])
        row = live._state.user.ids.row.get(who, -1)
        mood = float(live._state.mood.expected(np.array([row]))[0])
        apart = np.array([one.rating for one in found]) - now.predict(pairs)
        inside = (now.predict(pairs) + mood > now.scale[0]) & (now.predict(pairs) + mood < now.scale[1])
        np.testing.assert_allclose(apart[inside], mood, atol=2e-4)
        if start.clicked:
            assert {one.std for one in found} == {None}
        elif isinstance(now.model, jaxmf.posterior.Posterior):
            np.testing.assert_allclose([one.std for one in found], now.predict_std(pairs), rtol=1e-3)
        else:  # whose noise was measured when it was fitted, and not now
            share = np.array([one.std for one in found]) / now.predict_std(pairs)
            np.testing.assert_allclose(share, np.sqrt(start.noise / now.noise), rtol=1e-3)
    if isinstance(now.model, jaxmf.posterior.Posterior):
        with pytest.raises(ValueError, match="posterior"):
            live.explain(user, items[0])
        return
    why = now.explain(user, items[0])
    told_why = live.explain(user, items[0])
    np.testing.assert_allclose([one.contribution for one in told_why], why["contribution"], atol=1e-3)
    assert {one.item for one in told_why} == set(why["item"])
    near = now.similar_items([items[0]], n=3)
    np.testing.assert_allclose([one.score for one in live.similar(items[0], 3)], near["score"], rtol=1e-4)
    with pytest.raises(ValueError, match="item 777 is not known"):
        live.similar(777)
    with pytest.raises(ValueError, match="user 999 is not known"):
        live.explain(999, items[0])


def test_a_session_is_what_a_new_user_with_these_ratings_would_be_shown(tmp_path, start):
    live = Live.create(tmp_path / "live", start)
    told(live, happening(30, clicks=start.clicked))
    known = [int(item) for item in live.snapshot().items.index[:3]]
    before = live.snapshot()
    given = {item: 1.0 if start.clicked else 2.0 + at for at, item in enumerate(known)}
    shown = live.session(given, 5)
    same(before, live.snapshot())
    assert not {one.item for one in shown} & set(given)
    if not isinstance(before.model, jaxmf.posterior.Posterior):
        visitor = pd.DataFrame({"user": [10**6] * 3, "item": known, "rating": list(given.values())})
        columns = ["user", "item"] if start.clicked else ["user", "item", "rating"]
        expected = before.without_users().fold_in(visitor[columns]).recommend([10**6], n=5)
        np.testing.assert_allclose([one.score for one in shown], expected["score"], rtol=1e-3)
    with pytest.raises(ValueError, match="item 777 is not known"):
        live.session({777: 1.0})
    assert len(live.session({}, 4)) == 4


def test_what_is_fitted_behind_takes_over_with_the_events_since(tmp_path, start):
    live = Live.create(tmp_path / "live", start)
    events = happening(40, clicks=start.clicked)
    told(live, events[:20])
    assert not live.settled()  # none was begun
    live.refit(seed=3)
    told(live, [event for event in events[20:] if event["kind"] != "user"], (2,))
    assert live.settled(timeout=300)
    assert live.settled()
    assert not (tmp_path / "live" / "refit").exists()
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())


def test_whoever_leaves_during_a_fit_is_not_in_what_takes_over(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    live.refit()
    live.tell([{"id": "gone", "kind": "user", "user": 3}])
    assert live.settled(timeout=300)
    assert 3 not in live.snapshot().users.index
    live.close()


def test_it_is_fitted_anew_by_itself_once_enough_is_new(tmp_path):
    live = Live.create(tmp_path / "live", fitted(), refit=0.05)
    told(live, [event for event in happening(40) if event["kind"] == "rating"])
    assert live.settled(timeout=300)


def test_it_is_fitted_anew_by_itself_once_it_foresees_less(tmp_path, monkeypatch):
    """Whose ratings turn round is a stranger to the model; after the fit what it foresees is measured anew."""
    monkeypatch.setattr("jaxmf.live.live.WINDOW", 20)
    monkeypatch.setattr("jaxmf.live.drift.WINDOW", 20)
    events = [event for event in happening(200) if event["kind"] == "rating"]
    live = Live.create(tmp_path / "live", fitted(), worse=0.5)
    told(live, [event | {"rating": 3.0} for event in events[:40]])
    assert not live.settled()
    for at, event in enumerate(events[40:]):
        live.tell([event | {"id": f"turned {at}", "rating": 5.0 - 4 * (at % 2)}])
        if live._behind.running:
            break
    assert live.drift.last > 1.5 * live.drift.first
    assert live.settled(timeout=300)
    assert live.drift.seen == 0
    live.close()


def test_whoever_leaves_while_nobody_can_be_forgotten_is_not_in_what_takes_over(tmp_path):
    live = Live.create(tmp_path / "live", fitted())
    reader = sqlite3.connect(tmp_path / "live" / "events.db", isolation_level=None)
    live.tell([{"id": "r", "kind": "rating", "user": 1, "item": 1, "rating": 1.0}])
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    for user in (5, 6):  # so that forgetting has failed, and waits
        live.tell([{"id": f"gone {user}", "kind": "user", "user": user}])
    live.refit()
    live._behind.wait(300)
    live._leaving.add(3)  # as where the log could not say whether it had kept that they leave
    live.tell([])
    assert live._behind.running  # begun again, and not taken over
    reader.close()
    assert live.settled(timeout=300)
    live.close()


def test_what_failed_is_tried_again_ever_later(caplog):
    now, tried = 0.0, []
    chores = Chores(lambda: now)

    def fails():
        tried.append(now)
        raise OSError("no space left on device")

    for at in range(200):
        now = float(at)
        chores.do("a chore", fails, called=at == 0)
    assert tried == [0, 1, 2, 4, 8, 16, 32, 64, 124, 184]
    assert max(np.diff(tried)) == 60
    assert caplog.text.count("a chore failed, and is tried again") == len(tried)
    chores.do("a chore", lambda: tried.append("too early"), called=False)
    chores.hasten("a chore")
    chores.do("a chore", lambda: tried.append("at once"))
    assert tried[-1] == "at once"
    assert "too early" not in tried


@pytest.mark.parametrize("method", ["als", "gibbs"])
def test_it_may_begin_with_one_rating(tmp_path, method):
    """Of which it is not certain; and fits itself as ratings come."""
    kernel = jaxmf.kernels.for_range(1.0, 5.0, "linear" if method == "gibbs" else "logistic")
    one = jaxmf.Recommender.fit(FRAME[:1], rank=2, method=method, kernel=kernel)
    live = Live.create(tmp_path / "live", one, refit=0.5)
    assert all(pair.std > 0.5 for pair in live.predict(int(FRAME["user"].iloc[0]), [int(FRAME["item"].iloc[0]), 999]))
    told(live, [event for event in happening(30) if event["kind"] == "rating"])
    assert live.settled(timeout=300)
    assert live.recommend(1, 3)
    live.close()


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch):
    """Neither the machine's nor the events': what is told later counts later, whatever time it says."""
    events = [event for event in happening(40) if event["kind"] == "rating"]
    rng, clock = np.random.default_rng(0), time.time
    calm, wild = (Live.create(tmp_path / name, fitted(), every=4) for name in ("calm", "wild"))
    for at in range(0, len(events), 3):
        calm.tell(events[at : at + 3])
        ahead, said = rng.uniform(-1e9, 1e9, 2).tolist()
        with monkeypatch.context() as patched:
            patched.setattr("time.time", lambda ahead=ahead: clock() + ahead)
            wild.tell([event | {"time": said} for event in events[at : at + 3]])
    same(calm.snapshot(), wild.snapshot())
    same(wild.snapshot(), crashed(tmp_path / "wild").snapshot())


def test_a_flood_of_strangers_costs_memory_of_their_rows_and_no_more(tmp_path):
    """Ids that come once each, of the longest kind: all are learnt, and tables have room for twice as many at most."""
    texts = FRAME.assign(user=FRAME["user"].map("u{}".format))
    live = Live.create(tmp_path / "live", jaxmf.Recommender.fit(texts, rank=4, epochs=6))
    n = 5000
    for at in range(0, n, 1000):
        acks = live.tell(
            [
                {"id": f"{one}", "kind": "rating", "user": f"{one:0256}", "item": one % 7, "rating": 3.0}
                for one in range(at, at + 1000)
            ]
        )
        assert {ack.status for ack in acks} == {"learnt"}
    known = live.about().users
    assert known == FRAME["user"].nunique() + n
    assert len(live.snapshot().users) == known
    rows = live._state.model.params.user.bias.shape[-1]
    assert known < rows <= 2 * known + 16
    assert len(live.recommend(f"{n - 1:0256}", 5)) == 5
    live.close()


FULL = """
import json, logging, resource, signal, sys
from jaxmf.live import Live
logging.disable()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
live, batches = Live.open(sys.argv[1]), json.load(sys.stdin)
log = sum(path.stat().st_size for path in live._home.folder.glob("events.db*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (log + 40_000, resource.RLIM_INFINITY))
learnt = refused = 0
for batch in batches:
    try:
        learnt += sum(ack.status == "learnt" for ack in live.tell(batch))
    except Exception as error:
        refused += 1
        assert "disk" in str(error) or "full" in str(error), error
lists = [len(live.recommend(user)) for user in (1, 2)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = [ack.status for batch in batches for ack in live.tell(batch)]
live.close()
print(json.dumps([learnt, refused, again.count("known"), again.count("learnt"), min(lists)]))
"""


def test_a_disk_that_is_full_loses_nothing_and_is_waited_for(tmp_path):
    """Where no file may grow events are not acknowledged, lists are still made, and all is taken once there is room."""
    live = Live.create(tmp_path / "live", fitted(), every=10)
    live.close()
    events = [event for event in happening(900) if event["kind"] == "rating"]
    batches = [events[at : at + 5] for at in range(0, len(events), 5)]
    command = [sys.executable, "-c", FULL, str(tmp_path / "live")]
    ran = subprocess.run(command, input=json.dumps(batches), stdout=subprocess.PIPE, text=True, check=True)
    learnt, refused, known, later, shortest = json.loads(ran.stdout)
    assert learnt
    assert refused
    assert (known, later) == (learnt, len(events) - learnt)
    assert shortest
    whole = Live.create(tmp_path / "whole", fitted(), every=10)
    for batch in batches:
        whole.tell(batch)
    same(Live.open(tmp_path / "live").snapshot(), whole.snapshot())


def test_a_fit_that_can_not_be_taken_over_is_kept_for_the_next_time(tmp_path, monkeypatch, caplog):
    live = Live.create(tmp_path / "live", fitted())
    events = [event for event in happening(30) if event["kind"] == "rating"]

    def full(*_):
        raise OSError("no space left on device")

    live.refit(seed=5)
    live._behind.wait(300)
    with monkeypatch.context() as patched:
        patched.setattr("jaxmf.live.live.save", full)
        assert [ack.status for ack in live.tell(events[:3])] == ["learnt"] * 3
    assert "taking over what was fitted behind failed" in caplog.text
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())
    live.tell(events[3:6])
    assert live.settled()
    same(live.snapshot(), crashed(tmp_path / "live").snapshot())


def test_a_place_that_is_taken_or_empty_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    Path(tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        Live.create(tmp_path / "full", fitted())
    with pytest.raises(ValueError, match="nothing"):
        Live.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="keep_history=True"):
        Live.create(tmp_path / "new", fitted().without_history())
