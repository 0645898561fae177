import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from shouting import Knobs, shout

from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run
from models.files import sha256
from settings import Settings
from tasks.plan import plan_chain
from tasks.store.artifact import SAME, CorruptArtifact, check_home, find, verify
from tasks.store.stage import Stage

ROOT = Path(__file__).resolve().parents[3]


def context_of(home):
    settings = {"quiet": Knobs(), "loud": Knobs()}
    return replace(describe_run(RetrainConfig(), Settings()), home=home, settings=settings)


def wait_for(happens):
    deadline_s = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


QUIET, LOUD = Stage("quiet", shout), Stage("loud", shout, reads=("quiet",))


def test_an_output_is_made_once_and_then_found(tmp_path):
    first = QUIET.run(tmp_path, Knobs(), {})
    again = QUIET.run(tmp_path, Knobs(), {})
    assert (first.status, again.status) == ("ran", "reused")
    assert (first.digest, first.path, first.rows) == (again.digest, again.path, again.rows)
    assert (first.path / "text.txt").read_text() == "aa"


def test_another_setting_is_another_output_and_the_reason_names_it(tmp_path):
    QUIET.run(tmp_path, Knobs(), {})
    other = QUIET.run(tmp_path, Knobs(times=3), {})
    assert other.status == "ran"
    assert other.why == "times changed from 2 to 3"


def test_equal_bytes_from_upstream_are_reused_downstream(tmp_path):
    """If a stage runs again and produces the same bytes, the stages after it are reused."""
    first = LOUD.run(tmp_path, Knobs(), {"quiet": QUIET.run(tmp_path, Knobs(times=4), {})})
    second = LOUD.run(tmp_path, Knobs(), {"quiet": QUIET.run(tmp_path, Knobs(times=2, word="aa"), {})})
    assert second.status == "reused"
    assert first.path == second.path


def test_new_bytes_from_upstream_run_what_reads_them(tmp_path):
    LOUD.run(tmp_path, Knobs(), {"quiet": QUIET.run(tmp_path, Knobs(), {})})
    made = LOUD.run(tmp_path, Knobs(), {"quiet": QUIET.run(tmp_path, Knobs(word="b"), {})})
    assert (made.status, made.why) == ("ran", "the output of quiet changed")


def test_logs_do_not_change_the_digest(tmp_path):
    first = QUIET.run(tmp_path / "one", Knobs(), {})
    second = QUIET.run(tmp_path / "two", Knobs(), {})
    assert (first.path / "logs" / "when.txt").read_text() != (second.path / "logs" / "when.txt").read_text()
    assert first.digest == second.digest


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove", "manifest"])
def test_a_damaged_output_is_named_and_made_again_alone(tmp_path, damage, caplog):
    quiet = QUIET.run(tmp_path, Knobs(), {})
    loud = LOUD.run(tmp_path, Knobs(), {"quiet": quiet})
    path = quiet.path / "text.txt"
    if damage == "flip":
        path.write_text("ab")
    elif damage == "shorten":
        path.write_text("a")
    elif damage == "remove":
        path.unlink()
    else:
        path = quiet.path / "manifest.json"
        path.write_text("{")
    with pytest.raises(CorruptArtifact, match=path.name):
        verify(quiet.path)
    rebuilt = QUIET.run(tmp_path, Knobs(), {})
    assert (rebuilt.status, rebuilt.digest) == ("ran", quiet.digest)
    assert path.name in caplog.text and path.name in rebuilt.why
    assert LOUD.run(tmp_path, Knobs(), {"quiet": rebuilt}).path == loud.path


def test_a_stage_that_fails_leaves_nothing_half_made(tmp_path):
    with pytest.raises(RuntimeError, match="in the middle"):
        QUIET.run(tmp_path, Knobs(), {}, context={"fail": True})
    assert not list((tmp_path / "store" / "quiet").iterdir())


BUILD = """
import sys
from pathlib import Path

sys.path.append("tests/support")

from shouting import Knobs, shout
from tasks.store.stage import Stage

made = Stage("quiet", shout).run(Path(sys.argv[1]), Knobs(), {}, context={"held": True})
print(made.status, flush=True)
"""


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.fixture
def builder(tmp_path, pool):
    """Another process that is building the output of the stage `quiet`; it ends before the threads that wait for it."""
    words = [sys.executable, "-c", BUILD, str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "building\n"
    yield process
    process.kill()
    process.communicate()


def half_made(home):
    return list(home.glob("store/quiet/.tmp-*/out/text.txt"))


def test_what_a_living_run_builds_stays_and_what_a_dead_one_left_is_swept(builder, tmp_path):
    """The process number in a folder's name is not decisive, as several machines may share one home."""
    old = tmp_path / "store" / "quiet" / f".tmp-abc-{os.getpid()}-x"
    old.mkdir()
    check_home(tmp_path)
    assert half_made(tmp_path) and not old.exists()
    builder.kill()
    builder.wait()
    assert half_made(tmp_path)
    check_home(tmp_path)
    assert not list(tmp_path.glob("store/quiet/.tmp-*"))


def test_what_another_process_builds_is_waited_for_and_reused(pool, builder, tmp_path, caplog):
    caplog.set_level("INFO")
    waiting = pool.submit(QUIET.run, tmp_path, Knobs(), {})
    wait_for(lambda: "waiting for another process that is building this output" in caplog.text)
    assert not waiting.done()
    builder.stdin.write("\n")
    builder.stdin.flush()
    assert builder.stdout.readline() == "ran\n"
    assert waiting.result(timeout=60).status == "reused"


def test_a_builder_that_waits_takes_over_from_one_that_dies(pool, builder, tmp_path, caplog):
    caplog.set_level("INFO")
    waiting = pool.submit(QUIET.run, tmp_path, Knobs(), {})
    wait_for(lambda: "waiting for another process that is building this output" in caplog.text)
    builder.kill()
    assert waiting.result(timeout=60).status == "ran"
    assert not list(tmp_path.glob("store/quiet/.tmp-*"))


@pytest.fixture
def read(monkeypatch):
    """A list of the files whose bytes were read to compute their digests, in order."""
    files, digest = [], hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: files.append(file.name) or digest(file, name)
    )
    return files


def test_a_plan_and_the_run_after_it_read_each_file_of_an_output_once(tmp_path, monkeypatch, read):
    quiet = QUIET.run(tmp_path, Knobs(), {})
    loud = LOUD.run(tmp_path, Knobs(), {"quiet": quiet})
    run = context_of(tmp_path)
    monkeypatch.setattr("models.files.SETTLED_S", 0.0)
    read.clear()
    for _ in range(2):
        planned, found = plan_chain(run, [QUIET, LOUD])
        assert [stage.action for stage in planned] == ["reuse", "reuse"]
        again = QUIET.run(tmp_path, Knobs(), {})
        assert LOUD.run(tmp_path, Knobs(), {"quiet": again}).path == found["loud"].path == loud.path
    files = [path for stage in (quiet, loud) for path in stage.path.rglob("*.txt")]
    assert sorted(read) == sorted(map(str, files))


def test_an_output_is_read_once_in_a_process_and_again_when_it_changes(tmp_path, monkeypatch, read):
    made = QUIET.run(tmp_path, Knobs(), {})
    monkeypatch.setattr("models.files.SETTLED_S", 0.0)
    read.clear()
    verify(made.path)
    verify(made.path)
    assert len(read) == len(set(read)) == 2
    path = made.path / "text.txt"
    before = path.stat()
    path.write_text("ab")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the size and the time stay the same
    with pytest.raises(CorruptArtifact, match=r"text.txt has changed since it was written"):
        verify(made.path)


def test_a_file_that_changed_a_moment_ago_is_not_remembered(tmp_path):
    path = tmp_path / "x"
    for text in ("aa", "ab", "ba"):  # equal sizes, within one tick of the file system's clock
        path.write_text(text)
        assert sha256(path) == hashlib.sha256(text.encode()).hexdigest()


def made_with(home, library, version):
    """The output of the stage `quiet` as if it had been built with another version of a library."""
    folder = QUIET.run(home, Knobs(), {}).path
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["ingredients"]["libraries"][library] = version
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder.rename(folder.with_name("another"))


def test_another_version_of_a_library_is_the_reason_and_not_the_code(tmp_path):
    made_with(tmp_path, "Python", "3.9")
    reason = f"Python changed from 3.9 to {sys.version_info.major}.{sys.version_info.minor}"
    assert QUIET.why(tmp_path, Knobs(), {}) == reason
    assert QUIET.run(tmp_path, Knobs(), {}).why == reason


def test_another_version_of_a_library_makes_another_fingerprint(tmp_path):
    other = Stage("quiet", shout)
    assert QUIET.fingerprint(Knobs(), {}) == other.fingerprint(Knobs(), {})
    vars(other)["code"] = replace(QUIET.code, libraries={**QUIET.code.libraries, "Python": "3.9"})
    assert QUIET.fingerprint(Knobs(), {}) != other.fingerprint(Knobs(), {})


def test_an_output_of_before_the_versions_were_written_down_has_other_code(tmp_path):
    folder = made_with(tmp_path, "Python", "3.9")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["ingredients"]["libraries"]
    manifest["ingredients"]["code"] = "of a symbol"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert QUIET.why(tmp_path, Knobs(), {}) == "its code changed"


def test_the_manifest_says_what_the_output_was_made_of(tmp_path):
    made = LOUD.run(tmp_path, Knobs(), {"quiet": QUIET.run(tmp_path, Knobs(), {})})
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["rows"] == 2
    assert manifest["ingredients"]["config"] == {"times": 2, "word": "a"}
    assert set(manifest["ingredients"]["inputs"]) == {"quiet"}
    assert manifest["ingredients"]["code"] == LOUD.code.sha256
    assert manifest["ingredients"]["libraries"] == LOUD.code.libraries
    assert manifest["files"]["text.txt"]["bytes"] == 4
    assert manifest["libraries"]["pyarrow"]


def test_a_copied_home_serves_as_well(tmp_path):
    made = QUIET.run(tmp_path / "one", Knobs(), {})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = find(tmp_path / "two", "quiet", made.fingerprint)
    assert found is not None and found.digest == made.digest


def test_a_stage_that_has_never_run_says_so(tmp_path):
    assert QUIET.why(tmp_path, Knobs(), {}) == "no stored output yet"
    QUIET.run(tmp_path, Knobs(), {})
    assert QUIET.why(tmp_path, Knobs(), {}) == SAME
