"""Requests to a service: as JSON has them, with typos, of every size, from many threads, and from other processes."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

import jaxmf
from jaxmf import Recommender
from jaxmf.serving.layered import ROOM, Layered, room

pytestmark = pytest.mark.optax

USER, ITEM = np.divmod(np.arange(400), 20)
FRAME = pd.DataFrame({"user": USER, "item": ITEM, "rating": 1.0 + (USER + ITEM) % 5})
BODY = [{"user": "visitor", "item": 3, "rating": 5.0}, {"user": "visitor", "item": 7, "rating": 1.0}]
TYPO = [*BODY, {"user": "visitor", "item": 99999, "rating": 4.0}]


@pytest.fixture(scope="module")
def rec():
    return Recommender.fit(FRAME, rank=2, epochs=2)


@pytest.fixture(scope="module")
def service(rec):
    return rec.without_users()


def test_a_typo_adds_nothing_to_a_serving_form(rec, service):
    with pytest.raises(ValueError, match=r'99999 is not among the 20 known ids: pass unknown_items="ignore".*"new"'):
        service.fold_in(TYPO)
    left_out = service.fold_in(TYPO, unknown_items="ignore")
    assert len(left_out.items) == 20
    pd.testing.assert_frame_equal(left_out.recommend(["visitor"]), service.fold_in(BODY).recommend(["visitor"]))
    added = service.fold_in(TYPO, unknown_items="new")
    assert len(added.items) == 21
    with pytest.raises(ValueError, match="5 is not among"):
        added.fold_in([{"user": "w", "item": -5, "rating": 4.0}])
    numbered = [record | {"user": 900} for record in TYPO]
    assert len(rec.fold_in(numbered).items) == 21
    with pytest.raises(ValueError, match="99999 is not among"):
        rec.fold_in(numbered, unknown_items="error")


def test_an_empty_request_is_a_strangers(service):
    stranger = service.recommend(["visitor"])
    assert len(stranger) == 10
    only_unknown = pd.DataFrame({"user": ["visitor"], "item": [-1], "rating": [3.0]})
    for request in ([], {}, FRAME[:0], pd.DataFrame(), only_unknown):
        pd.testing.assert_frame_equal(service.fold_in(request, unknown_items="ignore").recommend(["visitor"]), stranger)


def test_records_and_columns_are_frames(rec, service):
    columns = {name: [record[name] for record in BODY] for name in BODY[0]}
    expected = service.fold_in(pd.DataFrame(BODY)).recommend(["visitor"])
    for body in (BODY, columns):
        new = service.fold_in(body)
        pd.testing.assert_frame_equal(new.recommend(["visitor"]), expected)
        pd.testing.assert_frame_equal(new.recommend(body), expected)
        np.testing.assert_array_equal(new.predict(body), new.predict(pd.DataFrame(BODY)))
    records = FRAME.to_dict("records")
    np.testing.assert_array_equal(Recommender.fit(records, rank=2, epochs=2).predict(FRAME), rec.predict(FRAME))
    for body, words in [
        ([{"user": 1, "item": 2, "rating": 3.0}, {"user": 1, "item": 2}], "record 1 has no 'rating'"),
        ({"user": "ann", "item": [1], "rating": [2.0]}, "column 'user' is 'ann', no list of values"),
        ({"user": [1, 2], "item": [1], "rating": [2.0]}, "columns of different lengths"),
    ]:
        with pytest.raises(ValueError, match=words):
            service.fold_in(body)


def test_ratings_of_pairs_are_forgotten(rec):
    new = rec.fold_in(pd.DataFrame({"user": [900] * 3, "item": [3, 7, 9], "rating": [5.0, 1.0, 2.0]}))
    left = new.forget(pairs=[{"user": 900, "item": 9}])
    assert len(left.history) == len(rec.history) + 2
    again = rec.fold_in(pd.DataFrame({"user": [900] * 2, "item": [3, 7], "rating": [5.0, 1.0]}))
    pairs = pd.DataFrame({"user": [900] * 20, "item": np.arange(20)})
    np.testing.assert_allclose(left.predict(pairs), again.predict(pairs), atol=0.05)
    none = left.forget(pairs=pairs[pairs["item"].isin([3, 7])])
    np.testing.assert_allclose(none.predict(pairs), none.predict(pairs.assign(user=-1)), atol=1e-5)
    for call, words in [
        (lambda: left.forget(pairs=[{"user": 900, "item": 9}]), "user 900 has not rated item 9"),
        (lambda: left.forget(pairs=[{"user": 901, "item": 9}]), "901 is not among"),
        (lambda: left.forget([900], pairs=pairs), "users and pairs are both given"),
        (lambda: rec.without_history().forget(pairs=FRAME[:1]), "were dropped with the history"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_the_model_has_a_row_a_user_whatever_room_there_is(rec):
    new = rec.fold_in([{"user": 900, "item": 3, "rating": 5.0}])
    assert new.layered.model.params.user is rec.layered.model.params.user
    assert len(new.model.params.user) == len(new.users) == 21
    assert len(new.similar_users([900], n=40)) == 20
    many = new.fold_in(pd.DataFrame({"user": 900 + np.arange(300), "item": 3, "rating": 5.0}))
    assert len(many.layered.model.params.user) == room(320) == 512
    assert len(many.model.params.user) == len(many.users) == 320


@pytest.mark.parametrize("method", ["als", "gibbs"])
def test_rows_beside_a_table_are_rows_of_it(method):
    rec = Recommender.fit(FRAME, method=method, rank=2, epochs=2 if method == "als" else 24)
    before = jax.tree.map(np.array, rec.layered.model.params)
    new, pairs = rec, FRAME[::7]
    for at in range(ROOM + 40):  # known users again and again, and new ones until their rows are written into a table
        user = at % 10 if at % 2 else 100 + at
        new = new.fold_in([{"user": user, "item": at % 20, "rating": 1.0 + at % 5}])
        if at in (3, ROOM - 9, ROOM + 39):
            whole = Layered.of(new.model)
            for table in (new.layered, whole):
                rows = np.arange(len(new.users))
                np.testing.assert_array_equal(table.whole(len(rows)).params.user.factors, new.model.params.user.factors)
            np.testing.assert_array_equal(new.predict(pairs), replace(new, layered=whole).predict(pairs))
            pd.testing.assert_frame_equal(
                new.recommend([0, 100, -1]), replace(new, layered=whole).recommend([0, 100, -1])
            )
    jax.tree.map(np.testing.assert_array_equal, before, rec.layered.model.params)


def test_a_person_can_read_a_recommender(rec):
    counts = "20 users, 20 items, 400 ratings"
    assert repr(rec) == f"<Recommender: {counts}; Logistic(low=1.0, high=5.0), point estimate, rank 2>"
    assert repr(rec.without_users()).startswith("<Recommender: 0 users, 20 items, 0 ratings; ")
    sampled = Recommender.fit(FRAME, method="gibbs", rank=1, epochs=4)
    assert f"{len(sampled.model.params.offset)} draws, rank 1" in repr(sampled)


def test_a_module_that_is_called_says_where_its_function_is():
    for name, function in (("fold_in", "fold_in_users"), ("explain", "explain"), ("recommend", "top_n")):
        with pytest.raises(TypeError, match=rf"is a module: call jaxmf\.{name}\.{function}"):
            getattr(jaxmf, name)()


def test_after_warming_up_nothing_is_compiled(rec, service):
    rng = np.random.default_rng(0)
    for of in (service, rec):
        of.warm(ratings=120, users=4, n=10)
        compiled = []
        listener = lambda name, *_, **__: compiled.append(name)  # noqa: E731, B023
        jax.monitoring.register_event_duration_secs_listener(listener)
        try:
            for users, each, n in ((1, 1, 10), (1, 9, 3), (1, 20, 7), (2, 7, 1), (3, 20, 10), (4, 20, 10), (4, 1, 5)):
                user = np.repeat(1000 + np.arange(users), each)
                item = np.concatenate([rng.permutation(20)[:each] for _ in range(users)])
                new = of.fold_in(pd.DataFrame({"user": user, "item": item, "rating": 3.0}))
                assert len(new.recommend(np.unique(user), n=n, exclude_seen=False)) == users * n
                new.recommend(np.unique(user), n=n)
        finally:
            jax.monitoring.clear_event_listeners()
        assert not [name for name in compiled if "compile" in name]
    with pytest.raises(ValueError, match="users must be a whole number of 1 or more, got 0"):
        rec.warm(users=0)


def test_readers_see_what_they_hold_while_others_fold_in(rec):
    expected = rec.recommend([3, 4])

    def read(_):
        return rec.recommend([3, 4]), rec.fold_in([{"user": 900, "item": 3, "rating": 5.0}]).recommend([900])

    def grow(seed):
        new = rec
        for at in range(6):
            new = new.fold_in([{"user": 1000 + 10 * seed + at, "item": at, "rating": 4.0}])
        return len(new.users), len(new.history)

    with ThreadPoolExecutor(4) as pool:
        grown, found = pool.map(grow, range(4)), list(pool.map(read, range(12)))
    assert list(grown) == [(26, 406)] * 4
    for known, visitor in found:
        pd.testing.assert_frame_equal(known, expected)
        pd.testing.assert_frame_equal(visitor, found[0][1])


def answer(path):
    return Recommender.load(path).fold_in(BODY).recommend(["visitor"])["item"].tolist()


def test_a_process_that_is_spawned_answers(service, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    service.save(tmp_path / "service")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(answer, (tmp_path / "service",)) == answer(tmp_path / "service")
