"""All that is declared, at one scale: which cells there are, what they are made from, their keys and where their stores lie.

A key is the hash of what a product is made from: its code (by definition, from the syntax tree), its parameters, its thread count, the
store format and the keys of its inputs. It is known before anything runs and does not depend on file times.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.pipeline import fetch, spec
from pipeline_lib.pipeline.fingerprint import Fingerprints
from pipeline_lib.pipeline.strict_yaml import DeclarationError, load

STORE_FORMAT = 1
STORE = ".zarr.zip"
CODE = "pipeline_lib"


@dataclass(frozen=True)
class Settings:
    """What a user sets in config/config.yaml or by --config."""

    scale: str = "laptop"
    device: str = "auto"
    results: str = "results"
    data: str = "data"
    papers: Any = "all"
    sources: Mapping[str, Mapping] | None = None

    def as_json(self) -> str:
        """What a job is told: all but the choice of papers, which must not change a job."""
        return json.dumps({"scale": self.scale, "device": self.device, "results": self.results, "data": self.data, "sources": self.sources or {}}, sort_keys=True)


class Atlas:
    def __init__(self, settings: Settings, root: Path | None = None):
        self.settings = settings
        self.project = Path(root) if root else Path(".")
        self.root = self.project / settings.results / settings.scale
        self.code = Fingerprints(self.project, CODE, cache=self.project / ".snakemake" / "fingerprints")
        self._papers: dict[str, spec.Paper] = {}
        self._keys: dict[Any, str] = {}

    # --- what is declared -----------------------------------------------------------------------------------------------------------

    @cached_property
    def slugs(self) -> list[str]:
        return sorted(path.stem for path in (self.project / "config" / "papers").glob("*.yaml"))

    @cached_property
    def chosen(self) -> list[str]:
        """The papers of this run. Raises DeclarationError for a slug that is not declared."""
        papers = self.settings.papers
        if papers in ("all", None, []):
            return self.slugs
        chosen = papers.replace(",", " ").split() if isinstance(papers, str) else [str(slug) for slug in papers]
        for slug in chosen:
            self.declaration_of(slug)
        return list(dict.fromkeys(chosen))

    def declaration_of(self, slug: str) -> Path:
        if slug not in self.slugs:
            near = get_close_matches(slug, self.slugs, 1)
            raise DeclarationError(f"papers: there is no paper {slug!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(self.slugs)}"))
        return self.project / "config" / "papers" / f"{slug}.yaml"

    def paper(self, slug: str) -> spec.Paper:
        if slug not in self._papers:
            self._papers[slug] = spec.read_paper(self.declaration_of(slug), self.settings.scale)
        return self._papers[slug]

    @cached_property
    def _data(self) -> dict[str, Any]:
        return load(self.project / "config" / "datasets.yaml")

    @cached_property
    def datasets(self) -> dict[str, Mapping]:
        return self._data.get("datasets") or {}

    @cached_property
    def sources(self) -> dict[str, Mapping]:
        return self._data.get("sources") or {}

    def stage(self, slug: str, stage: str) -> spec.Stage:
        return self.paper(slug).stages[stage]

    # --- sources and datasets -------------------------------------------------------------------------------------------------------

    def raw(self, source: str) -> Path:
        return self.project / self.settings.data / "raw" / fetch.target_of(self.sources[source], source)

    @cached_property
    def source_of(self) -> dict[str, str]:
        """The source of each raw file, by its path below data/raw."""
        return {fetch.target_of(source, name).as_posix(): name for name, source in self.sources.items()}

    def user_source(self, source: str) -> Mapping:
        return (self.settings.sources or {}).get(source) or {}

    def checksum(self, source: str) -> str | None:
        return self.user_source(source).get("sha256") or self.sources[source].get("sha256")

    def wanted_by(self, source: str) -> list[str]:
        """Datasets that are made from the source, each with the papers that need it: for messages."""
        datasets = [name for name, body in self.datasets.items() if source in (body.get("sources") or ())]
        users = {name: [slug for slug in self.slugs if name in self.paper(slug).datasets] for name in datasets}
        return [f"dataset {name}" + (f" (papers: {', '.join(slugs)})" if slugs else "") for name, slugs in users.items()]

    def dataset_params(self, dataset: str) -> dict[str, Any]:
        body = self.datasets[dataset]
        of_scale = (body.get("scales") or {}).get(self.settings.scale) or {}
        return {**(body.get("params") or {}), **(of_scale.get("params", of_scale) or {})}

    def builder(self, dataset: str) -> tuple[str, str]:
        module, _, function = self.datasets[dataset]["builder"].rpartition(".")
        return f"{CODE}.datasets.{module}", function

    def dataset_recipe(self, dataset: str) -> dict[str, Any]:
        body = self.datasets[dataset]
        return {"store": STORE_FORMAT, "code": self.code.closure(*self.builder(dataset)), "params": self.dataset_params(dataset), "threads": 1,
                "inputs": {source: self.checksum(source) or "" for source in body.get("sources") or ()}}

    def dataset_key(self, dataset: str) -> str:
        return self._memo(("dataset", dataset), lambda: self.dataset_recipe(dataset))

    def dataset_store(self, dataset: str) -> Path:
        return self.root / "data" / f"{dataset}@{self.dataset_key(dataset)}{STORE}"

    # --- cells ----------------------------------------------------------------------------------------------------------------------

    def module(self, slug: str) -> str:
        return f"{CODE}.papers.{slug}"

    def joined(self, cell: spec.Cell, need: spec.Need) -> list[spec.Cell]:
        return spec.join(cell, need, self.stage(cell.paper, need.target))

    def cell_recipe(self, cell: spec.Cell) -> dict[str, Any]:
        stage = self.stage(cell.paper, cell.stage)
        inputs = {}
        for need in cell.needs:
            if need.kind == "dataset":
                inputs[need.name] = {need.target: self.dataset_key(need.target)}
            else:
                inputs[need.name] = {f"{need.target}/{other.name}": self.cell_key(other) for other in self.joined(cell, need)}
        return {"store": STORE_FORMAT, "code": self.code.closure(self.module(cell.paper), stage.function), "params": cell.arguments,
                "threads": stage.resources["threads"], "inputs": inputs}

    def cell_key(self, cell: spec.Cell) -> str:
        return self._memo((cell.paper, cell.stage, cell.name), lambda: self.cell_recipe(cell))

    def cell_folder(self, slug: str, stage: str) -> Path:
        kind = "benchmark" if self.stage(slug, stage).kind == "benchmark" else "cells"
        return self.root / slug / kind / stage

    def cell_store(self, cell: spec.Cell) -> Path:
        return self.cell_folder(cell.paper, cell.stage) / f"{cell.name}@{self.cell_key(cell)}{STORE}"

    def cell_inputs(self, cell: spec.Cell) -> list[Path]:
        stores = []
        for need in cell.needs:
            stores += [self.dataset_store(need.target)] if need.kind == "dataset" else [self.cell_store(other) for other in self.joined(cell, need)]
        return list(dict.fromkeys(stores))

    def cells(self, slug: str, *, benchmark: bool) -> list[spec.Cell]:
        return [cell for stage in self.paper(slug).stages_of(benchmark=benchmark).values() for cell in stage.cells]

    # --- what is made from a paper's cells ------------------------------------------------------------------------------------------

    def analysis_recipe(self, slug: str, *, benchmark: bool = False) -> dict[str, Any]:
        function = "analyse_benchmark" if benchmark else "analyse"
        return {"store": STORE_FORMAT, "code": self.code.closure(self.module(slug), function), "params": {}, "threads": 1,
                "inputs": {f"{cell.stage}/{cell.name}": self.cell_key(cell) for cell in self.cells(slug, benchmark=benchmark)}}

    def analysis_key(self, slug: str, *, benchmark: bool = False) -> str:
        return self._memo((slug, "analysis", benchmark), lambda: self.analysis_recipe(slug, benchmark=benchmark))

    def analysis_store(self, slug: str, *, benchmark: bool = False) -> Path:
        return self.root / slug / ("benchmark" if benchmark else "analysis") / f"all@{self.analysis_key(slug, benchmark=benchmark)}{STORE}"

    def claims_of(self, slug: str, *, benchmark: bool) -> dict[str, Mapping]:
        claims = self.paper(slug).claims
        return {name: claim for name, claim in claims.items() if (claim.get("kind") == "benchmark") == benchmark}

    def claims_key(self, slug: str, *, benchmark: bool = False) -> str:
        return self._memo((slug, "claims", benchmark), lambda: {
            "code": self.code.closure(f"{CODE}.pipeline.claims", "judge"), "scale": self.settings.scale, "claims": self.claims_of(slug, benchmark=benchmark),
            "rows": self.paper(slug).benchmarks if benchmark else {}, "analysis": self.analysis_key(slug, benchmark=benchmark)})

    def claims_file(self, slug: str, *, benchmark: bool = False) -> Path:
        return self.root / slug / ("benchmark.json" if benchmark else "claims.json")

    def figure_key(self, slug: str, figure: str) -> str:
        body = self.paper(slug).figures[figure]
        return self._memo((slug, "figure", figure), lambda: {
            "code": self.code.closure(self.module(slug), f"figure_{figure}"), "theme": self.code.closure(f"{CODE}.plotting.theme", "save"),
            "style": self.code.closure(f"{CODE}.plotting.theme", "theme"), "about": dict(body),
            "analysis": self.analysis_key(slug, benchmark=body.get("of") == "benchmark")})

    def figure_stem(self, slug: str, figure: str) -> Path:
        return self.root / slug / "figures" / figure

    def gathered_key(self) -> str:
        return self._memo("gathered", lambda: {slug: [self.claims_key(slug), self.paper(slug).has_benchmark and self.claims_key(slug, benchmark=True)]
                                                  for slug in self.chosen})

    @property
    def gathered_file(self) -> Path:
        return self.root / "claims.json"

    def products(self, slug: str) -> list[Path]:
        """All that the target of a paper asks for: cells, analysis, claims, figures, benchmarks."""
        paper = self.paper(slug)
        files = [self.cell_store(cell) for cell in self.cells(slug, benchmark=False)]
        files += [self.analysis_store(slug), self.claims_file(slug), *self.figure_files(slug)]
        if paper.has_benchmark:
            files += [self.cell_store(cell) for cell in self.cells(slug, benchmark=True)]
            files += [self.analysis_store(slug, benchmark=True), self.claims_file(slug, benchmark=True)]
        return files

    def figure_files(self, slug: str) -> list[Path]:
        return [self.figure_stem(slug, figure).with_suffix(".json") for figure in self.paper(slug).figures]

    # --- provenance -----------------------------------------------------------------------------------------------------------------

    def provenance_file(self, store: Path) -> Path:
        """Where the provenance of a store lies: beside the paper's folders (or the data), under the store's own name."""
        inside = store.relative_to(self.root)
        owner, rest = inside.parts[0], Path(*inside.parts[1:])
        return self.root / owner / "provenance" / rest.parent / (store.name.removesuffix(STORE) + ".json")

    def _memo(self, name: Any, recipe) -> str:
        if name not in self._keys:
            self._keys[name] = key_of(recipe())
        return self._keys[name]


def key_of(recipe: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, allow_nan=True).encode()).hexdigest()[:12]


@cache
def _settings_fields() -> frozenset[str]:
    return frozenset(Settings.__dataclass_fields__)


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings from the merged configuration. Raises DeclarationError that names key, value and what was expected."""
    for key in values:
        if key not in _settings_fields():
            near = get_close_matches(str(key), _settings_fields(), 1)
            raise DeclarationError(f"config: the key {key!r} is not known" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(_settings_fields()))}"))
    for key, known in (("scale", spec.SCALES), ("device", ("auto", "cpu", "cuda"))):
        value = values.get(key, getattr(Settings, key))
        if value not in known:
            near = get_close_matches(str(value), known, 1)
            raise DeclarationError(f"config: {key} is {value!r}; expected one of {', '.join(known)}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key in ("results", "data"):
        if not isinstance(values.get(key, "x"), str) or not values.get(key, "x").strip():
            raise DeclarationError(f"config: {key} is {values[key]!r}; expected the path of a folder")
    sources = values.get("sources") or {}
    if not isinstance(sources, Mapping) or any(not isinstance(entry, Mapping) or set(entry) - {"path", "sha256"} or "path" not in entry for entry in sources.values()):
        raise DeclarationError("config: sources is a mapping of a source's name to {path: FILE, sha256: CHECKSUM of that file}")
    return Settings(**{**values, "sources": sources})
