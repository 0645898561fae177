"""Tests that an error caused by a full disk is recognised, even if another library raises it."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import is_out_of_space

ROOT = Path(__file__).resolve().parents[2]
# In place of a full disk, a limit on the file size makes the write fail.
LIMITED = """
import resource, shutil, signal, sqlite3, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import pyarrow as pa, pyarrow.parquet as pq, torch, safetensors.torch
from tokenizers import Tokenizer, models
from models.errors import is_out_of_space

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

def full_database():
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE t (a)")
    database.execute("INSERT INTO t VALUES (?)", ["x" * 100_000])

for write in (
    lambda: safetensors.torch.save_file({"a": torch.zeros(1000)}, "weights"),
    lambda: Tokenizer(models.BPE()).save("tokenizer"),
    lambda: pq.write_table(pa.table({"a": list(range(10_000))}), "table"),
    lambda: Path("text").write_bytes(b"x" * 100_000),
    lambda: shutil.copytree(sys.argv[1] + "/tasks", "tasks"),
    full_database,
):
    try:
        write()
        print("no error")
    except Exception as error:
        print(is_out_of_space(error), type(error).__name__, error)
"""


def test_a_full_disk_is_known_whichever_library_meets_it(tmp_path: Path) -> None:
    words = [sys.executable, "-B", "-c", LIMITED, str(ROOT)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["True"] * 6, done.stdout + done.stderr


def test_a_full_disk_behind_another_error_is_known() -> None:
    with pytest.raises(RuntimeError) as wrapped:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("the upload failed") from error
    assert is_out_of_space(wrapped.value)
    assert not is_out_of_space(RuntimeError("os error 2")) and not is_out_of_space(OSError(2, "x"))
