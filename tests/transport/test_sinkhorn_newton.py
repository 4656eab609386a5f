"""Entropic transport: against POT, against closed forms, and the invariants of the dual."""

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.transport.problems import image_pair, mixtures_on_a_line, random_assignment, transport_on_a_line
from pipeline_lib.transport.sinkhorn import lyapunov_potential, plan_of, sinkhorn, sinkhorn_log
from pipeline_lib.transport.sinkhorn_newton import hessian_matvec, sinkhorn_newton_sparse, sparsify_plan

few = settings(deadline=None, max_examples=20, derandomize=True)


def problem(n, m, seed):
    rng = np.random.default_rng(seed)
    row, column = rng.random(n) + 0.1, rng.random(m) + 0.1
    return rng.random((n, m)), row / row.sum(), column / column.sum()


@few
@given(n=st.integers(2, 25), m=st.integers(2, 25), seed=st.integers(0, 10**6), eta=st.floats(1, 60))
def test_the_plan_is_pots(n, m, seed, eta):
    cost, row, column = problem(n, m, seed)
    plan = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, nnz_per_row=m, n_newton=200)
    assert plan.converged
    peer = ot.bregman.sinkhorn_log(row, column, cost, 1 / eta, numItermax=200000, stopThr=1e-14)
    np.testing.assert_allclose(plan.plan, peer, atol=1e-8)


@few
@given(n=st.integers(3, 40), seed=st.integers(0, 10**6), eta=st.floats(1, 300), kept=st.integers(2, 8), warmup=st.integers(0, 30))
def test_the_potential_never_falls_and_the_marginals_are_met(n, seed, eta, kept, warmup):
    cost, row, column = problem(n, n, seed)
    result = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, nnz_per_row=min(kept, n), n_warmup=warmup, n_newton=120)
    potential = np.array(result.potential)
    assert (np.diff(potential) >= -1e-12 * abs(potential).max()).all()
    if result.converged:
        assert abs(result.plan.sum(1) - row).sum() + abs(result.plan.sum(0) - column).sum() <= 1e-12
    assert len(result.errors) == warmup + len(result.step_sizes)
    assert all(0 <= step <= 1 for step in result.step_sizes) and all(1 <= tried <= 12 for tried in result.attempts)


@few
@given(n=st.integers(3, 15), seed=st.integers(0, 10**6), shift=st.floats(-3, 3))
def test_a_constant_cost_changes_nothing_and_permutations_commute(n, seed, shift):
    cost, row, column = problem(n, n, seed)
    plan = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=20, nnz_per_row=n).plan
    np.testing.assert_allclose(sinkhorn_newton_sparse(cost + shift, row, column, inverse_temperature=20, nnz_per_row=n).plan, plan, atol=1e-11)
    p, q = np.random.default_rng(seed).permutation(n), np.random.default_rng(seed + 1).permutation(n)
    np.testing.assert_allclose(sinkhorn_newton_sparse(cost[p][:, q], row[p], column[q], inverse_temperature=20, nnz_per_row=n).plan, plan[p][:, q], atol=1e-11)


def test_gradient_and_hessian_are_those_of_the_potential():
    cost, row, column = problem(6, 5, 3)
    rng, eta = np.random.default_rng(0), 7.0
    x, y, dx, dy = rng.normal(size=6) / 9, rng.normal(size=5) / 9, rng.normal(size=6), rng.normal(size=5)

    def potential(t):
        return lyapunov_potential(cost, row, column, x + t * dx, y + t * dy, eta)

    plan = plan_of(cost, x, y, eta)
    slope = (row - plan.sum(1)) @ dx + (column - plan.sum(0)) @ dy
    np.testing.assert_allclose((potential(1e-5) - potential(-1e-5)) / 2e-5, slope, rtol=1e-7)
    hx, hy = hessian_matvec(plan.sum(1), plan.sum(0), plan, eta)(dx, dy)
    lift = eta * ((dx.sum() - dy.sum()) / 11) ** 2
    np.testing.assert_allclose(dx @ hx + dy @ hy - lift, -(potential(1e-3) - 2 * potential(0) + potential(-1e-3)) / 1e-6, rtol=1e-4)


@few
@given(n=st.integers(2, 12), m=st.integers(2, 12), seed=st.integers(0, 10**6), kept=st.integers(1, 40))
def test_the_sparsified_system_is_symmetric_and_positive(n, m, seed, kept):
    plan = np.random.default_rng(seed).random((n, m)) ** 6
    sparse = sparsify_plan(plan, min(kept, n * m))
    assert sparse.nnz == min(kept, n * m)
    assert np.sort(sparse.matrix.data)[0] >= np.sort(plan, axis=None)[-sparse.nnz]
    product = hessian_matvec(plan.sum(1), plan.sum(0), sparse, 3.0)
    basis = np.eye(n + m)
    matrix = np.array([np.concatenate(product(b[:n], b[n:])) for b in basis])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > -1e-10


def test_all_forms_of_sinkhorn_are_the_same_iteration():
    cost, row, column = random_assignment(40, np.random.default_rng(0))
    kernel = sinkhorn(cost, row, column, inverse_temperature=400, n_sweeps=300, check_every=1)
    log = sinkhorn_log(cost, row, column, inverse_temperature=400, n_sweeps=300, check_every=1)
    np.testing.assert_allclose(kernel.errors, log.errors, rtol=1e-6, atol=1e-15)
    warm = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=400, n_warmup=30, n_newton=0)
    np.testing.assert_allclose(warm.errors, log.errors[:30], rtol=1e-6)


def test_torch_gives_what_numpy_gives():
    cost, row, column = random_assignment(60, np.random.default_rng(1))
    ours = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=300)
    theirs = sinkhorn_newton_sparse(torch.tensor(cost), torch.tensor(row), torch.tensor(column), inverse_temperature=300)
    assert isinstance(theirs.plan, torch.Tensor) and theirs.converged
    np.testing.assert_allclose(theirs.plan.numpy(), ours.plan, atol=1e-12)


def test_the_dense_hessian_is_newtons_method():
    cost, row, column = random_assignment(80, np.random.default_rng(2))
    result = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=300, hessian="dense")
    local = np.array(result.errors[20:])
    assert result.converged and local[-1] / local[-2] < 1e-3


@pytest.mark.parametrize("power", [1, 2])
def test_on_a_line_the_cost_tends_to_that_of_the_quantile_functions(power):
    cost, row, column = mixtures_on_a_line(120, power=power)
    exact = transport_on_a_line(np.linspace(0, 1, 120), row, column, power=power)
    assert exact == pytest.approx(ot.emd2(row, column, cost), rel=1e-9)
    found = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=1500, n_warmup=300, nnz_per_row=60)
    assert found.converged and (found.plan * cost).sum() == pytest.approx(exact, rel=0.02)


def test_damping_solves_what_the_plain_newton_step_does_not():
    first, second = np.zeros((12, 12)), np.zeros((12, 12))
    first[2:5, 2:9], second[6:10, 4:7] = 1, 2
    cost, row, column = image_pair(first, second, power=1)
    result = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=1200, n_warmup=100, nnz_per_row=40)
    assert result.converged and max(result.damping) > 0


@pytest.mark.parametrize(("change", "message"), [
    ({"row_marginal": np.array([0.5, 0.5, 0.0])}, "row_marginal has entries that are not positive"),
    ({"column_marginal": np.array([0.4, 0.4, 0.4])}, "equal masses"),
    ({"row_marginal": np.array([0.5, 0.5])}, "marginals of the shapes"),
    ({"cost": np.full((3, 3), np.nan)}, "cost has entries that are NaN"),
    ({"inverse_temperature": 0.0}, "inverse_temperature is 0.0"),
    ({"hessian": "full"}, "'sparse' or 'dense'"),
    ({"cost": np.ones((3, 3), np.float32)}, "float64 is needed"),
])
def test_bad_input_is_named(change, message):
    arguments = {"cost": np.ones((3, 3)), "row_marginal": np.full(3, 1 / 3), "column_marginal": np.full(3, 1 / 3), "inverse_temperature": 1.0} | change
    with pytest.raises(ValueError, match=message):
        sinkhorn_newton_sparse(arguments.pop("cost"), arguments.pop("row_marginal"), arguments.pop("column_marginal"), nnz_per_row=3, **arguments)


def test_more_entries_than_there_are_is_a_warning():
    cost, row, column = problem(4, 4, 0)
    with pytest.warns(UserWarning, match="all are kept"):
        assert sinkhorn_newton_sparse(cost, row, column, inverse_temperature=5, nnz_per_row=9).converged


def test_too_few_steps_is_no_exception():
    cost, row, column = random_assignment(50, np.random.default_rng(0))
    assert not sinkhorn_newton_sparse(cost, row, column, inverse_temperature=1200, n_newton=1).converged
