"""Where a store comes from: code, parameters, inputs, versions, machine, time and memory. A record of its own, since all of it is volatile."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = {"numpy": "numpy", "scipy": "scipy", "xarray": "xarray", "zarr": "zarr", "torch": "torch", "sklearn": "scikit-learn", "transformers": "transformers", "tokenizers": "tokenizers",
            "ot": "POT", "curvlinops": "curvlinops-for-pytorch", "skimage": "scikit-image", "pandas": "pandas", "matplotlib": "matplotlib"}


def collect(*, key: str, code: Mapping[str, str], params: Mapping[str, Any], inputs: Mapping[str, Any], threads: int, started: float) -> dict[str, Any]:
    """The record of a product that was made by this process since `started` (seconds since the epoch)."""
    return {
        "key": key, "code": dict(code), "params": dict(params), "inputs": dict(inputs), "threads": threads,
        "packages": {"python": platform.python_version(), **dict(_versions())},
        "machine": {"node": platform.node(), "system": platform.platform(), "cpu": _cpu(), "cores": os.cpu_count(), "gpu": _gpu()},
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"), "seconds": round(time.time() - started, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _versions() -> Iterator[tuple[str, str]]:
    """The versions of the packages that the process has loaded."""
    for module, package in PACKAGES.items():
        if module in sys.modules:
            try:
                yield package, version(package)
            except PackageNotFoundError:
                yield package, "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_initialized() else None


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the record beside its name, then renames it. Values that JSON does not know are an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def newest(folder: Path, cell: str) -> dict[str, Any] | None:
    """The record in `folder` of the newest store of this cell, under whatever key; None where there is none that can be read."""
    records = []
    for path in folder.glob("*@*.json"):
        if path.name.rpartition("@")[0] != cell:
            continue
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        records.append((str(record.get("started", "")), path.stat().st_mtime, record))
    return max(records, key=lambda entry: entry[:2])[2] if records else None


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between a record and a recipe (code, params, threads, inputs), in one line."""
    parts = []
    before, after = old.get("code") or {}, new["code"]
    for word, names in (("changed", [name for name in after if name in before and before[name] != after[name]]),
                        ("newly reached", [name for name in after if name not in before]), ("no longer reached", [name for name in before if name not in after])):
        if names:
            parts.append(f"{word}: {_some(sorted(names))}")
    before, after = _flat(old.get("params") or {}), _flat(new["params"])
    parts += [f"{name} {before.get(name, '(none)')} -> {after.get(name, '(none)')}" for name in {**before, **after} if before.get(name) != after.get(name)]
    if old.get("threads") != new["threads"]:
        parts.append(f"threads {old.get('threads')} -> {new['threads']}")
    before, after = _flat(old.get("inputs") or {}), _flat(new["inputs"])
    if inputs := sorted(name for name in {**before, **after} if before.get(name) != after.get(name)):
        parts.append(f"other inputs: {_some(inputs)}")
    return "; ".join(parts) or "another store format"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + str(name)] = json.dumps(value)
    return flat


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
