"""`repartee reproduce` with real servers, processes and files: four retrainings in a row on growing data."""

import hashlib
import json
import signal
import subprocess

import pytest
from installation import PATIENCE_S, tiny_command, until

pytestmark = pytest.mark.flow

EXCHANGES = (("where is the {}?", "the {} is in the {}."), ("who has the {}?", "the {} is with the {}."))
NAMES = ("key", "lamp", "map", "boat", "letter", "garden", "cellar", "harbour", "tower", "attic")
LIMITED = "train.max_minutes=0.05"


def write_corpus(path, conversations):
    rows = []
    for number in range(conversations):
        ask, reply = EXCHANGES[number % 2]
        one, two = NAMES[number % 10], NAMES[number // 10 % 10]
        turns = [ask.format(one), reply.format(one, two), ask.format(two), reply.format(two, one)]
        turns = [f"{turn} {number}" for turn in turns]
        messages = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n")


def run(home, *changes, init="scratch", **env):
    options = ("--corpus", str(home / "corpus.jsonl"), "--init", init)
    given = tiny_command(home, "run", "vocabulary.size=300", "gate.promote=always", *changes, options=options)
    given["env"] |= env
    done = subprocess.run(**given, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def reproduce(home, version, status=0, **env):
    given = tiny_command(home, "reproduce")
    given["args"] = [*given["args"][:3], "reproduce", str(version), "--json"]
    given["env"] |= env
    done = subprocess.run(**given, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == status, done.stderr
    return {**(json.loads(done.stdout) if done.stdout else {}), "printed": done.stderr}


def content(home):
    """The digests of all files in a home, except locks and what SQLite writes when a database is read."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and "locks" not in path.parts and path.suffix not in (".db-shm", ".db-wal", ".lock")
    }


def status_of(result, name):
    return next(stage["status"] for stage in result["stages"] if stage["name"] == name)


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home, prefect):
    """Four versions: three of a corpus that grows, the third with a time limit, and a night."""
    home = new_home(tmp_path_factory.mktemp("home"))
    for version, (rows, changes, init) in enumerate(
        [(300, (), "scratch"), (360, (), "scratch"), (420, (LIMITED,), "scratch"), (420, (), "trunk")], 1
    ):
        write_corpus(home / "corpus.jsonl", rows)
        assert run(home, *changes, init=init, **prefect)["version"] == version
    return home


def test_the_second_of_four_retrainings_has_equal_weights_and_nothing_else_changes(home):
    before = content(home)
    result = reproduce(home, 2)
    assert (result["outcome"], result["stage"]) == ("equal", None)
    assert status_of(result, "download") == "from the store" and status_of(result, "train") == "equal"
    assert "train: " in result["printed"]
    assert content(home) == before


def test_so_has_a_night_that_went_on_from_a_trunk(home):
    assert reproduce(home, 4)["outcome"] == "equal"


def test_so_has_one_with_a_time_limit_whose_reproduction_was_killed_in_the_training(home):
    given = tiny_command(home, "reproduce")
    given["args"] = [*given["args"][:3], "reproduce", "3"]
    process = subprocess.Popen(**given, stderr=subprocess.PIPE, start_new_session=True)
    until(lambda: "train: running" in process.stderr.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    result = reproduce(home, 3)
    assert result["outcome"] == "equal" and "parse: reused" in result["printed"]
    assert not list((home / "reproductions").iterdir())


def test_other_threads_and_other_code_are_named_as_what_has_changed(home):
    [manifest] = [
        path
        for path in (home / "store" / "train").glob("*/manifest.json")
        if json.loads(path.read_text())["ingredients"]["config"]["train"]["max_minutes"]
    ]
    before = manifest.read_text()
    known = json.loads(before)
    known["ingredients"]["code"] = "0" * 64
    try:
        manifest.write_text(json.dumps(known))
        result = reproduce(home, 3)
        assert result["outcome"] == "equal"
        assert next(each for each in result["stages"] if each["name"] == "train")["changes"] == [
            "its code changed"
        ]
        result = reproduce(home, 3, status=1, OMP_NUM_THREADS="1")
    finally:
        manifest.write_text(before)
    assert (result["outcome"], result["stage"]) == ("differs", "train")
    assert result["changes"] == ["its code changed", "workers changed from 2 to 1"]
    assert status_of(result, "export") == "equal"


def test_what_is_not_in_the_store_any_more_is_one_line_with_a_remedy(home):
    (home / "trunks").rename(home / "moved")
    try:
        result = reproduce(home, 4, status=2)
    finally:
        (home / "moved").rename(home / "trunks")
    [line] = result["printed"].splitlines()
    assert line.startswith("repartee: repartee v4 cannot be reproduced: no chain in ")
    assert "`repartee run --recipe quick --set " in line and "trains a model with the same settings" in line
