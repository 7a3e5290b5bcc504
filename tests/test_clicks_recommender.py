"""A recommender of clicks: frames of events in, and every answer and update of one of ratings."""

import numpy as np
import pandas as pd
import pytest

import jaxmf
from jaxmf.model.kernels import Clicks

pytestmark = pytest.mark.optax


@pytest.fixture(scope="module")
def events():
    """Events of two kinds of users, each with films of its own, and one film that everybody sees."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 40, 600)
    item = np.where(rng.random(600) < 0.1, 0, 1 + 2 * rng.integers(0, 10, 600) + user % 2)
    return pd.DataFrame({"user": user, "item": item})


@pytest.fixture(scope="module")
def rec(events):
    return jaxmf.Recommender.fit(events, rating=None, rank=4)


def pairs(*given):
    return pd.DataFrame(given, columns=["user", "item"])


def test_events_need_no_rating_column_and_are_counted(rec, events):
    assert isinstance(rec.model.kernel, Clicks)
    assert len(rec.ratings) == len(events.drop_duplicates())
    assert rec.ratings.weight.sum() == len(events)
    assert f"{len(rec.ratings)} clicks; Clicks(" in repr(rec)


def test_what_is_recommended_is_of_the_users_kind(rec):
    best = rec.recommend([2, 3], n=5, exclude_seen=False)
    assert set(best[best.user == 2].item % 2) == {1}
    assert (best[(best.user == 3) & (best.item > 0)].item % 2 == 0).all()


def test_a_stranger_gets_what_is_popular(rec, events):
    popular = events.drop_duplicates().item.value_counts().index[0]
    for of in (rec, rec.without_users()):
        assert rec.recommend(["nobody"] if of is None else [12345], n=1).item.tolist() == [popular]


def test_a_fold_in_adds_clicks_up_and_a_refit_counts_the_same(rec, events):
    new = pairs((99, 1), (99, 3), (99, 3), (2, 1))
    after = rec.fold_in(new)
    counts = pd.concat([events, new]).value_counts()
    kept = after.ratings
    found = dict(
        zip(zip(after.users.decode(kept.user), after.items.decode(kept.item), strict=True), kept.weight, strict=True)
    )
    assert found == counts.to_dict()
    assert set(after.recommend([99], n=3, exclude=[0]).item % 2) == {1}
    again = jaxmf.Recommender.fit(pd.concat([events, new]), rating=None, rank=4)
    assert len(again.ratings) == len(after.ratings)


def test_new_items_and_users_together(rec):
    after = rec.fold_in(pairs((99, 1), (99, 77), (2, 77)))
    np.testing.assert_allclose(
        after.model.params.user.gram.matrix, after.model.params.user.counted().gram.matrix, rtol=1e-4, atol=1e-4
    )
    assert after.predict(pairs((99, 77)))[0] > 0


def test_forgetting_a_user_is_never_having_met_them(rec):
    back = rec.fold_in(pairs((99, 1), (99, 3))).forget([99])
    np.testing.assert_allclose(back.model.params.user.factors, rec.model.params.user.factors, rtol=1e-4, atol=1e-5)
    assert back.model.params.user.gram.rows == rec.model.params.user.gram.rows
    one = back.forget(pairs=pairs(tuple(int(rec_id) for rec_id in _first(back))))
    assert len(one.ratings) == len(back.ratings) - 1


def _first(rec):
    return rec.users.decode(rec.ratings.user[:1])[0], rec.items.decode(rec.ratings.item[:1])[0]


def test_save_and_load_are_the_identity(rec, tmp_path):
    rec.save(tmp_path / "clicks")
    again = jaxmf.Recommender.load(tmp_path / "clicks")
    assert again.model.kernel == rec.model.kernel
    pd.testing.assert_frame_equal(again.recommend([1, 2]), rec.recommend([1, 2]))
    new = pairs((99, 1), (99, 4))
    np.testing.assert_array_equal(again.fold_in(new).predict(new), rec.fold_in(new).predict(new))


def test_an_explanation_sums_to_the_score(rec):
    after = rec.fold_in(pairs((99, 1), (99, 3)))
    assert after.explain(99, 5).contribution.sum() == pytest.approx(after.predict(pairs((99, 5)))[0], abs=1e-4)


def test_neighbours_are_of_the_items_kind(rec):
    assert set(rec.similar_items([3], n=3, exclude=[0]).neighbour % 2) == {1}


def test_index_vectors_rank_as_top_n(rec):
    vectors = jaxmf.neighbours.index_vectors(rec.model)
    best = jaxmf.recommend.top_n(rec.model, np.arange(5), n=3).item
    np.testing.assert_array_equal(np.argsort(-(vectors.user[:5] @ vectors.item.T), 1)[:, :3], best)


def test_weights_say_how_much_an_event_counts():
    frame = pd.DataFrame({"user": [0, 0, 1], "item": [0, 0, 1], "how": [0.1, 1.0, 0.1]})
    rec = jaxmf.Recommender.fit(frame, rating=None, weight="how", rank=1)
    assert rec.ratings.weight == pytest.approx([1.1, 0.1])
    once = jaxmf.Recommender.fit(frame, rating=None, weight="how", rank=1, duplicates="once")
    assert once.ratings.weight == pytest.approx([1.0, 0.1])


def test_a_dislike_counts_against():
    frame = pd.DataFrame({"user": np.repeat([0, 1], 4), "item": [0, 1, 2, 3, 0, 1, 2, 3], "liked": [1, 1, 1, 0] * 2})
    rec = jaxmf.Recommender.fit(frame, rating="liked", kernel="clicks", rank=2)
    assert rec.recommend([0], n=4, exclude_seen=False).item.tolist()[-1] == 3


def test_ratings_that_look_like_clicks_get_a_hint(events):
    one = events.drop_duplicates().assign(rating=1)
    with pytest.raises(ValueError, match="pass rating=None where these are clicks"):
        jaxmf.Recommender.fit(one, rank=2)
    with pytest.warns(UserWarning, match="look like clicks"):
        jaxmf.Recommender.fit(one.assign(rating=one.item % 2), rank=2, epochs=1)


def test_what_makes_no_sense_for_clicks_is_refused(rec, events):
    with pytest.raises(
        ValueError, match="rating=None takes each row for a click, and kernel 'logistic' is for ratings"
    ):
        jaxmf.Recommender.fit(events, rating=None, kernel="logistic")
    with pytest.raises(ValueError, match="fit them by als"):
        jaxmf.Recommender.fit(events, rating=None, method="gibbs")
    with pytest.raises(ValueError, match="clicks are fitted without features"):
        jaxmf.Recommender.fit(events, rating=None, implicit=True)
    with pytest.raises(ValueError, match="clicks have no spread"):
        rec.predict_std(pairs((1, 1)))
