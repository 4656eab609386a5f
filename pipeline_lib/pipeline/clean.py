"""`snakemake clean_stale`: removes stores, provenance and checkpoints that no declaration of this scale reaches."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.pipeline.atlas import STORE, Atlas, settings_from

NAMED = re.compile(r"(?P<name>.+)@(?P<key>[0-9a-f]{12})(?:\.zarr\.zip|\.json|(?:\.[^/]*)?\.ckpt)")


def reached(atlas: Atlas, slugs: list[str]) -> set[Path]:
    """The stores that today's declarations ask for."""
    stores = {atlas.dataset_store(name) for name in atlas.datasets}
    for slug in slugs:
        for benchmark in (False, True):
            stores |= {atlas.cell_store(cell) for cell in atlas.cells(slug, benchmark=benchmark)}
            if not benchmark or atlas.paper(slug).has_benchmark:
                stores.add(atlas.analysis_store(slug, benchmark=benchmark))
    return stores


def stale(atlas: Atlas, slug: str | None = None) -> Iterator[Path]:
    """Files below the results whose name carries a key that nothing declared has; of one paper, or of all papers and the data."""
    slugs = [slug] if slug else atlas.slugs
    stores = reached(atlas, slugs)
    keep = {name for store in stores for name in (store, atlas.provenance_file(store))}
    names = {store.name.removesuffix(STORE) for store in stores}
    folders = [atlas.root / name for name in slugs] + ([] if slug else [atlas.root / "data"])
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*@*")):
        found = NAMED.fullmatch(path.name)
        if not path.is_file() or path.is_symlink() or not found or path in keep:
            continue
        if path.suffix == ".ckpt" and f"{found['name']}@{found['key']}" in names:
            continue
        yield path


def remove(atlas: Atlas, slug: str | None = None) -> list[Path]:
    removed = list(stale(atlas, slug))
    for path in removed:
        path.unlink()
        folder = path.parent
        while folder != atlas.root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return removed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper", nargs="?")
    parser.add_argument("--settings", required=True)
    options = parser.parse_args()
    atlas = Atlas(settings_from(json.loads(options.settings)))
    for path in remove(atlas, options.paper):
        print(f"removed {path}")


if __name__ == "__main__":
    main()
