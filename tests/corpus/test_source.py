import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import source
from corpus.layout import MEMBERS
from corpus.source import resolve
from models.errors import InputError


def identity(given: source.Source, folder: Path = Path("/nowhere")) -> str:
    return source.identity(given, folder)


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
STAND_IN = Path(__file__).parents[3] / "shared" / "data" / "cornell-standin.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my corpus"
    path.mkdir()
    for name in MEMBERS:
        (path / name).write_text(name)
    return path


@pytest.fixture
def archive(tmp_path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "mine.v2.zip", "w") as packed:
        for name in MEMBERS:
            packed.write(folder / name, f"any folder/{name}")
    return tmp_path / "mine.v2.zip"


def refusal(corpus: str | Path) -> str:
    with pytest.raises(InputError) as error:
        resolve(str(corpus))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cornell_is_the_official_archive_with_pinned_content() -> None:
    source = resolve("cornell")
    assert (source.kind, source.name) == ("http", "cornell")
    assert source.locations[0] == "http://www.cs.cornell.edu/~cristian/data/cornell_movie_dialogs_corpus.zip"
    assert source.pins["movie_lines.txt"] == "66ea02a571e1c98f42bc216ccac6e29ccb406abe"
    assert source.pins["movie_conversations.txt"] == "da1255f6ff989da0d658563cc17182ef31250b33"
    assert set(MEMBERS) <= set(source.pins)


def test_sample_has_no_location_and_no_identity() -> None:
    source = resolve("sample")
    assert (source.kind, source.locations, identity(source)) == ("sample", (), "")


def test_a_folder_and_a_zip_are_local(folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (resolve(str(folder)).kind, resolve(str(folder)).name) == ("local", "my corpus")
    assert resolve(str(archive)).name == "mine.v2"
    monkeypatch.setenv("HOME", str(archive.parent))
    assert resolve("~/mine.v2.zip").locations == (str(archive.resolve()),)
    monkeypatch.chdir(folder)
    assert resolve(".").name == "my corpus"


def test_a_folder_called_cornell_is_only_meant_by_its_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename("cornell")
    assert resolve("cornell").kind == "http"
    assert resolve("./cornell").kind == "local"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/data/movie-corpus.zip", "movie-corpus"),
        ("HTTP://example.org/a%20b.zip", "a-b"),
        ("https://example.org", "example.org"),
        ("https://example.org/..%2f..%2fetc", "etc"),
        ("http://[::1]:8000/", "1"),
    ],
)
def test_an_address_has_a_name_that_is_safe_as_a_file(url: str, name: str) -> None:
    source = resolve(url)
    assert (source.kind, source.name, source.locations) == ("http", name, (url,))
    assert not source.pins


@pytest.mark.parametrize("wrong", ["cornel", "Cornell", "CORNELL", "cornnell", "Sample", "samples"])
def test_a_misspelt_name_gets_the_right_one_as_a_hint(wrong: str) -> None:
    right = "sample" if wrong.lower().startswith("s") else "cornell"
    assert refusal(wrong).endswith(f"there is no such corpus: did you mean '{right}'?")


@pytest.mark.parametrize(
    "wrong",
    [
        "user:s3cr3t@host/x.zip",
        "htps://me:s3cr3t@h/x.zip?t=s3cr3t",
        "host/x.zip?token=s3cr3t",
        "http:x?s3cr3t",
    ],
)
def test_an_error_shows_nothing_of_an_address_that_may_be_secret(wrong: str) -> None:
    assert "s3cr3t" not in refusal(wrong)


@pytest.mark.parametrize("wrong", ["", "  ", "reddit"])
def test_an_unknown_name_is_refused_with_the_forms_of_a_corpus(wrong: str) -> None:
    assert "give cornell, sample, the path of a file or folder, or an http(s) address" in refusal(wrong)


@pytest.mark.parametrize("wrong", ["nowhere/x.zip", "x.zip", "~nosuchuser/x", "/no/such", "C:\\corpus"])
def test_a_path_that_does_not_exist_is_refused(wrong: str) -> None:
    assert "there is no such file or folder" in refusal(wrong)


@pytest.mark.parametrize("wrong", ["ftp://host/x.zip", "file:///etc/passwd", "az://bucket/x", "file:x"])
def test_other_schemes_are_not_supported(wrong: str) -> None:
    assert f"{wrong.split(':')[0]}: addresses are not supported" in refusal(wrong)


@pytest.mark.parametrize(
    "wrong", ["http://", "https:///x.zip", "http://host:port/x", "http://[::1", "http:x"]
)
def test_an_address_without_a_host_is_refused_with_the_right_form(wrong: str) -> None:
    assert "give http(s)://HOST/FILE" in refusal(wrong)


def test_a_file_that_is_no_corpus_is_refused_with_what_it_is(tmp_path: Path) -> None:
    page = tmp_path / "corpus.zip"
    page.write_text("<!DOCTYPE html><title>Moved</title>")
    assert "corpus.zip: got HTML, not a zip" in refusal(page)
    page.write_text("L1 +++$+++ u0")
    assert "corpus.zip is not a zip" in refusal(page)
    with zipfile.ZipFile(page, "w") as packed:
        packed.writestr("data/README.md", "Some dialogues.")
        packed.writestr("data/picture.png", PICTURE)
    assert "corpus.zip holds README.md, picture.png, but no conversations" in refusal(page)
    (tmp_path / "page").write_text("<!DOCTYPE html><title>Moved</title>")
    assert "page is HTML, not a corpus" in refusal(tmp_path / "page")
    (tmp_path / "picture").write_bytes(PICTURE)
    assert "picture is neither text nor Parquet nor a zip" in refusal(tmp_path / "picture")
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "page")
    assert "corpus.tar.gz is a tar archive: unpack it and give the folder" in refusal(
        tmp_path / "corpus.tar.gz"
    )


def test_one_of_the_two_files_is_refused_and_its_folder_is_asked_for(folder: Path) -> None:
    message = "is one of two files: give the folder with movie_lines.txt and movie_conversations.txt"
    assert message in refusal(folder / "movie_lines.txt")


def test_a_file_of_conversations_is_a_corpus_and_its_name_is_part_of_its_identity(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text('{"messages": []}')
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"messages": []}')
    assert (resolve(str(tmp_path / "chat.jsonl")).kind, resolve(str(tmp_path / "in")).name) == ("local", "in")
    before = identity(resolve(str(tmp_path / "in")))
    (tmp_path / "in" / "a.jsonl").rename(tmp_path / "in" / "b.jsonl")
    assert identity(resolve(str(tmp_path / "in"))) != before


def test_a_folder_that_is_no_corpus_is_refused_with_what_it_holds(folder: Path) -> None:
    (folder / "movie_lines.txt").unlink()
    assert "holds movie_conversations.txt, but no movie_lines.txt" in refusal(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_is_no_corpus(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe")


@given(st.text(max_size=40))
def test_any_text_is_a_source_or_one_line(corpus: str) -> None:
    try:
        assert resolve(corpus).kind in ("sample", "local", "http")
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def test_identity_follows_the_content(folder: Path, archive: Path) -> None:
    before = identity(resolve(str(folder))), identity(resolve(str(archive)))
    assert before == (identity(resolve(str(folder))), identity(resolve(str(archive))))
    assert before[0] != before[1]
    (folder / "README.txt").write_text("no part of the corpus")
    assert identity(resolve(str(folder))) == before[0]
    (folder / MEMBERS[1]).write_text("other")
    assert identity(resolve(str(folder))) != before[0]
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("x", "y")
    assert identity(resolve(str(archive))) != before[1]


def test_a_pinned_identity_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source, "request_headers", lambda _: pytest.fail("used the network"))
    assert identity(resolve("cornell"), tmp_path).startswith("pins:")


def test_importing_the_sources_loads_no_prefect_torch_or_mlflow() -> None:
    heavy = "{'prefect', 'torch', 'mlflow'}"
    code = f"import sys, corpus.source; sys.exit(bool({heavy} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.skipif(not STAND_IN.exists(), reason=f"{STAND_IN} does not exist")
def test_the_stand_in_is_a_corpus() -> None:
    source = resolve(str(STAND_IN))
    assert (source.kind, source.name) == ("local", "cornell-standin")
    assert identity(source).startswith("files:")
