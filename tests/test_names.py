"""Tests of names: a name must say what it stands for, so words that can mean anything are refused."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from models.registry import tags

ROOT = Path(__file__).resolve().parent.parent
VAGUE = {
    "told",
    "made",
    "begun",
    "kept",
    "asked",
    "seen",
    "plain",
    "look",
    "looks",
    "place",
    "places",
    "here",
}
CODE = (
    "benchmarks",
    "corpus",
    "models",
    "flows",
    "tasks",
    "deployments",
    "chat",
    "cli",
    "console.py",
    "environment.py",
    "services_state.py",
    "settings.py",
)
TAG = re.compile(
    r"\brepartee\.(?!json\b|(data|champion|corpus)\.)"
)  # except the names of events and of their resources, which are not tags
FILES = sorted(
    path for name in CODE for path in [*(ROOT / name).rglob("*.py"), ROOT / name] if path.is_file()
)


def texts_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_name_of_a_tag_is_written_once() -> None:
    names = {value for key, value in vars(tags).items() if key.isupper()}
    for path in FILES:
        assert path == Path(tags.__file__) or not names & texts_of(path), path


def test_no_name_of_a_tag_is_composed() -> None:
    """A text search for a tag's full name would not find a composed name such as `f"repartee.{name}"`."""
    for path in FILES:
        is_held = path.relative_to(ROOT).parts[0] in ("models", "chat", "cli", "deployments")
        if is_held and path != Path(tags.__file__):
            assert not {text for text in texts_of(path) if TAG.search(text)}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_word_that_can_mean_anything(path: Path) -> None:
    """For example, `told` once named a status, a message, standard output and a dictionary of counts."""
    names = {
        token.string: f"{path.relative_to(ROOT)}:{token.start[0]}"
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
        if token.type == tokenize.NAME and VAGUE & set(token.string.strip("_").lower().split("_"))
    }
    assert names == {}
