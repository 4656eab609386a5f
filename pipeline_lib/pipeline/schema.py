"""The shape of a declaration file, as pydantic models, and its errors as one line each: file, place, value, expectation."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from pipeline_lib.pipeline.claims import parse_bar
from pipeline_lib.pipeline.spec import KINDS, SCALES
from pipeline_lib.pipeline.strict_yaml import DeclarationError


def _bar(text: str) -> str:
    parse_bar(text)
    return text


Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
AxisText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+$")]
AxisValue = bool | int | float | AxisText
Checksum = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Bar = Annotated[str, AfterValidator(_bar)]
Scale = Literal["smoke", "laptop", "paper"]
Text = Annotated[str, StringConstraints(min_length=1)]
assert get_args(Scale) == SCALES


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Resources(Strict):
    threads: int = Field(1, ge=1)
    mem_mb: int = Field(2000, ge=100)
    runtime: int = Field(30, ge=1)
    gpu: int = Field(0, ge=0)


class PartialResources(Strict):
    threads: int | None = Field(None, ge=1)
    mem_mb: int | None = Field(None, ge=100)
    runtime: int | None = Field(None, ge=1)
    gpu: int | None = Field(None, ge=0)


class Need(Strict):
    stage: Word | None = None
    dataset: Word | None = None
    where: dict[Word, AxisValue] = {}
    name: Word | None = Field(None, alias="as")

    @model_validator(mode="after")
    def _one_target(self):
        if (self.stage is None) == (self.dataset is None):
            raise ValueError("either `stage` or `dataset` says what is needed")
        if self.dataset and self.where:
            raise ValueError("`where` fixes the axes of a stage; a dataset has none")
        return self


class SubGrid(Strict):
    axes: dict[Word, Annotated[list[AxisValue], Field(min_length=1)]] = {}
    params: dict[Word, Any] = {}
    needs: list[Word | Need] | None = None


class Stage(Strict):
    kind: Literal["solve", "train", "benchmark"] = "solve"
    function: Word | None = None
    needs: list[Word | Need] = []
    params: dict[Word, Any] = {}
    batch: dict[Word, Annotated[list[AxisValue], Field(min_length=1)]] = {}
    split: list[Word] = []
    grid: Annotated[list[SubGrid], Field(min_length=1)] | None = None
    resources: Resources = Resources()


assert get_args(Stage.model_fields["kind"].annotation) == KINDS


class StageAtScale(Strict):
    needs: list[Word | Need] | None = None
    params: dict[Word, Any] = {}
    batch: dict[Word, Annotated[list[AxisValue], Field(min_length=1)]] | None = None
    split: list[Word] | None = None
    grid: Annotated[list[SubGrid], Field(min_length=1)] | None = None
    resources: PartialResources = PartialResources()


class Test(Strict):
    metric: Word
    bar: Bar | dict[Scale, Bar] | None = None
    mean: Literal["arithmetic", "geometric"] = "arithmetic"


class Claim(Strict):
    id: Text
    says: Text
    paper: Text
    kind: Literal["benchmark"] | None = None
    tests: Annotated[list[Test], Field(min_length=1)]
    why: Text | None = None


class BenchmarkRow(Strict):
    says: Text
    peer: Text
    metric: Word
    target: Bar | dict[Scale, Bar] | None = None
    unit: Text | None = None


class Figure(Strict):
    caption: Text
    alt: Text
    of: Literal["analysis", "benchmark"] = "analysis"


class Paper(Strict):
    title: Text
    authors: Annotated[list[Text], Field(min_length=1)]
    venue: Text | None = None
    arxiv: Annotated[str, StringConstraints(pattern=r"^\d{4}\.\d{4,5}$")] | None = None
    doi: Text | None = None
    field: Word
    summary: Text
    stages: Annotated[dict[Word, Stage], Field(min_length=1)]
    claims: Annotated[dict[Word, Claim], Field(min_length=1)]
    benchmarks: dict[Word, BenchmarkRow] = {}
    figures: dict[Word, Figure] = {}
    scales: dict[Scale, dict[Word, StageAtScale]] = {}

    @model_validator(mode="after")
    def _can_be_found(self):
        if self.arxiv is None and self.doi is None:
            raise ValueError("either `arxiv` or `doi` says where the paper is found")
        return self


class Source(Strict):
    origin: Literal["pypi", "npm", "debian", "installed", "user"] = Field(alias="from")
    package: Text | None = None
    version: Text | None = None
    kind: Literal["wheel", "sdist"] | None = None
    file: Text
    sha256: Checksum | None = None
    licence: Text
    cite: Text

    @model_validator(mode="after")
    def _pinned(self):
        if self.origin != "user" and (self.package is None or self.sha256 is None):
            raise ValueError("a source out of a package names `package` and the `sha256` of the file itself")
        if self.origin in ("pypi", "npm", "debian") and self.version is None:
            raise ValueError("a source that is fetched names the `version` of its package")
        return self


class Dataset(Strict):
    builder: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")]
    title: Text
    sources: list[Word] = []
    params: dict[Word, Any] = {}
    scales: dict[Scale, dict[Word, Any]] = {}
    licence: Text
    cite: Text


class Data(Strict):
    sources: dict[Word, Source] = {}
    datasets: dict[Word, Dataset] = {}


def validate(model: type[BaseModel], content: Mapping[str, Any], file: Path) -> None:
    """Raises DeclarationError with a line for each thing that is wrong."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        raise DeclarationError("\n".join(dict.fromkeys(_line(model, content, file, item) for item in error.errors()))) from error


def _line(model: type[BaseModel], content: Any, file: Path, item: Mapping[str, Any]) -> str:
    place = [part for part in item["loc"] if _in_file(content, item["loc"], part)]
    where = ".".join(map(str, place))
    if item["type"] == "extra_forbidden":
        known = _fields(model, item["loc"][:-1])
        near = get_close_matches(str(item["loc"][-1]), known, 1)
        return f"{file}: {where}: this key is not known here" + (f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}")
    if item["type"] == "missing":
        return f"{file}: {'.'.join(map(str, item['loc']))}: this key is missing"
    if item["type"] == "literal_error":
        known = [str(value) for value in item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")]
        near = get_close_matches(str(item["input"]), known, 1)
        return f"{file}: {where}: {item['input']!r} is not one of {', '.join(known)}" + (f"; did you mean {near[0]!r}?" if near else "")
    return f"{file}: {where}: {_short(item['input'])}: {item['msg'].removeprefix('Value error, ')}"


def _in_file(content: Any, loc: tuple, part: Any) -> bool:
    """Whether this part of a location is a key or an index of the file; pydantic also names the members of unions there."""
    for step in loc[:loc.index(part)]:
        if isinstance(content, Mapping) and step in content:
            content = content[step]
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            content = content[step]
    if part == loc[-1] and isinstance(content, Mapping) and isinstance(part, str):
        return part in content or not part[:1].isupper() and "[" not in part and part not in ("str", "bool", "int", "float")
    return (isinstance(content, Mapping) and part in content) or (isinstance(content, list) and isinstance(part, int))


def _fields(model: Any, loc: tuple) -> list[str]:
    """The keys that are known at this place."""
    for part in loc:
        model = _inside(model, part)
    models = [m for m in _models(model)]
    return sorted({field.alias or name for m in models for name, field in m.model_fields.items()})


def _inside(annotation: Any, part: Any) -> Any:
    for model in _models(annotation, nested=False):
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
    if isinstance(part, str) and part and any(part == m.__name__ for m in _models(annotation)):
        return next(m for m in _models(annotation) if m.__name__ == part)
    return annotation


def _models(annotation: Any, nested: bool = True) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
