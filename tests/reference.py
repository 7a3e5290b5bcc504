"""Oracles in float64 NumPy and SciPy, written as the formulas stand, and random problems for them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from jaxmf.data.ratings import Ratings
from jaxmf.model import problem
from jaxmf.model.kernels import RBF, Kernel, Linear, Logistic, Polynomial
from jaxmf.model.tables import Table

TIGHT = {"jac": "cs", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
KERNELS = [Linear(), Logistic(0.5, 5.0), Polynomial(0.5, 5.0, degree=3), RBF(0.5, 5.0, gamma=0.4)]


def rating(kernel: Kernel, x: np.ndarray, others: np.ndarray, offset: float) -> np.ndarray:
    """r̂ of a row x = (bias, factors) with each row of `others`, by the formulas of the paper."""
    bias = x[0] + others[:, 0]
    w, h = x[1:], others[:, 1:]
    match kernel:
        case Linear():
            return offset + bias + h @ w
        case Logistic(low, high):
            return low + (high - low) / (1 + np.exp(-(offset + bias + h @ w)))
        case Polynomial(low, _, degree):
            return low + offset * (1 + bias + h @ w) ** degree
        case RBF(low, high, gamma):
            k = np.exp(-gamma * ((w - h) ** 2).sum(1)) - np.exp(-gamma * ((w**2).sum() + (h**2).sum(1)))
            return offset + bias + (high - low) * k
    raise AssertionError(kernel)


class Problem(NamedTuple):
    """One row's regression problem, in float64: rows are (bias, factors)."""

    others: np.ndarray
    rating: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    offset: float = 1.5

    @classmethod
    def random(cls, rng: np.random.Generator, n: int, k: int) -> "Problem":
        return cls(
            others=0.5 * rng.normal(size=(n, k + 1)),
            rating=rng.integers(1, 11, n) / 2,
            weight=rng.uniform(0.2, 2, n),
            mean=0.1 * rng.normal(size=k + 1),
            precision=rng.uniform(0.5, 3, k + 1),
        )

    def loss(self, kernel: Kernel, x: np.ndarray) -> float:
        """Σ w (r − r̂)² + Σ Λ (x − m)²."""
        return float((self.residuals(kernel, x) ** 2).sum())

    def residuals(self, kernel: Kernel, x: np.ndarray) -> np.ndarray:
        """What is squared and summed: √w (r − r̂), then √Λ (x − m)."""
        error = self.rating - rating(kernel, x, self.others, self.offset)
        return np.concatenate([np.sqrt(self.weight) * error, np.sqrt(self.precision) * (x - self.mean)])

    def solve(self, kernel: Kernel) -> np.ndarray:
        """The row by SciPy's least squares from the prior mean."""
        return scipy.optimize.least_squares(lambda x: self.residuals(kernel, x), self.mean, **TIGHT).x

    def of(self, kernel: Kernel) -> problem.Problem:
        """The same as the package's."""
        rating, weight = self.rating.astype(np.float32), self.weight.astype(np.float32)
        others, mean, precision = map(table, (self.others, self.mean, self.precision))
        return problem.of_row(kernel, np.float32(self.offset), others, rating, weight, mean, precision)


def table(rows: np.ndarray) -> Table:
    """Rows of (bias, factors) as a float32 table."""
    return Table(jnp.float32(rows[..., 0]), jnp.float32(rows[..., 1:]))


def flat(rows: Table) -> np.ndarray:
    """A table as rows of (bias, factors)."""
    return np.concatenate([np.asarray(rows.bias)[..., None], np.asarray(rows.factors)], -1)


def random_ratings(rng: np.random.Generator, n_users: int, n_items: int, n: int, k: int = 3) -> Ratings:
    """`n` ratings of different pairs with a low-rank structure, on the half-star scale."""
    user, item = np.divmod(rng.choice(n_users * n_items, n, replace=False), n_items)
    w, h = rng.normal(size=(n_users, k)), rng.normal(size=(n_items, k))
    score = 3.3 + 0.5 * rng.normal(size=n_users)[user] + 0.6 * (w[user] * h[item]).sum(1) + 0.3 * rng.normal(size=n)
    return Ratings(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        rating=np.clip(np.round(2 * score) / 2, 0.5, 5).astype(np.float32),
        weight=np.ones(n, np.float32),
        n_users=n_users,
        n_items=n_items,
    )
