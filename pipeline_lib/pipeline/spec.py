"""A paper's declaration as plain data: its stages, their cells at one scale, its claims and figures.

Reading is kept apart from validation (`schema`, `check`): a job reads what the Snakefile has validated already, and must start fast.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_lib.pipeline.strict_yaml import DeclarationError, load

SCALES = ("smoke", "laptop", "paper")
KINDS = ("solve", "train", "benchmark")
DEFAULT_RESOURCES = {"threads": 1, "mem_mb": 2000, "runtime": 30, "gpu": 0}
LONGEST_NAME = 150


@dataclass(frozen=True)
class Need:
    """What a cell is given under `name`: a dataset, or the cells of a stage that agree with it on every shared axis (`where` fixes one)."""

    name: str
    kind: str
    target: str
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One point of a stage's grid: one job, one store."""

    paper: str
    stage: str
    axes: Mapping[str, Any]
    batch: Mapping[str, list]
    split: tuple[str, ...]
    params: Mapping[str, Any]
    needs: tuple[Need, ...]

    @property
    def name(self) -> str:
        """The axes in Snakemake's Paramspace notation; `all` where there are none."""
        axes = {**self.axes, **{axis: self.batch[axis][0] for axis in self.split}}
        return "/".join(f"{axis}~{as_text(value)}" for axis, value in axes.items()) or "all"

    @property
    def arguments(self) -> dict[str, Any]:
        return {**self.axes, **self.batch, **self.params}


@dataclass(frozen=True)
class Stage:
    name: str
    kind: str
    function: str
    cells: tuple[Cell, ...]
    resources: Mapping[str, int]


@dataclass(frozen=True)
class Paper:
    """A paper at one scale."""

    slug: str
    scale: str
    about: Mapping[str, Any]
    stages: Mapping[str, Stage]
    claims: Mapping[str, Mapping]
    benchmarks: Mapping[str, Mapping]
    figures: Mapping[str, Mapping]

    def stages_of(self, *, benchmark: bool) -> dict[str, Stage]:
        return {name: stage for name, stage in self.stages.items() if (stage.kind == "benchmark") == benchmark}

    @property
    def has_benchmark(self) -> bool:
        return bool(self.stages_of(benchmark=True))

    @property
    def datasets(self) -> set[str]:
        return {need.target for stage in self.stages.values() for cell in stage.cells for need in cell.needs if need.kind == "dataset"}


def as_text(value: Any) -> str:
    """An axis value as it stands in a file name."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def read_paper(path: Path, scale: str) -> Paper:
    return build_paper(load(path), path.stem, scale, str(path))


def build_paper(declared: Mapping[str, Any], slug: str, scale: str, source: str) -> Paper:
    """The paper at this scale. Raises DeclarationError where a cell stands twice or a name is too long."""
    overlays = (declared.get("scales") or {}).get(scale) or {}
    names = declared.get("stages") or {}
    stages = {name: _build_stage(slug, name, body or {}, overlays.get(name) or {}, names, source) for name, body in names.items()}
    about = {key: declared[key] for key in ("title", "authors", "venue", "arxiv", "doi", "field", "summary") if key in declared}
    return Paper(slug, scale, about, stages, declared.get("claims") or {}, declared.get("benchmarks") or {}, declared.get("figures") or {})


def _build_stage(slug: str, name: str, body: Mapping, overlay: Mapping, stages: Mapping, source: str) -> Stage:
    grid = overlay.get("grid") or body.get("grid") or [{}]
    of_scale = bool(overlay.get("grid"))
    batch = overlay.get("batch", body.get("batch")) or {}
    split = tuple(overlay.get("split", body.get("split")) or ())
    default_needs = overlay.get("needs", body.get("needs")) or []
    cells: dict[str, Cell] = {}
    for sub in grid:
        axes = sub.get("axes") or {}
        layers = (body.get("params"), overlay.get("params"), sub.get("params")) if of_scale else (body.get("params"), sub.get("params"), overlay.get("params"))
        params = {key: value for layer in layers for key, value in (layer or {}).items()}
        needs = tuple(_need(need, stages) for need in (sub["needs"] if "needs" in sub else default_needs) or ())
        for values in itertools.product(*axes.values()):
            for single in itertools.product(*(batch[axis] for axis in split)):
                cut = {**batch, **{axis: [value] for axis, value in zip(split, single, strict=True)}}
                cell = Cell(slug, name, dict(zip(axes, values, strict=True)), cut, split, params, needs)
                if cell.name in cells:
                    raise DeclarationError(f"{source}: stages.{name}: the cell {cell.name} is declared twice; each point of the grid is one cell")
                if len(cell.name) >= LONGEST_NAME:
                    raise DeclarationError(f"{source}: stages.{name}: the cell name {cell.name} has {len(cell.name)} characters; fewer than {LONGEST_NAME} are allowed")
                cells[cell.name] = cell
    resources = {**DEFAULT_RESOURCES, **(body.get("resources") or {}), **(overlay.get("resources") or {})}
    return Stage(name, body.get("kind", "solve"), body.get("function", name), tuple(cells.values()), resources)


def _need(need: str | Mapping, stages: Mapping) -> Need:
    if isinstance(need, str):
        return Need(need, "stage" if need in stages else "dataset", need)
    kind = "stage" if "stage" in need else "dataset"
    return Need(need.get("as", need[kind]), kind, need[kind], need.get("where") or {})


class JoinError(DeclarationError):
    """A `needs` joins with no cell, or asks for values that the other stage does not compute."""


def join(cell: Cell, need: Need, stage: Stage) -> list[Cell]:
    """The cells of `stage` that `cell` is given: they agree with it on every shared axis. In the order of the declaration.

    A batched axis agrees where values are shared, and every value that `cell` asks for must be found.
    """
    wanted = {**{axis: [value] for axis, value in cell.axes.items()}, **cell.batch, **{axis: [value] for axis, value in need.where.items()}}
    where = f"config/papers/{cell.paper}.yaml: stages.{cell.stage}: the cell {cell.name} needs {need.target!r}"
    known = {axis for other in stage.cells for axis in (*other.axes, *other.batch)}
    if unknown := set(need.where) - known:
        raise JoinError(f"{where} where {', '.join(sorted(unknown))} is fixed, but {need.target} has the axes {', '.join(sorted(known)) or 'none'}")
    found = [other for other in stage.cells if _agree(wanted, other)]
    if not found:
        asked = ", ".join(f"{axis} = {'|'.join(map(as_text, values))}" for axis, values in wanted.items() if axis in known)
        raise JoinError(f"{where}, which has no cell with {asked or 'these axes'}; a sub-grid that needs nothing of it writes its own `needs`")
    for axis in [axis for axis in wanted if all(axis in other.batch for other in found)]:
        missing = [value for value in wanted[axis] if not any(value in other.batch[axis] for other in found)]
        if missing:
            raise JoinError(f"{where} for {axis} = {', '.join(map(as_text, missing))}, which {need.target} does not compute")
    return found


def _agree(wanted: Mapping[str, list], other: Cell) -> bool:
    on_axes = all(value in wanted[axis] for axis, value in other.axes.items() if axis in wanted)
    return on_axes and all(any(value in values for value in wanted[axis]) for axis, values in other.batch.items() if axis in wanted)
