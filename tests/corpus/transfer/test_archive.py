import hashlib
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.transfer.archive import check_members, paths_in
from corpus.transfer.limits import UnpackLimits
from corpus.transfer.unpacking import unpack
from models.errors import InputError

LINES, CONVERSATIONS = MEMBERS = ("movie_lines.txt", "movie_conversations.txt")
TEXT = {
    LINES: b"L1 +++$+++ u0 +++$+++ m0 +++$+++ A +++$+++ Hi.\n" * 40,
    CONVERSATIONS: b"u0 +++$+++ ['L1']\n",
}
STAND_IN = Path(__file__).parents[4] / "shared" / "data" / "cornell-standin.zip"

Entry = tuple[str | zipfile.ZipInfo, bytes]


def make_zip(path: Path, entries: list[Entry], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content, method)
    return path


def good_entries(folder: str = "cornell movie-dialogs corpus/") -> list[Entry]:
    return [(folder + name, content) for name, content in TEXT.items()]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def refused(
    source: Path, out: Path, limits: UnpackLimits | None = None, pins: dict[str, str] | None = None
) -> str:
    """The error message of `unpack`, after checks that it is one line and that no unchecked file is left."""
    out.mkdir(exist_ok=True)
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(InputError) as error:
        unpack(source, MEMBERS, out, pins=pins or {}, limits=limits)
    new = set(out.parent.rglob("*")) - set(before)
    assert {path.name for path in new} <= {LINES}, "only a member that passed all checks may be written"
    assert "\n" not in str(error.value)
    assert source.name in str(error.value)
    return str(error.value)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "in" / "out").mkdir(parents=True)
    return tmp_path / "in" / "out"


def test_only_the_members_are_unpacked(tmp_path: Path, out: Path) -> None:
    extra: list[Entry] = [
        ("__MACOSX/cornell movie-dialogs corpus/movie_lines.txt", b"a resource fork"),
        ("cornell movie-dialogs corpus/.DS_Store", b"x"),
        ("../../evil.txt", b"x"),
        ("/etc/evil.txt", b"x"),
    ]
    archive = make_zip(tmp_path / "c.zip", extra + good_entries())
    digests = unpack(archive, MEMBERS, out, pins={name: blob_id(text) for name, text in TEXT.items()})
    assert digests == {name: hashlib.sha256(text).hexdigest() for name, text in TEXT.items()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == TEXT
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("prefix", ["", "a/b/c/", "windows\\folder\\", "Ünïcode/", "./"])
def test_the_members_may_be_in_any_folder_of_the_archive(tmp_path: Path, out: Path, prefix: str) -> None:
    unpack(make_zip(tmp_path / "c.zip", good_entries(prefix)), MEMBERS, out, pins={})
    assert (out / LINES).read_bytes() == TEXT[LINES]


@pytest.mark.parametrize("prefix", ["../", "/", "a/../../", "C:/", "C:\\", "..\\", "\\\\host\\"])
def test_a_path_that_leads_outside_is_not_read(tmp_path: Path, out: Path, prefix: str) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries(prefix))
    assert "a path that leads outside" in refused(archive, out)


def test_a_link_is_not_read(tmp_path: Path, out: Path) -> None:
    link = zipfile.ZipInfo(LINES)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive = make_zip(tmp_path / "c.zip", [(link, b"/etc/passwd"), (CONVERSATIONS, b"x")])
    assert "only as a symbolic link" in refused(archive, out)


def test_a_name_with_a_nul_is_not_read(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", [(LINES + "XYZ", b"x"), (CONVERSATIONS, b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"movie_lines.txtXYZ", b"movie_lines.txt\0YZ"))
    assert "no movie_lines.txt" in refused(archive, out)


def test_two_candidates_are_an_error_that_names_both(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries("a/") + good_entries("b/"))
    assert "movie_lines.txt 2 times (a/movie_lines.txt, b/movie_lines.txt)" in refused(archive, out)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_an_error(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", [(LINES, b"one"), *good_entries("")])
    assert "2 times" in refused(archive, out)


def test_an_archive_without_the_members_is_refused_with_what_it_holds(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", [(f"x/{c}.json\n", b"") for c in "abcd"])
    message = refused(archive, out)
    assert "holds a.json\\n, b.json\\n, c.json\\n and 1 more, but no movie_lines.txt" in message
    assert "holds no files" in refused(make_zip(tmp_path / "e.zip", []), out)


def test_an_encrypted_member_is_refused(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries(""))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "movie_lines.txt is encrypted" in refused(archive, out)


def test_rare_compression_methods_are_refused(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries(), zipfile.ZIP_BZIP2)
    assert "is not deflate-compressed" in refused(archive, out)


def test_stored_members_are_read(tmp_path: Path, out: Path) -> None:
    unpack(make_zip(tmp_path / "c.zip", good_entries(), zipfile.ZIP_STORED), MEMBERS, out, pins={})
    assert (out / CONVERSATIONS).read_bytes() == TEXT[CONVERSATIONS]


def test_another_content_than_pinned_is_refused_with_both_hashes(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries())
    message = refused(archive, out, pins={CONVERSATIONS: "0" * 40})
    assert "0" * 40 in message
    assert blob_id(TEXT[CONVERSATIONS]) in message
    assert not (out / CONVERSATIONS).exists()


def test_a_flipped_byte_is_found_by_its_crc(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries(), zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"Hi.", b"Ho.", 1))
    assert "is damaged (Bad CRC-32" in refused(archive, out)


def test_a_cut_zip_is_called_damaged(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries())
    archive.write_bytes(archive.read_bytes()[:-40])
    assert "c.zip is a damaged or truncated zip" in refused(archive, out)


@pytest.mark.parametrize("page", [b"<html>404", b"\xef\xbb\xbf\n <!DOCTYPE html>"])
def test_a_web_page_is_refused_as_html(tmp_path: Path, out: Path, page: bytes) -> None:
    (tmp_path / "c.zip").write_bytes(page)
    assert "got HTML, not a zip" in refused(tmp_path / "c.zip", out)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b\x08 a tarball"])
def test_another_file_is_no_zip(tmp_path: Path, out: Path, content: bytes) -> None:
    (tmp_path / "c.zip").write_bytes(content)
    assert "c.zip is not a zip" in refused(tmp_path / "c.zip", out)


def refused_cheaply(archive: Path, out: Path) -> str:
    """The error message of `unpack`, after checks that it took little memory and little processor time."""
    tracemalloc.start()
    started_s = time.process_time()
    try:
        message = refused(archive, out)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started_s < 1
    assert peak_bytes < 50e6
    return message


def forge_size(archive: Path, size: int) -> None:
    """Make both headers of the first entry declare that the entry unpacks to `size` bytes."""
    data = bytearray(archive.read_bytes())
    data[22:26] = data[data.index(b"PK\x01\x02") + 24 :][:4] = struct.pack("<I", size)
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", size)
    archive.write_bytes(data)


def test_a_member_that_unpacks_a_thousandfold_is_stopped(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", [(LINES, b"\0" * 60_000_000), (CONVERSATIONS, b"x")])
    assert archive.stat().st_size < 62_000
    assert "ratio=200" in refused_cheaply(archive, out)


def test_a_forged_size_does_not_help_a_bomb(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", [(LINES, b"\0" * 60_000_000), (CONVERSATIONS, b"x")])
    forge_size(archive, 5_000_000)
    assert "is damaged" in refused_cheaply(archive, out)


def test_entries_that_share_bytes_are_refused(tmp_path: Path, out: Path) -> None:
    """The archive has only 60 kB, but its 1,000 entries share one stream and declare 10 GB in total."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = packer.compress(b"\0" * 10_000_000) + packer.flush()
    crc = zlib.crc32(b"\0" * 10_000_000)
    name = LINES.encode()
    sizes = struct.pack("<IIIH", crc, len(kernel), 10_000_000, len(name))
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + b"\0\0" + name + kernel
    central = b""
    for i in range(1000):
        other = name if i == 0 else CONVERSATIONS.encode() if i == 1 else b"%015d" % i
        sizes = struct.pack("<IIIH", crc, len(kernel), 10_000_000, len(other))
        central += b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + sizes + b"\0" * 16 + other
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1000, 1000, len(central), len(local), 0)
    (tmp_path / "c.zip").write_bytes(local + central + end)
    assert zipfile.ZipFile(tmp_path / "c.zip").infolist()[999].file_size == 10_000_000
    assert "overlap" in refused_cheaply(tmp_path / "c.zip", out)


def test_a_hundred_thousand_entries_are_refused(tmp_path: Path, out: Path) -> None:
    entry = b"PK\x01\x02" + b"\0" * 24 + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"x"
    central = entry * 100_000
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 34464, 34464, len(central), 0, 0)
    (tmp_path / "c.zip").write_bytes(central + end)
    assert "directory_bytes=2097152" in refused_cheaply(tmp_path / "c.zip", out)


def test_an_exceeded_limit_is_named_with_its_value(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "c.zip", good_entries())
    assert "member_bytes=99" in refused(archive, out, UnpackLimits(member_bytes=99))
    most = sum(map(len, TEXT.values())) - 1
    assert f"total_bytes={most}" in refused(archive, out, UnpackLimits(total_bytes=most))
    assert "2 entries, more than entries=1" in refused(archive, out, UnpackLimits(entries=1))


@given(data=st.data())
def test_damage_anywhere_is_one_line_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    archive = make_zip(folder / "c.zip", good_entries())
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    (folder / "out").mkdir()
    try:
        unpack(archive, MEMBERS, folder / "out", pins={})
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == TEXT


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    for name, content in TEXT.items():
        (path / name).write_bytes(content)
    return path


def test_a_folder_is_copied_with_the_same_checks(tmp_path: Path, out: Path) -> None:
    folder = folder_of(tmp_path / "unpacked" / "cornell movie-dialogs corpus")
    for source in (folder, folder.parent):
        unpack(source, MEMBERS, out, pins={LINES: blob_id(TEXT[LINES])})
        assert (out / LINES).read_bytes() == TEXT[LINES]
    with pytest.raises(InputError, match="not the official file"):
        unpack(folder, MEMBERS, out, pins={LINES: "0" * 40})
    with pytest.raises(InputError, match="member_bytes=9"):
        unpack(folder, MEMBERS, out, pins={}, limits=UnpackLimits(member_bytes=9))


def test_a_file_in_the_folder_itself_is_preferred_to_one_in_a_folder_inside_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c")
    folder_of(folder / "old")
    folder_of(folder / "__MACOSX")
    assert paths_in(folder, MEMBERS) == [folder / LINES, folder / CONVERSATIONS]
    for name in MEMBERS:
        (folder / name).unlink()
    folder_of(folder / "new")
    with pytest.raises(InputError, match=r"holds movie_lines\.txt in new, old: give one of these"):
        check_members(folder, MEMBERS)


def test_a_folder_without_the_members_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no files: give a zip or folder with movie_lines\.txt"):
        check_members(tmp_path, MEMBERS)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="the system has no file with a false size")
def test_the_limits_hold_for_the_bytes_and_not_for_the_declared_size(tmp_path: Path, out: Path) -> None:
    folder = folder_of(tmp_path / "c")
    (folder / LINES).unlink()
    (folder / LINES).symlink_to("/proc/version")  # the system reports its size as 0
    with pytest.raises(InputError, match=r"holds \d+ bytes, not 0"):
        unpack(folder, MEMBERS, out, pins={})
    with pytest.raises(InputError, match="member_bytes=9"):
        unpack(folder, MEMBERS, out, pins={}, limits=UnpackLimits(member_bytes=9))
    assert not list(out.iterdir())


def test_a_nested_archive_is_not_opened(tmp_path: Path, out: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(LINES, b"x")
    assert "holds inner.zip, but no" in refused(
        make_zip(tmp_path / "c.zip", [("inner.zip", inner.getvalue())]), out
    )


@pytest.mark.skipif(not STAND_IN.exists(), reason=f"{STAND_IN} does not exist")
def test_the_stand_in_is_unpacked_completely(out: Path) -> None:
    unpack(STAND_IN, MEMBERS, out, pins={})
    assert (out / LINES).stat().st_size == 30_119_958
    assert (out / CONVERSATIONS).stat().st_size == 8_353_091
