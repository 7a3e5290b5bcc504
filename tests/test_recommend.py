"""Recommendations: against a full sort of every prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import KERNELS, random_ratings, rating

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Logistic, Polynomial
from jaxmf.model.model import Model
from jaxmf.model.params import init
from jaxmf.model.posterior import Draw, Population, Posterior, pick
from jaxmf.model.tables import Table
from jaxmf.online import asking, update
from jaxmf.serving import recommend, top

USERS, ITEMS, RANK = 30, 400, 5
KEY = jax.random.key(0)


def params_of(key=KEY, users=USERS, items=ITEMS, offset=0.7):
    keys = jax.random.split(key, 3)
    params = init(keys[0], users, items, RANK, offset=offset, scale=0.5)
    biases = [0.3 * jax.random.normal(one, (n,)) for one, n in zip(keys[1:], (users, items), strict=True)]
    return params.replace(user=params.user.replace(bias=biases[0]), item=params.item.replace(bias=biases[1]))


def model(kernel=Linear(), **sizes):
    return Model(params_of(**sizes), kernel)


def table(of):
    return np.asarray(of.matrix(), np.float64)


def every_rating(model):
    """r̂ of every pair, in float64."""
    params, kernel = model.params, model.kernel
    offset, others = float(params.offset), table(params.item)
    return np.stack([rating(kernel, row, others, offset) for row in table(params.user)])


def assert_best(found, scores, n):
    """The n largest of each row of scores, in which −inf may not be shown."""
    expected = np.sort(scores, 1)[:, ::-1][:, :n]
    there = np.isfinite(expected)
    np.testing.assert_allclose(found.score[:, : expected.shape[1]], expected, rtol=2e-5, atol=2e-5)
    assert (found.item[:, : expected.shape[1]][~there] == scores.shape[1]).all()
    rows = np.arange(len(scores))[:, None].repeat(expected.shape[1], 1)[there]
    shown = found.item[:, : expected.shape[1]][there]
    np.testing.assert_allclose(scores[rows, shown], expected[there], rtol=2e-5, atol=2e-5)
    assert all(len(set(line[line < scores.shape[1]])) == (line < scores.shape[1]).sum() for line in found.item)


@pytest.fixture
def seen():
    return random_ratings(np.random.default_rng(1), n_users=USERS, n_items=ITEMS, n=900)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        for name, value in {"USERS": 4, "ITEMS": 130, "BLOCKS": 2, "GROUP": 8}.items():
            monkeypatch.setattr(top, name, value)
        jax.clear_caches()
        yield
        jax.clear_caches()
    else:
        yield


@pytest.mark.parametrize("kernel", [*KERNELS, Polynomial(0.5, 5.0, degree=2)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("blocks")
def test_top_n_is_a_full_sort(kernel, masked, seen):
    ours = model(kernel)
    scores = every_rating(ours)
    if masked:
        scores[seen.user, seen.item] = -np.inf
    found = recommend.top_n(ours, np.arange(USERS), n=7, seen=seen if masked else None)
    assert_best(found, scores, 7)
    pairs = np.arange(USERS).repeat(7), found.item.ravel()
    np.testing.assert_allclose(found.score.ravel(), ours.predict(*pairs), rtol=1e-6)


@pytest.mark.parametrize("kernel", [Linear(), KERNELS[-1]], ids=str)
def test_candidates_and_exclusions(kernel, seen):
    ours, users = model(kernel), np.array([3, 3, 0])
    candidates, exclude = np.array([5, 9, 399, 0, 9, 77, 12]), np.array([77, 1])
    scores = every_rating(ours)[users]
    hidden = ~np.isin(np.arange(ITEMS), candidates) | np.isin(np.arange(ITEMS), exclude)
    scores[:, hidden] = -np.inf
    for row, user in enumerate(users):
        scores[row, seen.item[seen.user == user]] = -np.inf
    found = recommend.top_n(ours, users, n=10, seen=seen, candidates=candidates, exclude=exclude)
    assert found.item.shape == (3, 10)
    assert_best(found, scores, 10)
    assert (found.item[:, 5:] == ITEMS).all()


def test_a_user_who_has_seen_all_and_a_catalogue_without_candidates():
    ours, all_of_them = model(), np.arange(ITEMS)
    one = np.ones(ITEMS, np.float32)
    seen = Ratings(np.full(ITEMS, 2), all_of_them, one, one, USERS, ITEMS)
    found = recommend.top_n(ours, np.array([2, 1]), n=3, seen=seen)
    assert (found.item[0] == ITEMS).all()
    assert np.isneginf(found.score[0]).all()
    assert (found.item[1] < ITEMS).all()
    nothing = recommend.top_n(ours, np.array([2, 1]), n=3, exclude=all_of_them)
    assert (nothing.item == ITEMS).all()
    assert recommend.top_n(ours, np.zeros(0, int)).item.shape == (0, 10)
    assert recommend.top_n(ours, []).item.shape == (0, 10)


def test_padding_is_inert_and_the_order_of_what_was_seen_irrelevant(seen):
    ours, users = model(Logistic(0.5, 5.0)), np.arange(USERS)
    expected = recommend.top_n(ours, users, seen=seen)
    shuffled = seen.take(np.random.default_rng(0).permutation(len(seen)))
    more = jax.tree.map(lambda x: np.concatenate([x, x[:0].dtype.type(0)[None].repeat(50)]), shuffled)
    found = recommend.top_n(ours, users, seen=more)
    np.testing.assert_array_equal(found.item, expected.item)
    one = recommend.top_n(ours, users[4:5], seen=seen)
    np.testing.assert_array_equal(one.item[0], expected.item[4])


def test_rows_that_nobody_has_written_are_not_recommended():
    params = params_of()
    params = params.replace(item=update.reserve(params.item, 500), user=update.reserve(params.user, 50))
    for kernel in KERNELS:
        ours = Model(params, kernel)
        assert_best(recommend.top_n(ours, np.arange(USERS)), every_rating(model(kernel)), 0)
        assert recommend.top_n(ours, np.arange(USERS)).item.max() < ITEMS
    with pytest.raises(ValueError, match="user row 40 is reserved"):
        recommend.top_n(ours, np.array([1, 40]))


@pytest.mark.parametrize("n", [1, 3, 50])
def test_top_k_is_that_of_jax(n):
    scores = jax.random.normal(KEY, (6, 64 * 210)).at[2, 100:].set(-jnp.inf)
    np.testing.assert_array_equal(top.top_k(scores, n)[0], jax.lax.top_k(scores, n)[0])
    values, at = jax.jit(top.top_k, static_argnums=1)(scores, n)
    np.testing.assert_array_equal(np.take_along_axis(np.asarray(scores), np.asarray(at), 1), values)
    assert all(len(set(line)) == n for line in at.tolist())


def test_the_program_is_traced_once():
    ours = model(users=700)
    seen = random_ratings(np.random.default_rng(1), n_users=700, n_items=ITEMS, n=17_000)
    users = np.arange(700)
    recommend.top_n(ours, users[:512], seen=seen)
    before = top.best._cache_size()
    recommend.top_n(ours, users[100:612], seen=seen)
    assert top.best._cache_size() == before


@pytest.fixture
def posterior():
    draws = [params_of(key) for key in jax.random.split(KEY, 6)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *draws)
    one, none = Table(jnp.ones(6), jnp.ones((6, RANK))), Table(jnp.ones((6, 0)), jnp.ones((6, 0, RANK)))
    side = Population(one, one, none, jnp.ones(6))
    return Posterior(Draw(params, side, side, jnp.ones(6)), Linear(), KEY)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("width", [0.0, 1.5])
@pytest.mark.usefixtures("blocks")
def test_top_n_of_draws(posterior, kernel, width, seen):
    posterior = posterior.replace(kernel=kernel)
    draws = [Model(jax.tree.map(lambda x, at=at: x[at], posterior.params), kernel) for at in range(6)]
    each = np.stack([every_rating(draw) for draw in draws])
    scores = each.mean(0) + width * each.std(0)
    bound = asking.upper_bound(posterior, 3, np.arange(ITEMS), width=width)
    np.testing.assert_allclose(scores[3], bound, rtol=1e-4, atol=1e-4)
    scores[seen.user, seen.item] = -np.inf
    found = recommend.top_n(posterior, np.arange(USERS), n=6, width=width, seen=seen)
    assert_best(found, scores, 6)


def test_a_point_model_has_no_spread_to_add():
    with pytest.raises(ValueError, match=r"width=1.0: a point model has no standard deviations"):
        recommend.top_n(model(), [0], width=1.0)


def test_thompson_is_the_best_of_one_draw(posterior):
    found = recommend.top_n(pick(KEY, posterior), np.array([3]), n=1)
    scores = asking.thompson(KEY, posterior, 3, np.arange(ITEMS))
    assert found.item[0, 0] == int(jnp.argmax(scores))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be a whole number of 1 or more, got 0"),
        ({"users": np.array([USERS])}, "user row 30 is not among"),
        ({"candidates": np.array([-1])}, "item row -1 is not among"),
        ({"exclude": np.array([ITEMS])}, "item row 400 is not among"),
        ({"n": 2.5}, "n must be a whole number of 1 or more, got 2.5"),
        ({"users": 0}, r"user rows must be a list of whole numbers, got 0: pass \[row\]"),
        ({"users": [0.5]}, r"user rows must be a list of whole numbers, got \[0.5\]"),
        ({"candidates": [1.5, 2.0]}, "item rows must be a list of whole numbers"),
        ({"exclude": np.ones(ITEMS, bool)}, r"np.flatnonzero\(mask\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(change, message):
    settings = {"users": np.array([0])} | change
    with pytest.raises(ValueError, match=message):
        recommend.top_n(model(), **settings)
    one = np.ones(1, np.float32)
    far = Ratings(np.array([0]), np.array([500]), one, one, USERS, 501)
    with pytest.raises(ValueError, match="item row 500 is outside"):
        recommend.top_n(model(), np.array([0]), seen=far)
