"""The size of a folder, and the text that shows a size."""

import tempfile
import threading
from pathlib import Path

import pytest

from deployments.disk import size_text, used_bytes


def test_the_disk_is_counted_while_files_vanish(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            for number in range(20):
                (folder / str(number)).touch()
            for number in range(20):
                (folder / str(number)).unlink()
            folder.rmdir()

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert {used_bytes(tmp_path) for _ in range(300)} == {5}
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 kB"), (65_012_345, "65.0 MB"), (79_310_000_000, "79.3 GB")]
)
def test_a_size_is_in_a_unit_that_tells_it(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
