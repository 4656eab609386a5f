"""Grokking at the Edge of Numerical Stability. L. Prieto, M. Barsbey, P. Mediano, T. Birdal, ICLR 2025, arXiv 2501.04697.

Networks without regularisation memorise arithmetic modulo p until their softmax collapses in floating point. Forbidding updates along the weights (perpGrad) lets them generalise at
once; a softmax that cannot collapse (StableMax) keeps them learning. On handwritten digits the same tools are tried from a large initialisation.
"""

import numpy as np
import xarray as xr

from pipeline_lib.learning.tasks import modular_dataset, sparse_parity
from pipeline_lib.progress import silent
from pipeline_lib.seeding import stream, torch_stream

SLUG = "grokking_stability"
# loss, its dtype, optimiser's second beta, weight decay, perpGrad, temperature, gradient clipping
METHODS = {
    "ce": {}, "ce_fp16": {"dtype": "float16"}, "ce_fp64": {"dtype": "float64"}, "stablemax": {"loss": "stablemax", "beta2": 0.999}, "weight_decay": {"weight_decay": 1.0},
    "perpgrad": {"perpgrad": True}, "perpgrad_stablemax": {"loss": "stablemax", "perpgrad": True}, "temperature": {"temperature": 10.0}, "clipping": {"clip": 1.0},
}
NAMES = {"ce": "cross-entropy fp32", "ce_fp16": "cross-entropy fp16", "ce_fp64": "cross-entropy fp64", "stablemax": "StableMax", "weight_decay": "weight decay 1.0", "perpgrad": "perpGrad",
         "perpgrad_stablemax": "perpGrad + StableMax", "temperature": "temperature 10", "clipping": "gradient clipping"}


def train(inputs, *, task, method, seed, hidden, fraction, epochs, log_every, learning_rate, device="cpu", checkpoint=None, progress=silent):
    """Arithmetic modulo p (task add_47, multiply_113, ...) or sparse parity, full batch, all seeds at once."""
    tasks = [_task(task, fraction, s) for s in seed]
    widths = [2 * tasks[0].classes if task != "parity" else tasks[0].train_x.shape[1], hidden, hidden, tasks[0].classes]
    return _run(method, task, seed, tasks, widths, 1.0, epochs, log_every, learning_rate, device, checkpoint, progress)


def train_digits(inputs, *, method, seed, hidden, samples, scale, epochs, log_every, learning_rate, device="cpu", checkpoint=None, progress=silent):
    """Few handwritten digits from a large initialisation, each method in turn, all seeds at once."""
    from pipeline_lib.learning.tasks import Task

    data = inputs["digits"]
    x, y = data.image.values.reshape(-1, 64).astype(np.float32) / 16, data.label.values
    tasks = []
    for s in seed:
        order = stream(SLUG, "digits", s).permutation(len(x))
        chosen, rest = order[:samples], order[samples:]
        tasks.append(Task(x[chosen], y[chosen], x[rest], y[rest], 10))
    runs = [_run(name, "digits", seed, tasks, [64, hidden, hidden, 10], scale, epochs, log_every, learning_rate, device, checkpoint.part(name) if checkpoint else None, progress)
            for name in method]
    return xr.concat(runs, xr.DataArray(list(method), dims="method", name="method"), join="outer")


def _task(task, fraction, seed):
    if task == "parity":
        return sparse_parity(2000, 3, 40, fraction, stream(SLUG, task, seed))
    operation, p = task.split("_")
    return modular_dataset(int(p), operation, fraction, stream(SLUG, task, seed))


def _run(method, task, seed, tasks, widths, scale, epochs, log_every, learning_rate, device, checkpoint, progress) -> xr.Dataset:
    import torch

    from pipeline_lib.learning.orthograd import OrthoGrad
    from pipeline_lib.networks.mlp import StackedMLP
    from pipeline_lib.training.history import History
    from pipeline_lib.training.loop import fit

    chosen = {"loss": "ce", "dtype": "float32", "beta2": 0.99, "weight_decay": 0.0, "perpgrad": False, "temperature": 1.0, "clip": None} | METHODS[method]
    data = {name: torch.as_tensor(np.stack([getattr(t, name) for t in tasks])).to(device) for name in ("train_x", "train_y", "test_x", "test_y")}
    model = StackedMLP(widths, [torch_stream(SLUG, "weights", task, s) for s in seed], scale=scale).to(device)
    keywords = {"lr": learning_rate, "betas": (0.9, chosen["beta2"]), "eps": 1e-25, "weight_decay": chosen["weight_decay"]}
    optimizer = OrthoGrad(model.parameters(), torch.optim.AdamW, stacked=1, **keywords) if chosen["perpgrad"] else torch.optim.AdamW(model.parameters(), **keywords)
    shuffles = [torch_stream(SLUG, "order", task, s) for s in seed]
    history, fitted = History(), {"logits": torch.zeros(*data["train_y"].shape, widths[-1]), "found": torch.zeros(len(seed), dtype=torch.bool)}
    losses_of = _loss(chosen)

    def step(epoch):
        if epoch % log_every == 0:
            _log(history, epoch, model, data, losses_of, chosen, fitted)
        # the order of summation is new in each epoch, as in the paper: rounding noise is part of what is studied
        order = torch.stack([torch.randperm(data["train_y"].shape[1], generator=shuffle) for shuffle in shuffles]).to(device)
        x = data["train_x"].gather(1, order.unsqueeze(-1).expand(*order.shape, data["train_x"].shape[-1]))
        losses = losses_of(model(x) / chosen["temperature"], data["train_y"].gather(1, order)).mean(-1)
        optimizer.zero_grad()
        losses.sum().backward()
        if chosen["clip"] is not None:
            _clip(model.parameters(), chosen["clip"])
        optimizer.step()
        return losses

    state = {"model": model, "optimizer": optimizer, "history": history, "fitted": fitted} | {f"order{s}": shuffle for s, shuffle in zip(seed, shuffles, strict=True)}
    fit(step, steps=epochs, state=state, name=method, checkpoint=checkpoint, progress=progress)
    if epochs not in history.steps:
        _log(history, epochs, model, data, losses_of, chosen, fitted)
    return _dataset(history, seed, len(model.weights))


def _loss(chosen):
    """The loss of each sample, in the method's precision."""
    import torch

    from pipeline_lib.learning.precision import cross_entropy_in
    from pipeline_lib.learning.stablemax import stablemax_cross_entropy

    if chosen["loss"] == "stablemax":
        return lambda logits, target: stablemax_cross_entropy(logits, target, "none")
    return lambda logits, target: cross_entropy_in(getattr(torch, chosen["dtype"]), logits, target, "none")


def _clip(parameters, most):
    """Clips the gradient's norm of each of the stacked models."""
    gradients = [p.grad for p in parameters]
    norm = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
    factor = (most / (norm + 1e-30)).clamp(max=1)
    for g in gradients:
        g.mul_(factor[:, None, None])


def _log(history, epoch, model, data, losses_of, chosen, fitted) -> None:
    import torch

    from pipeline_lib.learning.alignment import alignment_of
    from pipeline_lib.learning.precision import softmax_collapse_fraction
    from pipeline_lib.learning.stablemax import stablemax

    logits = model(data["train_x"])
    losses = losses_of(logits / chosen["temperature"], data["train_y"])
    mean = losses.mean(-1)
    parameters = dict(model.named_parameters())
    *gradients, at_logits = torch.autograd.grad(mean.sum(), [*parameters.values(), logits])
    with torch.no_grad():
        cosines = alignment_of(parameters, dict(zip(parameters, gradients, strict=True)), stacked=1)
        target = data["train_y"].unsqueeze(-1)
        train_accuracy = (logits.argmax(-1) == data["train_y"]).double().mean(-1)
        test_accuracy = (model(data["test_x"]).argmax(-1) == data["test_y"]).double().mean(-1)
        flat = logits.cpu()
        fresh = (train_accuracy.cpu() == 1) & ~fitted["found"]
        fitted["logits"][fresh] = flat[fresh]
        fitted["found"] |= fresh
        before = fitted["logits"].flatten(1).double()
        now = flat.flatten(1).double()
        if chosen["loss"] == "stablemax":
            collapse = (stablemax(logits.double()).gather(-1, target).squeeze(-1) == 1).double().mean(-1)
        else:
            collapse = softmax_collapse_fraction(logits / chosen["temperature"], getattr(torch, chosen["dtype"]))
        history.log(
            epoch, train_accuracy=train_accuracy, test_accuracy=test_accuracy, loss=mean.double(), collapse=collapse,
            zero_grad_fraction=(at_logits.gather(-1, target) == 0).double().mean((1, 2)), alignment=torch.stack(list(cosines.values()), -1),
            weight_norm=torch.stack([p.flatten(1).norm(dim=1) for p in parameters.values()], -1).double(), logit_norm=now.norm(dim=1),
            logit_growth=now.norm(dim=1) / before.norm(dim=1), logit_cosine=torch.nn.functional.cosine_similarity(now, before),
        )


def _dataset(history, seed, layers) -> xr.Dataset:
    names = [f"layer{k}" for k in range(1, layers + 1)]
    variables = {}
    for name, value in history.stacked().items():
        dims = {"alignment": ("epoch", "seed", "part"), "weight_norm": ("epoch", "seed", "layer")}.get(name, ("epoch", "seed"))
        variables[name] = (dims, value.numpy())
    return xr.Dataset(variables, {"epoch": history.steps, "seed": list(seed), "layer": names, "part": [*names, "all"]}).transpose("seed", "epoch", ...)


def time_library(inputs, *, tensors, size, samples, classes, p, hidden, repeats):
    """Seconds of an optimiser step with and without perpGrad, of both losses, and of an epoch with gathered rows and with one-hots."""
    import time

    import torch

    from pipeline_lib.learning.orthograd import OrthoGrad
    from pipeline_lib.learning.stablemax import stablemax_cross_entropy
    from pipeline_lib.networks.mlp import StackedMLP

    def median(work):
        seconds = []
        for k in range(repeats + 2):
            begin = time.perf_counter()
            work()
            if k > 1:
                seconds.append(time.perf_counter() - begin)
        return float(np.median(seconds))

    generator = torch_stream(SLUG, "benchmark")
    results = {}
    for name, make in (("adamw", lambda ps: torch.optim.AdamW(ps, lr=1e-3)), ("perpgrad", lambda ps: OrthoGrad(ps, torch.optim.AdamW, lr=1e-3))):
        parameters = [torch.nn.Parameter(torch.randn(size, size, generator=generator)) for _ in range(tensors)]
        for parameter in parameters:
            parameter.grad = torch.randn(size, size, generator=generator)
        results[name] = median(make(parameters).step)
    logits, target = torch.randn(samples, classes, generator=generator, dtype=torch.float64, requires_grad=True), torch.randint(classes, (samples,), generator=generator)
    results["stablemax"] = median(lambda: stablemax_cross_entropy(logits, target).backward())
    results["cross_entropy"] = median(lambda: torch.nn.functional.cross_entropy(logits, target).backward())
    task = modular_dataset(p, "add", 0.4, stream(SLUG, "benchmark"))
    model = StackedMLP([2 * p, hidden, hidden, p], [generator])
    x = torch.as_tensor(task.train_x)[None]
    dense = torch.nn.functional.one_hot(torch.as_tensor(task.train_x), p).flatten(1).float()[None]
    y = torch.as_tensor(task.train_y)
    results["gathered"] = median(lambda: torch.nn.functional.cross_entropy(model(x)[0], y).backward())
    results["one_hot"] = median(lambda: torch.nn.functional.cross_entropy(model(dense)[0], y).backward())
    back = torch.randn(1, len(y), hidden, generator=generator)
    with torch.no_grad():
        first = StackedMLP([2 * p, hidden], [generator])
    results["first_gathered"] = median(lambda: first(x).backward(back))
    results["first_one_hot"] = median(lambda: first(dense).backward(back))
    return xr.Dataset({"seconds": ("work", list(results.values()))}, {"work": list(results)})


def analyse(cells):
    arithmetic = {(axes["task"], axes["method"]): run for axes, run in cells["train"]}
    main = next(task for task, method in arithmetic if method == "perpgrad")

    def run(method, task=main):
        """An empty run where the scale has no such cell, so that its metrics are NaN."""
        blank = xr.Dataset({name: (("seed", "epoch"), [[np.nan]]) for name in ("train_accuracy", "test_accuracy", "loss", "collapse", "zero_grad_fraction", "logit_growth", "logit_cosine")},
                           {"seed": [0], "epoch": [0], "part": ["all"]}).assign(alignment=(("seed", "epoch", "part"), [[[np.nan]]]))
        return arithmetic.get((task, method), blank)

    def at(method, epoch, name="test_accuracy", task=main):
        values = run(method, task)[name]
        return values.sel(epoch=epoch, drop=True) if epoch in values.epoch.values else xr.full_like(values.isel(epoch=0, drop=True), np.nan)

    def first(condition, otherwise=np.nan):
        """The first logged epoch at which it holds, for each seed."""
        return xr.where(condition.any("epoch"), condition.epoch.isel(epoch=condition.argmax("epoch")).drop_vars("epoch"), otherwise)

    def collapsed(method):
        collapse = run(method).collapse
        return first(collapse >= 0.5, float(collapse.epoch.max()) + 1).where(collapse.notnull().any("epoch"))

    ce, stable = run("ce"), run("stablemax")
    clean = (ce.train_accuracy == 1) & (ce.collapse < 0.01)
    fit_at, end = first(ce.train_accuracy == 1), first(ce.collapse >= 0.01)
    between = (ce.epoch >= fit_at) & ((ce.epoch < end) | end.isnull())
    last = ce[["logit_growth", "logit_cosine"]].isel(epoch=(between * xr.DataArray(np.arange(ce.sizes["epoch"]), dims="epoch")).argmax("epoch")).reset_coords(drop=True)
    delays = {method: first(run(method).test_accuracy >= 0.9) - first(run(method).train_accuracy >= 0.99) for method in ("perpgrad", "weight_decay")}
    common = [s for s in run("perpgrad").seed.values if s in run("weight_decay").seed.values]
    final = cells["train_digits"].one().test_accuracy.isel(epoch=-1, drop=True)

    def digits(method, other):
        return (final.sel({"method": method}, drop=True) - final.sel({"method": other}, drop=True))

    curves = ("train_accuracy", "test_accuracy", "loss", "collapse")
    return xr.Dataset({
        "perpgrad_accuracy": at("perpgrad", 300), "perpgrad_stablemax_accuracy": at("perpgrad_stablemax", 300), "perpgrad_113_accuracy": at("perpgrad", 150, task="add_113"),
        "ce_accuracy_300": at("ce", 300), "ce_accuracy_2000": at("ce", 2000), "collapse_epoch_fp16": collapsed("ce_fp16").astype(float), "collapse_epoch_fp32": collapsed("ce").astype(float),
        "collapse_epoch_fp64": collapsed("ce_fp64").astype(float), "collapse_max_fp16": run("ce_fp16").collapse.max("epoch"),
        "worst_accuracy_by_precision": xr.concat([run(method).test_accuracy.isel(epoch=-1, drop=True).max() for method in ("ce_fp16", "ce", "ce_fp64")], "run").max(skipna=False),
        "alignment_before_collapse": ce.alignment.sel(part="all", drop=True).where(clean).max("epoch"), "alignment_at_start": abs(ce.alignment.sel(part="all", drop=True).isel(epoch=0, drop=True).mean()),
        "logit_growth": last["logit_growth"], "logit_cosine": last["logit_cosine"], "stablemax_collapse": stable.collapse.max(), "stablemax_zero_gradient": stable.zero_grad_fraction.max(),
        "stablemax_loss_ratio": at("stablemax", 2000, "loss") / at("stablemax", 500, "loss"), "stablemax_minus_ce": stable.test_accuracy.isel(epoch=-1, drop=True) - ce.test_accuracy.isel(epoch=-1, drop=True),
        "delay_weight_decay": delays["weight_decay"], "delay_ratio": delays["perpgrad"].sel(seed=common).mean(skipna=False) / delays["weight_decay"].sel(seed=common).mean(skipna=False),
        "digits_stablemax_minus_ce": digits("stablemax", "ce"), "digits_stablemax_minus_decay": digits("stablemax", "weight_decay"), "digits_perpgrad_minus_ce": digits("perpgrad", "ce"),
        **{name: cells["train"].where(task=main).variable(name).isel(task=0, drop=True) for name in curves},
        "alignment": cells["train"].where(task=main).variable("alignment").isel(task=0, drop=True).sel(part="all", drop=True),
        "digits_accuracy": cells["train_digits"].one().test_accuracy.rename({"method": "digits_method", "seed": "digits_seed", "epoch": "digits_epoch"}),
    }).reset_coords(drop=True)


def analyse_benchmark(cells):
    seconds = cells["time_library"].one().seconds

    def ratio(work, other):
        return seconds.sel(work=work, drop=True) / seconds.sel(work=other, drop=True)

    return xr.Dataset({"perpgrad_overhead": ratio("perpgrad", "adamw") - 1, "stablemax_over_cross_entropy": ratio("stablemax", "cross_entropy"), "one_hot_over_gathered": ratio("one_hot", "gathered"),
                       "first_layer_one_hot_over_gathered": ratio("first_one_hot", "first_gathered")})


def _style():
    from pipeline_lib.plotting.theme import colours, markers

    return colours(NAMES), markers(NAMES)


def figure_accuracy(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import WIDTH

    colour, marker = _style()
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 2.9), sharey=True)
    shown = [name for name in ("perpgrad", "perpgrad_stablemax", "weight_decay", "ce", "stablemax") if name in analysis["method"].values]
    for name in shown:
        for kind, style in (("train_accuracy", (0, (2, 1))), ("test_accuracy", "-")):
            curves = analysis[kind].sel({"method": name}).dropna("epoch", how="all").dropna("seed", how="all")
            panels[0].plot(curves.epoch + 1, curves.mean("seed"), color=colour[name], linestyle=style, marker=marker[name], markevery=0.15, markersize=3, label=NAMES[name] if kind == "test_accuracy" else None)
            panels[0].fill_between(curves.epoch + 1, curves.min("seed"), curves.max("seed"), color=colour[name], alpha=0.15, linewidth=0)
    panels[0].set(xscale="log", xlabel="epoch + 1", ylabel="accuracy", title="addition modulo 47: train dashed, test solid", ylim=(-0.03, 1.03))
    for name in analysis.digits_method.values:
        curves = analysis.digits_accuracy.sel(digits_method=name)
        panels[1].plot(curves.digits_epoch + 1, curves.mean("digits_seed"), color=colour[str(name)], marker=marker[str(name)], markevery=0.15, markersize=3, label=NAMES[str(name)])
        panels[1].fill_between(curves.digits_epoch + 1, curves.min("digits_seed"), curves.max("digits_seed"), color=colour[str(name)], alpha=0.15, linewidth=0)
    panels[1].set(xscale="log", xlabel="epoch + 1", title="digits, eightfold initialisation: test")
    lines = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=5)
    return figure


def figure_precision(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import WIDTH

    shown = [name for name in ("ce_fp16", "ce", "ce_fp64") if name in analysis["method"].values]
    figure, panels = plt.subplots(1, len(shown), figsize=(WIDTH, 2.4), sharey=True, squeeze=False)
    for axes, name in zip(panels[0], shown, strict=True):
        for kind, label, color, style in (("collapse", "softmax collapse", "#D55E00", "-"), ("test_accuracy", "test accuracy", "#0072B2", "--"), ("alignment", "alignment with the weights", "#009E73", ":")):
            curve = analysis[kind].sel({"method": name}).dropna("epoch", how="all").mean("seed")
            axes.plot(curve.epoch, curve, style, color=color, label=label)
        axes.set(title=NAMES[name], xlabel="epoch", ylim=(-0.08, 1.03))
    panels[0, 0].set_ylabel("share of samples, cosine")
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3)
    return figure


def figure_squashing(analysis):
    import matplotlib.pyplot as plt

    from pipeline_lib.plotting.theme import COLUMN

    x = np.linspace(-12, 12, 400)
    figure, axes = plt.subplots(figsize=(COLUMN, 2.4))
    axes.semilogy(x, np.exp(x), "--", color="#D55E00", label="exp(x)")
    axes.semilogy(x, np.where(x >= 0, 1 + np.maximum(x, 0), 1 / (1 + np.maximum(-x, 0))), "-", color="#0072B2", label="StableMax s(x)")
    axes.set(xlabel="logit x", ylabel="weight before normalisation")
    axes.legend()
    return figure
