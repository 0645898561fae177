"""Fingerprint of code: the modules of the project that a function can reach, and the libraries they import.

What counts, from the module in which the function is defined (decision 14 of docs/decisions/):

* Every module that it imports, wherever the import stands, through all modules of the project, with
  their packages; and every module whose dotted name stands in it as a text, such as one that is
  started with `python -m`. Of each its syntax tree: no comment, docstring or layout.
* The bytes of every file in the folders of these modules that is not Python.
* The version of every library that these modules import, but for those that cannot decide an output.

Not seen: a name that is put together while the program runs, a program inside a text, a file that is
read from another folder, and what libraries use in their turn.
"""

import ast
import hashlib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from packaging.version import Version

from models.files import PROJECT, sha256

DECIDE_NOTHING = frozenset(
    {
        "filelock",  # who waits for whom
        "httpx2",  # what comes over the network is known by its bytes
        "huggingface_hub",  # as is a model of the hub, by its commit
        "mlflow",
        "prefect",
        "pydantic",  # the settings are an ingredient of their own
        "pydantic_settings",
        "rich",
        "tenacity",
        "typer",
    }
)
"""Libraries, by the name of the import, that cannot decide an output. Any other one counts."""

DOTTED = re.compile(r"\w+(\.\w+)+")


@dataclass(frozen=True)
class Code:
    """What a function can reach."""

    sha256: str
    modules: tuple[str, ...]
    libraries: dict[str, str]
    """Public version of each library (without `+cu130` and the like), and the minor version of Python."""


@dataclass(frozen=True)
class _Module:
    """A module's text without what decides nothing, and every name in it that could lead to another."""

    text: str
    mentions: frozenset[str]
    """Dotted names of imports and of what is used of them: any beginning of one may be a module."""
    constants: frozenset[str]
    """Texts that look like dotted names: a module if there is one of the whole name."""
    imports: frozenset[str]
    """First parts of the imported names."""


def code_of(function: Callable[..., object], *, root: Path = PROJECT) -> Code:
    """
    Raises:
        ValueError: the function is not defined in a module under `root`, or a module has a relative import.
    """
    paths = _reach(_start(function, root), root)
    modules = {name: _read(path) for name, path in sorted(paths.items())}
    digest = hashlib.sha256()
    for name, module in modules.items():
        digest.update(f"{name} {hashlib.sha256(module.text.encode()).hexdigest()}\n".encode())
    for folder in sorted({path.parent for path in paths.values()} - {root}):
        for path in _data_files(folder):
            digest.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    imports = frozenset[str]().union(*(module.imports for module in modules.values()))
    others = {name for name in imports - sys.stdlib_module_names if not _is_ours(name, root)}
    libraries = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in sorted(others - DECIDE_NOTHING):
        libraries |= versions_of(name)
    return Code(digest.hexdigest(), tuple(modules), libraries)


def _start(function: Callable[..., object], root: Path) -> str:
    """The module in which a function is defined; by its file where it was run or loaded as a script."""
    function = inspect.unwrap(function)
    if _path(function.__module__, root) is not None:
        return function.__module__
    path = Path(inspect.getsourcefile(function) or "").resolve()
    if not (path.is_file() and path.is_relative_to(root)):
        raise ValueError(f"{function.__module__}.{function.__qualname__} is in no module under {root}")
    return ".".join(path.relative_to(root).with_suffix("").parts)


def _reach(start: str, root: Path) -> dict[str, Path]:
    """The modules that count, with their files."""
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for module in _beginnings(name):
            path = _path(module, root)
            if path is not None and module not in found:
                found[module] = path
                read = _read(path)
                waiting += read.mentions
                for constant in read.constants:
                    if _path(constant, root) is not None:
                        waiting += [constant, f"{constant}.__main__"]
    return found


def _beginnings(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`: a package comes before what it holds."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _path(module: str, root: Path) -> Path | None:
    """The file of a module of the project; None for what lies outside of it, and for a folder without one."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _is_ours(name: str, root: Path) -> bool:
    return _path(name, root) is not None or (root / name).is_dir()


def _data_files(folder: Path) -> Iterator[Path]:
    """The files of a folder that are not Python, and those of its folders that hold no Python."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")):  # hidden files are those of editors and systems
            continue
        if path.is_dir() and not any(path.rglob("*.py")):
            yield from _data_files(path)
        elif path.is_file() and path.suffix != ".py":
            yield path


@cache
def versions_of(name: str) -> dict[str, str]:
    """The public version of each distribution that provides an import."""
    try:
        return {name: Version(version(name)).public}
    except PackageNotFoundError:
        others = packages_distributions().get(name, [])
        return {each: Version(version(each)).public for each in others} or {name: "absent"}


def _read(path: Path) -> _Module:
    return _parse(path, path.read_bytes())


@cache
def _parse(path: Path, source: bytes) -> _Module:
    """Each text is parsed once in a process, for all stages."""
    tree = ast.parse(source)
    mentions, constants, aliases = set[str](), set[str](), defaultdict[str, set[str]](set)
    attributes: list[ast.Attribute] = []
    for node in ast.walk(tree):
        _drop_docstrings(node)
        if isinstance(node, ast.Attribute):
            attributes.append(node)
        elif isinstance(node, ast.Import):
            for each in node.names:
                mentions.add(each.name)
                aliases[each.asname or _head(each.name)].add(each.name if each.asname else _head(each.name))
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"{path}:{node.lineno}: a relative import; write the whole name")
            for each in node.names:
                mentions.add(node.module if each.name == "*" else f"{node.module}.{each.name}")
                aliases[each.asname or each.name].add(f"{node.module}.{each.name}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            constants.add(node.value)
    imports = frozenset(map(_head, mentions))
    for attribute in attributes:
        head, _, rest = _dotted(attribute).partition(".")
        mentions |= {f"{origin}.{rest}" for origin in aliases.get(head, ())}
    return _Module(ast.unparse(tree), frozenset(mentions), frozenset(constants), imports)


def _drop_docstrings(node: ast.AST) -> None:
    """Docstrings of modules, classes, functions and attributes: texts that are statements of their own."""
    for part in ("body", "orelse", "finalbody"):
        statements = getattr(node, part, None)
        if isinstance(statements, list) and any(map(_is_text, statements)):
            setattr(node, part, [each for each in statements if not _is_text(each)])


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _dotted(node: ast.AST) -> str:
    """`a.b.c`, or "" for what is no name with attributes."""
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return inner and f"{inner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _head(name: str) -> str:
    return name.partition(".")[0]
