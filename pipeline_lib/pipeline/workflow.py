"""What the Snakefile asks for: the validated atlas, the lock, a rule's inputs and resources, why a job runs, and the verdicts at the end."""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from pipeline_lib.pipeline import product, provenance
from pipeline_lib.pipeline.atlas import Atlas, settings_from
from pipeline_lib.pipeline.strict_yaml import DeclarationError, load

STATE = Path(".snakemake")


def declared(overrides: Mapping[str, Any], *, validate: bool) -> Atlas:
    """The atlas of config/config.yaml with the command line's overrides. Raises DeclarationError with all that is wrong, before any rule is defined."""
    if validate:
        from pipeline_lib.pipeline import check

        check.files(Path("."))
    atlas = Atlas(settings_from({**load(Path("config/config.yaml")), **overrides}))
    if validate:
        check.atlas(atlas)
    atlas.chosen  # noqa: B018  an unknown slug is refused here
    return atlas


def lock(atlas: Atlas) -> TextIO:
    """A lock on the results that the kernel frees when this process ends, however it ends. Raises DeclarationError when another run holds it."""
    try:
        atlas.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeclarationError(f"{atlas.root}: the results cannot be written: {error.strerror}; set another folder with --config results=DIR") from error
    if not os.access(atlas.root, os.W_OK):
        raise DeclarationError(f"{atlas.root}: the results cannot be written: the folder is read-only; set another folder with --config results=DIR")
    STATE.mkdir(exist_ok=True)
    handle = (STATE / "atlas.lock").open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DeclarationError("another snakemake is at work in this folder; wait for it to end, or stop it (snakemake -n works beside it)") from error
    return handle


def alternatives(names: Iterable[str]) -> str:
    """A wildcard constraint: one of these, or nothing at all where there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def runs(atlas: Atlas, kind: str) -> str:
    """The folders of all stages of this kind, as a wildcard constraint."""
    found = [(slug, name) for slug in atlas.slugs for name, stage in atlas.paper(slug).stages.items() if stage.kind == kind]
    return alternatives(f"{slug}/{'benchmark' if kind == 'benchmark' else 'cells'}/{name}" for slug, name in found)


def inputs(atlas: Atlas, path: str) -> list[str]:
    return [str(file) for file in product.inputs(atlas, product.resolve(atlas, path))]


def resource(atlas: Atlas, path: str, name: str) -> int:
    cell = product.resolve(atlas, path).cell
    return atlas.stage(cell.paper, cell.stage).resources[name]


def reason(atlas: Atlas, path: str) -> str:
    """Why this job runs: what differs from the newest store of the same name, or that there is none."""
    found = product.resolve(atlas, path)
    file = atlas.provenance_file(found.path)
    cell = file.stem.rpartition("@")[0]
    old = provenance.newest(file.parent, cell)
    if old is None:
        return "no earlier store"
    if old.get("key") == product.key(atlas, found):
        return "its store is missing"
    return provenance.difference(old, product.recipe(atlas, found))


def outdated(atlas: Atlas, path: str) -> list[str]:
    """Nothing, or a marker newer than the product where the key that the product records is not today's.

    Claims and figures have plain names. Snakemake reruns them when an input is newer, so a product of another key is given such an input.
    The marker is older than now, or Snakemake would find the new product older than its input; a product younger than that is dated back.
    """
    found = product.resolve(atlas, path)
    recorded = recorded_key(found.path)
    today = product.key(atlas, found)
    if recorded in (None, today):
        return []
    marker = STATE / "outdated" / found.path.relative_to(atlas.root.parent).with_suffix(f".{recorded}-{today}")
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{recorded} -> {today}\n")
    now = time.time()
    if found.path.stat().st_mtime > now - 2:
        os.utime(found.path, (now - 2, now - 2))
    os.utime(marker, (now - 1, now - 1))
    return [str(marker)]


def is_current(atlas: Atlas, path: str) -> bool:
    """Whether a product with a plain name stands there under today's key."""
    found = product.resolve(atlas, path)
    return recorded_key(found.path) == product.key(atlas, found)


def recorded_key(path: Path) -> str | None:
    """The key that a claims file or a figure was made under; None where there is no such file, "unreadable" where it is damaged."""
    try:
        return json.loads(path.read_text()).get("key", "unreadable")
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return "unreadable"


def settings_with_papers(atlas: Atlas) -> str:
    """The settings of the one job that depends on the choice of papers: gathering their claims."""
    return json.dumps({**json.loads(atlas.settings.as_json()), "papers": atlas.chosen}, sort_keys=True)


def verdicts(atlas: Atlas) -> str:
    """The table of verdicts of the run's papers, as far as they are judged."""
    from pipeline_lib.pipeline import claims

    judged = {}
    for slug in atlas.chosen:
        files = [atlas.claims_file(slug, benchmark=benchmark) for benchmark in (False, True)]
        found = [json.loads(file.read_text()) for file in files if file.exists()]
        if found:
            judged[slug] = {"claims": {name: claim for part in found for name, claim in part["claims"].items()},
                            "benchmarks": [row for part in found for row in part.get("rows", [])]}
    return claims.table(claims.gather(judged)) if judged else "No claims have been judged yet."
