"""Rows in float64 NumPy, as the formulas stand: every equation whole, and solved as one dense system.

None of it is the package's, but for the kernels' settings.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxmf.model.kernels import RBF, Clicks, Kernel, Linear, Logistic, Polynomial
from jaxmf.model.priors import Prior

STEPS, HALVINGS = 60, 40
TINY = 1e-20
"""Step of a complex difference, which nothing is subtracted in: a derivative to the last place."""

Pull = Callable[[np.ndarray], np.ndarray]


def rated(kernel: Kernel, x: np.ndarray, others: np.ndarray, offset: float) -> tuple[np.ndarray, Pull]:
    """r̂ of a row x = (bias, factors) with each row of `others`, and Jᵀ times a vector, J the gradient of r̂ by x."""
    dot, bias = others[:, 1:] @ x[1:], x[0] + others[:, 0]
    score, unit = bias + dot, float(kernel.unit)

    def along(slope: np.ndarray | float) -> Pull:
        return lambda v: np.concatenate([[(slope * v).sum()], others[:, 1:].T @ (slope * v)])

    match kernel:
        case Linear():
            return offset + unit * score, along(unit)
        case Logistic(low, high):
            share = 1 / (1 + np.exp(-(offset + score)))
            return low + (high - low) * share, along((high - low) * share * (1 - share))
        case Polynomial(low, _, degree):
            return low + offset * (1 + score) ** degree, along(offset * degree * (1 + score) ** (degree - 1))
        case RBF(low, high, gamma):
            apart = (x[1:] ** 2).sum() + (others[:, 1:] ** 2).sum(1)
            far, near = (high - low) * np.exp(-gamma * apart), (high - low) * np.exp(-gamma * (apart - 2 * dot))

            def pull(v: np.ndarray) -> np.ndarray:
                factors = others[:, 1:].T @ (near * v) - x[1:] * ((near - far) * v).sum()
                return np.concatenate([[unit * v.sum()], 2 * gamma * factors])

            return offset + unit * bias + near - far, pull
        case Clicks():
            return dot, lambda v: np.concatenate([[0.0], others[:, 1:].T @ v])
    raise ValueError(f"{kernel}: its formula is not written down here")


class Row(NamedTuple):
    """One row's problem: the x that minimises Σ w (r − r̂)² + Σ Λ (x − m)² + xᵀGx.

    Attributes:
        kernel: The kernel.
        offset: Its offset.
        others: The rated rows, (bias, factors) each.
        rating: The ratings.
        weight: Their weights, as the objective counts them.
        mean: Prior mean of the row.
        precision: Prior precision of each of its numbers.
        seen_by_all: G, what the unobserved pairs come to; zeros for ratings.
    """

    kernel: Kernel
    offset: float
    others: np.ndarray
    rating: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    seen_by_all: np.ndarray

    def loss(self, x: np.ndarray) -> float:
        """The objective."""
        error = self.rating - rated(self.kernel, x, self.others, self.offset)[0]
        held = self.precision @ (x - self.mean) ** 2 + x @ self.seen_by_all @ x
        return float(self.weight @ error**2 + held)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Half the objective's gradient; also of complex numbers."""
        predicted, pull = rated(self.kernel, x, self.others, self.offset)
        return pull(self.weight * (predicted - self.rating)) + self.precision * (x - self.mean) + self.seen_by_all @ x

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Half the objective's Hessian; for a kernel that is linear in the row the normal equations' matrix."""
        return np.stack([np.imag(self.gradient(x + 1j * TINY * unit)) / TINY for unit in np.eye(len(x))])

    def solve(self, start: np.ndarray) -> np.ndarray:
        """The minimum that Newton's method finds from a start; the only one where the kernel is linear.

        Started from a row that is to be judged, it ends there only if that row is a minimum.
        """
        x = np.asarray(start, np.float64)
        for _ in range(STEPS):
            matrix = self.hessian(x)
            lowest = np.linalg.eigvalsh(matrix)[0]
            matrix += max(0.0, self.precision.min() / 2 - lowest) * np.eye(len(x)) if lowest <= 0 else 0.0
            step = np.linalg.solve(matrix, -self.gradient(x))
            if self.kernel.linear:
                return x + step
            x = x + self._shortened(x, step)
            if np.linalg.norm(step) <= 1e-11 * np.linalg.norm(x):
                break
        return x

    def _shortened(self, x: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The step, halved until it does not raise the objective; near the minimum rounding decides, and it is kept."""
        before = self.loss(x)
        for halving in range(HALVINGS):
            if self.loss(x + step / 2**halving) <= before * (1 + 1e-13):
                return step / 2**halving
        return 0 * step


def precision_of(prior: Prior, n: float, rank: int) -> np.ndarray:
    """Prior precisions of a row with `n` ratings: bias_reg, and factor_reg·max(n + extra, 1)^power for each factor."""
    factor = float(prior.factor_reg) * max(n + float(prior.extra), 1.0) ** float(prior.power)
    return np.array([float(prior.bias_reg), *[factor] * rank])


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest ‖found − exact‖/‖exact‖ of any row; not a number where one of `found` is none."""
    away = np.linalg.norm(np.asarray(found, np.float64) - exact, axis=-1)
    return float(np.max(away / np.linalg.norm(exact, axis=-1)))
