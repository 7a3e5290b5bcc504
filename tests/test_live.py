"""A model that lives: what it was told is kept, learnt once, and there again after a crash, bit for bit."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxmf
from jaxmf.live import Live
from jaxmf.live.events import Event, parse
from jaxmf.live.ledger import Ledger
from jaxmf.live.log import Log
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
        ({"kind": "user", "id": "a", "user": 1, "item": 2}, "item is no field"),
        ({"kind": "rating", "id": "a", "user": 1, "item": 2, "rating": float("nan")}, "finite number"),
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
    again = Live.open(tmp_path / "live", every=8)  # without a last save: from a checkpoint and the batches since
    same(live.recommender(), again.recommender())
    assert [ack.status for ack in told(again, events)] == ["known"] * 90
    same(live.recommender(), again.recommender())
    more = happening(20, clicks=start.clicked, seed=2)
    for event in more:
        event["id"] += "-more"
    told(live, more)
    live.close()
    told(again := Live.open(tmp_path / "live", every=8), more)
    same(live.recommender(), again.recommender())


def test_ratings_are_those_told_and_rows_those_of_a_fold_in(tmp_path):
    start = fitted()
    live = Live.create(tmp_path / "live", start)
    live.tell([{"id": "a", "kind": "rating", "user": 3, "item": 4, "rating": 1.0}])
    live.tell([{"id": "b", "kind": "rating", "user": 99, "item": 4, "rating": 5.0}])
    now = live.recommender()
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
    now = live.recommender()
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
    assert live.recommender().ratings.rating[live.recommender().ratings.item == 2].max() <= 5


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
    live.close()
    assert not [file for file in folder.rglob("*") if file.is_file() and name.encode() in file.read_bytes()]
    never = State(start)
    never.item.changes[:9] = 1
    never._solve(never.item, never.user, np.arange(9, dtype=np.int32), items=True)
    np.testing.assert_allclose(
        live.recommender().model.params.item.factors, never.recommender().model.params.item.factors, rtol=0, atol=1e-6
    )
    again = Live.open(folder)
    same(live.recommender(), again.recommender())
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
live = Live.open(sys.argv[1], every=4)
for line in sys.stdin:
    print(json.dumps([ack.status for ack in live.tell(json.loads(line))]), flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path):
    start, events = fitted(), happening(60)
    batches = [events[at : at + 3] for at in range(0, 60, 3)]
    whole = Live.create(tmp_path / "whole", start, every=4)
    for batch in batches:
        whole.tell(batch)
    Live.create(tmp_path / "live", start, every=4).close()
    acknowledged = 0
    for turn in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "live")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        assert child.stdout
        for batch in batches[acknowledged : acknowledged + 4 + turn]:
            child.stdin.write(json.dumps(batch) + "\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline()) == ["learnt"] * 3
            acknowledged += 1
        child.stdin.write(json.dumps(batches[acknowledged]) + "\n")  # in flight: it may have been learnt, or not
        child.stdin.flush()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
        log = Log(f"sqlite:///{tmp_path / 'live' / 'events.db'}")
        assert log.last in (acknowledged, acknowledged + 1)
        acknowledged = log.last
        log.close()
    live = Live.open(tmp_path / "live", every=4)
    for batch in batches[acknowledged:]:
        live.tell(batch)
    same(live.recommender(), whole.recommender())


def test_a_place_that_is_taken_or_empty_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    Path(tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        Live.create(tmp_path / "full", fitted())
    with pytest.raises(ValueError, match="nothing"):
        Live.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="keep_history=True"):
        Live.create(tmp_path / "new", fitted().without_history())
