"""Code: a fingerprint of the project's own code that a function can reach.

Read from the syntax tree, symbol by symbol, through every module of the project: editing a helper
that is called changes it, editing a comment, a docstring, the layout or a neighbour does not.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "*"  # stands for every symbol of a module

Symbol = tuple[str, str]  # module, name


@dataclass
class Module:
    """A source file by its top-level symbols."""

    defined: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, Symbol] = field(default_factory=dict)  # local name -> what it is
    starred: list[str] = field(default_factory=list)
    loose: list[ast.stmt] = field(default_factory=list)  # run at import, define nothing


def code_fingerprint(function: Callable[..., object], *, modules: tuple[str, ...] = (), root: Path = ROOT) -> str:
    """SHA-256 of all that `function`, and the `main` of each module, can reach."""
    digest = hashlib.sha256()
    for (module, name), nodes in sorted(_reach(function, modules, root).items()):
        digest.update(f"{module}.{name}\n".encode())
        for node in nodes:
            digest.update(_normalised(node).encode())
    return digest.hexdigest()


def reached(function: Callable[..., object], *, modules: tuple[str, ...] = (), root: Path = ROOT) -> list[str]:
    """The symbols behind the fingerprint: `models.text.normalise` and so on."""
    return [f"{module}.{name}" for module, name in sorted(_reach(function, modules, root))]


def _reach(
    function: Callable[..., object], modules: tuple[str, ...], root: Path
) -> dict[Symbol, list[ast.stmt]]:
    function = inspect.unwrap(function)
    waiting: list[Symbol] = [(function.__module__, function.__name__), *((name, "main") for name in modules)]
    found: dict[Symbol, list[ast.stmt]] = {}
    seen: set[Symbol] = set()
    while waiting:
        symbol = waiting.pop()
        if symbol in seen:
            continue
        seen.add(symbol)
        module, name = symbol
        parsed = _module(module, root)
        if parsed is None:
            continue
        if name == WHOLE:
            waiting += [(module, other) for other in parsed.defined]
        elif name in parsed.defined:
            nodes = parsed.defined[name] + ([] if (module, "") in found else [])
            found[symbol] = nodes
            found[(module, "")] = parsed.loose
            for node in [*nodes, *parsed.loose]:
                waiting += _mentions(node, module, parsed, root)
        elif name in parsed.imported:
            waiting.append(parsed.imported[name])
        else:
            waiting += [(other, name) for other in parsed.starred]
            if _module(f"{module}.{name}", root) is not None:
                waiting.append((f"{module}.{name}", WHOLE))
    return found


def _mentions(node: ast.stmt, module: str, parsed: Module, root: Path) -> Iterator[Symbol]:
    """Every symbol of the project that the node's code names."""
    local = dict(parsed.imported)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            local |= _imports(inner, module)[0]
    qualified: set[int] = set()
    for inner in ast.walk(node):
        # `schemas.TURNS` names one symbol of the module `schemas`, not all of them.
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id in local:
            target = ".".join(filter(None, local[inner.value.id])).removesuffix(f".{WHOLE}")
            if _module(target, root) is not None:
                qualified.add(id(inner.value))
                yield target, inner.attr
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and id(inner) not in qualified:
            if inner.id in parsed.defined and inner.id not in (local.keys() - parsed.imported.keys()):
                yield module, inner.id
            elif inner.id in local:
                target, name = local[inner.id]
                is_module = _module(f"{target}.{name}", root) is not None
                yield (f"{target}.{name}", WHOLE) if is_module else (target, name)
            else:
                yield from ((other, inner.id) for other in parsed.starred)


@lru_cache(maxsize=1024)
def _parsed(path: Path, module: str, changed_ns: int, size_bytes: int) -> Module:
    parsed = Module()
    _sort(ast.parse(path.read_text(encoding="utf-8")).body, module, parsed)
    return parsed


def _module(name: str, root: Path) -> Module | None:
    """A module of the project; None for what lies outside of it."""
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            known = path.stat()
            return _parsed(path, name, known.st_mtime_ns, known.st_size)
    return None


def _sort(body: list[ast.stmt], module: str, parsed: Module) -> None:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names, starred = _imports(node, module)
            parsed.imported |= names
            parsed.starred += starred
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            parsed.defined.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for name in _targets(node):
                parsed.defined.setdefault(name, []).append(node)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for name in _defined_inside(node):
                parsed.defined.setdefault(name, []).append(node)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    parsed.imported |= _imports(inner, module)[0]
        elif not _is_docstring(node):
            parsed.loose.append(node)


def _defined_inside(node: ast.stmt) -> set[str]:
    names: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(inner.name)
        elif isinstance(inner, ast.Assign | ast.AnnAssign):
            names |= set(_targets(inner))
    return names


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _imports(node: ast.Import | ast.ImportFrom, module: str) -> tuple[dict[str, Symbol], list[str]]:
    """Local name -> (module, symbol), and the modules that are imported with a star."""
    if isinstance(node, ast.Import):
        names = {}
        for alias in node.names:
            whole = alias.name if alias.asname else alias.name.split(".")[0]
            parent, _, last = whole.rpartition(".")
            names[alias.asname or whole] = (parent, last) if parent else (whole, WHOLE)
        return names, []
    base = node.module or ""
    if node.level:
        base = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
    if any(alias.name == "*" for alias in node.names):
        return {}, [base]
    return {alias.asname or alias.name: (base, alias.name) for alias in node.names}, []


def _is_docstring(node: ast.stmt) -> bool:
    """A bare string: of a module, class or function, or behind an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if _is_docstring(node) else node


def _normalised(node: ast.stmt) -> str:
    """The tree as text, without positions and docstrings."""
    copy = ast.parse(ast.unparse(node))
    return ast.unparse(_WithoutDocstrings().visit(copy))
