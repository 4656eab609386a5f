"""Accelerating Sinkhorn Algorithm with Sparse Newton Iterations. X. Tang et al., ICLR 2024, arXiv 2401.12253.

Entropic optimal transport at small regularisation: sweeps of Sinkhorn against a short warm-up and Newton steps with a sparsified Hessian, on random assignment, pairs of
MNIST digits, clouds of digits and mixtures on a line.
"""

import numpy as np
import xarray as xr

from pipeline_lib.transport.problems import image_pair, mixtures_on_a_line, point_clouds, random_assignment, transport_on_a_line
from pipeline_lib.transport.sinkhorn import lyapunov_potential, plan_of, sinkhorn, sinkhorn_log
from pipeline_lib.transport.sinkhorn_newton import sinkhorn_newton_sparse, sparsify_plan

TOLERANCES = (1e-6, 1e-10, 1e-12)
PAIRS = ((0, 1), (2, 7), (3, 8), (4, 9), (5, 6), (0, 2), (1, 3), (4, 6), (5, 8), (7, 9))
PROBLEMS = {"assignment": "random assignment", "digits_l2": "MNIST pair, squared L2", "digits_l1": "MNIST pair, L1", "clouds": "clouds of digits", "line_w1": "line, W1", "line_w2": "line, W2"}
METHODS = {"sns": "Sinkhorn-Newton-Sparse", "sinkhorn": "Sinkhorn", "sns_dense": "Newton, dense Hessian", "overrelaxed": "Sinkhorn, overrelaxed (1.8)", "lbfgs": "L-BFGS on the dual",
           "sns_control": "SNS, short warm-up, few entries"}


def problem_of(inputs, problem: str, seed: int, n: int):
    """The instance `seed` of a problem; of the image pairs, `seed` is the number of the pair."""
    if problem.startswith("assignment"):
        return random_assignment(n, np.random.default_rng(seed))
    if problem in ("digits_l2", "digits_l1"):
        data = inputs["mnist_5k"]
        step = 28 // int(np.sqrt(n))
        images = [data.image.values[np.flatnonzero(data.label.values == digit)[0]][::step, ::step] for digit in PAIRS[seed]]
        return image_pair(*images, power=2 if problem == "digits_l2" else 1)
    if problem == "clouds":
        images = inputs["digits"].image.values.reshape(-1, 64)[np.random.default_rng(seed).permutation(1797)]
        return point_clouds(images[:n], images[n : 2 * n])
    return mixtures_on_a_line(n, power=1 if problem == "line_w1" else 2)


def solve(inputs, *, method, problem, seed, n, eta, tol, cap, n_newton=60, n_warmup=20, nnz_per_row=4):
    """Marginal errors along the iterations, and the iterations to each tolerance (a run that ends before counts all it did, and says so)."""
    runs = [_run(*problem_of(inputs, problem, s, n), method=method, eta=eta, tol=tol, cap=cap, n_newton=n_newton, n_warmup=n_warmup, nnz_per_row=nnz_per_row) for s in seed]
    return xr.concat(runs, xr.DataArray(list(seed), dims="seed", name="seed"), join="outer", data_vars="all", coords="minimal", compat="override")


def _run(cost, row, column, *, method, eta, tol, cap, n_newton, n_warmup, nnz_per_row) -> xr.Dataset:
    if method.startswith("sns"):
        result = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, n_warmup=n_warmup, n_newton=n_newton, nnz_per_row=nnz_per_row, tol=min(tol, 1e-12),
                                        hessian="dense" if method == "sns_dense" else "sparse")
        iterations = np.arange(1, len(result.errors) + 1)
        newton = {"attempts": sum(result.attempts), "largest_damping": max(result.damping, default=0.0), "kept_mass": result.kept_mass, "n_warmup": n_warmup, "cg_iterations": sum(result.cg_iterations)}
        gap = np.array(result.potential[-1]) - np.array(result.potential)
    elif method == "lbfgs":
        iterations, errors, x, y, gap = _lbfgs(cost, row, column, eta, cap)
        newton = {}
    else:
        result = sinkhorn(cost, row, column, inverse_temperature=eta, n_sweeps=cap, tol=tol, relaxation=1.8 if method == "overrelaxed" else 1.0)
        iterations, newton, gap = np.array(result.sweeps), {}, None
    if method != "lbfgs":
        errors, x, y = np.array(result.errors), result.x, result.y
    transport = float((plan_of(cost, x, y, eta) * cost).sum())
    return _summary(np.asarray(iterations), np.asarray(errors), gap, n_warmup if method.startswith("sns") else 0).assign(
        {name: ((), value) for name, value in newton.items()}).assign(transport_cost=((), transport))


def _summary(iterations, errors, gap, n_warmup) -> xr.Dataset:
    reached = [np.flatnonzero(errors <= tolerance) for tolerance in TOLERANCES]
    counts = [int(iterations[found[0]] if len(found) else iterations[-1]) for found in reached]
    step = iterations[-1] - iterations[-2] if len(iterations) > 1 else 1
    back = max(1, min(len(errors) - 1, int(1000 // step)))
    kept = np.unique(np.concatenate([np.arange(min(120, len(errors))), np.geomspace(1, len(errors), 120).astype(int) - 1]))
    variables = {"marginal_error": ("iteration", errors[kept]), "phase": ("iteration", (iterations[kept] > n_warmup).astype(np.int8) if n_warmup else np.zeros(len(kept), np.int8)),
                 "iterations_to": ("tol", counts), "reached": ("tol", [len(found) > 0 for found in reached]), "smallest_error": ((), errors.min()),
                 "last_error": ((), errors[-1]), "tail_rate": ((), (errors[-1] / errors[-1 - back]) ** (1 / (back * step)) if len(errors) > 1 else np.nan)}
    if gap is not None:
        variables["potential_gap"] = ("iteration", gap[kept])
    if n_warmup:
        local = errors[n_warmup:]
        ratios = local[1:] / local[:-1]
        first = np.flatnonzero(local[1:] < 1e-12)
        end = first[0] + 1 if len(first) else len(ratios)
        variables["local_rate"] = ((), np.median(ratios[max(0, end - 6) : end]) if end else np.nan)
        variables["last_rate"] = ((), ratios[end - 1] if end else np.nan)
    return xr.Dataset(variables, {"iteration": iterations[kept], "tol": list(TOLERANCES)})


def _lbfgs(cost, row, column, eta, cap):
    """L-BFGS of SciPy on -f. Its iterations are counted; the marginal error is the gradient's L1 norm."""
    from scipy.optimize import minimize

    n = len(row)
    start = sinkhorn_log(cost, row, column, inverse_temperature=eta, n_sweeps=1)
    errors, values = [], []

    def negative(z):
        plan = plan_of(cost, z[:n], z[n:], eta)
        gradient = np.concatenate([row - plan.sum(1), column - plan.sum(0)])
        return -lyapunov_potential(cost, row, column, z[:n], z[n:], eta, plan), -gradient

    def record(intermediate_result):
        value, gradient = negative(intermediate_result.x)
        errors.append(abs(gradient).sum())
        values.append(-value)

    found = minimize(negative, np.concatenate([start.x, start.y]), jac=True, method="L-BFGS-B", callback=record, options={"maxiter": min(cap, 1000), "maxfun": 4000, "ftol": 0, "gtol": 1e-14, "maxcor": 20})
    return np.arange(1, len(errors) + 1), np.array(errors), found.x[:n], found.x[n:], max(values) - np.array(values)


def exact(inputs, *, problem, n):
    """The closed form on the line."""
    cost, row, column = mixtures_on_a_line(n, power=1 if problem == "line_w1" else 2)
    return xr.Dataset({"transport_cost": ((), transport_on_a_line(np.linspace(0, 1, n), row, column, power=1 if problem == "line_w1" else 2))})


def ablate(inputs, *, n, eta, nnz_per_row, n_warmup):
    """Newton steps on one random assignment for each number of kept entries and each length of the warm-up."""
    cost, row, column = problem_of(inputs, "assignment", 0, n)
    runs = [[sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, n_warmup=warmup, nnz_per_row=kept) for warmup in n_warmup] for kept in nnz_per_row]
    dims = ("nnz_per_row", "n_warmup")
    return xr.Dataset({"newton_steps": (dims, [[len(run.step_sizes) for run in line] for line in runs]), "converged": (dims, [[run.converged for run in line] for line in runs])},
                      {"nnz_per_row": nnz_per_row, "n_warmup": n_warmup})


def sparsity(inputs, *, n, eta, n_warmup, nnz_per_row, shown):
    """How much of the plan few entries hold after a warm-up, and a corner of one plan with the entries that are kept."""
    from scipy.optimize import linear_sum_assignment

    cost, row, column = problem_of(inputs, "assignment", 0, n)
    shares = np.array([1, 2, 3, 4, 8, 16, 32])
    profile = []
    for warmup in n_warmup:
        result = sinkhorn(cost, row, column, inverse_temperature=eta, n_sweeps=warmup)
        plan = plan_of(cost, result.x, result.y, eta)
        largest = np.sort(plan, axis=None)[::-1]
        profile.append([largest[: share * n].sum() / largest.sum() for share in shares])
        if warmup == min(n_warmup, key=lambda value: abs(value - 20)):
            chosen = plan
    order = linear_sum_assignment(-chosen)[1]
    kept = sparsify_plan(chosen, nnz_per_row * n).matrix.toarray() > 0
    corner = np.log10(np.maximum(chosen[:, order][:shown, :shown], 1e-30)).astype(np.float32)
    return xr.Dataset({"mass": (("n_warmup", "entries_per_row"), profile), "log10_plan": (("row", "column"), corner), "kept": (("row", "column"), kept[:, order][:shown, :shown])},
                      {"n_warmup": n_warmup, "entries_per_row": shares})


def time_steps(inputs, *, n, eta, nnz_per_row, repeats):
    """For each size n: CPU seconds of a Newton step, of the same without conjugate gradients, of a log-domain sweep, and the peak memory of a solve in n x n arrays."""
    import tracemalloc

    rows = []
    for size in n:
        cost, row, column = random_assignment(size, np.random.default_rng(0))
        warm_up = _seconds(lambda: sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, n_newton=0), repeats)
        whole = _seconds(lambda: sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, nnz_per_row=nnz_per_row), repeats)
        tracemalloc.start()
        result = sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, nnz_per_row=nnz_per_row)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        steps = len(result.step_sizes)
        bare = _seconds(lambda: _without_gradients(cost, result, eta, nnz_per_row), repeats)
        sweep = _seconds(lambda: sinkhorn_log(cost, row, column, inverse_temperature=eta, n_sweeps=3, check_every=3), repeats) / 3
        rows.append(((whole - warm_up) / steps, bare, sweep, peak / (8 * size * size), sum(result.cg_iterations) / steps))
    names = ("newton_step_seconds", "bare_step_seconds", "log_sweep_seconds", "peak_plans", "cg_per_step")
    return xr.Dataset({name: ("n", [row[k] for row in rows]) for k, name in enumerate(names)}, {"n": list(n)})


def _without_gradients(cost, result, eta, nnz_per_row):
    """What a Newton step does beside conjugate gradients: the largest entries, and one trial point of the line search."""
    sparsify_plan(result.plan, nnz_per_row * len(cost))
    plan = plan_of(cost, result.x, result.y, eta)
    return plan.sum(0), plan.sum(1)


def _seconds(work, repeats):
    """The median CPU time of a call."""
    import time

    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return float(np.median(seconds))


def time_peers(inputs, *, n, eta, tol, cap, sweeps):
    """CPU seconds to `tol` on one random assignment. Log-domain and stabilised Sinkhorn of POT are timed over `sweeps` sweeps and scaled to the sweeps that are needed."""
    import warnings

    import ot

    cost, row, column = random_assignment(n, np.random.default_rng(0))
    sns = _seconds(lambda: sinkhorn_newton_sparse(cost, row, column, inverse_temperature=eta, tol=tol), 3)
    needed = []
    kernel = _seconds(lambda: needed.append(sinkhorn(cost, row, column, inverse_temperature=eta, n_sweeps=cap, tol=tol).sweeps[-1]), 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sinkhorn did not converge")
        warnings.filterwarnings("ignore", "You might want to increase")
        log = _seconds(lambda: ot.bregman.sinkhorn_log(row, column, cost, 1 / eta, numItermax=sweeps, stopThr=0, warn=False), 1) / sweeps
        stabilised = _seconds(lambda: ot.bregman.sinkhorn_stabilized(row, column, cost, 1 / eta, numItermax=sweeps, stopThr=0, warn=False), 1) / sweeps
    return xr.Dataset({"seconds": ("method", [sns, kernel, log * needed[0], stabilised * needed[0]])}, {"method": ["sns", "sinkhorn", "pot_log", "pot_stabilized"], "sweeps": needed[0]})


def analyse(cells):
    runs = {(axes["method"], axes["problem"]): run for axes, run in cells["solve"]}

    def value(method, problem, name):
        """NaN where the scale has no such cell."""
        return runs[method, problem][name] if (method, problem) in runs else xr.DataArray(np.nan)

    def iterations(method, problem, tolerance):
        counts = value(method, problem, "iterations_to")
        return counts.sel(tol=tolerance, drop=True) if counts.dims else counts

    def ratio(problem, tolerance):
        return iterations("sinkhorn", problem, tolerance) / iterations("sns", problem, tolerance)

    def newton(method):
        return (iterations(method, "assignment", 1e-12) - value(method, "assignment", "n_warmup")).mean()

    def off_closed_form(problem):
        return abs(value("sns", problem, "transport_cost").mean() / cells["exact"].one(problem=problem).transport_cost - 1)

    accurate = [value("sns", problem, "smallest_error").max() for problem in ("assignment", "digits_l2", "digits_l1", "clouds")]
    ablation, pattern = cells["ablate"].one(), cells["sparsity"].one()
    return xr.Dataset({
        "ratio_assignment": ratio("assignment", 1e-12), "ratio_digits_l2": ratio("digits_l2", 1e-10), "ratio_digits_l1": ratio("digits_l1", 1e-10),
        "ratio_clouds": ratio("clouds", 1e-6), "ratio_clouds_tight": ratio("clouds", 1e-10), "worst_smallest_error": xr.concat(accurate, "run").max(),
        "local_rate": value("sns", "assignment", "local_rate"), "last_rate_twenty": value("sns_20", "assignment", "last_rate").max(),
        "last_rate_dense": value("sns_dense", "assignment", "last_rate").max(), "rate_sinkhorn": value("sinkhorn", "assignment", "tail_rate").min(), "steps_four_over_dense": newton("sns") / newton("sns_dense"), "steps_eight_over_dense": newton("sns_8") / newton("sns_dense"),
        "worst_l1_iterations": iterations("sns", "digits_l1", 1e-10).max().astype(float), "control_smallest_error": value("sns_control", "digits_l1", "smallest_error").min(),
        "off_closed_form_w1": off_closed_form("line_w1"), "off_closed_form_w2": off_closed_form("line_w2"),
        "marginal_error": cells["solve"].variable("marginal_error").isel(seed=0, drop=True), "iterations_to": cells["solve"].variable("iterations_to"),
        "newton_steps": ablation.newton_steps, "ablation_converged": ablation.converged, "mass": pattern.mass.rename(n_warmup="sweeps"), "log10_plan": pattern.log10_plan, "kept": pattern.kept,
    })


def analyse_benchmark(cells):
    steps, peers = cells["time_steps"].one(), cells["time_peers"].one().seconds
    large = steps.sel(n=[size for size in steps.n.values if size >= 500] if steps.n.max() >= 1000 else steps.n.values)
    slope = np.polyfit(np.log(large.n.values), np.log(large.newton_step_seconds.values), 1)[0] if large.sizes["n"] > 1 else np.nan
    against = {f"time_over_{peer}": peers.sel({"method": "sns"}, drop=True) / peers.sel({"method": peer}, drop=True) for peer in ("sinkhorn", "pot_log", "pot_stabilized")}
    return xr.Dataset({**against, "slope": ((), slope), "bare_step_over_sweep": (steps.bare_step_seconds / steps.log_sweep_seconds).max(), "peak_plans": steps.peak_plans.max(),
                       "newton_step_seconds": steps.newton_step_seconds, "log_sweep_seconds": steps.log_sweep_seconds, "cg_per_step": steps.cg_per_step, "seconds": peers})


def figure_convergence(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import WIDTH, colours, dashes

    problems = [problem for problem in PROBLEMS if problem in analysis.problem.values and not problem.startswith("line")]
    colour, dash = colours(METHODS), dashes(METHODS)
    figure, panels = plt.subplots(1, len(problems), figsize=(WIDTH, 2.5), sharey=True)
    for axes, problem in zip(np.atleast_1d(panels), problems, strict=True):
        for method in METHODS:
            if method not in analysis["method"].values:
                continue
            curve = analysis.marginal_error.sel({"method": method, "problem": problem}).dropna("iteration")
            if curve.size:
                axes.loglog(curve.iteration, np.maximum(curve, 1e-16), label=METHODS[method], color=colour[method], linestyle=(0, dash[method]) if dash[method] else "-")
        axes.set(title=PROBLEMS[problem], xlabel="sweeps + Newton steps")
    np.atleast_1d(panels)[0].set(ylabel="marginal error (L1 norm)", ylim=(3e-17, 10))
    lines = {label: line for axes in np.atleast_1d(panels) for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3)
    return figure


def figure_pattern(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import WIDTH, colours, markers

    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), width_ratios=(1, 1.15))
    image = left.imshow(np.maximum(analysis.log10_plan, -16), cmap="Greys", vmin=-16, vmax=-2, interpolation="nearest")
    rows, columns = np.nonzero(analysis.kept.values)
    left.scatter(columns, rows, s=7, facecolors="none", edgecolors="#D55E00", linewidths=0.6, label="kept entries")
    left.grid(False)
    left.set(xlabel="column, in the order of the assignment", ylabel="row", title="plan after 20 sweeps")
    left.legend(loc="upper right", frameon=True)
    figure.colorbar(image, ax=left, label="log10 of the plan's entry", shrink=0.85)
    sweeps = analysis.sweeps.values
    for sweep, colour, marker in zip(sweeps, colours(map(str, sweeps)).values(), markers(map(str, sweeps)).values(), strict=True):
        right.semilogx(analysis.entries_per_row, np.maximum(1 - analysis.mass.sel(sweeps=sweep), 1e-16), color=colour, marker=marker, label=f"{sweep} sweeps", base=2)
    right.set(xlabel="kept entries per row", ylabel="share of the mass that is dropped", title="few entries hold the plan", yscale="log")
    right.set_xticks(analysis.entries_per_row.values, analysis.entries_per_row.values)
    right.legend(title="warm-up")
    return figure


def figure_cost(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import WIDTH

    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    n = analysis.n.values
    left.loglog(n, analysis.newton_step_seconds, "o-", color="#0072B2", label="Newton step, 4 entries a row")
    left.loglog(n, analysis.log_sweep_seconds, "s--", color="#D55E00", label="log-domain sweep")
    for power, style in ((2, ":"), (3, "-.")):
        left.loglog(n, analysis.newton_step_seconds.values[-1] * (n / n[-1]) ** power, style, color="#7F7F7F", linewidth=1, label=f"slope {power}")
    left.set(xlabel="points n", ylabel="CPU seconds", title="cost of a step")
    left.set_xticks(n, n)
    left.minorticks_off()
    left.legend()
    names = {"sns": "Sinkhorn-Newton-Sparse", "sinkhorn": "Sinkhorn, kernel form", "pot_stabilized": "POT, stabilised *", "pot_log": "POT, log domain *"}
    seconds = [float(analysis.seconds.sel({"method": name})) for name in names]
    right.barh(list(names.values()), seconds, color=["#0072B2", "#E69F00", "#7F7F7F", "#7F7F7F"], hatch=["", "//", "..", "xx"], edgecolor="white")
    for k, value in enumerate(seconds):
        right.text(value * 1.15, k, f"{value:.3g} s", va="center", fontsize=7)
    right.set(xscale="log", xlabel="CPU seconds to 1e-12 (* extrapolated)", title="random assignment", xlim=(min(seconds) / 3, max(seconds) * 8))
    right.invert_yaxis()
    return figure
