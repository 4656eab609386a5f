"""What a declaration must agree with: the code that it names, the datasets, and itself. Checked before any rule is defined."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from pipeline_lib.pipeline import schema, spec
from pipeline_lib.pipeline.atlas import Atlas
from pipeline_lib.pipeline.fingerprint import Signature, UnknownDefinition
from pipeline_lib.pipeline.strict_yaml import DeclarationError, load

GIVEN = ("device", "checkpoint", "progress")
RESERVED = {"all", "fetch", "prepare", "train", "solve", "benchmark", "analyse", "judge", "gather", "figure", "clean_stale", "data", "report", "audit"}


def files(project: Path) -> None:
    """The shape of every declaration file. Raises DeclarationError with all that is wrong."""
    problems = []
    for path, model in [(project / "config" / "datasets.yaml", schema.Data), *((path, schema.Paper) for path in sorted((project / "config" / "papers").glob("*.yaml")))]:
        try:
            schema.validate(model, load(path), path)
        except DeclarationError as error:
            problems.append(str(error))
    _raise(problems)


def atlas(atlas: Atlas) -> None:
    """Every paper and dataset against the code, at the atlas's scale. Raises DeclarationError with all that is wrong."""
    problems = [*_datasets(atlas)]
    for slug in atlas.slugs:
        try:
            problems += _paper(atlas, slug)
        except DeclarationError as error:
            problems.append(str(error))
    for name in atlas.settings.sources or {}:
        if name not in atlas.sources:
            problems.append(f"config: sources: there is no source {name!r}{_near(name, atlas.sources)}")
    _raise(problems)


def _datasets(atlas: Atlas) -> Iterator[str]:
    file = "config/datasets.yaml"
    for name, body in atlas.datasets.items():
        for source in body.get("sources") or ():
            if source not in atlas.sources:
                yield f"{file}: datasets.{name}.sources: there is no source {source!r}{_near(source, atlas.sources)}"
        try:
            signature = atlas.code.signature(*atlas.builder(name))
        except (UnknownDefinition, FileNotFoundError) as error:
            yield f"{file}: datasets.{name}.builder: {_message(error)}"
            continue
        yield from _arguments(f"{file}: datasets.{name}", body["builder"], signature, set(atlas.dataset_params(name)))


def _paper(atlas: Atlas, slug: str) -> Iterator[str]:
    paper, file = atlas.paper(slug), f"config/papers/{slug}.yaml"
    declared = load(atlas.declaration_of(slug))
    if slug in RESERVED:
        yield f"{file}: {slug!r} is the name of a rule; a paper needs another one"
    for scale, overlays in (declared.get("scales") or {}).items():
        for name in overlays:
            if name not in declared["stages"]:
                yield f"{file}: scales.{scale}: there is no stage {name!r}{_near(name, declared['stages'])}"
    for stage in paper.stages.values():
        yield from _stage(atlas, paper, stage, file)
    needed = ["analyse", *(["analyse_benchmark"] if paper.has_benchmark else []), *(f"figure_{name}" for name in paper.figures)]
    for function in needed:
        try:
            atlas.code.signature(atlas.module(slug), function)
        except (UnknownDefinition, FileNotFoundError) as error:
            yield f"{file}: {_message(error)}"
    timed = [name for name, claim in paper.claims.items() if claim.get("kind") == "benchmark"] + list(paper.benchmarks)
    if timed and not paper.has_benchmark:
        yield f"{file}: {timed[0]} is measured by a benchmark, but no stage has `kind: benchmark`"


def _stage(atlas: Atlas, paper: spec.Paper, stage: spec.Stage, file: str) -> Iterator[str]:
    where = f"{file}: stages.{stage.name}"
    try:
        signature = atlas.code.signature(atlas.module(paper.slug), stage.function)
    except (UnknownDefinition, FileNotFoundError) as error:
        yield f"{where}: {_message(error)}"
        return
    seen = set()
    for cell in stage.cells:
        arguments = frozenset(cell.arguments)
        if arguments not in seen:
            seen.add(arguments)
            yield from _arguments(f"{where}: the cell {cell.name}", stage.function, signature, arguments)
        for axis in cell.split:
            if axis not in cell.batch:
                yield f"{where}: split names {axis!r}, which is no batched axis"
        if overlap := set(cell.axes) & set(cell.batch) | set(cell.axes) & set(cell.params) | set(cell.batch) & set(cell.params):
            yield f"{where}: {', '.join(sorted(overlap))} is declared twice: as axis, batched axis or parameter"
        for need in cell.needs:
            yield from _need(atlas, paper, cell, need, where)


def _need(atlas: Atlas, paper: spec.Paper, cell: spec.Cell, need: spec.Need, where: str) -> Iterator[str]:
    if need.kind == "dataset":
        if need.target not in atlas.datasets:
            yield f"{where}: needs {need.target!r}, which is neither a stage nor a dataset{_near(need.target, [*atlas.datasets, *paper.stages])}"
        return
    if need.target not in paper.stages:
        yield f"{where}: needs the stage {need.target!r}, which is not declared{_near(need.target, paper.stages)}"
        return
    try:
        if cell in (joined := spec.join(cell, need, paper.stages[need.target])) or need.target == cell.stage and any(_reaches(paper, other, cell) for other in joined):
            yield f"{where}: the cell {cell.name} needs itself"
    except DeclarationError as error:
        yield str(error)


def _reaches(paper: spec.Paper, start: spec.Cell, goal: spec.Cell) -> bool:
    """Whether `start` needs `goal`, within one stage."""
    joined = [other for need in start.needs if need.kind == "stage" and need.target == start.stage for other in spec.join(start, need, paper.stages[need.target])]
    return goal in joined or any(_reaches(paper, other, goal) for other in joined if other != start)


def _arguments(where: str, function: str, signature: Signature, given: set[str] | frozenset[str]) -> Iterator[str]:
    takes = {name: default for name, default in signature.keywords.items() if name not in GIVEN}
    for name in sorted(given - set(takes)):
        yield f"{where}: the function {function} takes no {name!r}{_near(name, takes)}"
    for name, has_default in takes.items():
        if name not in given and not has_default:
            yield f"{where}: the function {function} needs {name!r}, and nobody gives it"


def _near(name: str, known) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known)) or 'none'}"


def _message(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def _raise(problems: list[str]) -> None:
    if problems:
        raise DeclarationError("\n".join(problems))
