"""Names say what they hold: a few words that can mean anything are no names here."""

import ast
import io
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
FILES = sorted(
    path for name in CODE for path in [*(ROOT / name).rglob("*.py"), ROOT / name] if path.is_file()
)


def test_the_name_of_a_tag_is_written_once() -> None:
    names = {value for key, value in vars(tags).items() if key.isupper()}
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert path == Path(tags.__file__) or not names & texts, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_word_that_can_mean_anything(path: Path) -> None:
    """`told` was a status, a message, standard output and a dictionary of counts."""
    names = {
        token.string: f"{path.relative_to(ROOT)}:{token.start[0]}"
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
        if token.type == tokenize.NAME and VAGUE & set(token.string.strip("_").lower().split("_"))
    }
    assert names == {}
