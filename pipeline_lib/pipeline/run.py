"""Opening what a run has made, without knowing keys."""

from pathlib import Path
from typing import Any

from pipeline_lib.cells import Cells
from pipeline_lib.pipeline.atlas import Atlas, settings_from
from pipeline_lib.pipeline.job import merge_split
from pipeline_lib.pipeline.store import load_store
from pipeline_lib.pipeline.strict_yaml import DeclarationError, load


def open_run(slug: str, stage: str | None = None, /, *, scale: str | None = None, results: str | None = None, root: str | Path = ".", **axes: Any):
    """The result of a paper under today's code and declarations: its analysis, or with a stage the cell that has these axes.

    `root` is the repository's folder; `scale` and `results` replace the settings of its config/config.yaml. Several cells that agree with
    `axes` are returned as Cells. Raises DeclarationError for an unknown paper or stage, FileNotFoundError where the run has not been made.
    """
    root = Path(root)
    given = {key: value for key, value in (("scale", scale), ("results", results)) if value is not None}
    atlas = Atlas(settings_from({**load(root / "config" / "config.yaml"), **given}), root)
    if stage is None:
        return load_store(_existing(atlas.analysis_store(slug), slug))
    stages = atlas.paper(slug).stages
    if stage not in stages:
        raise DeclarationError(f"{slug} has no stage {stage!r}; there are {', '.join(stages)}")
    for cell in stages[stage].cells:
        _existing(atlas.cell_store(cell), slug)
    cells = Cells(merge_split(atlas, list(stages[stage].cells)), stage)
    cells = cells.where(**axes) if axes else cells
    return cells.one() if len(cells) == 1 else cells


def _existing(path: Path, slug: str) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} has not been made, or was made from other code or parameters: run `snakemake --cores 2 {slug}`")
    return path
