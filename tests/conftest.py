"""Small projects to run: the real Snakefile, rules and library in a folder of their own, with toy papers in place of the fifty."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.M | re.S)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Project:
    """A folder with the pipeline and some declared papers."""

    root: Path

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text, f"{old!r} is not in {path}"
        (self.root / path).write_text(text.replace(old, new))

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]

    def snakemake(self, *arguments: str, fails: bool = False, timeout: float = 240, **kwargs) -> str:
        """What a run printed; its exit status must be as expected."""
        done = subprocess.run(self.command(*arguments), cwd=self.root, capture_output=True, text=True, timeout=timeout, env=environment(), **kwargs)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule `snakemake -n` would run."""
        output = self.snakemake("-n", *arguments)
        table = re.search(r"^job +count\n[- ]+\n(.*?)\n\n", output, re.M | re.S)
        rows = [line.split() for line in table[1].splitlines()] if table else []
        return {name: int(count) for name, count in rows if name not in ("total", "all") and not name.startswith("stein_paradox")}

    def stores(self, pattern: str = "**/*.zarr.zip") -> dict[str, bytes]:
        """All stores of the project by their path."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(self.root.glob(f"results/{pattern}"))}

    def products(self) -> dict[str, bytes]:
        """Stores, claims and figures: all that must come out with the same bits."""
        found = sorted(path for path in self.root.glob("results/*/*/**/*") if path.suffix in (".zip", ".json", ".svg", ".png", ".pdf"))
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found if not {"provenance", "logs"} & set(path.parts) and ".tmp-" not in path.name}

    def claims(self, slug: str = "stein_paradox", scale: str = "laptop") -> dict:
        return json.loads((self.root / "results" / scale / slug / "claims.json").read_text())


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", **extra}


def copy_pipeline(root: Path) -> Project:
    """The pipeline and the library without any paper, in an empty folder."""
    root.mkdir(parents=True)
    for name in ("Snakefile", "rules", "profiles", "pipeline_lib", "envs"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    for paper in (root / "pipeline_lib" / "papers").glob("[a-z]*.py"):
        paper.unlink()
    (root / "config" / "papers").mkdir(parents=True)
    shutil.copy(REPOSITORY / "config" / "config.yaml", root / "config" / "config.yaml")
    (root / "config" / "datasets.yaml").write_text("sources: {}\ndatasets: {}\n")
    return Project(root)


def worked_example(project: Project) -> Project:
    """The files that docs/adding_a_paper.md shows, written into the project."""
    blocks = BLOCK.findall((REPOSITORY / "docs" / "adding_a_paper.md").read_text())
    assert [Path(name).suffix for name, _ in blocks] == [".py", ".py", ".yaml"]
    for name, text in blocks:
        project.write(name, text)
    (project.root / "pipeline_lib" / "approximation" / "__init__.py").touch()
    return project


@pytest.fixture
def empty_project(tmp_path: Path) -> Project:
    return copy_pipeline(tmp_path / "project")


@pytest.fixture
def project(empty_project: Project) -> Project:
    """The worked example of the documentation, nothing run yet."""
    return worked_example(empty_project)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = worked_example(copy_pipeline(tmp_path_factory.mktemp("finished") / "project"))
    project.snakemake()
    return project.root


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Project:
    """A copy of the worked example after a complete run."""
    shutil.copytree(_finished, tmp_path / "project", symlinks=True, copy_function=shutil.copy2)
    return Project(tmp_path / "project")
