"""A store: one xarray Dataset as one file, a zarr v3 group packed as a deterministic zip.

Entries are sorted, carry one fixed date and are stored, not deflated; chunks are compressed with zstd and end in a crc32c; empty chunks are written;
the archive's comment is the sha256 of all that precedes it. So equal arrays are equal bytes, and a missing, cut or changed byte is found on read.
Anything that reads zarr reads it in place: `xr.open_zarr("zip::FILE.zarr.zip")`.
"""

import hashlib
import io
import itertools
import json
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore, ZipStore

CHUNK_BYTES = 16 * 2**20
LARGEST_CHUNK = 256 * 2**20
READ_WHOLE = 512 * 2**20
DATE = (1980, 1, 1, 0, 0, 0)
CODECS = {"bytes", "vlen-utf8", "zstd", "crc32c"}
NUMERIC = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")
MEMBER = re.compile(r"(?:[A-Za-z0-9_.:,+~@=-]+/)*[A-Za-z0-9_.:,+~@=-]+")
DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


class DamagedStore(OSError):
    """A store is not what was written: cut, changed, incomplete, or made by something else."""


def write(dataset: xr.Dataset, path: str | Path) -> None:
    """Writes a store under its name at once or not at all: beside it, synced, renamed.

    Variables are numbers, booleans or text; attributes are plain JSON. Raises ValueError that names the variable otherwise.
    """
    path = Path(path)
    content = packed(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def packed(dataset: xr.Dataset) -> bytes:
    """The bytes of a store. Equal datasets give equal bytes."""
    _check(dataset)
    dataset = _text_as(dataset.drop_encoding(), object)
    members: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        dataset.to_zarr(MemoryStore(members), mode="w", zarr_format=3, consolidated=True, encoding={name: _encoding(v) for name, v in dataset.variables.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, DATE), members[name].to_bytes())
        archive.comment = b"sha256:" + b"0" * 64
    content = buffer.getbuffer()
    content[-64:] = hashlib.sha256(content[:-71]).hexdigest().encode()
    return bytes(content)


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    encoding: dict[str, Any] = {"compressors": [ZstdCodec(level=3), Crc32cCodec()], "write_empty_chunks": True}
    if variable.ndim:
        chunks = list(max(1, size) for size in variable.shape)
        if variable.nbytes > CHUNK_BYTES:
            chunks[0] = max(1, CHUNK_BYTES * variable.shape[0] // variable.nbytes)
        encoding["chunks"] = tuple(chunks)
    return encoding


def _check(dataset: xr.Dataset) -> None:
    for name, variable in dataset.variables.items():
        if not isinstance(name, str) or not MEMBER.fullmatch(name) or "/" in name or name in (".", "..", "zarr.json"):
            raise ValueError(f"the variable {name!r} has a name that cannot be stored: letters, digits and _.:,+~@=- are expected")
        if variable.dtype.kind in "OUT":
            if any(not isinstance(value, str) for value in variable.values.flat):
                raise ValueError(f"the variable {name!r} has the dtype {variable.dtype} and is not all text: numbers, booleans and text are stored")
        elif not NUMERIC.fullmatch(variable.dtype.name):
            raise ValueError(f"the variable {name!r} has the dtype {variable.dtype}: numbers, booleans and text are stored")
    for owner, attributes in [("the dataset", dataset.attrs), *((f"the variable {name!r}", v.attrs) for name, v in dataset.variables.items())]:
        try:
            json.dumps(attributes, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{owner} has attributes that are not plain JSON ({error}): {attributes}") from error


def load_store(path: str | Path) -> xr.Dataset:
    """The Dataset of a store, in memory when the file is below half a gigabyte, else lazy (each chunk is verified when it is read).

    Raises FileNotFoundError, or DamagedStore that names the file and how it is made again.
    """
    path = Path(path)
    if path.stat().st_size > READ_WHOLE:
        return open_store(path)
    with path.open("rb") as file:
        content = file.read()
    comment = content[-71:]
    if not DIGEST.fullmatch(comment) or hashlib.sha256(content[:-71]).hexdigest().encode() != comment[7:]:
        raise _damaged(path, "its bytes do not give the checksum that was written with them")
    dataset = open_store(path)
    try:
        return _text_as(dataset.load(), str)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    finally:
        dataset.close()


def _text_as(dataset: xr.Dataset, dtype: type) -> xr.Dataset:
    """Text as objects, which zarr writes with variable length, or as `str`, NumPy's fixed width, which xarray and pandas know best in memory."""
    text = {name: (v.dims, np.array(v.values.tolist(), dtype=dtype).reshape(v.shape), v.attrs) for name, v in dataset.variables.items() if v.dtype.kind in "OUT"}
    return dataset.assign({name: v for name, v in text.items() if name in dataset.data_vars}).assign_coords({name: v for name, v in text.items() if name in dataset.coords})


def open_store(path: str | Path) -> xr.Dataset:
    """The Dataset of a store, lazily. Members and metadata are verified now, each chunk when it is read. Raises like `load_store`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such store")
    try:
        _verify_members(path)
        return xr.open_dataset(ZipStore(path, mode="r"), engine="zarr", zarr_format=3, consolidated=True, chunks=None, decode_times=False, decode_timedelta=False)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _verify_members(path: Path) -> None:
    """The members are exactly those that the metadata promises: a missing chunk would read as fill values, and a foreign one might be anything."""
    with zipfile.ZipFile(path) as archive:
        found, expected = {}, set()
        for info in archive.infolist():
            if info.filename in found or not MEMBER.fullmatch(info.filename) or ".." in info.filename.split("/"):
                raise ValueError(f"the member {info.filename!r} does not belong into a store")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ValueError(f"the member {info.filename!r} is compressed by the archive")
            found[info.filename] = info
        for name in [name for name in found if name.rpartition("/")[2] == "zarr.json"]:
            metadata = json.loads(archive.read(name))
            expected.add(name)
            if metadata["node_type"] == "array":
                expected |= {f"{name.rpartition('/')[0]}/{chunk}" for chunk in _chunks(name, metadata)}
    if missing := sorted(expected - set(found)):
        raise ValueError(f"{len(missing)} members are missing, {missing[0]!r} the first")
    if foreign := sorted(set(found) - expected):
        raise ValueError(f"{len(foreign)} members do not belong to it, {foreign[0]!r} the first")


def _chunks(name: str, metadata: dict[str, Any]) -> list[str]:
    """The names of an array's chunks. Raises ValueError for codecs, types and sizes that no store of ours has."""
    kind, codecs = metadata["data_type"], [codec["name"] for codec in metadata["codecs"]]
    if not set(codecs) <= CODECS or codecs[-1] != "crc32c":
        raise ValueError(f"{name}: the codecs are {codecs}; only {sorted(CODECS)}, crc32c last, are read")
    if kind != "string" and not (isinstance(kind, str) and NUMERIC.fullmatch(kind)):
        raise ValueError(f"{name}: the data type is {kind!r}; numbers, booleans and text are read")
    shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if metadata["chunk_grid"]["name"] != "regular" or metadata["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        raise ValueError(f"{name}: the chunk grid is not a regular one with default names")
    itemsize = 1 if kind == "string" else np.dtype(kind).itemsize
    if len(shape) != len(chunk) or any(size < 0 or part < 1 for size, part in zip(shape, chunk, strict=True)) or itemsize * int(np.prod(chunk, dtype=object)) > LARGEST_CHUNK:
        raise ValueError(f"{name}: the shape {shape} in chunks of {chunk} is not one that is written here")
    return ["/".join(map(str, ("c", *index))) for index in itertools.product(*(range(-(-size // part)) for size, part in zip(shape, chunk, strict=True)))]


def _damaged(path: Path, what: str) -> DamagedStore:
    return DamagedStore(f"{path} is damaged: {what}. Remove it and run snakemake again, which makes it anew")


def _remove_orphans(path: Path) -> None:
    """Temporary files of writers that were killed."""
    for old in path.parent.glob(f".{path.name}.tmp-*"):
        pid = old.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            old.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
