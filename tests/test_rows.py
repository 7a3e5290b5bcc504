"""The row solver against float64 oracles, and its invariants."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import KERNELS, Problem, flat, random_ratings, table

from jaxmf.data import histories
from jaxmf.data.ratings import Ratings
from jaxmf.model import equations, rows
from jaxmf.model.kernels import Kernel, Linear
from jaxmf.model.problem import of_row
from jaxmf.model.tables import Table

solve_row = jax.jit(rows.solve_row, static_argnames=("steps", "cg_steps"))
solve_rows = jax.jit(rows.solve_rows, static_argnames=("steps", "cg_steps"))


def name(kernel: Kernel) -> str:
    return type(kernel).__name__


def solve(kernel, problem: Problem, **settings):
    return flat(solve_row(problem.of(kernel), **settings))


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
def test_solve_row_matches_least_squares(kernel, problem):
    expected = problem.solve(kernel)
    found = solve(kernel, problem, steps=40)
    assert problem.loss(kernel, found) <= problem.loss(kernel, expected) * (1 + 1e-4) + 1e-6
    if kernel.linear or name(kernel) == "Logistic":  # the others may have several minima
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=5e-4)


@settings(deadline=None, max_examples=20)
@given(n=st.sampled_from([0, 1, 2, 7, 70]), k=st.sampled_from([1, 6]), seed=st.integers(0, 2**32 - 1))
def test_linear_row_is_ridge_regression(n, k, seed):
    problem = Problem.random(np.random.default_rng(seed), n, k)
    x = np.concatenate([np.ones((n, 1)), problem.others[:, 1:]], 1)
    stacked = np.concatenate([np.sqrt(problem.weight)[:, None] * x, np.diag(np.sqrt(problem.precision))])
    error = problem.rating - problem.offset - problem.others[:, 0] - x @ problem.mean
    target = np.concatenate([np.sqrt(problem.weight) * error, np.zeros(k + 1)])
    expected = problem.mean + np.linalg.lstsq(stacked, target)[0]
    np.testing.assert_allclose(solve(Linear(), problem), expected, rtol=1e-3, atol=2e-4)


def test_a_few_ratings_take_few_steps():
    """A row with n ratings is solved by n + 2 steps, however many factors there are and however unlike their sizes."""
    n, k, rng = 3, 32, np.random.default_rng(0)
    factors = (rng.normal(size=(n, k)) * 0.9 ** np.arange(k)).astype(np.float32)
    rating, precision = rng.normal(size=n).astype(np.float32), np.float32(0.5)
    prior = table(np.zeros(k + 1)), table(np.full(k + 1, precision))
    others = Table(jnp.zeros(n), jnp.asarray(factors))
    row = rows.solve_row(of_row(Linear(), 0.0, others, rating, np.ones(n, np.float32), *prior), cg_steps=n + 2)
    j = np.concatenate([np.ones((n, 1)), factors], 1)
    exact = np.linalg.solve(j.T @ j + precision * np.eye(k + 1), j.T @ rating)
    np.testing.assert_allclose(flat(row), exact, atol=2e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_no_row_gets_worse_from_any_start(kernel, seed, scale):
    rng = np.random.default_rng(seed)
    problem = Problem.random(rng, n=12, k=4)
    start = scale * rng.normal(size=5)
    found = solve(kernel, problem, start=table(start), steps=3)
    assert np.isfinite(found).all()
    assert problem.loss(kernel, found) <= problem.loss(kernel, start) * (1 + 1e-4)


def a_batch(kernel: Kernel, *, width: int | None = None):
    """Ratings of rows of very different lengths, one of them empty, and their problem."""
    rng = np.random.default_rng(1)
    ratings = random_ratings(rng, n_users=12, n_items=60, n=250)
    ratings = ratings.replace(weight=rng.uniform(0.5, 2, 250).astype(np.float32)).take(ratings.user != 3)
    (stack,) = histories.blocks(ratings, width=width)
    block = jax.tree.map(lambda x: jnp.asarray(x[0]), stack)
    others = table(0.4 * rng.normal(size=(60, 5)))
    mean = table(0.1 * rng.normal(size=(12, 5)))
    precision = table(rng.uniform(0.5, 3, (12, 5)))
    return ratings, rows.Problem(kernel, jnp.float32(kernel.offset(3.3)), others, block, mean, precision)


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
def test_a_batch_is_its_rows(kernel):
    ratings, many = a_batch(kernel)
    batch = solve_rows(many, steps=10)
    for row in (0, 3, 7):  # an empty one among them
        mine = ratings.take(ratings.user == row)
        given = many.others[mine.item], mine.rating, mine.weight, many.mean[row], many.precision[row]
        alone = solve_row(of_row(kernel, many.offset, *given), steps=10)
        np.testing.assert_allclose(flat(batch[row]), flat(alone), rtol=2e-3, atol=2e-4)


def test_vmap_of_solve_row_is_solve_rows():
    rng = np.random.default_rng(2)
    problems = [Problem.random(rng, n=8, k=3).of(Linear()) for _ in range(5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    batched = jax.jit(jax.vmap(rows.solve_row))(stacked)
    for at, problem in enumerate(problems):
        np.testing.assert_allclose(flat(batched[at]), flat(solve_row(problem)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
def test_width_of_pages_and_form_of_the_matvec_do_not_matter(kernel, monkeypatch):
    _, narrow = a_batch(kernel, width=8)
    tall = solve_rows(narrow)
    _, wide = a_batch(kernel, width=32)
    np.testing.assert_allclose(flat(solve_rows(wide)), flat(tall), rtol=2e-3, atol=2e-4)
    monkeypatch.setattr(equations, "gram_first", lambda *_: True)
    gram = jax.jit(partial(rows.solve_rows))(narrow)
    np.testing.assert_allclose(flat(gram), flat(tall), rtol=2e-3, atol=2e-4)


def test_padding_is_inert():
    _, problem = a_batch(Linear())
    plain, block = solve_rows(problem), problem.block
    junk = block.replace(
        other=jnp.where(block.weight > 0, block.other, 7), rating=jnp.where(block.weight > 0, block.rating, 1e6)
    )
    np.testing.assert_array_equal(flat(solve_rows(problem.replace(block=junk))), flat(plain))


def test_a_row_longer_than_a_block_is_summed_in_parts(monkeypatch):
    rng = np.random.default_rng(3)
    n, k = 4000, 4
    ratings = Ratings(
        np.zeros(n, np.int32),
        rng.integers(0, 50, n).astype(np.int32),
        rng.uniform(1, 5, n).astype(np.float32),
        np.ones(n, np.float32),
        n_users=1,
        n_items=50,
    )
    others = table(rng.normal(size=(50, k + 1)))
    zero, one = table(np.zeros((1, k + 1))), table(np.ones((1, k + 1)))
    results = []
    for pages in (1024, 16):
        monkeypatch.setattr(histories, "PAGES", pages)
        monkeypatch.setattr(equations, "PAGES", pages)
        (stack,) = histories.blocks(ratings)
        block = jax.tree.map(lambda x: x[0], stack)
        problem = rows.Problem(Linear(), jnp.float32(3), others, block, zero, one)
        results.append(flat(jax.jit(partial(rows.solve_rows))(problem)))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3, atol=1e-4)


def test_jit_is_eager_and_order_does_not_matter():
    problem = Problem.random(np.random.default_rng(4), n=20, k=4)
    eager = flat(rows.solve_row(problem.of(Linear())))
    jitted = flat(solve_row(problem.of(Linear())))
    np.testing.assert_allclose(jitted, eager, rtol=1e-4, atol=1e-5)
    order = np.random.default_rng(0).permutation(20)
    shuffled = problem._replace(**{name: getattr(problem, name)[order] for name in ("others", "rating", "weight")})
    np.testing.assert_allclose(flat(solve_row(shuffled.of(Linear()))), eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
def test_gradient_through_the_solve_matches_finite_differences(kernel):
    problem = Problem.random(np.random.default_rng(5), n=9, k=3)
    given, target = problem.of(kernel), np.random.default_rng(6).normal(size=4)

    def outcome(changed: Problem) -> float:
        return float(target @ changed.solve(kernel))

    def ours(precision: Table, others: Table):
        batch = jax.tree.map(lambda x: x[None], precision)
        row = rows.solve_row(given.replace(precision=batch, others=others), steps=60)
        return row.bias * np.float32(target[0]) + row.factors @ np.float32(target[1:])

    to_precision, to_others = jax.jit(jax.grad(ours, (0, 1)))(given.precision[0], given.others)

    def difference(field: str, at: tuple[int, ...]) -> float:
        step = np.zeros_like(getattr(problem, field))
        step[at] = 1e-4
        up, down = (problem._replace(**{field: getattr(problem, field) + sign * step}) for sign in (1, -1))
        return (outcome(up) - outcome(down)) / 2e-4

    for at in range(4):
        assert flat(to_precision)[at] == pytest.approx(difference("precision", (at,)), rel=1e-2, abs=1e-4)
    for at in [(0, 1), (4, 0), (8, 3)]:
        assert flat(to_others)[at] == pytest.approx(difference("others", at), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("kernel", KERNELS, ids=name)
def test_row_losses(kernel):
    ratings, many = a_batch(kernel)
    x = table(0.3 * np.random.default_rng(7).normal(size=(12, 5)))
    losses = jax.jit(rows.row_losses)(many, x)
    for row in range(12):
        mine = ratings.take(ratings.user == row)
        prior = flat(many.mean)[row], flat(many.precision)[row]
        problem = Problem(flat(many.others)[mine.item], mine.rating, mine.weight, *prior, float(many.offset))
        assert losses[row] == pytest.approx(problem.loss(kernel, flat(x)[row]), rel=1e-4)


def test_reference_kernels_are_the_package_kernels():
    rng = np.random.default_rng(8)
    x, others = 0.5 * rng.normal(size=4), 0.5 * rng.normal(size=(6, 4))
    for kernel in KERNELS:
        ours = jax.vmap(kernel, (None, 0, None))(table(x), table(others), jnp.float32(1.2))
        np.testing.assert_allclose(ours, reference.rating(kernel, x, others, 1.2), rtol=1e-4)
