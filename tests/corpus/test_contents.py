import io
import zipfile
from pathlib import Path

import pytest

from corpus.contents import check_contents, files_in, unpack_contents
from corpus.layout import FILES
from models.errors import InputError

CHAT = '{"messages": []}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them: data in several files, and other things beside them."""
    path = tmp_path / "in"
    (path / "more").mkdir(parents=True)
    (path / "chat.jsonl").write_text(CHAT)
    (path / "more" / "chat.jsonl").write_text(CHAT * 2)
    (path / "more" / "table.csv").write_text("question,answer\nWhen?,At six.\n")
    (path / "README.md").write_text("Some dialogues.")
    (path / ".hidden.jsonl").write_text(CHAT)
    (path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (path / "manifest.json").write_text("{}")
    return path


@pytest.fixture
def archive(tmp_path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        for file in folder.rglob("*"):
            packed.write(file, f"data set/{file.relative_to(folder)}")
    return tmp_path / "in.zip"


NAMES = ["chat.jsonl", "manifest.json", "more-chat.jsonl", "table.csv"]


def test_the_data_files_of_a_folder_are_copied_under_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert sorted(unpack_contents(folder, out, pins={})) == NAMES
    assert sorted(path.name for path in (out / FILES).iterdir()) == NAMES
    assert (out / FILES / "more-chat.jsonl").read_text() == CHAT * 2
    assert len(files_in(folder)) == 4


def test_a_zip_of_the_folder_gives_the_same_files(archive: Path, folder: Path, tmp_path: Path) -> None:
    digests = []
    for source in (archive, folder):
        out = tmp_path / f"out-{source.name}"
        out.mkdir()
        digests.append(sorted(unpack_contents(source, out, pins={}).values()))
    assert digests[0] == digests[1]


def test_a_single_file_is_stored_under_the_name_that_it_had_at_its_address(tmp_path: Path) -> None:
    (tmp_path / "copy-1a2b").write_text(CHAT)
    (tmp_path / "out").mkdir()
    unpack_contents(tmp_path / "copy-1a2b", tmp_path / "out", pins={}, name="chats of May.jsonl")
    assert [path.name for path in (tmp_path / "out" / FILES).iterdir()] == ["chats of May.jsonl"]


def test_no_path_of_an_archive_leads_out_of_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr("good.jsonl", CHAT)
        packed.writestr("../outside.jsonl", CHAT)
        packed.writestr("/absolute.jsonl", CHAT)
        packed.writestr("a\\..\\b.jsonl", CHAT)
    (tmp_path / "out").mkdir()
    assert list(unpack_contents(tmp_path / "evil.zip", tmp_path / "out", pins={})) == ["good.jsonl"]
    assert not list(tmp_path.rglob("*outside*"))


def test_a_pinned_archive_without_the_cornell_files_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"but no movie_lines\.txt"):
        unpack_contents(archive, tmp_path, pins={"movie_lines.txt": "0" * 40})


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("chat.jsonl", CHAT)
    data = bytearray(packed.getvalue())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"chat\.jsonl is encrypted"):
        check_contents(tmp_path / "secret.zip")


@pytest.mark.parametrize(
    "names", [("movie_lines.txt", "movie_conversations.txt"), ("MOVIE_LINES.TXT", "Movie_Conversations.txt")]
)
def test_the_two_cornell_files_are_taken_alone_whatever_the_case_of_their_names(
    folder: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (folder / name).write_text("text")
    (tmp_path / "out").mkdir()
    unpack_contents(folder, tmp_path / "out", pins={})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "movie_conversations.txt",
        "movie_lines.txt",
    ]


def test_a_long_name_in_another_script_is_shortened_by_bytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        packed.writestr("話" * 120 + ".jsonl", CHAT)
    (tmp_path / "out").mkdir()
    (name,) = unpack_contents(tmp_path / "in.zip", tmp_path / "out", pins={})
    assert name.endswith("話.jsonl")
    assert len(name.encode()) <= 200
