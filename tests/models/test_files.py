"""A folder is put in its place completely or not at all."""

from pathlib import Path

from models.files import put_folder


def test_a_folder_takes_anothers_place_whole(tmp_path: Path) -> None:
    for name in ("made", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
    put_folder(tmp_path / "made", tmp_path / "final")
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["made.txt"]
    assert not (tmp_path / "made").exists()
