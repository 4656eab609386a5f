"""A module's top-level definitions as its syntax tree has them: a digest each, the names that each uses, and what cannot be followed.

Formatting, comments and docstrings do not count, nor do the annotations of a function's arguments. The dump of a tree is our own: `ast.dump`
writes fields that differ between versions of Python.
"""

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

FORMAT = 1
REFUSED_CALLS = {"eval", "exec", "globals", "__import__", "compile"}
REFUSED_ATTRIBUTES = {"importlib.import_module", "importlib.reload", "importlib.util", "runpy.run_path", "runpy.run_module", "builtins.eval", "builtins.exec"}
SKIPPED_FIELDS = {"ctx", "kind", "type_comment", "type_params", "lineno", "col_offset", "end_lineno", "end_col_offset"}
STATEMENTS = "(module statements)"


def table(source: str, module: str, is_package: bool) -> dict[str, Any]:
    """Everything that a fingerprint needs of one module, as plain data that can be cached.

    `definitions`: name -> {digest, uses, imports, refused, line, signature}; `imports`: local name -> [module, attribute or ""].
    Raises SyntaxError.
    """
    tree = ast.parse(source)
    pieces: dict[str, list[ast.AST]] = {STATEMENTS: []}
    imports: dict[str, list[str]] = {}
    stars: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            stars += _note_import(node, imports, module, is_package)
        elif _is_skipped(node):
            continue
        else:
            for name in _defined(node) or [STATEMENTS]:
                pieces.setdefault(name, []).append(node)
    for node in pieces[STATEMENTS]:
        for inner in ast.walk(node):  # what a try or an if defines or imports is reached by its name as well
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                stars += _note_import(inner, imports, module, is_package)
            elif inner is not node and isinstance(inner, ast.stmt):
                for name in _defined(inner):
                    pieces.setdefault(name, []).append(inner)
    definitions = {name: _definition(nodes, module, is_package) for name, nodes in pieces.items() if nodes}
    return {"definitions": definitions, "imports": imports, "stars": stars}


def _definition(nodes: list[ast.AST], module: str, is_package: bool) -> dict[str, Any]:
    imports: dict[str, list[str]] = {}
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                _note_import(inner, imports, module, is_package)
    uses = sorted({use for node in nodes for use in _uses(node)})
    digest = hashlib.sha256("\n".join(dump(node) for node in nodes).encode()).hexdigest()[:16]
    function = next((node for node in reversed(nodes) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))), None)
    return {"digest": digest, "uses": uses, "imports": imports, "refused": [found for node in nodes for found in _refused(node)],
            "line": getattr(nodes[-1], "lineno", 0), "signature": _signature(function) if function else None}


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    keywords = {argument.arg: default is not None for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)}
    return {"positional": [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)], "keywords": keywords}


def _defined(node: ast.AST) -> list[str]:
    """The names that a statement binds at the top level; a statement that binds none is a module statement."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            targets = node.targets
        case ast.AnnAssign() | ast.AugAssign():
            targets = [node.target]
        case _ if type(node).__name__ == "TypeAlias":
            targets = [node.name]
        case _:
            return []
    names = [_target_names(target) for target in targets]
    return [name for found in names for name in found] if all(names) else []


def _target_names(target: ast.AST) -> list[str]:
    match target:
        case ast.Name():
            return [target.id]
        case ast.Tuple() | ast.List():
            return [name for inner in target.elts for name in _target_names(inner)]
        case ast.Starred():
            return _target_names(target.value)
    return []


def _is_skipped(node: ast.AST) -> bool:
    """Docstrings and bare constants, and blocks that never run with the module: `if TYPE_CHECKING`, `if __name__ == "__main__"`."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), comparators=[ast.Constant(value="__main__")]), orelse=[]):
            return True
    return False


def _note_import(node: ast.Import | ast.ImportFrom, imports: dict[str, list[str]], module: str, is_package: bool) -> list[str]:
    """Adds what the import binds; returns the modules that are imported with a star."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            imports[alias.asname or alias.name.partition(".")[0]] = [alias.name if alias.asname else alias.name.partition(".")[0], ""]
            if not alias.asname and "." in alias.name:
                imports.setdefault(f"{alias.name} ", [alias.name, ""])
        return []
    base = node.module or ""
    if node.level:
        parents = module.split(".") if is_package else module.split(".")[:-1]
        base = ".".join([*parents[:len(parents) - node.level + 1], *([node.module] if node.module else [])])
    for alias in node.names:
        if alias.name != "*":
            imports[alias.asname or alias.name] = [base, alias.name]
    return [base for alias in node.names if alias.name == "*"]


def _children(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The fields that count: without docstrings, annotations of arguments, and what differs between versions."""
    is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for name in node._fields:
        value = getattr(node, name, None)
        if name in SKIPPED_FIELDS or value is None or value == []:
            continue
        if (is_function and name == "returns") or (isinstance(node, ast.arg) and name == "annotation"):
            continue
        if name == "body" and (is_function or isinstance(node, ast.ClassDef)) and _is_docstring(value[0]):
            value = value[1:]
        yield name, value


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def dump(node: Any) -> str:
    """The tree as text: the same for the same code, whatever its formatting and the version of Python."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, ast.AST):
        return f"{type(node).__name__}({','.join(f'{name}={dump(value)}' for name, value in _children(node))})"
    if isinstance(node, list):
        return f"[{','.join(map(dump, node))}]"
    return repr(node)


def _uses(node: ast.AST) -> Iterator[str]:
    """Names and attribute chains that begin with a name, in everything that counts."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, (ast.Name, ast.Attribute)) and (chain := _chain(current)):
            yield chain
            continue
        for _, value in _children(current):
            stack += [inner for inner in (value if isinstance(value, list) else [value]) if isinstance(inner, ast.AST)]


def _chain(node: ast.AST) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _refused(node: ast.AST) -> Iterator[list]:
    """Constructs whose effect the tree does not show, as [line, construct]."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in REFUSED_CALLS:
            yield [inner.lineno, f"{inner.func.id}()"]
        elif isinstance(inner, ast.Attribute) and _chain(inner) in REFUSED_ATTRIBUTES:
            yield [inner.lineno, _chain(inner)]
        elif isinstance(inner, ast.ImportFrom) and inner.module == "importlib" and any(alias.name in ("import_module", "reload") for alias in inner.names):
            yield [inner.lineno, "from importlib import import_module"]
        elif isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store) and _chain(inner.value) == "sys.modules":
            yield [inner.lineno, "an assignment to sys.modules"]
