"""From frames to arrays: what is kept, what is refused, and with which words."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jaxmf.data.duplicates import gathered
from jaxmf.data.ratings import Columns, Vocabulary, from_columns, from_frame, hint

FRAME = pd.DataFrame({"user": ["bob", "ann", "bob"], "item": [7, 7, 3], "rating": [4.0, 2.5, 5.0], "t": [3, 1, 2]})


@pytest.mark.parametrize(
    "convert", [lambda x: x, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "arrow"]
)
def test_frames_of_all_libraries_are_the_same(convert):
    data = from_frame(convert(FRAME), timestamp="t")
    assert data.ratings.user.tolist() == [1, 0, 1]
    assert data.ratings.item.tolist() == [1, 1, 0]
    assert data.ratings.rating.tolist() == [4, 2.5, 5]
    assert data.ratings.weight.tolist() == [1, 1, 1]
    assert data.timestamp.tolist() == [3, 1, 2]
    assert data.users.decode([0, 1]).tolist() == ["ann", "bob"]
    assert (data.ratings.n_users, data.ratings.n_items) == (2, 2)


@pytest.mark.parametrize(
    "ids", [[("a", 1), ("b", 2), ("a", 3)], [frozenset("a"), frozenset("b"), frozenset("c")], [1.5, 0.5, 2.5]]
)
def test_ids_of_any_hashable_kind(ids):
    data = from_frame(
        pl.DataFrame({"item": [1, 1, 1], "rating": [1.0, 2, 3]}).with_columns(user=pl.Series(ids, dtype=pl.Object))
        if not isinstance(ids[0], float)
        else pl.DataFrame({"user": ids, "item": [1, 1, 1], "rating": [1.0, 2, 3]})
    )
    assert [data.users.decode([row])[0] for row in data.ratings.user] == ids


def test_datetimes_are_times():
    times = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])
    assert np.diff(from_frame(FRAME.assign(t=times), timestamp="t").timestamp).tolist() == [86400, 86400]


def test_known_ids_keep_their_rows_and_new_ones_are_appended():
    known = Vocabulary(["zoe", "bob"])
    data = from_columns(FRAME, users=known)
    assert data.users.decode([0, 1, 2]).tolist() == ["zoe", "bob", "ann"]
    assert len(known) == 2


@pytest.mark.parametrize(("duplicates", "expected", "weight"), [("last", 3.0, 2.0), ("mean", 7 / 3, 3.0)])
def test_duplicate_pairs(duplicates, expected, weight):
    frame = pd.DataFrame(
        {"user": [1, 1, 1], "item": [5, 5, 6], "rating": [3.0, 1.0, 2.0], "w": [2.0, 1.0, 1.0], "t": [9, 1, 1]}
    )
    ratings = from_frame(frame, duplicates=duplicates, weight="w", timestamp="t").ratings
    assert len(ratings) == 2
    assert ratings.rating[ratings.item == 0].tolist() == [pytest.approx(expected)]
    assert ratings.weight[ratings.item == 0].tolist() == [weight]


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (FRAME, {"user": "who"}, "no column 'who' in the frame"),
        (FRAME.drop(columns="rating"), {}, "no column 'rating' in the frame.*rating=None where each row is an event"),
        (FRAME.iloc[[0, 0]], {}, "user bob rated item 7 more than once .1 such rows.*'last', 'mean', 'sum', 'once'"),
        (FRAME.iloc[[0, 0]], {"rating": None, "duplicates": "error"}, "more than once"),
        (FRAME.assign(w=[1, -1, 0]), {"rating": None, "weight": "w"}, "weight -1.0 in row 1"),
        (FRAME.iloc[:0], {}, "the frame is empty"),
        (FRAME.assign(rating=[1, np.nan, 2]), {}, "rating nan in row 1"),
        (FRAME.assign(rating=[1, 2, np.inf]), {}, "rating inf in row 2"),
        (FRAME.assign(rating=["a", "b", "c"]), {}, "not numbers"),
        (FRAME.assign(user=["a", None, "b"]), {}, "no id in column 'user', row 1"),
        (FRAME.assign(user=[1.0, np.nan, 2.0]), {}, "no id in column 'user', row 1"),
        (FRAME.assign(user=["a", 1, "b"]), {}, "mixed kinds in column 'user'"),
        (FRAME.assign(w=[1, -1, 1]), {"weight": "w"}, "weight -1.0 in row 1"),
        (FRAME.assign(user="x", item=1), {}, "rated item 1 more than once"),
    ],
)
def test_bad_frames_are_refused(frame, settings, words):
    with pytest.raises(ValueError, match=words):
        from_frame(frame, **settings)


def test_ids_of_another_kind_than_the_known_are_refused():
    with pytest.raises(ValueError, match="convert them to one kind"):
        from_columns(FRAME, Columns(), users=Vocabulary([1, 2]))


def test_a_weighted_mean_leaves_out_what_has_no_weight():
    columns = {"user": [0, 0, 0, 1, 1], "item": [0, 0, 0, 0, 0], "rating": [1.0, 5.0, 9.0, 2.0, 4.0]}
    found = from_frame(columns | {"w": [3.0, 1.0, 0.0, 0.0, 0.0]}, weight="w", duplicates="mean").ratings
    np.testing.assert_allclose(found.rating, [2, 3])
    np.testing.assert_allclose(found.weight, [4, 0])


EVENTS = pd.DataFrame(
    {
        "user": ["bob", "ann", "bob", "bob", "ann"],
        "item": [7, 7, 7, 3, 7],
        "t": [9, 1, 5, 2, 8],
        "what": [1.0, 5.0, 1.0, 1.0, 1.0],  # a purchase counts as five views
    }
)


@pytest.mark.parametrize("convert", [lambda x: x, pl.from_pandas, lambda x: x.to_dict("records")])
def test_events_have_no_rating_and_a_pair_s_are_counted(convert):
    counted = from_frame(convert(EVENTS), rating=None, timestamp="t")
    assert counted.ratings.user.tolist() == [1, 1, 0]
    assert counted.ratings.item.tolist() == [1, 0, 1]
    assert counted.ratings.rating.tolist() == [1, 1, 1]
    assert counted.ratings.weight.tolist() == [2, 1, 2]
    assert counted.timestamp.tolist() == [9, 2, 8]
    weighted = from_columns(convert(EVENTS), Columns(rating=None, weight="what")).ratings
    assert weighted.user.tolist() == [1, 1, 0]
    assert weighted.item.tolist() == [1, 0, 1]
    assert weighted.weight.tolist() == [2, 1, 6]


@pytest.mark.parametrize(("duplicates", "weight"), [("last", 1), ("mean", 6), ("sum", 6), ("once", 5)])
def test_policies_of_events(duplicates, weight):
    found = from_frame(EVENTS, rating=None, weight="what", timestamp="t", duplicates=duplicates).ratings
    assert len(found) == 3
    assert found.weight[found.user == 0].tolist() == [weight]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("duplicates", ["sum", "once"])
def test_repeated_clicks_and_dislikes_against_a_loop(duplicates, seed):
    rng = np.random.default_rng(seed)
    n = [1, 7, 60, 200][seed % 4]
    table = {name: rng.integers(0, high, n) for name, high in (("user", 4), ("item", 5), ("rating", 2), ("w", 4))}
    frame = pd.DataFrame(table | {"t": rng.integers(0, 30, n)})
    data = from_frame(frame, weight="w", timestamp="t", duplicates=duplicates)
    rows = zip(data.users.decode(data.ratings.user), data.items.decode(data.ratings.item), strict=True)
    found = dict(zip(rows, zip(data.ratings.rating, data.ratings.weight, data.timestamp, strict=True), strict=True))
    expected = {}
    for pair, events in frame.sort_values("t", kind="stable").groupby(["user", "item"]):
        counting = events[events.w > 0] if (events.w > 0).any() else events
        last = counting.iloc[-1]
        weights = counting.w[counting.rating == last.rating]
        expected[pair] = (last.rating, weights.sum() if duplicates == "sum" else weights.max(), last.t)
    assert found == expected
    assert len(data.ratings) == len(found)


def test_nothing_gathered_is_nothing():
    none = np.zeros(0, int)
    assert [len(part) for part in gathered(none, none, none, np.add)] == [0, 0, 0]


def rated(rating, weight=None):
    users = np.arange(len(rating))
    frame = {"user": users, "item": users, "rating": rating, "w": [1] * len(users) if weight is None else weight}
    return from_frame(frame, weight="w").ratings


@pytest.mark.parametrize(
    ("rating", "weight", "begin"),
    [
        ([1, 1, 1], None, "all ratings are 1: these look like clicks"),
        ([4.5, 4.5], None, "all ratings are 4.5: these look like clicks"),
        ([0, 1, 1], None, "all ratings are 0 or 1: these look like clicks"),
        ([1, 1, 3], [1, 2, 0], "all ratings are 1: these look like clicks"),
        ([1, 2], None, None),
        ([0, 0.5, 1], None, None),
        ([1, 1], [0, 0], None),
    ],
)
def test_a_hint_for_what_looks_like_clicks(rating, weight, begin):
    found = hint(rated(rating, weight))
    assert found is None if begin is None else found.startswith(begin)
    assert begin is None or found.endswith("pass rating=None, or kernel=jaxmf.kernels.Clicks()")


def test_a_hint_of_no_ratings_is_refused():
    with pytest.raises(ValueError, match="ratings must be Ratings, got list"):
        hint.__wrapped__([1, 1])


@pytest.mark.parametrize("convert", [lambda f: f.to_dict("records"), lambda f: f.to_dict("list"), dict])
def test_records_and_columns_are_frames(convert):
    shuffled = FRAME.set_axis([2, 0, 1])
    np.testing.assert_array_equal(from_frame(convert(shuffled)).ratings.user, [1, 0, 1])


@pytest.mark.parametrize("stranger", [[1, 2], 5, "frame", [(1, 2, 3)], {"user": 1}, pl.LazyFrame({"user": [1]}), None])
def test_what_is_no_frame_is_refused(stranger):
    with pytest.raises(ValueError, match="frame"):
        from_frame(stranger)


@pytest.mark.parametrize("known", [2**60, 2**63, 2**64])
@pytest.mark.parametrize("of", [np.int64, np.uint64, object])
def test_whole_numbers_of_any_width_are_one_kind(known, of):
    ids = [known + step for step in (17, 0, 4)]
    rows = Vocabulary(ids)
    given = [one for one in ids if of is object or one <= np.iinfo(of).max]
    assert rows.encode(np.array(given, of)).tolist() == [ids.index(one) for one in given]
    assert rows.encode([7, -7, 2**70], unknown="mark").tolist() == [-1] * 3
    more = rows.extend(np.array([7], of)).extend([2**65])
    assert more.decode([0, 3, 4]).tolist() == [ids[0], 7, 2**65]


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="duplicates must be one of"):
        from_frame.__wrapped__(FRAME, duplicates="first")  # past the tests' own type check


def test_vocabulary_refuses_an_id_twice():
    with pytest.raises(ValueError, match="'a' comes more than once"):
        Vocabulary(["a", "b", "a"])


def test_vocabulary_refuses_or_marks_unknown_ids():
    known = Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="id 'c' is not among the 2 known ids"):
        known.encode(["a", "c"])
    assert known.encode(["a", "c"], unknown="mark").tolist() == [0, -1]


def test_vocabularies_compare_by_ids():
    assert Vocabulary([1, 2]) == Vocabulary(np.array([1, 2]))
    assert Vocabulary([1, 2]) != Vocabulary([2, 1])
    assert len({Vocabulary([1, 2]), Vocabulary([1, 2])}) == 1


def test_take_and_transpose(ratings):
    part = ratings.take(ratings.rating > 3)
    assert (part.rating > 3).all()
    assert (part.n_users, part.n_items) == (ratings.n_users, ratings.n_items)
    back = ratings.transpose().transpose()
    np.testing.assert_array_equal(back.user, ratings.user)
    assert ratings.transpose().n_users == ratings.n_items


@pytest.mark.parametrize("of", [int, str, lambda n: (n, "a")], ids=["int", "str", "tuple"])
def test_a_vocabulary_grows_by_what_is_new(of):
    """Whatever the steps, forks included, it is the one of all ids at once; what is old is shared."""
    rng, ids = np.random.default_rng(0), []
    grown = Vocabulary()
    for size in (3, 400, 1, 1, 1, 30, 2, 2, 90, 1):
        some = [of(int(n)) for n in rng.integers(0, 1000, size)]
        fork = grown.extend([of(-1), of(-2)])
        assert fork.encode([of(-2), of(-3), *ids], unknown="mark").tolist() == [len(ids) + 1, -1, *range(len(ids))]
        grown = grown.extend(some)
        ids += [one for one in dict.fromkeys(some) if one not in ids]
        assert len(grown) == len(ids)
        assert grown.encode(ids).tolist() == list(range(len(ids)))
    assert grown == Vocabulary(ids)
    assert grown.decode(np.arange(len(ids))).tolist() == ids
    assert grown.extend([of(-1)])._layers[0] is grown._settled[0]
    with pytest.raises(ValueError, match="of kind float, the known ids of"):
        grown.extend([0.5])
