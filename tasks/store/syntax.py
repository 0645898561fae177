"""Syntax: a source file by its top-level symbols, and the names that each takes from outside."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

IMPORT = ""  # as a name: what runs when the module is imported, and the module itself

# Of a syntax node: how something was written decides nothing; of an annotation, only what it names counts.
LEFT_OUT = {"ctx", "kind", "returns", "simple", "type_comment", "type_ignores", "type_params"}

Symbol = tuple[str, str]  # module, name
Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True)
class Mention:
    """A name that a definition takes from outside of itself: `np.random.default_rng`."""

    name: str
    attributes: tuple[str, ...]
    imported: tuple[Symbol, ...]  # by an import inside the definition; else the module knows


@dataclass(frozen=True)
class Part:
    """A symbol's code: its text without positions, and what it refers to."""

    text: str
    mentions: frozenset[Mention]
    imports: frozenset[str]


@dataclass
class Module:
    """A source file by its top-level symbols."""

    name: str
    is_package: bool = True
    defined: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, list[Symbol]] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    starred: set[str] = field(default_factory=set)
    typed: dict[str, list[Symbol]] = field(default_factory=dict)  # imported for annotations alone
    loose: list[ast.stmt] = field(default_factory=list)  # run at import, define nothing
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def part(self, name: str) -> Part:
        if name not in self.parts:
            nodes = self.loose if name == IMPORT else self.defined[name]
            names = Names(self.package, self.typed)
            for node in nodes:
                names.visit(node)
            text = "\n".join(_text(node) for node in nodes)
            self.parts[name] = Part(text, frozenset(names.mentions), frozenset(names.imports))
        return self.parts[name]

    def sort(self, body: Iterable[ast.stmt]) -> None:
        """Put each statement where it belongs: by the names that it binds, or with the loose."""
        for node in body:
            if isinstance(node, ast.If) and _is_false_at_import(node.test):
                for each in node.body:
                    if isinstance(each, ast.Import | ast.ImportFrom):
                        self.typed |= _imported(each, self.package)
                self.sort(node.orelse)
                continue
            names, only_binds = self._binds(node)
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for name in names:
                self.defined.setdefault(name, []).append(node)
            if not only_binds:
                self.loose.append(node)

    def _binds(self, node: ast.stmt) -> tuple[set[str], bool]:
        """The names that a statement binds at the top level, and whether it does nothing else."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self._note_import(node), True
        if isinstance(node, Function | ast.ClassDef):
            return {node.name}, True
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            inner = [each for target in targets for each in ast.walk(target)]
            elsewhere = any(isinstance(each, ast.Attribute | ast.Subscript) for each in inner)
            return _stored(inner), not elsewhere
        if isinstance(node, ast.If | ast.Try):
            inside = [self._binds(each) for each in _children(node)]
            names = {name for bound, _ in inside for name in bound}
            return names, bool(names) and all(only for _, only in inside)
        return _stored(ast.walk(node)), _does_nothing(node)

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> set[str]:
        imported = _imported(node, self.package)
        for name, symbols in imported.items():
            self.imported.setdefault(name, []).extend(symbols)
        self.imports |= _modules(node, self.package)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            self.starred.add(_origin(node, self.package))
        return set(imported)


@lru_cache(maxsize=1024)
def parse(name: str, is_package: bool, source: bytes) -> Module:
    module = Module(name, is_package)
    module.sort(ast.parse(source, filename=name).body)
    return module


class Names(ast.NodeVisitor):
    """Collects the names that code takes from outside of itself, its own variables left out."""

    def __init__(self, package: str, typed: Mapping[str, list[Symbol]]) -> None:
        self.mentions: set[Mention] = set()
        self.imports: set[str] = set()
        self._package = package
        self._typed = typed
        self._in_annotation = False
        self._scopes: list[dict[str, tuple[Symbol, ...]]] = []

    def _mention(self, name: str, attributes: Iterable[str] = ()) -> None:
        imported = tuple(self._typed.get(name, ())) if self._in_annotation else ()
        for scope in reversed(self._scopes):
            if name in scope:
                imported = scope[name]
                if not imported:
                    return  # a variable of its own
                break
        self.mentions.add(Mention(name, tuple(attributes), imported))

    def _enter(
        self,
        scope: dict[str, tuple[Symbol, ...]],
        body: Iterable[ast.AST],
    ) -> None:
        self._scopes.append(scope)
        for node in body:
            self.visit(node)
        self._scopes.pop()

    def _annotate(self, annotation: ast.expr | None) -> None:
        """The classes that an annotation names: code may call their methods and name them nowhere else."""
        if annotation is not None:
            before, self._in_annotation = self._in_annotation, True
            self.visit(annotation)
            self._in_annotation = before

    def visit_Constant(self, node: ast.Constant) -> None:
        if self._in_annotation and isinstance(node.value, str):
            with suppress(SyntaxError):  # a remark in an Annotated, and no quoted class
                self.visit(ast.parse(node.value, mode="eval"))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not (self._in_annotation and ast.unparse(node.value).endswith("Literal")):
            self.visit(node.slice)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._mention(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._mention(name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._mention(inner.id, attributes)
        else:
            self.visit(inner)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports |= _modules(node, self._package)

    visit_ImportFrom = visit_Import

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in filter(None, [node.target, node.value]):
            self.visit(part)
        self._annotate(node.annotation)

    def visit_FunctionDef(self, node: Function | ast.Lambda) -> None:
        outer = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        body: list[ast.AST] = []
        for argument in _arguments(node.args):
            self._annotate(argument.annotation)
        if isinstance(node, ast.Lambda):
            body.append(node.body)
        else:
            self._annotate(node.returns)
            outer += node.decorator_list
            body.extend(node.body)
        for part in outer:
            self.visit(part)
        self._enter(_variables(node.args, body, self._package), body)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(part)
        # A field hides no name: `train: Train = train()` takes the value from outside.
        scope = {name: symbols for name, symbols in _bound(node.body, self._package).items() if symbols}
        self._enter(scope, node.body)

    def visit_ListComp(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        targets = [each for loop in node.generators for each in ast.walk(loop.target)]
        self._enter(dict.fromkeys(_stored(targets), ()), ast.iter_child_nodes(node))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


def _variables(
    arguments: ast.arguments, body: Iterable[ast.AST], package: str
) -> dict[str, tuple[Symbol, ...]]:
    """A function's own names, each with what it is if an import makes it."""
    names = [each.arg for each in _arguments(arguments)]
    return {**dict.fromkeys(names, ()), **_bound(body, package)}


def _arguments(given: ast.arguments) -> list[ast.arg]:
    several = [*filter(None, [given.vararg, given.kwarg])]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *several]


def _bound(body: Iterable[ast.AST], package: str) -> dict[str, tuple[Symbol, ...]]:
    """The names that statements bind, those inside of inner functions and classes left out."""
    bound: dict[str, tuple[Symbol, ...]] = {}
    elsewhere: set[str] = set()
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, symbols in _imported(node, package).items():
                bound[name] = (*bound.get(name, ()), *symbols)
            continue
        if isinstance(node, ast.Global):
            elsewhere |= set(node.names)
        if isinstance(node, Comprehension):  # only `:=` reaches out of one
            waiting += [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
            continue
        # Functions, classes, `except ... as name` and the patterns of `match` keep it as text.
        texts = [getattr(node, "name", None), getattr(node, "rest", None)]
        for name in _stored([node]) | {text for text in texts if text}:
            bound.setdefault(name, ())
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return {name: symbols for name, symbols in bound.items() if name not in elsewhere}


def _stored(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}


def _children(block: ast.If | ast.Try) -> Iterator[ast.stmt]:
    """The statements of each branch."""
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.stmt):
            yield node
        elif isinstance(node, ast.ExceptHandler):
            yield from node.body


def _origin(node: ast.ImportFrom, package: str) -> str:
    """The module that it imports from, its dots resolved."""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *filter(None, [node.module])])


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, list[Symbol]]:
    """Local name -> what it stands for."""
    if isinstance(node, ast.ImportFrom):
        origin = _origin(node, package)
        return {each.asname or each.name: [(origin, each.name)] for each in node.names if each.name != "*"}
    return {
        each.asname or each.name.split(".")[0]: [
            (each.name if each.asname else each.name.split(".")[0], IMPORT)
        ]
        for each in node.names
    }


def _modules(node: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """What may be imported as a module, a name that turns out to be a function included."""
    if isinstance(node, ast.Import):
        return {each.name for each in node.names}
    origin = _origin(node, package)
    return {origin, *(f"{origin}.{each.name}" for each in node.names)}


def _is_false_at_import(test: ast.expr) -> bool:
    """`if TYPE_CHECKING` and `if __name__ == "__main__"`."""
    return ast.unparse(test).removeprefix("typing.") in ("TYPE_CHECKING", "__name__ == '__main__'")


def _does_nothing(node: ast.AST) -> bool:
    """A docstring, `...` or `pass`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _text(node: object, *, in_class: bool = False) -> str:
    """The tree as text: no positions, docstrings and annotations, in Python 3.11 to 3.13 the same.

    `ast.dump` would show the empty fields, and each version has other ones.
    """
    if isinstance(node, list):
        return "[" + ",".join(filter(None, (_text(each, in_class=in_class) for each in node))) + "]"
    if not isinstance(node, ast.AST):
        return ascii(node)  # repr asks the Unicode tables, which each version has other ones of
    if _does_nothing(node):
        return ""
    fields = dict(ast.iter_fields(node))
    kind = type(node).__name__
    if isinstance(node, ast.AnnAssign) and not in_class:
        if node.value is None:
            return ""
        kind, fields = "Assign", {"targets": [node.target], "value": node.value}
    in_class = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, Function))
    told = [
        f"{name}={text}"
        for name, value in fields.items()
        if name not in LEFT_OUT and not (name == "annotation" and isinstance(node, ast.arg))
        if (text := _text(value, in_class=in_class)) not in ("[]", "None")
    ]
    return f"{kind}({','.join(told)})"
