"""Sinkhorn's algorithm for entropic optimal transport, in the scaling convention of arXiv 2401.12253.

    min over P with P 1 = r, P^T 1 = c of  <C, P> + (1/eta) sum P log P,      P_ij = exp(eta (x_i + y_j - C_ij) - 1)

One sweep is a Gauss-Seidel step on the concave dual (Lyapunov) potential f(x, y). Arrays are NumPy or torch, float64; the results are of the same kind.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a torch tensor, float64."""

FLUSH = 1e-200
ABSORB = 1e50


def namespace(array: Array) -> Any:
    """The module, numpy or torch, whose functions take this array."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def check_problem(cost: Array, row_marginal: Array, column_marginal: Array, inverse_temperature: float) -> None:
    """Raises ValueError that names what is wrong with a transport problem: shapes, dtypes, NaN, marginals that are not positive or of unequal mass."""
    n, m = cost.shape
    xp = namespace(cost)
    if tuple(row_marginal.shape) != (n,) or tuple(column_marginal.shape) != (m,):
        raise ValueError(f"cost is {n} x {m}; marginals of the shapes ({n},) and ({m},) are expected, not {tuple(row_marginal.shape)} and {tuple(column_marginal.shape)}")
    if not bool(xp.isfinite(cost).all()):
        raise ValueError("cost has entries that are NaN or infinite; finite numbers are expected")
    for name, marginal in (("row_marginal", row_marginal), ("column_marginal", column_marginal)):
        if not bool((marginal > 0).all()):
            raise ValueError(f"{name} has entries that are not positive; remove rows and columns without mass")
    rows, columns = float(row_marginal.sum()), float(column_marginal.sum())
    if not math.isclose(rows, columns, rel_tol=1e-9):
        raise ValueError(f"row_marginal has the mass {rows} and column_marginal {columns}; equal masses are expected")
    if not inverse_temperature > 0:
        raise ValueError(f"inverse_temperature is {inverse_temperature}; a positive number is expected")


def plan_of(cost: Array, x: Array, y: Array, inverse_temperature: float) -> Array:
    """P_ij = exp(eta (x_i + y_j - C_ij) - 1), one n x m array and no other of that size."""
    plan = x[:, None] + y[None, :]
    plan -= cost
    plan *= inverse_temperature
    plan -= 1
    return np.exp(plan, out=plan) if isinstance(plan, np.ndarray) else plan.exp_()


def lyapunov_potential(cost: Array, row_marginal: Array, column_marginal: Array, x: Array, y: Array, inverse_temperature: float, plan: Array | None = None) -> float:
    """f(x, y) = -(1/eta) sum_ij P_ij + r.x + c.y, concave; its maximum is the optimum. `plan` saves computing P again."""
    plan = plan_of(cost, x, y, inverse_temperature) if plan is None else plan
    return float(-plan.sum() / inverse_temperature + row_marginal @ x + column_marginal @ y)


@dataclass
class SinkhornResult:
    """Potentials x (n), y (m); `errors` are marginal L1 errors, `sweeps` the sweeps after which each was seen; whether the tolerance was met."""

    x: Array
    y: Array
    errors: list[float] = field(default_factory=list)
    sweeps: list[int] = field(default_factory=list)
    converged: bool = False


def sinkhorn_log(cost: Array, row_marginal: Array, column_marginal: Array, *, inverse_temperature: float, n_sweeps: int, tol: float = 0.0, check_every: int = 10,
                 x: Array | None = None, y: Array | None = None) -> SinkhornResult:
    """Sinkhorn in the log domain: logsumexp over eta (y_j - C_ij), safe at any temperature and some twenty times slower than `sinkhorn`.

    cost (n, m), marginals (n) and (m). Raises ValueError as `check_problem`.
    """
    check_problem(cost, row_marginal, column_marginal, inverse_temperature)
    xp = namespace(cost)
    x = xp.zeros_like(row_marginal) if x is None else x + 0.0
    y = xp.zeros_like(column_marginal) if y is None else y + 0.0
    log_r, log_c = xp.log(row_marginal), xp.log(column_marginal)
    result = SinkhornResult(x, y)
    for sweep in range(1, n_sweeps + 1):
        result.x, result.y = _log_sweep(cost, log_r, log_c, result.y, inverse_temperature)
        if sweep % check_every == 0 or sweep == n_sweeps:
            error = abs(row_marginal - plan_of(cost, result.x, result.y, inverse_temperature).sum(1)).sum()
            result.errors.append(float(error))
            result.sweeps.append(sweep)
            if result.errors[-1] <= tol:
                result.converged = True
                break
    return result


def _log_sweep(cost: Array, log_r: Array, log_c: Array, y: Array, eta: float) -> tuple[Array, Array]:
    x = (log_r + 1 - _logsumexp(eta * (y[None, :] - cost), 1)) / eta
    y = (log_c + 1 - _logsumexp(eta * (x[:, None] - cost), 0)) / eta
    return x, y


def _logsumexp(values: Array, axis: int) -> Array:
    if not isinstance(values, np.ndarray):
        return values.logsumexp(axis)
    top = values.max(axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis)) + top.squeeze(axis)


class KernelSweeps:
    """Sweeps on K = exp(eta (x + y - C) - 1): two matrix-vector products each.

    The scalings u, v are absorbed into x, y whenever they leave [1e-50, 1e50], and K is built anew; entries below 1e-200 are set to 0 then: they
    cannot matter, and denormal ones make a sweep five to ten times slower. The first sweep is done in the log domain, since exp(-eta C) may underflow.
    `relaxation` > 1 is overrelaxed Sinkhorn.
    """

    def __init__(self, cost: Array, row_marginal: Array, column_marginal: Array, inverse_temperature: float, x: Array | None = None, y: Array | None = None, relaxation: float = 1.0):
        self._cost, self._r, self._c, self._eta, self._omega = cost, row_marginal, column_marginal, inverse_temperature, relaxation
        self._xp = namespace(cost)
        if x is None or y is None:
            x, y = _log_sweep(cost, self._xp.log(row_marginal), self._xp.log(column_marginal), self._xp.zeros_like(column_marginal), inverse_temperature)
        self._x, self._y = x, y
        self._build()

    def _build(self) -> None:
        self._kernel = plan_of(self._cost, self._x, self._y, self._eta)
        self._kernel[self._kernel < FLUSH] = 0
        self._u, self._v = self._xp.ones_like(self._r), self._xp.ones_like(self._c)
        self._product = self._kernel @ self._v

    @property
    def potentials(self) -> tuple[Array, Array]:
        return self._x + self._xp.log(self._u) / self._eta, self._y + self._xp.log(self._v) / self._eta

    def error(self) -> float:
        """Marginal L1 error of the rows; after a plain sweep the columns are exact."""
        rows = float(abs(self._r - self._u * self._product).sum())
        return rows if self._omega == 1 else rows + float(abs(self._c - self._v * (self._u @ self._kernel)).sum())

    def sweep(self) -> None:
        self._u = self._relaxed(self._u, self._r / self._product)
        self._v = self._relaxed(self._v, self._c / (self._u @ self._kernel))
        self._product = self._kernel @ self._v
        low, high = min(float(self._u.min()), float(self._v.min())), max(float(self._u.max()), float(self._v.max()))
        if not (1 / ABSORB < low and high < ABSORB):
            if not (low > 0 and high < math.inf):
                raise FloatingPointError("a row or a column of the kernel has underflowed; use sinkhorn_log at this temperature")
            self._x, self._y = self.potentials
            self._build()

    def _relaxed(self, old: Array, new: Array) -> Array:
        return new if self._omega == 1 else old ** (1 - self._omega) * new**self._omega


def sinkhorn(cost: Array, row_marginal: Array, column_marginal: Array, *, inverse_temperature: float, n_sweeps: int, tol: float = 0.0, check_every: int = 10,
             relaxation: float = 1.0) -> SinkhornResult:
    """Sinkhorn in kernel form with absorption; see `KernelSweeps`. The error is looked at every `check_every` sweeps, as it costs nothing beside a sweep.

    Raises ValueError as `check_problem`, and for a relaxation outside (0, 2).
    """
    check_problem(cost, row_marginal, column_marginal, inverse_temperature)
    if not 0 < relaxation < 2:
        raise ValueError(f"relaxation is {relaxation}; a number between 0 and 2 is expected")
    sweeps = KernelSweeps(cost, row_marginal, column_marginal, inverse_temperature, relaxation=relaxation)
    result = SinkhornResult(*sweeps.potentials)
    for sweep in range(1, n_sweeps + 1):
        if sweep > 1:
            sweeps.sweep()
        if sweep % check_every == 0 or sweep == n_sweeps:
            result.errors.append(sweeps.error())
            result.sweeps.append(sweep)
            if result.errors[-1] <= tol:
                result.converged = True
                break
    result.x, result.y = sweeps.potentials
    return result
