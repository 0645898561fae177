"""Tests of the import graph: which part may import which, and where each library may be imported."""

import ast
import importlib.machinery
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "corpus", "tasks", "flows", "chat", "deployments", "cli")
SCRIPTS = ("console", "environment", "services_state", "settings")

# Each part of the project, with the parts that it may import. If a module's name begins with several of these
# names, the longest name is its part. Code that several parts use is in `models` itself.
MAY_IMPORT = {
    "models": set(),
    "models.text": {"models"},
    "models.data": {"models", "models.text"},
    "models.network": {"models", "models.text", "models.data"},
    "models.registry": {"models", "models.text"},
    "models.pretrained": {"models", "models.text", "models.data", "models.network"},
    "models.generation": {"models", "models.text", "models.data", "models.network"},
    "models.evaluation": {
        "models",
        "models.text",
        "models.data",
        "models.network",
        "models.generation",
        "models.registry",
    },
    "models.training": {
        "models",
        "models.text",
        "models.data",
        "models.network",
        "models.generation",
        "models.pretrained",
        "models.evaluation",
    },
    "environment": set(),
    "console": {"environment"},  # the packages whose log lines are shown
    "services_state": {"models"},  # whether a lock is held
    "settings": {"models", "services_state"},  # errors, a database's address, and the running services
    "corpus": {"models", "models.text", "models.data"},
    "tasks": {"corpus", "models", "models.*"},
    "chat": {"models", "models.*", "settings"},
    "flows": {"tasks", "corpus", "models", "models.*", "settings", "environment"},
    "deployments": {
        "flows",
        "tasks",
        "corpus",
        "chat",
        "models",
        "models.*",
        "settings",
        "services_state",
        "environment",
        "console",
    },
    "cli": {
        "deployments",
        "flows",
        "tasks",
        "corpus",
        "chat",
        "models",
        "models.*",
        "settings",
        "services_state",
        "environment",
        "console",
    },
}
MLFLOW_DOOR = "models/registry/"
HEAVY = {"torch", "transformers", "prefect", "mlflow", "pandas", "pyarrow"}


def files() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [*found, *(ROOT / f"{name}.py" for name in SCRIPTS)]


def imports(node: ast.AST, *, inside_functions: bool = True) -> Iterator[str]:
    """Yield every imported module; `from models import text` gives both `models` and `models.text`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        if inside_functions:  # these imports are dependencies, although nothing is loaded
            yield from (name for inner in node.body for name in imports(inner))
    elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for inner in ast.iter_child_nodes(node):
            yield from imports(inner, inside_functions=inside_functions)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(ast.parse(path.read_text("utf-8")))}


def where(library: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in files() if library in tops(path)}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_ours(name: str) -> bool:
    base = ROOT.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def part_of(module: str) -> str:
    return max((part for part in MAY_IMPORT if f"{module}.".startswith(f"{part}.")), key=len)


GRAPH = {
    module_of(path): {name for name in imports(ast.parse(path.read_text("utf-8"))) if is_ours(name)}
    for path in files()
}
"""Each module of this project, with the modules of this project that it imports."""


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_nothing_imports_from_above(part: str) -> None:
    allowed = MAY_IMPORT[part] | {part}
    if "models.*" in allowed:
        allowed |= {other for other in MAY_IMPORT if other.startswith("models.")}
    for module, imported in GRAPH.items():
        if part_of(module) == part:
            empty = {name for name in imported if (ROOT.joinpath(*name.split(".")) / "__init__.py").is_file()}
            assert {part_of(name) for name in imported - empty} <= allowed, module


def test_no_module_imports_itself_through_others() -> None:
    known: dict[str, set[str]] = {}

    def reached(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " > ".join((*way, module))
        if module not in known:
            known[module] = GRAPH[module] - {module}
            for other in known[module]:
                reached(other, (*way, module))

    for module in GRAPH:
        reached(module, ())


def test_a_stage_borrows_nothing_from_another_one() -> None:
    """Code that several stages need is in corpus/, models/ or tasks/store; the gate is the only exception."""
    stages = {module_of(path) for path in (ROOT / "tasks").glob("*.py")} - {"tasks"}
    borrowed = {(stage, other) for stage in stages for other in GRAPH[stage] & stages - {stage}}
    assert borrowed == {("tasks.plan", "tasks.gate"), ("tasks.register", "tasks.gate")}


def test_the_packages_themselves_load_nothing() -> None:
    """Only the package flows has code in its __init__.py: it sets the environment before Prefect reads it."""
    for path in files():
        if path.name == "__init__.py" and path.parent.name != "flows":
            assert path.read_text() == "", path


def test_no_folder_of_the_code_is_too_full_to_read() -> None:
    for folder in {path.parent for path in files()} - {ROOT}:
        assert len(list(folder.glob("*.py"))) <= 20, folder


def test_prefect_is_only_in_flows_tasks_and_deployments() -> None:
    assert {Path(name).parts[0] for name in where("prefect")} <= {"flows", "tasks", "deployments", "cli"}


def test_mlflow_has_one_door() -> None:
    assert {name for name in where("mlflow") if not name.startswith(MLFLOW_DOOR)} == set()


def test_the_command_line_loads_nothing_heavy_before_a_verb_needs_it() -> None:
    waiting, seen = {"cli.app"}, set[str]()
    while waiting:
        name = waiting.pop()
        base = ROOT.joinpath(*name.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        seen.add(name)
        if is_ours(name) and path.is_file():
            tree = ast.parse(path.read_text("utf-8"))
            waiting |= set(imports(tree, inside_functions=False)) - seen
    assert not {name.partition(".")[0] for name in seen} & HEAVY


def test_a_run_that_reuses_everything_loads_no_torch() -> None:
    """Such a run ends within seconds; importing torch and transformers would add four seconds."""
    heavy = "', '".join(("torch", "transformers", "pandas", "mlflow"))
    program = f"import sys, cli.run; sys.exit(str({{'{heavy}'}} & sys.modules.keys() or ''))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("verb", ["run", "prepare", "plan"])
def test_an_unknown_recipe_is_refused_before_prefect_is_imported(verb: str) -> None:
    """Importing Prefect takes two seconds, and a typing error can be reported at once."""
    program = (
        "import sys; from cli.app import app; from models.errors import InputError\n"
        f"try: app(['{verb}', '--recipe', 'smal'], standalone_mode=False)\n"
        "except InputError as error: sys.exit(f\"{error}; {'prefect' in sys.modules}\")"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "there is no recipe 'smal'" in done.stderr
    assert done.stderr.endswith("; False\n")


def test_a_flow_file_is_named_like_nothing_else() -> None:
    """Prefect's loader puts flows/ first on sys.path, so `import json` would find a file flows/json.py."""
    flows = ROOT / "flows"
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != flows]
    for stem in {path.stem for path in flows.glob("*.py")} - {"__init__"}:
        assert stem not in sys.stdlib_module_names
        assert importlib.machinery.PathFinder.find_spec(stem, elsewhere) is None, stem


def test_no_folder_of_tests_is_a_package() -> None:
    """A tests/tasks/__init__.py would make `import tasks` find the tests."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_settings_are_read_where_a_flow_a_hook_or_a_verb_begins() -> None:
    """All other code gets the values of the settings that it needs as arguments."""
    readers = {
        str(path.relative_to(ROOT))
        for path in files()
        if any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Settings"
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    }
    below = {name for name in readers if name.partition("/")[0] not in ("cli", "deployments", "benchmarks")}
    hooks = {f"flows/lifecycle/{name}.py" for name in ("names", "publish", "webhook")}
    assert below == {"flows/retrain.py", "flows/prepare.py", "flows/reevaluate.py"} | hooks
