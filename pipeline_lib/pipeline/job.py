"""One job: `python -m pipeline_lib.pipeline.job OUTPUT --settings JSON`. It makes OUTPUT, or fails with one message and leaves nothing.

Only the standard library is imported before the number of threads is set: a numerical library reads it once, when it is loaded.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_lib.pipeline import spec
from pipeline_lib.pipeline.atlas import CODE, Atlas, settings_from
from pipeline_lib.pipeline.product import Product, inputs, key, recipe, resolve
from pipeline_lib.pipeline.strict_yaml import DeclarationError

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WrongResult(ValueError):
    """A stage, an analysis or a builder returned something that cannot be stored as declared."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--settings", required=True)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args(arguments)
    started = time.time()
    sys.excepthook = partial(_report, options.output, options.log)
    atlas = Atlas(settings_from(json.loads(options.settings)))
    run(atlas, resolve(atlas, options.output), started)
    if options.log:
        replace(options.log, f"{options.output}: done in {time.time() - started:.1f} s\n".encode())


def _report(output: str, log: Path | None, kind: type[BaseException], error: BaseException, trace) -> None:
    """What went wrong as one message; the traceback goes to the log."""
    if log:
        replace(log, "".join(traceback.format_exception(kind, error, trace)).encode())
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"{output}: {kind.__name__}: {text}" + (f"\n    (traceback in {log})" if log else ""), file=sys.stderr)


def run(atlas: Atlas, product: Product, started: float) -> None:
    """Makes the product."""
    {"raw": _fetch, "dataset": _store, "cell": _store, "analysis": _store, "claims": _claims, "figure": _figure, "gathered": _gather}[product.kind](atlas, product, started)


def _fetch(atlas: Atlas, product: Product, started: float) -> None:
    from pipeline_lib.pipeline import fetch

    user = atlas.user_source(product.name)
    fetch.fetch(atlas.sources[product.name], product.name, product.path, user_path=user.get("path"), user_sha256=user.get("sha256"),
                wanted_by=atlas.wanted_by(product.name))


def _store(atlas: Atlas, product: Product, started: float) -> None:
    """Computes a dataset, a cell or an analysis, and stores it with its provenance."""
    made_from = recipe(atlas, product)
    _set_threads(made_from["threads"], uses_torch=any(name.startswith("import torch") for name in made_from["code"]))
    from pipeline_lib.pipeline import provenance, store

    compute = {"dataset": _build_dataset, "cell": _run_stage, "analysis": _analyse}[product.kind]
    began = time.perf_counter()
    result, checkpoint = compute(atlas, product)
    inside = time.perf_counter() - began
    store.write(result, product.path)
    record = provenance.collect(key=key(atlas, product), code=made_from["code"], params=made_from["params"], inputs=made_from["inputs"],
                                threads=made_from["threads"], started=started)
    provenance.write(atlas.provenance_file(product.path), {**record, "function_seconds": round(inside, 3)})
    if checkpoint is not None:
        checkpoint.clear()


def _build_dataset(atlas: Atlas, product: Product):
    from pipeline_lib.pipeline.fetch import verify

    sources = {}
    for name in atlas.datasets[product.name].get("sources") or ():
        sources[name] = atlas.raw(name)
        verify(sources[name], atlas.checksum(name), name)
    module, function = atlas.builder(product.name)
    result = getattr(importlib.import_module(module), function)(sources, **atlas.dataset_params(product.name))
    return _checked(result, f"the dataset {product.name}"), None


def _run_stage(atlas: Atlas, product: Product):
    cell, stage = product.cell, atlas.stage(product.paper, product.cell.stage)
    given, checkpoint = _given(atlas, product, stage)
    inputs_of_cell = {need.name: _open_need(atlas, cell, need) for need in cell.needs}
    function = getattr(importlib.import_module(atlas.module(product.paper)), stage.function)
    result = function(inputs_of_cell, **cell.arguments, **given)
    return _checked(result, f"{product.paper}: stage {stage.name}, cell {cell.name}", cell.batch), checkpoint


def _given(atlas: Atlas, product: Product, stage: spec.Stage) -> tuple[dict[str, Any], Any]:
    """The arguments that a stage function gets where its signature asks for them: device, checkpoint, progress."""
    asked = atlas.code.signature(atlas.module(product.paper), stage.function).keywords
    given: dict[str, Any] = {}
    checkpoint = None
    if "device" in asked:
        given["device"] = _device(atlas.settings.device)
    if "progress" in asked:
        from pipeline_lib.progress import lines

        given["progress"] = lines(f"{product.paper} {stage.name} {product.cell.name}", sys.stderr)
    if "checkpoint" in asked:
        from pipeline_lib.training.checkpoint import Checkpoint

        name = product.path.name.removesuffix(".zarr.zip")
        folder = atlas.root / product.paper / "checkpoints" / stage.name / Path(product.cell.name).parent
        folder.mkdir(parents=True, exist_ok=True)
        given["checkpoint"] = checkpoint = Checkpoint(folder / f"{name}.ckpt")
    return given, checkpoint


def _open_need(atlas: Atlas, cell: spec.Cell, need: spec.Need):
    from pipeline_lib.cells import Cells
    from pipeline_lib.pipeline.store import load_store

    if need.kind == "dataset":
        return load_store(atlas.dataset_store(need.target))
    asked = {**cell.batch, **{axis: [value] for axis, value in cell.axes.items()}, **{axis: [value] for axis, value in need.where.items()}}
    return Cells(merge_split(atlas, atlas.joined(cell, need), asked), need.target)


def merge_split(atlas: Atlas, cells: list[spec.Cell], asked: dict[str, list] | None = None) -> list[tuple[dict, Any]]:
    """Entries for Cells: cells that differ in a split axis alone become one, and a batch is cut to what is asked. No function sees how jobs were cut."""
    together: dict[tuple, list[spec.Cell]] = {}
    for cell in cells:
        together.setdefault(tuple(cell.axes.items()), []).append(cell)
    return [(dict(axes), lambda group=group: _concatenated(atlas, group, asked or {})) for axes, group in together.items()]


def _concatenated(atlas: Atlas, group: list[spec.Cell], asked: dict[str, list]):
    import xarray as xr

    from pipeline_lib.pipeline.store import load_store

    datasets = [load_store(atlas.cell_store(cell)) for cell in group]
    dataset = xr.combine_by_coords(datasets, data_vars="minimal", coords="minimal", compat="equals", join="outer", combine_attrs="override") if group[0].split else datasets[0]
    return dataset.sel({axis: values for axis, values in asked.items() if axis in group[0].batch and axis in dataset.dims})


def _analyse(atlas: Atlas, product: Product):
    from pipeline_lib.cells import Cells

    paper = atlas.paper(product.paper)
    stages = paper.stages_of(benchmark=product.benchmark)
    cells = {name: Cells(merge_split(atlas, list(stage.cells)), name) for name, stage in stages.items()}
    function = "analyse_benchmark" if product.benchmark else "analyse"
    result = getattr(importlib.import_module(atlas.module(product.paper)), function)(cells)
    return _checked(result, f"{product.paper}: {function}"), None


def _claims(atlas: Atlas, product: Product, started: float) -> None:
    from pipeline_lib.pipeline import claims
    from pipeline_lib.pipeline.store import load_store

    analysis = load_store(atlas.analysis_store(product.paper, benchmark=product.benchmark))
    try:
        content = {"key": key(atlas, product), "claims": claims.judge(atlas.claims_of(product.paper, benchmark=product.benchmark), analysis, atlas.settings.scale)}
        if product.benchmark:
            content["rows"] = claims.rows(atlas.paper(product.paper).benchmarks, analysis, atlas.settings.scale)
    except (KeyError, ValueError) as error:
        raise WrongResult(f"config/papers/{product.paper}.yaml: {error.args[0] if error.args else error}") from error
    write_json(product.path, content)


def _figure(atlas: Atlas, product: Product, started: float) -> None:
    from pipeline_lib.pipeline.store import load_store
    from pipeline_lib.plotting.theme import save, theme

    body = atlas.paper(product.paper).figures[product.name]
    stem = atlas.figure_stem(product.paper, product.name)
    analysis = load_store(atlas.analysis_store(product.paper, benchmark=product.benchmark))
    with theme():
        figure = getattr(importlib.import_module(atlas.module(product.paper)), f"figure_{product.name}")(analysis)
        rendered = save(figure, stem)
    for path, content in rendered.items():
        replace(Path(path), content)
    write_json(stem.with_suffix(".json"), {"key": key(atlas, product), "caption": body.get("caption"), "alt": body.get("alt")})


def _gather(atlas: Atlas, product: Product, started: float) -> None:
    from pipeline_lib.pipeline import claims

    papers = {}
    for slug in atlas.chosen:
        papers[slug] = json.loads(atlas.claims_file(slug).read_text())
        if atlas.paper(slug).has_benchmark:
            timed = json.loads(atlas.claims_file(slug, benchmark=True).read_text())
            papers[slug]["claims"] |= timed["claims"]
            papers[slug]["benchmarks"] = timed["rows"]
    write_json(product.path, {"key": key(atlas, product), "scale": atlas.settings.scale, **claims.gather(papers)})


def _checked(result: Any, what: str, batch: dict[str, list] | None = None):
    """The result, when it is a Dataset that has the batched axes as they were asked for."""
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise WrongResult(f"{what}: an xarray.Dataset is expected, not {type(result).__name__}")
    for axis, values in (batch or {}).items():
        if axis not in result.dims:
            raise WrongResult(f"{what}: the result has no dimension {axis!r}, which is batched over {values}")
        if axis not in result.coords or list(result[axis].values) != list(values):
            raise WrongResult(f"{what}: the coordinate {axis!r} is {list(result[axis].values)}, where {values} were asked for")
    return result


def _set_threads(threads: int, uses_torch: bool) -> None:
    for name in THREAD_SETTINGS:
        os.environ[name] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if uses_torch:
        import torch

        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)


def _device(asked: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise DeclarationError("config: device is 'cuda', but torch sees no CUDA device here; set device=auto or device=cpu")
    return "cuda" if available and asked != "cpu" else "cpu"


def write_json(path: Path, content: Any) -> None:
    replace(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def replace(path: Path, content: bytes) -> None:
    """Writes beside, syncs, renames: what stands under the name is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
