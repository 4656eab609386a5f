"""Sinkhorn-Newton-Sparse: entropic optimal transport to machine precision (Tang et al., ICLR 2024, arXiv 2401.12253).

After a warm-up by Sinkhorn the plan concentrates on O(n) entries, so the Hessian of the dual potential with a sparsified plan gives Newton steps that
cost what a sweep costs and converge in tens. See `pipeline_lib.transport.sinkhorn` for the problem and the potential f, which is maximised.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline_lib.transport.sinkhorn import Array, KernelSweeps, check_problem, lyapunov_potential, namespace, plan_of

STEPS = (1.0, 0.5, 0.25, 0.125)
ARMIJO = 1e-4
ATTEMPTS = 12


@dataclass
class EntropicPlan:
    """`plan` (n, m), potentials `x` (n), `y` (m); `errors` (marginal L1) and `potential` after each sweep and Newton step; one entry for each Newton step
    in the other lists. `nnz` is the number of kept entries, `kept_mass` their share of the plan's mass at the last step."""

    plan: Array
    x: Array
    y: Array
    errors: list[float] = field(default_factory=list)
    potential: list[float] = field(default_factory=list)
    n_warmup: int = 0
    cg_iterations: list[int] = field(default_factory=list)
    step_sizes: list[float] = field(default_factory=list)
    damping: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    nnz: int = 0
    kept_mass: float = math.nan
    converged: bool = False


class SparsePlan:
    """The largest entries of a plan in compressed rows, with products from both sides."""

    def __init__(self, plan: Array, nnz: int):
        kept = plan >= _threshold(plan, nnz)
        if isinstance(plan, np.ndarray):
            from scipy.sparse import csr_array

            self.matrix = csr_array(np.where(kept, plan, 0.0))
            self._transposed = self.matrix.T.tocsr()
            self.nnz, self.mass = self.matrix.nnz, float(self.matrix.sum())
        else:
            self.matrix = (plan * kept).to_sparse_csr()
            self._transposed = (plan * kept).T.contiguous().to_sparse_csr()
            self.nnz, self.mass = self.matrix._nnz(), float(self.matrix.values().sum())

    def __matmul__(self, y: Array) -> Array:
        return self.matrix @ y

    def rmatvec(self, x: Array) -> Array:
        return self._transposed @ x


def sparsify_plan(plan: Array, nnz: int) -> SparsePlan:
    """The `nnz` largest entries (ties with the smallest of them too), found by partition in O(nm). Raises ValueError for nnz < 1."""
    if nnz < 1:
        raise ValueError(f"nnz is {nnz}; at least one entry is kept")
    return SparsePlan(plan, nnz)


def _threshold(plan: Array, nnz: int) -> float:
    """The nnz-th largest entry; the smallest positive double where that is zero, since zeros are never kept."""
    size = plan.shape[0] * plan.shape[1]
    if nnz >= size:
        return np.finfo(float).tiny
    if isinstance(plan, np.ndarray):
        value = np.partition(plan, size - nnz, axis=None)[size - nnz]
    else:
        value = plan.flatten().kthvalue(size - nnz + 1).values
    return max(float(value), np.finfo(float).tiny)


def hessian_matvec(rows: Array, columns: Array, plan, inverse_temperature: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    """-Hess f, eta [[diag(rows), P], [P^T, diag(columns)]], as a function of (dx, dy). `plan` is an array or a SparsePlan; the diagonals stay exact.

    Its null vector (1, -1) is lifted by eta/(n+m) times the projection on it.
    """
    size = rows.shape[0] + columns.shape[0]
    transposed = plan.rmatvec if isinstance(plan, SparsePlan) else lambda x: x @ plan

    def product(dx: Array, dy: Array) -> tuple[Array, Array]:
        lift = (dx.sum() - dy.sum()) / size**2
        return inverse_temperature * (rows * dx + plan @ dy + lift), inverse_temperature * (columns * dy + transposed(dx) - lift)

    return product


def sinkhorn_newton_sparse(cost: Array, row_marginal: Array, column_marginal: Array, *, inverse_temperature: float, n_warmup: int = 20, n_newton: int = 60, nnz_per_row: float = 4,
                           tol: float = 1e-12, cg_tol: float = 1e-8, cg_max: int = 500, hessian: str = "sparse") -> EntropicPlan:
    """Entropic optimal transport by `n_warmup` Sinkhorn sweeps and at most `n_newton` Newton steps.

    cost (n, m), marginals (n) and (m), NumPy arrays or torch tensors, float64. A step keeps ceil(nnz_per_row * n) entries of the plan
    (`hessian="dense"`: all, with a direct solve) and costs O(nm + cg * nnz). Each step is an ascent of the potential: where conjugate gradients stall or no
    step size is accepted, the same step is tried again with Levenberg damping in proportion to the marginal errors.

    Returns an EntropicPlan with converged=False when n_newton steps do not reach `tol` (the L1 error of both marginals). Raises ValueError for marginals that are not
    positive or of unequal mass, a cost that is not finite, float32 with tol < 1e-6, an unknown `hessian`; warns when more entries are asked for than there are.
    """
    check_problem(cost, row_marginal, column_marginal, inverse_temperature)
    if hessian not in ("sparse", "dense"):
        raise ValueError(f"hessian is {hessian!r}; 'sparse' or 'dense' is expected")
    if "float64" not in str(cost.dtype) and tol < 1e-6:
        raise ValueError(f"cost is {cost.dtype} and tol is {tol}; float64 is needed below 1e-6")
    n, m = cost.shape
    nnz = math.ceil(nnz_per_row * n)
    if nnz > n * m:
        warnings.warn(f"nnz_per_row is {nnz_per_row}: {nnz} entries are asked for and the plan has {n * m}; all are kept", stacklevel=2)
        nnz = n * m
    problem = _Problem(cost, row_marginal, column_marginal, inverse_temperature)
    state, errors, potential = _warm_up(problem, n_warmup)
    result = EntropicPlan(state.plan, state.x, state.y, errors, potential, n_warmup)
    mu = 0.0
    while len(result.step_sizes) < n_newton and state.error > tol:
        state, mu = _newton_step(problem, state, mu, nnz, cg_tol, cg_max, hessian, result)
        result.errors.append(state.error)
        result.potential.append(state.potential)
    result.plan, result.x, result.y, result.converged = state.plan, state.x, state.y, state.error <= tol
    return result


@dataclass
class _Problem:
    cost: Array
    r: Array
    c: Array
    eta: float


class _State:
    """A point of the dual with what is computed once there: plan, marginals, gradient, potential, error."""

    def __init__(self, problem: _Problem, x: Array, y: Array):
        self.x, self.y = x, y
        self.plan = plan_of(problem.cost, x, y, problem.eta)
        self.rows, self.columns = self.plan.sum(1), self.plan.sum(0)
        self.gx, self.gy = problem.r - self.rows, problem.c - self.columns
        self.potential = float(-self.rows.sum() / problem.eta + problem.r @ x + problem.c @ y)
        self.error = float(abs(self.gx).sum() + abs(self.gy).sum())


def _warm_up(problem: _Problem, sweeps: int, x: Array | None = None, y: Array | None = None) -> tuple[_State, list[float], list[float]]:
    """Sinkhorn in kernel form; the error and the potential after each sweep."""
    xp = namespace(problem.cost)
    if sweeps == 0:
        x = xp.zeros_like(problem.r) if x is None else x
        y = xp.zeros_like(problem.c) if y is None else y
        return _State(problem, x, y), [], []
    kernel = KernelSweeps(problem.cost, problem.r, problem.c, problem.eta, x, y)
    errors, potential = [], []
    for k in range(sweeps):
        if k or x is not None:
            kernel.sweep()
        here, there = kernel.potentials
        errors.append(kernel.error())
        # after a sweep the columns are exact, so the plan's mass is the mass of c
        potential.append(float(-problem.c.sum() / problem.eta + problem.r @ here + problem.c @ there))
    return _State(problem, *kernel.potentials), errors, potential


def _newton_step(problem: _Problem, state: _State, mu: float, nnz: int, cg_tol: float, cg_max: int, hessian: str, result: EntropicPlan) -> tuple[_State, float]:
    plan = state.plan if hessian == "dense" else sparsify_plan(state.plan, nnz)
    result.nnz, result.kept_mass = (plan.nnz, plan.mass / float(state.rows.sum())) if hessian == "sparse" else (state.plan.shape[0] * state.plan.shape[1], 1.0)
    iterations = 0
    for attempt in range(1, ATTEMPTS + 1):
        rows, columns = state.rows + mu * abs(state.gx), state.columns + mu * abs(state.gy)
        if hessian == "dense":
            dx, dy, solved = _direct(rows, columns, plan, problem.eta, state.gx, state.gy)
        else:
            dx, dy, solved, used = _conjugate_gradients(hessian_matvec(rows, columns, plan, problem.eta), problem.eta, rows, columns, state.gx, state.gy, cg_tol, cg_max)
            iterations += used
        found, step = _line_search(problem, state, dx, dy) if solved else (None, 0.0)
        if found is not None:
            result.cg_iterations.append(iterations)
            result.step_sizes.append(step)
            result.damping.append(mu)
            result.attempts.append(attempt)
            mu = mu / 10 if step == 1 else mu
            return found, mu if mu >= 1e-6 else 0.0
        mu = max(10 * mu, 1e-3)
    fallback, _, _ = _warm_up(problem, 10, state.x, state.y)
    result.cg_iterations.append(iterations)
    result.step_sizes.append(0.0)
    result.damping.append(mu)
    result.attempts.append(ATTEMPTS)
    return fallback, mu


def _line_search(problem: _Problem, state: _State, dx: Array, dy: Array) -> tuple[_State | None, float]:
    """The first of the steps 1, 1/2, 1/4, 1/8 that Armijo accepts; below rounding of f, the slope decides."""
    slope = float(state.gx @ dx + state.gy @ dy)
    if not slope > 0:
        return None, 0.0
    for step in STEPS:
        with np.errstate(over="ignore", invalid="ignore"):
            trial = _State(problem, state.x + step * dx, state.y + step * dy)
        if math.isfinite(trial.potential) and (trial.potential >= state.potential + ARMIJO * step * slope or step * slope < 1e-15 * abs(state.potential)):
            return trial, step
    return None, 0.0


def _conjugate_gradients(product, eta: float, rows: Array, columns: Array, gx: Array, gy: Array, tol: float, most: int) -> tuple[Array, Array, bool, int]:
    """Jacobi-preconditioned conjugate gradients for (-Hess) d = g; whether the solution may be used, and the iterations."""
    xp = namespace(rows)
    x, y = xp.zeros_like(gx), xp.zeros_like(gy)
    rx, ry = gx + 0.0, gy + 0.0
    zx, zy = rx / (eta * rows), ry / (eta * columns)
    px, py = zx, zy
    rho = float(rx @ zx + ry @ zy)
    goal = math.sqrt(float(gx @ gx + gy @ gy))
    norm, k = goal, 0
    while k < most and norm > tol * goal:
        qx, qy = product(px, py)
        curvature = float(px @ qx + py @ qy)
        if not curvature > 0:
            break
        alpha = rho / curvature
        x, y = x + alpha * px, y + alpha * py
        rx, ry = rx - alpha * qx, ry - alpha * qy
        zx, zy = rx / (eta * rows), ry / (eta * columns)
        rho, old = float(rx @ zx + ry @ zy), rho
        px, py = zx + (rho / old) * px, zy + (rho / old) * py
        norm, k = math.sqrt(float(rx @ rx + ry @ ry)), k + 1
    usable = norm <= 0.1 * goal and bool(xp.isfinite(x).all()) and bool(xp.isfinite(y).all())
    return x, y, usable, k


def _direct(rows: Array, columns: Array, plan: Array, eta: float, gx: Array, gy: Array) -> tuple[Array, Array, bool]:
    """The same system with all of the plan, by Cholesky."""
    xp = namespace(plan)
    n, m = plan.shape
    matrix = xp.zeros((n + m, n + m), dtype=plan.dtype) if xp is np else xp.zeros((n + m, n + m), dtype=plan.dtype, device=plan.device)
    matrix[:n, n:], matrix[n:, :n] = plan, plan.T
    nu = xp.concatenate([xp.ones_like(rows), -xp.ones_like(columns)])
    matrix += nu[:, None] * nu[None, :] / (n + m) ** 2
    index = range(n + m)
    matrix[index, index] += xp.concatenate([rows, columns])
    gradient = xp.concatenate([gx, gy])
    if xp is np:
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        try:
            step = cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), gradient) / eta
        except LinAlgError:
            return gx, gy, False
    else:
        factor, info = xp.linalg.cholesky_ex(matrix)
        if int(info):
            return gx, gy, False
        step = xp.cholesky_solve(gradient[:, None], factor)[:, 0] / eta
    return step[:n], step[n:], bool(xp.isfinite(step).all())


__all__ = ["EntropicPlan", "SparsePlan", "hessian_matvec", "lyapunov_potential", "sinkhorn_newton_sparse", "sparsify_plan"]
