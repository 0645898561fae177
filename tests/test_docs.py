"""The pages name no file that is not there, and no link of theirs leads nowhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE_BY_THE_READER = {"deployments/.env"}
OURS = "(?:benchmarks|chat|cli|corpus|deployments|docs|flows|models|tasks|tests)"
PATH = re.compile(rf"(?<![\w./-])(?:{OURS}/[\w./*-]*\w|{OURS}/(?=[\s`,.;:)]|$))", re.MULTILINE)
FILE = re.compile(r"`([a-z]\w*\.(?:py|toml|md))`")  # in the root of the project, or beside the page
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
PLACEHOLDER = re.compile("[A-Z]{3,}")  # tasks/VERB.py
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)


def test_the_architecture_names_the_files_of_each_package():
    named = set(PATH.findall((ROOT / "docs/architecture.md").read_text()))
    assert len(named) > 40
    for package in ("models", "corpus", "tasks", "flows", "chat", "cli"):
        assert any(path.startswith(f"{package}/") for path in named), package


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_path_that_a_page_names_exists(page):
    for path in PATH.findall((ROOT / page).read_text()):
        is_readme = path.endswith("README.md")
        if (is_readme or not PLACEHOLDER.search(path)) and path not in MADE_BY_THE_READER:
            assert list(ROOT.glob(path)), f"{page} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_without_its_folder_exists(page):
    for name in FILE.findall((ROOT / page).read_text()):
        assert (ROOT / name).exists() or (ROOT / page).with_name(name).exists(), f"{page} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in LINK.findall((ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
