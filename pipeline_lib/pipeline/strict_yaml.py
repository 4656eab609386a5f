"""YAML as a declaration is read: numbers and booleans of YAML 1.2, no key twice, no tags.

PyYAML by itself reads `1e-3` as text and `on` as true, and keeps the last of two equal keys without a word.
"""

import re
from pathlib import Path
from typing import Any

import yaml


class DeclarationError(ValueError):
    """A file that declares something is wrong; the message names file, place, value and what was expected."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node, deep=False):
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, f"a key must be a word or a number, not {key!r}", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice, first in line {seen[key]}", key_node.start_mark)
            seen[key] = line
        return super().construct_mapping(node, deep)


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolver("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789")
_resolver("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789")
_resolver("null", "null|Null|NULL|~|", "nN~")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))


def _construct_int(loader, node):
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _construct_float(loader, node):
    return float(loader.construct_scalar(node).replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lower().replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load(path: Path) -> dict[str, Any]:
    """The mapping that the file holds.

    Raises DeclarationError that names file, line and column when the file cannot be read, is no mapping, repeats a key or carries a tag.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path}: cannot be read: {error}") from error
    try:
        content = yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DeclarationError(f"{path}{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DeclarationError(f"{path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DeclarationError(f"{path}: a mapping of keys is expected, not {type(content).__name__}")
    return content
