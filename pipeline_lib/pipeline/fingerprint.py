"""What code a function reaches inside the package, by top-level definition, from the syntax tree; nothing is imported.

A definition reaches what its names, attribute chains and imports (also those inside functions) lead to: functions, classes, values, through
re-exports, and the module-level statements of every module on the way. Reaching too much only makes more run again; reaching too little would
be a wrong result, so what cannot be followed is refused.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pipeline_lib.pipeline import syntax
from pipeline_lib.pipeline.strict_yaml import DeclarationError

STATEMENTS = syntax.STATEMENTS


class UnknownDefinition(DeclarationError):
    """A module has no function of this name."""


class CannotFollow(DeclarationError):
    """Reached code uses a construct whose effect the syntax tree does not show."""


@dataclass(frozen=True)
class Signature:
    """A function's arguments: the positional ones, and the keyword-only ones with whether each has a default."""

    positional: list[str]
    keywords: Mapping[str, bool]
    line: int


class Fingerprints:
    """The fingerprints of the package below `root`; `cache` is a folder for the modules' tables, by content."""

    def __init__(self, root: Path, package: str = "pipeline_lib", cache: Path | None = None):
        self._root, self._package, self._cache = Path(root), package, cache
        self._tables: dict[str, dict[str, Any] | None] = {}
        self._closures: dict[tuple[str, str], dict[str, str]] = {}
        self._reached: dict[tuple[str, str], tuple[dict[str, str], list[tuple[str, str]]]] = {}

    def closure(self, module: str, name: str) -> dict[str, str]:
        """Every definition that `module.name` reaches, with its digest, and the imports from outside the package. Sorted.

        Raises UnknownDefinition, CannotFollow, and DeclarationError for a syntax error in reached code.
        """
        if (module, name) not in self._closures:
            self._definition(module, name)
            found: dict[str, str] = {}
            seen, waiting = {(module, name)}, [(module, name)]
            while waiting:
                entries, reached = self._reach(*waiting.pop())
                found |= entries
                fresh = [goal for goal in reached if goal not in seen]
                seen.update(fresh)
                waiting += fresh
            self._closures[module, name] = dict(sorted(found.items()))
        return self._closures[module, name]

    def digest(self, module: str, name: str) -> str:
        return hashlib.sha256(json.dumps(self.closure(module, name)).encode()).hexdigest()[:16]

    def signature(self, module: str, name: str) -> Signature:
        """Raises UnknownDefinition where the module has no function of this name."""
        definition = self._definition(module, name)
        if definition["signature"] is None:
            raise UnknownDefinition(f"{self._file(module)}, line {definition['line']}: {name} is no function")
        return Signature(definition["signature"]["positional"], definition["signature"]["keywords"], definition["line"])

    def functions(self, module: str) -> list[str]:
        table = self._table(module)
        return [name for name, body in table["definitions"].items() if body["signature"] is not None] if table else []

    # --- one step -------------------------------------------------------------------------------------------------------------------

    def _reach(self, module: str, name: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """What a definition adds by itself: its own entries, and the definitions that it leads to."""
        if (module, name) not in self._reached:
            table = self._table(module)
            definition = table["definitions"][name]
            if definition["refused"]:
                line, construct = definition["refused"][0]
                raise CannotFollow(f"{self._file(module)}, line {line}: {construct} cannot be followed, so the results that depend on it could not be told apart; "
                                   f"import by name instead")
            entries = {f"{module} {name}" if name == STATEMENTS else f"{module}.{name}": definition["digest"]}
            reached = self._statements(module) if name != STATEMENTS else []
            for use in definition["uses"]:
                self._follow_name(module, table, definition["imports"], use, entries, reached)
            self._reached[module, name] = (entries, list(dict.fromkeys(reached)))
        return self._reached[module, name]

    def _statements(self, module: str) -> list[tuple[str, str]]:
        """The module statements of the module and of the packages around it, where there are any."""
        parts = module.split(".")
        around = [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
        return [(name, STATEMENTS) for name in around if (table := self._table(name)) and STATEMENTS in table["definitions"]]

    def _follow_name(self, module: str, table: dict, local: dict, use: str, entries: dict, reached: list) -> None:
        root, _, rest = use.partition(".")
        imported = local.get(root) or table["imports"].get(root)
        if root in local:
            self._follow(*_joined(imported, rest), entries, reached)
        if root in table["definitions"]:
            reached.append((module, root))
        if root in table["imports"] and root not in local:
            self._follow(*_joined(imported, rest), entries, reached)
        for star in table["stars"]:
            if root not in table["definitions"] and self._offers(star, root):
                self._follow(star, use, entries, reached)

    def _follow(self, module: str, chain: str, entries: dict, reached: list) -> None:
        """`chain` as it is looked up in `module`: a definition, a submodule, a re-export, or the module as a whole."""
        if module.partition(".")[0] != self._package:
            entries[f"import {module}.{chain}".rstrip(".")] = ""
            return
        table = self._table(module)
        name, _, rest = chain.partition(".")
        if table is None:
            raise CannotFollow(f"{self._file(module)}: reached code imports {module}, which does not exist")
        if not name:
            reached += [(module, defined) for defined in table["definitions"]]
            for local in table["imports"].values():
                if local[0].partition(".")[0] == self._package and local[1]:
                    self._follow(local[0], local[1], entries, reached)
            return
        reached += self._statements(module)
        if name in table["definitions"]:
            reached.append((module, name))
        elif name in table["imports"]:
            self._follow(*_joined(table["imports"][name], rest), entries, reached)
        elif self._table(f"{module}.{name}") is not None:
            self._follow(f"{module}.{name}", rest, entries, reached)
        elif star := next((star for star in table["stars"] if self._offers(star, name)), None):
            self._follow(star, chain, entries, reached)
        elif not name.startswith("__"):
            raise CannotFollow(f"{self._file(module)}: reached code uses {module}.{name}, which is not defined there")

    def _offers(self, module: str, name: str) -> bool:
        table = self._table(module) if module.partition(".")[0] == self._package else None
        return bool(table) and not name.startswith("_") and (name in table["definitions"] or name in table["imports"])

    # --- modules --------------------------------------------------------------------------------------------------------------------

    def _definition(self, module: str, name: str) -> dict[str, Any]:
        table = self._table(module)
        if table is None:
            raise UnknownDefinition(f"there is no module {module}: {self._file(module)} is expected, with the function {name}")
        if name not in table["definitions"]:
            near = get_close_matches(name, self.functions(module), 1)
            raise UnknownDefinition(f"{self._file(module)} has no function {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(self.functions(module)) or 'none'}"))
        return table["definitions"][name]

    def _file(self, module: str) -> Path:
        path = self._root / Path(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def _table(self, module: str) -> dict[str, Any] | None:
        if module not in self._tables:
            file = self._file(module)
            self._tables[module] = self._read(module, file) if file.is_file() else None
        return self._tables[module]

    def _read(self, module: str, file: Path) -> dict[str, Any]:
        source = file.read_bytes()
        cached = self._cache and self._cache / f"{hashlib.sha256(f'{syntax.FORMAT} {module} '.encode() + source).hexdigest()[:24]}.json"
        if cached and (table := _load(cached)):
            return table
        try:
            table = syntax.table(source.decode(), module, file.name == "__init__.py")
        except (SyntaxError, UnicodeDecodeError) as error:
            raise DeclarationError(f"{file}, line {getattr(error, 'lineno', '?')}: {getattr(error, 'msg', error)}") from error
        if cached:
            cached.parent.mkdir(parents=True, exist_ok=True)
            temporary = cached.with_name(f"{cached.name}.tmp-{os.getpid()}")
            temporary.write_text(json.dumps(table))
            temporary.replace(cached)
        return table


def _joined(imported: list[str], rest: str) -> tuple[str, str]:
    module, attribute = imported
    return module, ".".join(part for part in (attribute, rest) if part)


def _load(file: Path) -> dict[str, Any] | None:
    """A cached table; None where there is none, or a damaged one, which is then made again."""
    try:
        table = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and {"definitions", "imports", "stars"} <= set(table) else None
