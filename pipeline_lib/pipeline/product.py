"""What a file name below the results asks for.

A job is told the name of its output alone. It derives everything else again, and refuses when the key in the name is no longer the key of
what is declared: the code or a declaration changed while the job waited.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_lib.pipeline import spec
from pipeline_lib.pipeline.atlas import STORE, Atlas
from pipeline_lib.pipeline.strict_yaml import DeclarationError

KEYED = re.compile(rf"(?P<name>.+)@(?P<key>[0-9a-f]{{12}}){re.escape(STORE)}")


class OutdatedKey(DeclarationError):
    """The output was asked for under a key that is not today's."""


@dataclass(frozen=True)
class Product:
    """One output: `kind` is dataset, cell, analysis, claims, figure, gathered or raw; `name` its dataset, figure or source."""

    kind: str
    path: Path
    paper: str = ""
    name: str = ""
    cell: spec.Cell | None = None
    benchmark: bool = False


def resolve(atlas: Atlas, path: str | Path) -> Product:
    """The product of this path. Raises DeclarationError where nothing declared has this name, OutdatedKey where the key is old."""
    path = Path(path)
    raw = atlas.project / atlas.settings.data / "raw"
    if path.is_relative_to(raw) and (source := atlas.source_of.get(path.relative_to(raw).as_posix())):
        return Product("raw", path, name=source)
    if not path.is_relative_to(atlas.root):
        raise DeclarationError(f"{path}: lies outside of {atlas.root}")
    parts = path.relative_to(atlas.root).parts
    product = _resolve(atlas, path, parts)
    if product is None:
        raise DeclarationError(f"{path}: nothing that is declared at the scale {atlas.settings.scale} has this name")
    _refuse_old_key(atlas, product)
    return product


def _resolve(atlas: Atlas, path: Path, parts: tuple[str, ...]) -> Product | None:
    keyed = KEYED.fullmatch("/".join(parts[2:])) if len(parts) > 2 else KEYED.fullmatch(parts[-1])
    name = keyed["name"] if keyed else ""
    match parts:
        case ("claims.json",):
            return Product("gathered", path)
        case ("data", _) if name in atlas.datasets:
            return Product("dataset", path, name=name)
        case (slug, *_) if slug not in atlas.slugs:
            return None
        case (slug, ("claims.json" | "benchmark.json") as file):
            return Product("claims", path, slug, benchmark=file == "benchmark.json")
        case (slug, "figures", file) if path.stem in atlas.paper(slug).figures:
            return Product("figure", path, slug, path.stem, benchmark=atlas.paper(slug).figures[path.stem].get("of") == "benchmark")
        case (slug, ("analysis" | "benchmark") as kind, _) if name == "all":
            return Product("analysis", path, slug, benchmark=kind == "benchmark")
        case (slug, ("cells" | "benchmark") as kind, stage, *_) if stage in atlas.paper(slug).stages:
            cell = cells_by_name(atlas, slug, stage).get(name.partition("/")[2])
            return Product("cell", path, slug, stage, cell, kind == "benchmark") if cell else None
    return None


@cache
def cells_by_name(atlas: Atlas, slug: str, stage: str) -> Mapping[str, spec.Cell]:
    return {cell.name: cell for cell in atlas.stage(slug, stage).cells}


def _refuse_old_key(atlas: Atlas, product: Product) -> None:
    expected = {"dataset": lambda: atlas.dataset_store(product.name), "cell": lambda: atlas.cell_store(product.cell),
                "analysis": lambda: atlas.analysis_store(product.paper, benchmark=product.benchmark)}.get(product.kind)
    if expected and expected() != product.path:
        raise OutdatedKey(f"{product.path}: the code or the declaration changed since this job was planned (today's store is {expected().name}). "
                          f"Nothing was written; run snakemake again")


def recipe(atlas: Atlas, product: Product) -> dict[str, Any]:
    """What the product is made from, for its provenance and for the reason of a job."""
    match product.kind:
        case "dataset":
            return atlas.dataset_recipe(product.name)
        case "cell":
            return atlas.cell_recipe(product.cell)
        case _:
            return atlas.analysis_recipe(product.paper, benchmark=product.benchmark)


def inputs(atlas: Atlas, product: Product) -> list[Path]:
    """The files that the product is made from."""
    match product.kind:
        case "dataset":
            return [atlas.raw(source) for source in atlas.datasets[product.name].get("sources") or ()]
        case "cell":
            return atlas.cell_inputs(product.cell)
        case "analysis":
            return [atlas.cell_store(cell) for cell in atlas.cells(product.paper, benchmark=product.benchmark)]
        case "claims" | "figure":
            return [atlas.analysis_store(product.paper, benchmark=product.benchmark)]
        case "gathered":
            return [atlas.claims_file(slug, benchmark=benchmark) for slug in atlas.chosen for benchmark in (False, True) if not benchmark or atlas.paper(slug).has_benchmark]
    return []


def key(atlas: Atlas, product: Product) -> str:
    """Today's key of the product."""
    match product.kind:
        case "dataset":
            return atlas.dataset_key(product.name)
        case "cell":
            return atlas.cell_key(product.cell)
        case "analysis":
            return atlas.analysis_key(product.paper, benchmark=product.benchmark)
        case "claims":
            return atlas.claims_key(product.paper, benchmark=product.benchmark)
        case "figure":
            return atlas.figure_key(product.paper, product.name)
        case _:
            return atlas.gathered_key()
