"""Updates in place: growing tables, few programs, threads; and the rows that updates of every kind give."""

import concurrent.futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import flat, table

from jaxmf.data import changes, datasets, histories
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, Logistic
from jaxmf.model.model import Model
from jaxmf.model.params import Params, init, predict
from jaxmf.model.priors import DEFAULT
from jaxmf.online import fold_in, update
from jaxmf.training import als

KEY = jax.random.key(0)
KERNEL = Logistic(0.5, 5.0)


@pytest.fixture(scope="module")
def model(ratings):
    return als.fit(KEY, ratings, kernel=KERNEL, rank=4, epochs=6).model


def rate(user, item, rating, n_users=30, n_items=40):
    n = len(user)
    return Ratings(np.int32(user), np.int32(item), np.float32(rating), np.ones(n, np.float32), n_users, n_items)


def solved(model, ratings, users):
    return flat(fold_in.fold_in_users(model, ratings, users=np.array(users)).params.user)


def test_more_other_and_fewer_ratings_give_the_row_of_what_is_left(model, ratings):
    mine = ratings.take(ratings.user == 2)
    more = changes.merge(ratings, rate([2], [np.setdiff1d(np.arange(40), mine.item)[0]], [0.5]))
    other = changes.merge(ratings, rate([2], mine.item[:1], [0.5 if mine.rating[0] > 2 else 5.0]))
    fewer = changes.remove(ratings, [2], mine.item[:1])
    rows = [solved(model, changed, [2])[2] for changed in (ratings, more, other, fewer)]
    assert len({tuple(row) for row in rows}) == 4
    for changed, row in zip((more, other, fewer), rows[1:], strict=True):
        history = changed.take(changed.user == 2)
        alone = flat(fold_in.fold_in_user(model, history.item, history.rating).params.user)[0]
        np.testing.assert_allclose(row, alone, rtol=1e-3, atol=1e-4)
    back = changes.remove(more, [2], more.item[-1:])
    np.testing.assert_allclose(solved(model, back, [2])[2], rows[0], rtol=1e-4, atol=1e-5)


def test_a_removed_user_is_the_prior_mean_and_nobody_else_moves(model, ratings):
    left = changes.remove_users(ratings, [7])
    forgotten, before = fold_in.fold_in_users(model, left, users=np.array([7])).params, model.params
    np.testing.assert_array_equal(flat(forgotten.user)[7], 0)
    others = np.arange(30) != 7
    np.testing.assert_array_equal(flat(forgotten.user)[others], flat(before.user)[others])
    np.testing.assert_array_equal(flat(forgotten.item), flat(before.item))


def test_weights_and_decay_reach_the_fold_in_as_they_reach_training(model, ratings):
    decay = changes.time_decay(np.arange(len(ratings)), half_life=100)
    aged = ratings.replace(weight=decay)
    zero = model.params.replace(user=jax.tree.map(jnp.zeros_like, model.params.user))
    state = als.init(jax.random.key(0), aged, kernel=KERNEL, rank=model.params.user.rank).replace(params=zero)
    sweep, _ = als.step(state, als.histories(aged), kernel=model.kernel, prior=model.priors, steps=8, cg_steps=24)
    half = sweep.params.user
    folded = fold_in.fold_in_users(model, aged).params
    np.testing.assert_allclose(flat(folded.user), flat(half), rtol=1e-3, atol=2e-4)
    assert np.abs(flat(folded.user) - solved(model, ratings, np.arange(30))).max() > 0.01


def test_new_users_who_rate_new_items_settle_where_both_solves_agree(model, ratings, monkeypatch):
    rng = np.random.default_rng(0)
    new_user, new_item = np.arange(30, 34), np.arange(40, 43)
    user, item = np.array([(u, i) for u in new_user for i in [*new_item, *range(8)]]).T
    known_user, known_item = np.array([(u, i) for u in range(6) for i in new_item]).T
    users, items = np.r_[user, known_user], np.r_[item, known_item]
    new = rate(users, items, rng.integers(2, 11, len(users)) / 2, 34, 43)
    together = changes.merge(ratings, new)
    monkeypatch.setattr(fold_in, "TOL", 1e-4)
    monkeypatch.setattr(fold_in, "AT_MOST", 200)
    found = fold_in.fold_in(model, together, users=new_user, items=new_item)
    again = fold_in.fold_in_users(found, together, users=new_user).params
    again_items = fold_in.fold_in_items(found, together, items=new_item).params
    folded, before = found.params, model.params
    assert (len(folded.user), len(folded.item)) == (34, 43)
    np.testing.assert_allclose(flat(again.user)[30:], flat(folded.user)[30:], atol=2e-3)
    np.testing.assert_allclose(flat(again_items.item)[40:], flat(folded.item)[40:], atol=2e-3)
    np.testing.assert_array_equal(flat(folded.user)[:30], flat(before.user))
    np.testing.assert_array_equal(flat(folded.item)[:40], flat(before.item))
    assert np.abs(flat(folded.item)[40:]).max() > 0.01


def test_reserve_doubles_and_never_looks_like_data():
    small = table(np.ones((10, 4)))
    assert [len(update.reserve(small, rows=rows)) for rows in (1, 10, 11, 20, 21, 1000)] == [10, 10, 20, 20, 40, 1280]
    grown = update.reserve(small, rows=15)
    np.testing.assert_array_equal(flat(grown)[:10], flat(small))
    params = Params(grown, small, jnp.float32(3))
    assert np.isnan(predict(params, Linear(), np.array([12]), np.array([0]))).all()
    assert np.isfinite(predict(params, Linear(), np.array([9]), np.array([0]))).all()


def test_update_writes_in_place_the_rows_of_its_block_alone(model, ratings):
    (stack,) = histories.blocks(ratings, np.array([3, 8]), ladder=True)
    (block,) = update.unstack(stack)
    room = update.reserve(model.params.user, rows=50)
    before = flat(room)
    where = room.factors.unsafe_buffer_pointer()
    after = update.update(room, model.frozen(), block)
    assert after.factors.unsafe_buffer_pointer() == where
    assert room.factors.is_deleted()
    expected = fold_in.fold_in_users(model, ratings, users=np.array([3, 8])).params
    np.testing.assert_allclose(flat(after)[[3, 8]], flat(expected.user)[[3, 8]], atol=1e-6)
    np.testing.assert_array_equal(np.delete(flat(after), [3, 8], 0), np.delete(before, [3, 8], 0))


def test_a_replay_of_movielens_compiles_few_programs():
    data = datasets.movielens_small()
    order = np.argsort(data.timestamp, kind="stable")
    start = int(0.8 * len(order))
    params = init(KEY, data.ratings.n_users, data.ratings.n_items, 8, offset=3.5)
    users, items = update.reserve(params.user, rows=1000), update.reserve(params.item, rows=10_000)
    compiled = 0

    def count(event: str, *_: object, **__: object) -> None:
        nonlocal compiled
        compiled += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(count)
    shapes = set()
    for index in np.array_split(np.arange(start, len(order)), 60):
        known = data.ratings.take(order[: index[-1] + 1])
        part = data.ratings.take(order[index])
        for stack in histories.blocks(known, np.unique(part.user), ladder=True):
            for block in update.unstack(stack):
                shapes.add(block.weight.shape)
                frozen = Model(Params(None, items, params.offset), Linear()).frozen()
                users = update.update(users, frozen, block)
        for stack in histories.blocks(known.transpose(), np.unique(part.item), ladder=True):
            for block in update.unstack(stack):
                shapes.add(block.weight.shape)
                frozen = Model(Params(users, None, params.offset), Linear()).transpose().frozen()
                items = update.update(items, frozen, block)
    jax.monitoring.unregister_event_duration_listener(count)
    assert 2 <= compiled <= 12
    assert np.isfinite(flat(users)[:671]).all()


def test_threads_fold_in_at_once_and_agree(model, ratings):
    (stack,) = histories.blocks(ratings)
    stack = jax.tree.map(jnp.asarray, stack)

    def work(seed: int) -> tuple:
        user = seed % 30
        mine = ratings.take(ratings.user == user)
        return (
            flat(fold_in.fold_in_user(model, mine.item, mine.rating).params.user),
            flat(update.solve_stacks(model.frozen(), (stack,))[0]),
        )

    alone = [work(seed) for seed in range(30)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, list(range(30)) * 4, timeout=120))
    for at, result in enumerate(together):
        for one, other in zip(result, alone[at % 30], strict=True):
            np.testing.assert_array_equal(one, other)


def test_gradient_of_a_validation_loss_through_the_fold_in(ratings):
    """With respect to the prior's precision and the items' factors, against finite differences."""
    model = als.fit(KEY, ratings, kernel=KERNEL, rank=3, epochs=5).model
    half = np.arange(len(ratings)) % 2 == 0
    shown, hidden = ratings.take(half), ratings.take(~half)
    (stack,) = histories.blocks(shown)
    (block,) = update.unstack(stack)

    @jax.jit
    def loss(factor_reg, item_factors):
        items = model.params.item.replace(factors=item_factors)
        priors = DEFAULT._replace(user=DEFAULT.user.replace(factor_reg=factor_reg))
        given = model.replace(params=model.params.replace(item=items), priors=priors)
        folded = given.with_users(update.solve_block(given.frozen(), block))
        return jnp.mean((folded.predict(jnp.asarray(hidden.user), jnp.asarray(hidden.item)) - hidden.rating) ** 2)

    reg, factors = jnp.float32(2.0), model.params.item.factors
    to_reg, to_factors = jax.jit(jax.grad(loss, (0, 1)))(reg, factors)
    step = 0.05
    assert float(to_reg) == pytest.approx(
        float(loss(reg + step, factors) - loss(reg - step, factors)) / (2 * step), rel=0.03
    )
    direction = to_factors / jnp.linalg.norm(to_factors)
    up, down = (loss(reg, factors + sign * step * direction) for sign in (1, -1))
    assert float(jnp.sum(to_factors * direction)) == pytest.approx(float(up - down) / (2 * step), rel=0.03)
