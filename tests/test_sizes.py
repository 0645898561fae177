"""Tests of sizes: a file has one subject, and a function fits on a screen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 45
PACKAGES = ("benchmarks", "chat", "cli", "corpus", "deployments", "flows", "models", "tasks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_or_a_function_is_long_only_for_a_reason(path: Path) -> None:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    if len(text.splitlines()) > MAX_FILE_LINES:
        assert "The file is long because" in " ".join((ast.get_docstring(tree) or "").split())
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    }
    assert long == {}
