"""Code: a fingerprint of the project's own code that a function can reach.

Read from the syntax trees, one top-level symbol at a time, through every module of the project.
An edited helper, constant, base class or import changes it; a comment, a docstring, the layout or
a neighbour does not. What counts:

* A class counts whole, and so does each class that an annotation names: a function that is handed
  a config calls its methods and names it nowhere else. The text of an annotation counts for the
  fields of a class alone, because pydantic acts on it.
* A module counts by the names that are used of it; whole where it is used itself (`getattr(m, x)`)
  or imported with a star. What the import of a module runs, calls for instance, always counts.
* Not seen: modules and functions that are named by a string, files that are no Python, `__doc__`
  used as data, what a decorator writes into a table, the versions of other people's libraries.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from models.files import PROJECT
from tasks.store.syntax import IMPORT, Mention, Module, Symbol, parse

WHOLE = "*"  # as a name: every symbol of the module


def code_fingerprint(
    function: Callable[..., object], *, modules: tuple[str, ...] = (), root: Path = PROJECT
) -> str:
    """SHA-256 of all that `function`, and the `main` of each of the modules, can reach.

    Raises:
        ValueError: one of them is not at the top level of a module under `root`.
    """
    digest = hashlib.sha256()
    for (module, name), text in sorted(_reach(function, modules, root).items()):
        digest.update(f"{module}.{name}\n{text}\n".encode())
    return digest.hexdigest()


def reached(
    function: Callable[..., object], *, modules: tuple[str, ...] = (), root: Path = PROJECT
) -> list[str]:
    """The symbols behind it: `models.text.normalisation.normalise`; a module for what it runs."""
    symbols = sorted(_reach(function, modules, root))
    return [f"{module}.{name}".removesuffix(".") for module, name in symbols]


def _reach(function: Callable[..., object], modules: tuple[str, ...], root: Path) -> dict[Symbol, str]:
    reader = _Reader(root)
    starts = [_start(function, reader), *((module, "main") for module in modules)]
    for module, name in starts:
        known = reader.module(module)
        if known is None or name not in known.defined:
            raise ValueError(f"{module}.{name} is not at the top level of a module under {root}")
    reader.follow(starts)
    return reader.found


def _start(function: Callable[..., object], reader: "_Reader") -> Symbol:
    """Where a function stands; a method or an inner function counts as what it stands in."""
    function = inspect.unwrap(function)
    module = function.__module__
    if reader.module(module) is None:  # run as a script, or loaded from its path
        path = Path(inspect.getsourcefile(function) or "").resolve()
        if path.is_relative_to(reader.root):
            module = ".".join(path.relative_to(reader.root).with_suffix("").parts)
    return module, function.__qualname__.split(".")[0]


class _Reader:
    """Follows names from symbol to symbol; `found` has the text of each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[Symbol, str] = {}
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """A module of the project; None for what lies outside of it."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        if not name:
            return None
        base = self.root.joinpath(*name.split("."))
        package = base / "__init__.py"
        for path in (package, base.with_suffix(".py")):
            if path.is_file():
                return parse(name, path == package, path.read_bytes())
        return Module(name) if base.is_dir() and any(base.glob("*.py")) else None

    def follow(self, waiting: list[Symbol]) -> None:
        seen: set[Symbol] = set()
        while waiting:
            symbol = waiting.pop()
            module = self.module(symbol[0])
            if symbol in seen or module is None:
                continue
            seen.add(symbol)
            waiting += self._next(module, symbol[1])

    def _next(self, module: Module, name: str) -> Iterator[Symbol]:
        if name == WHOLE:
            yield from ((module.name, other) for other in module.defined)
            yield from (found for other in module.imported for found in self._locate(module, other))
        if name == IMPORT:
            yield module.name.rpartition(".")[0], IMPORT  # the package comes first
            yield from ((other, IMPORT) for other in module.imports)
            yield from ((other, WHOLE) for other in module.starred)
        else:
            yield module.name, IMPORT
        if name == IMPORT or name in module.defined:
            yield from self._take(module, name)

    def _take(self, module: Module, name: str) -> Iterator[Symbol]:
        """Note the symbol's text, with what its names stand for, and name the symbols it uses."""
        part = module.part(name)
        meanings = set()
        for mention in part.mentions:
            for symbol in self._meaning(module, mention):
                meanings.add(f"{mention.name} {'.'.join(mention.attributes)} = {'.'.join(symbol)}")
                yield symbol
        yield from ((other, IMPORT) for other in part.imports)
        text = "\n".join([part.text, *sorted(meanings)]).strip()
        if text:
            self.found[module.name, name] = text

    def _meaning(self, module: Module, mention: Mention) -> Iterator[Symbol]:
        if mention.imported:
            for origin, name in mention.imported:
                yield from self._walk(origin, filter(None, (name, *mention.attributes)))
        elif mention.name in module.defined or mention.name in module.imported:
            yield from self._locate(module, mention.name, mention.attributes)

    def _locate(
        self, module: Module, name: str, attributes: tuple[str, ...] = (), depth: int = 0
    ) -> Iterator[Symbol]:
        """What a name of the module stands for, through imports and re-exports."""
        if name in module.defined:
            yield module.name, name
        for origin, original in module.imported.get(name, ()):
            yield from self._walk(origin, filter(None, (original, *attributes)), depth + 1)

    def _walk(self, module: str, names: Iterable[str], depth: int = 0) -> Iterator[Symbol]:
        """The symbol that a dotted name leads to from a module."""
        rest = list(names)
        while rest:
            known = self.module(module)
            if known is None:
                yield module, ".".join(rest)
                return
            head = rest.pop(0)
            if head in known.defined or head in known.imported:
                if depth < 20:  # two modules that import one name from each other have no end
                    yield from self._locate(known, head, tuple(rest), depth)
                return
            if self.module(f"{module}.{head}") is None:
                # A name that Python itself gives, or one made while it runs.
                yield module, IMPORT if head.startswith("__") else WHOLE
                return
            module = f"{module}.{head}"
        yield module, WHOLE
