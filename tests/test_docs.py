"""Tests of the documentation: each file that a page names exists, and each link has a valid target."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE_BY_THE_READER = {"deployments/.env"}
OURS = "(?:benchmarks|chat|cli|corpus|deployments|docs|flows|models|tasks|tests)"
PATH = re.compile(rf"(?<![\w./-])(?:{OURS}/[\w./*-]*\w|{OURS}/(?=[\s`,.;:)]|$))", re.MULTILINE)
FILE = re.compile(r"`([a-z]\w*\.(?:py|toml|md))`")  # a file in the project's root or beside the page
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


@pytest.mark.parametrize("page", ["README.md", "docs/log.md", "docs/glossary.md"])
def test_a_page_that_is_read_in_a_terminal_has_lines_of_110_columns_at_most(page):
    lines = (ROOT / page).read_text().splitlines()
    assert [line for line in lines if len(line) > 110] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_each_experiment_of_the_log_has_a_dated_heading_the_newest_first():
    headings = re.findall("^## (.*)$", (ROOT / "docs/log.md").read_text(), re.MULTILINE)
    dates = [re.match(r"\d{4}-\d\d-\d\d(?=: \S)", heading) for heading in headings]
    assert None not in dates
    found = [date.group() for date in dates if date]
    assert found == sorted(found, reverse=True)
