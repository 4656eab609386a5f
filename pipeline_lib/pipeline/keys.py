"""`python -m pipeline_lib.pipeline.keys`: one small file of keys a paper, the dependency of its DVC stage.

An edit anywhere else in the library leaves the file as it is; an edit that the paper reaches changes it.
"""

import argparse
import json
from pathlib import Path

from pipeline_lib.pipeline.atlas import Atlas, settings_from
from pipeline_lib.pipeline.strict_yaml import load


def keys_of(atlas: Atlas, slug: str) -> dict[str, str]:
    """The keys of all that the paper publishes: cells, analysis, claims, figures. Benchmarks are timings, and published nowhere."""
    cells = {f"{cell.stage}/{cell.name}": atlas.cell_key(cell) for cell in atlas.cells(slug, benchmark=False)}
    figures = {f"figure {name}": atlas.figure_key(slug, name) for name, body in atlas.paper(slug).figures.items() if body.get("of") != "benchmark"}
    return {**cells, "analysis": atlas.analysis_key(slug), "claims": atlas.claims_key(slug), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("keys"))
    folder = parser.parse_args().folder
    atlas = Atlas(settings_from({**load(Path("config/config.yaml")), "scale": "laptop"}))
    folder.mkdir(exist_ok=True)
    for slug in atlas.slugs:
        (folder / f"{slug}.json").write_text(json.dumps(keys_of(atlas, slug), indent=1) + "\n")
    for path in folder.glob("*.json"):
        if path.stem not in atlas.slugs:
            path.unlink()


if __name__ == "__main__":
    main()
