"""Neighbours: against all distances; and vectors in an index of another library."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from reference import KERNELS
from test_recommend import ITEMS, USERS, every_rating, model, params_of

from jaxmf.data import datasets
from jaxmf.model.kernels import RBF, Linear
from jaxmf.model.model import Model
from jaxmf.model.posterior import Draw, Posterior
from jaxmf.model.tables import Table
from jaxmf.online import update
from jaxmf.serving import neighbours, recommend
from jaxmf.training import als


def similarity(kernel, factors):
    factors = np.asarray(factors, np.float64)
    if isinstance(kernel, RBF):
        return np.exp(-kernel.gamma * ((factors[:, None] - factors[None]) ** 2).sum(2))
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("kernel", [KERNELS[0], KERNELS[3]], ids=str)
def test_similar_rows_are_the_nearest_of_all(kernel):
    ours, rows = model(kernel), np.array([3, 17, 3])
    sides = (neighbours.similar_items, ours.params.item), (neighbours.similar_users, ours.params.user)
    for find, table in sides:
        near = similarity(kernel, table.factors)
        np.fill_diagonal(near, -np.inf)
        found = find(ours, rows, n=5)
        np.testing.assert_allclose(found.score, np.sort(near[rows], 1)[:, ::-1][:, :5], rtol=1e-4)
        np.testing.assert_allclose(near[rows[:, None], found.item], found.score, rtol=1e-4)


def test_similar_items_among_candidates_and_without_factors():
    ours = model().grown(USERS, ITEMS + 1)
    found = neighbours.similar_items(ours, np.array([ITEMS, 4]), n=3, candidates=[4, 8, ITEMS])
    assert found.item[1, 2] == ITEMS + 1
    assert set(found.item[0, :2]) == {4, 8}
    np.testing.assert_allclose(found.score[0, :2], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("find", "settings", "words"),
    [
        (neighbours.similar_items, {"items": [ITEMS]}, "item row 400 is not among.*fold the item in first"),
        (neighbours.similar_users, {"users": [USERS]}, "user row 30 is not among.*fold the user in first"),
        (neighbours.similar_users, {"users": [1], "candidates": [USERS]}, "user row 30 is not among"),
        (neighbours.similar_users, {"users": [1], "exclude": [USERS]}, "user row 30 is not among"),
        (neighbours.similar_items, {"items": [1], "n": 0}, "n must be .* got 0: it is the length of each list"),
    ],
)
def test_what_is_refused_is_named_by_its_side(find, settings, words):
    with pytest.raises(ValueError, match=words):
        find(model(), **settings)


def reserved(kernel):
    """A model with room for one more item and more."""
    params = params_of()
    return Model(params.replace(item=update.reserve(params.item, ITEMS + 1)), kernel)


def test_a_row_that_nobody_has_written_has_no_neighbours():
    ours = reserved(Linear())
    with pytest.raises(ValueError, match=f"item row {ITEMS} is reserved and not written: fold the item in first"):
        neighbours.similar_items(ours, [ITEMS])


def test_draws_have_no_one_table():
    params = jax.tree.map(lambda x: jnp.stack([x, x]), params_of())
    draws = Posterior(Draw(params, None, None, jnp.ones(2)), Linear(), jax.random.key(0))
    for call in (
        lambda: neighbours.similar_items(draws, [1]),
        lambda: neighbours.similar_users(draws, [1]),
        lambda: neighbours.index_vectors(draws),
    ):
        with pytest.raises(ValueError, match=r"2 draws of.*not one table.*jaxmf.posterior.pick\(key, posterior\)"):
            call()


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_vectors_rank_as_the_model_does(kernel):
    ours = model(kernel)
    vectors = neighbours.index_vectors(ours)
    product = np.asarray(vectors.user @ vectors.item.T)
    expected = np.argsort(-every_rating(ours), 1)[:, :10]
    wanted = 100 if isinstance(kernel, RBF) else 10
    found = np.argsort(-product, 1)[:, :wanted]
    share = np.mean([np.isin(expected[user], found[user]).mean() for user in range(USERS)])
    assert share == 1 if wanted == 10 else share > 0.9


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_distances_rank_as_inner_products_do(kernel):
    vectors = neighbours.index_vectors(reserved(kernel))
    user, item = (np.asarray(side, np.float64) for side in neighbours.by_distance(vectors))
    square = ((user[:, None] - item[None]) ** 2).sum(2)
    assert np.isnan(square[:, ITEMS:]).all()  # reserved and not written
    product = np.asarray(vectors.user, np.float64) @ np.asarray(vectors.item, np.float64)[:ITEMS].T
    constant = square[:, :ITEMS] + 2 * product
    np.testing.assert_allclose(constant, np.broadcast_to(constant[:, :1], constant.shape), rtol=1e-5)


def test_distances_of_no_items():
    none = neighbours.by_distance(neighbours.Vectors(jnp.ones((2, 3)), jnp.ones((0, 3))))
    assert none.user.shape == (2, 4)
    assert none.item.shape == (0, 4)


class Own(struct.PyTreeNode):
    """A kernel that the package does not know."""

    linear: ClassVar[bool] = False
    low: ClassVar[float] = -np.inf
    high: ClassVar[float] = np.inf
    unit: float = 1.0

    def __call__(self, row: Table, other: Table, offset: float) -> jax.Array:
        return offset - jnp.abs(row.factors - other.factors).sum()

    def offset(self, mean: float) -> float:
        return mean


def test_a_kernel_of_ones_own_has_recommendations_and_no_vectors():
    ours, params = model(Own()), params_of()
    with pytest.raises(ValueError, match="no vectors for"):
        neighbours.index_vectors(ours)
    w, h = (np.asarray(side.factors, np.float64) for side in (params.user, params.item))
    expected = np.sort(float(params.offset) - np.abs(w[:, None] - h[None]).sum(2), 1)[:, ::-1][:, :5]
    found = recommend.top_n(ours, np.arange(USERS), n=5)
    np.testing.assert_allclose(found.score, expected, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "metric"), [(KERNELS[0], "ip"), (RBF(1.0, 5.0), "l2sq")], ids=str)
def test_recall_of_an_index(shared, kernel, metric):
    """The graph index of usearch over a model of MovieLens 100K: 30 candidates a user hold the best 10."""
    index = pytest.importorskip("usearch.index")
    ratings = datasets.movielens_100k(shared / "data" / "ml-100k").ratings
    ours = als.fit(jax.random.key(0), ratings, kernel=kernel, rank=10, epochs=5).model
    users = np.arange(ratings.n_users)
    exact = recommend.top_n(ours, users).item
    vectors = neighbours.index_vectors(ours)
    vectors = vectors if metric == "ip" else neighbours.by_distance(vectors)
    graph = index.Index(ndim=vectors.item.shape[1], metric=metric, dtype="f32", connectivity=32, expansion_search=128)
    graph.add(np.arange(ratings.n_items), np.asarray(vectors.item), threads=1)  # else each build is another graph
    found = np.asarray(graph.search(np.asarray(vectors.user), 30).keys)
    recall = np.mean([np.isin(exact[user], found[user]).mean() for user in users])
    assert recall > 0.99
    chosen = recommend.top_n(ours, users[:1], candidates=found[0])
    assert np.isin(chosen.item[0], exact[0]).mean() >= 0.8
