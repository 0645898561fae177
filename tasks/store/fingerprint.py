"""Fingerprint of code: identifies the project's modules that a function can reach, and the libraries that
these modules import.

The search starts from the module that defines the function (decision 14 in docs/decisions/) and includes:

* Every project module that this module imports anywhere in its code, directly or through other modules, and
  the packages that contain these modules. A module also counts as imported if its dotted name occurs as a
  string, for example because it is started with `python -m`. Comments, docstrings and layout are ignored.
* The bytes of all non-Python files in the folders of these modules.
* The versions of the libraries that these modules import, except libraries that cannot affect an output.

The search does not include modules whose names are assembled at run time, code inside strings, files that are
read from other folders, or the dependencies of the libraries.
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
        "filelock",  # affects only which process waits
        "httpx2",  # downloaded data is identified by its bytes
        "huggingface_hub",  # a downloaded model is identified by its commit
        "mlflow",
        "prefect",
        "psutil",  # measures the load of a process
        "pydantic",  # the settings are a separate ingredient of the fingerprint
        "pydantic_settings",
        "rich",
        "tenacity",
        "typer",
    }
)
"""The import names of the libraries that cannot affect an output. All others are part of the fingerprint."""

DOTTED = re.compile(r"\w+(\.\w+)+")


@dataclass(frozen=True)
class Code:
    """The code that a function can reach, and the libraries that this code imports."""

    sha256: str
    modules: tuple[str, ...]
    libraries: dict[str, str]
    """The version of each library, without suffixes such as `+cu130`, and of Python, such as 3.11."""


@dataclass(frozen=True)
class _Module:
    """A module's code without docstrings and comments, and the names in it that may refer to modules."""

    text: str
    mentions: frozenset[str]
    """Dotted names of imports and of their attributes; every prefix of such a name may be a module."""
    constants: frozenset[str]
    """Strings that look like dotted names. A string counts as an import if it is the name of a module."""
    imports: frozenset[str]
    """The top-level names of the imported modules."""


def code_of(function: Callable[..., object], *, root: Path = PROJECT) -> Code:
    """
    Raises:
        ValueError: the function is not in a module under `root`, or a module has a relative import.
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
    """The name of the module that defines a function; for a script, the name is derived from the file."""
    function = inspect.unwrap(function)
    if _path(function.__module__, root) is not None:
        return function.__module__
    path = Path(inspect.getsourcefile(function) or "").resolve()
    if not (path.is_file() and path.is_relative_to(root)):
        raise ValueError(f"{function.__module__}.{function.__qualname__} is not in a module under {root}")
    return ".".join(path.relative_to(root).with_suffix("").parts)


def _reach(start: str, root: Path) -> dict[str, Path]:
    """The module `start` and all modules that it can reach, with their files."""
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
    """Yield `a`, `a.b` and `a.b.c` for `a.b.c`, so that a package comes before the modules in it."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _path(module: str, root: Path) -> Path | None:
    """The file of a project module; None for a library's module or a folder without `__init__.py`."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _is_ours(name: str, root: Path) -> bool:
    return _path(name, root) is not None or (root / name).is_dir()


def _data_files(folder: Path) -> Iterator[Path]:
    """The non-Python files of a folder, and of each of its subfolders that contains no Python files."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")):  # created by editors and operating systems
            continue
        if path.is_dir() and not any(path.rglob("*.py")):
            yield from _data_files(path)
        elif path.is_file() and path.suffix != ".py":
            yield path


@cache
def versions_of(name: str) -> dict[str, str]:
    """The public version of each distribution that provides the import `name`."""
    try:
        return {name: Version(version(name)).public}
    except PackageNotFoundError:
        others = packages_distributions().get(name, [])
        return {each: Version(version(each)).public for each in others} or {name: "absent"}


def _read(path: Path) -> _Module:
    return _parse(path, path.read_bytes())


@cache
def _parse(path: Path, source: bytes) -> _Module:
    """Parse a module. The cache ensures that a process parses each source text only once."""
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
                raise ValueError(
                    f"{path}:{node.lineno}: relative imports are not supported; write the full name"
                )
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
    """Remove docstrings of modules, classes, functions and attributes: statements that are only a string."""
    for part in ("body", "orelse", "finalbody"):
        statements = getattr(node, part, None)
        if isinstance(statements, list) and any(map(_is_text, statements)):
            setattr(node, part, [each for each in statements if not _is_text(each)])


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _dotted(node: ast.AST) -> str:
    """The expression as a dotted name such as `a.b.c`; "" if it is anything else."""
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return inner and f"{inner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _head(name: str) -> str:
    return name.partition(".")[0]
