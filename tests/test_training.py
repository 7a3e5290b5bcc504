"""What is true of single trainers: SGD's sparse step, ALS's descent, the notebook's collapse, the loop."""

import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import KERNELS, flat

from jaxmf.data import datasets, features, histories, splits
from jaxmf.model import objective, params, problem, rows
from jaxmf.model.kernels import Linear, Logistic, unit_of
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.training import als, gibbs, loop, notebook, sgd
from jaxmf.training.loop import Watch

pytestmark = pytest.mark.optax

KEY = jax.random.key(0)
KERNEL = Logistic(0.5, 5.0)


def test_batch_loss_is_unbiased(ratings):
    rng = np.random.default_rng(0)
    weighted = ratings.replace(weight=rng.uniform(0.5, 2, len(ratings)).astype(np.float32))
    model = params.init(KEY, ratings.n_users, ratings.n_items, 4, offset=0.1, scale=0.5)
    n = objective.weights(weighted)
    priors = Priors(Prior(1.0, 0.5, 0.5), Prior(2.0, 0.3, 1.0))
    whole = objective.loss(model, KERNEL, weighted, priors, n)
    # Rows without a rating are no batch's: their part stays out of the estimate.
    empty = [
        objective.penalty(p, t, c) * jnp.float32(c == 0)
        for p, t, c in zip(priors, (model.user, model.item), n, strict=True)
    ]
    whole -= sum(part.sum() for part in empty)
    everything = objective.batch_loss(model, KERNEL, weighted, priors, n.user[weighted.user], n.item[weighted.item])
    assert float(everything) * weighted.weight.sum() == pytest.approx(float(whole), rel=1e-4)


def test_sgd_step_touches_the_rows_of_its_batch_alone(ratings):
    optimizer = optax.adam(1e-2)
    state = sgd.init(KEY, ratings, kernel=KERNEL, rank=3, optimizer=optimizer)
    batch = ratings.take(np.arange(20))
    n = objective.weights(ratings)
    for _ in range(3):
        new, _ = sgd.step(state, batch, n, kernel=KERNEL, prior=DEFAULT, optimizer=optimizer)
        for side, touched in (("user", batch.user), ("item", batch.item)):
            before, after = flat(getattr(state.params, side)), flat(getattr(new.params, side))
            assert set(np.flatnonzero((before != after).any(1))) == set(touched)
        state = new
    moments = new.optimizer[0].mu
    assert set(np.flatnonzero(flat(moments[0]).any(1))) == set(batch.user)
    assert int(new.optimizer[0].count) == 3


def test_sgd_step_is_dense_optax_where_every_row_is_touched(ratings):
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-2))
    state = sgd.init(KEY, ratings, kernel=KERNEL, rank=3, optimizer=optimizer)
    n = objective.weights(ratings)
    assert (np.asarray(n.user) > 0).all()

    def loss(tables):
        model = params.Params(*tables, state.params.offset)
        return objective.batch_loss(model, KERNEL, ratings, DEFAULT, n.user[ratings.user], n.item[ratings.item])

    tables = (state.params.user, state.params.item)
    updates, _ = optimizer.update(jax.grad(loss)(tables), state.optimizer, tables)
    user, item = optax.apply_updates(tables, updates)
    new, _ = sgd.step(state, ratings, n, kernel=KERNEL, prior=DEFAULT, optimizer=optimizer)
    np.testing.assert_allclose(flat(new.params.user), flat(user), atol=1e-6)
    seen = np.unique(ratings.item)
    np.testing.assert_allclose(flat(new.params.item)[seen], flat(item)[seen], atol=1e-6)


def test_shuffled_batches_hold_every_rating_once(ratings):
    batches = sgd.shuffled(KEY, ratings, 64)
    real = np.asarray(batches.weight) > 0
    assert batches.rating.shape == (8, 64)
    found = sorted(zip(np.asarray(batches.user)[real], np.asarray(batches.item)[real], strict=True))
    assert found == sorted(zip(ratings.user, ratings.item, strict=True))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_no_block_of_a_sweep_raises_the_objective(kernel, ratings):
    data = als.histories(ratings, pages=16)
    model = als.init(KEY, ratings, kernel=kernel, rank=4).params
    n_users, table = len(model.user), model.user.join(model.item)
    mean = jax.tree.map(jnp.zeros_like, table)
    precision = DEFAULT.user.precision(data.n.user).join(DEFAULT.item.precision(data.n.item))

    @jax.jit
    def solve(table, block):
        stack = jax.tree.map(lambda x: x[None], block)
        whole = problem.Problem(kernel, model.offset, table, block, mean, precision)
        table, _ = als.solve_blocks(whole, (stack,), steps=1, cg_steps=2)
        user, item = table.cut(n_users)
        return table, objective.loss(model.replace(user=user, item=item), kernel, ratings, DEFAULT, data.n)

    (stack,) = data.blocks
    assert len(stack.rows) > 4
    losses = []
    for at in list(range(len(stack.rows))) * 3:
        table, loss = solve(table, jax.tree.map(lambda x, at=at: x[at], stack))
        losses.append(float(loss))
    assert (np.diff(losses) <= 1e-4 * np.abs(losses[:-1])).all()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("pages", [4, histories.PAGES])
def test_the_loss_of_a_sweep_is_the_objective_after_it(kernel, pages, ratings, monkeypatch):
    monkeypatch.setattr(histories, "PAGES", pages)
    kernel = kernel.replace(unit=0.8)
    data = als.histories(ratings, pages=pages)
    state = als.init(KEY, ratings, kernel=kernel, rank=4)
    for _ in range(2):
        state, info = als.step(state, data, kernel=kernel, prior=DEFAULT)
    loss = objective.loss(state.params, kernel, ratings, DEFAULT, data.n) / data.n.user.sum()
    np.testing.assert_allclose(info["loss"], loss, rtol=1e-5)


@pytest.mark.parametrize("kernel", [Linear(), KERNEL], ids=lambda kernel: type(kernel).__name__)
def test_more_steps_than_a_row_needs_change_nothing(kernel, ratings):
    few, many = (
        als.fit(KEY, ratings, kernel=kernel, rank=32, prior=Prior(), epochs=3, cg_steps=steps) for steps in (33, 400)
    )
    np.testing.assert_allclose(many.history["loss"], few.history["loss"], rtol=1e-5)


def test_als_finds_the_stationary_point(ratings):
    result = als.fit(KEY, ratings, kernel=Linear(), rank=3, epochs=300, cg_steps=8)
    n = objective.weights(ratings)
    kernel = result.model.kernel
    gradient = jax.grad(lambda model: objective.loss(model, kernel, ratings, result.prior, n))(result.model.params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves((gradient.user, gradient.item))) < 0.05


def test_notebook_reproduces_the_torch_model(shared):
    data = datasets.the_movies_dataset(shared / "data/the-movies-dataset").ratings
    split = splits.k_fold(len(data))[0]
    train, test = data.take(split.train), data.take(split.test)
    history = notebook.fit(KEY, train, watch=Watch(validation=test)).history
    runs = json.loads((shared / "reference/notebook_kmf.json").read_text())["runs"]
    expected = runs["notebook (alpha .02 on the full norms, added twice)"]
    for epoch in (5, 10, 15, 20):
        assert history["rmse"][epoch - 1] == pytest.approx(expected["test_rmse"][epoch - 1], abs=0.003)
    assert history["norm_users"][1] < 0.1
    assert history["norm_items"][1] < 0.2


def test_the_penalty_on_full_norms_kills_the_factors(ratings):
    """What α·n, here 500 as in the notebook 1,600, does on data that the package makes itself."""
    killed = notebook.fit(KEY, ratings, epochs=100, recipe=notebook.Recipe(alpha=1.0, batch_size=100))
    spared = notebook.fit(KEY, ratings, epochs=100, recipe=notebook.Recipe(alpha=0.0, batch_size=100))
    assert killed.history["norm_users"][-1] < 0.1 < 1 < spared.history["norm_users"][-1]


def test_validation_early_stopping_and_callback(ratings):
    split = splits.hold_out(len(ratings), 0.2)
    seen = []
    watch = Watch(
        validation=ratings.take(split.test),
        patience=2,
        callback=lambda epoch, numbers, model: seen.append((epoch, numbers["rmse"], model)),
    )
    train = ratings.take(split.train)
    result = sgd.fit(
        KEY, train, kernel=KERNEL, rank=8, prior=Prior(0.01, 1e-4), epochs=200, optimizer=optax.adam(0.03), watch=watch
    )
    rmse = result.history["rmse"]
    assert len(rmse) < 200
    assert np.argmin(rmse) == len(rmse) - 3
    assert [epoch for epoch, *_ in seen] == list(range(1, len(rmse) + 1))
    again = objective.rmse(result.model.params, KERNEL, watch.validation, 0.5, 5.0)
    assert float(again) == pytest.approx(rmse.min(), abs=1e-5)


def test_watching_does_not_change_the_result(ratings):
    plain = als.fit(KEY, ratings, kernel=KERNEL, rank=4, epochs=4)
    watched = als.fit(KEY, ratings, kernel=KERNEL, rank=4, epochs=4, watch=Watch(progress=True, validation=ratings))
    np.testing.assert_allclose(flat(watched.model.params.user), flat(plain.model.params.user), atol=1e-5)
    assert set(watched.history) == {"loss", "rmse"}


def test_a_diverging_fit_says_what_to_change(ratings):
    with pytest.raises(ValueError, match=r"loss is .* after epoch \d+: lower the learning rate"):
        sgd.fit(KEY, ratings, kernel=Linear(), rank=4, epochs=50, optimizer=optax.sgd(1e4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "rank must be 1 or more, got 0"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"kernel": Logistic(1.0, 4.0)}, r"outside the kernel's scale \[1.0, 4.0\]"),
        ({"prior": Prior(bias_reg=-1.0)}, "bias_reg of the user prior must be positive and finite, got -1.0"),
        ({"prior": Prior(factor_reg=0.0)}, "factor_reg of the user prior must be positive"),
        ({"prior": Prior(power=2.0)}, "power of the user prior must be between 0 and 1"),
        ({"watch": Watch(patience=3)}, "needs validation ratings"),
    ],
)
@pytest.mark.parametrize("trainer", [sgd, als], ids=["sgd", "als"])
def test_bad_settings_are_refused(trainer, settings, words, ratings):
    with pytest.raises(ValueError, match=words):
        trainer.fit(KEY, ratings, **({"kernel": KERNEL} | settings))


def test_nothing_to_train_on_is_refused(ratings):
    empty = ratings.take(np.zeros(0, int))
    with pytest.raises(ValueError, match="no rating has a weight above 0"):
        als.fit(KEY, empty, kernel=KERNEL)


def test_a_batch_size_below_one_is_refused(ratings):
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        sgd.fit(KEY, ratings, kernel=KERNEL, batch_size=0)


def test_a_step_traces_once(ratings):
    traced = 0

    def epoch(state, data, kernel):
        nonlocal traced
        traced += 1
        return als.step(state, data, kernel=kernel, prior=DEFAULT)

    state, of = als.init(KEY, ratings, kernel=KERNEL, rank=3), loop.Run(ratings, KERNEL, 5, "", {}, loop.rmse)
    loop.run(state, als.histories(ratings), epoch, of, Watch(callback=lambda *_: None))
    assert traced <= 2  # scan looks once for the types and once for the program


FITS = {
    "als": lambda data, **settings: als.fit(KEY, data, kernel=KERNEL, rank=3, epochs=3, **settings),
    "sgd": lambda data, **settings: sgd.fit(KEY, data, kernel=KERNEL, rank=3, epochs=3, batch_size=100, **settings),
    "gibbs": lambda data, **settings: gibbs.fit(KEY, data, rank=3, sweeps=4, burn=1, keep=3, **settings),
    "notebook": lambda data, **settings: notebook.fit(KEY, data, rank=3, epochs=3, **settings),
}


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """What is compiled while the test runs."""
    events = []

    def listen(event: str, *_: object, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("method", FITS)
def test_a_second_fit_compiles_nothing(method, implicit, ratings, compiled):
    if implicit and method == "notebook":
        pytest.skip("the notebook's model has no features")
    train, held = ratings.take(np.arange(400)), ratings.take(np.arange(400, 500))
    sides = {"features": features.implicit_sides(train)} if implicit else {}
    first = FITS[method](train, watch=Watch(validation=held), **sides)
    compiled.clear()
    again = FITS[method](train, watch=Watch(validation=held), **sides)
    assert not compiled
    np.testing.assert_array_equal(again.history["loss"], first.history["loss"])


def test_five_folds_share_a_program():
    data = datasets.movielens_small().ratings
    folds = [data.take(split.train) for split in splits.k_fold(len(data))]
    before = loop.program.cache_info().misses
    for fold in folds:
        als.fit(KEY, fold, kernel=KERNEL, rank=3, epochs=1)
    assert loop.program.cache_info().misses == before + 1


def test_padding_of_a_fit_is_inert(ratings):
    """An even number of ratings, blocks and rows gives the model of the odd ones."""
    few = ratings.take(np.arange(487))
    state, kernel = als.init(KEY, few, kernel=KERNEL, rank=3), KERNEL.replace(unit=unit_of(few))
    exact, _ = als.step(state, als.histories(few), kernel=kernel, prior=DEFAULT)
    fitted = als.fit(KEY, few, kernel=KERNEL, rank=3, prior=DEFAULT, epochs=1).model.params
    np.testing.assert_allclose(flat(fitted.user), flat(exact.params.user), atol=1e-5)
    np.testing.assert_allclose(flat(fitted.item), flat(exact.params.item), atol=1e-5)


def test_weights_count_as_repeated_ratings(ratings):
    double = ratings.replace(weight=2 * ratings.weight)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), ratings)
    one, two = (als.fit(KEY, data, kernel=KERNEL, rank=3, epochs=5) for data in (double, twice))
    np.testing.assert_allclose(flat(one.model.params.user), flat(two.model.params.user), rtol=2e-3, atol=2e-4)


def test_row_weights_are_the_objectives(ratings):
    n = np.concatenate([jax.vmap(rows.row_weights)(stack).ravel() for stack in histories.blocks(ratings)])
    np.testing.assert_allclose(n[: ratings.n_users], als.histories(ratings).n.user)
