"""Data that differ too much from those accepted before end a run before anything is trained on them."""

import json
import random
import sqlite3
import subprocess

import pytest
from installation import command
from receiver import webhook

pytestmark = pytest.mark.flow


@pytest.fixture
def home(tmp_path, new_home):
    return new_home(tmp_path)


def write(path, *, replies):
    """A corpus of 300 conversations; half of the replies have at most so many words."""
    rng = random.Random(1)
    words = [f"word{i}" for i in range(200)]
    with path.open("w") as file:
        file.write("conversation,speaker,text\n")
        for i in range(300):
            question, answer = (" ".join(rng.choices(words, k=rng.randint(6, 12))) for _ in range(2))
            answer = " ".join(answer.split()[:replies]) if i % 2 else answer
            file.write(f"{i},ann,{question}\n{i},bob,{answer}\n")


def repartee(home, verb, corpus, *changes, **env):
    words = [f"--set={change}" for change in ("vocabulary.size=300", *changes)]
    line = command(home, verb, "--corpus", str(corpus), "--recipe", "quick", *words)
    return subprocess.run(**line | {"env": line["env"] | env}, capture_output=True, timeout=900)


def test_shifted_data_are_rejected_until_a_person_accepts_them(home):
    corpus = home / "talk.csv"
    write(corpus, replies=12)
    assert repartee(home, "prepare", corpus).returncode == 0
    write(corpus, replies=3)
    with webhook() as receiver:
        address = f"http://127.0.0.1:{receiver.server_port}/"
        rejected = repartee(home, "prepare", corpus, REPARTEE_NOTICE_URL=address)
    assert rejected.returncode == 2, rejected.stderr
    sentence = rejected.stderr.splitlines()[-1]
    assert sentence.startswith("repartee: talk: the data differ too much from the data that quick-talk #1")
    assert "in characters per turn: " in sentence and sentence.endswith("--set contract.accept=true")
    assert "warning: contract: characters per turn: " in rejected.stderr, "the difference is not logged"
    assert "vocabulary: running" not in rejected.stderr
    assert [(each["state"], each["outcome"]) for each in receiver.notices] == [("Failed", "data.rejected")]
    assert sentence.endswith(receiver.notices[0]["reason"])

    assert repartee(home, "run", corpus).returncode == 2, "a run trains on data that prepare rejects"
    assert not list((home / "store").glob("train/*"))
    accepted = repartee(home, "prepare", corpus, "contract.accept=true")
    assert accepted.returncode == 0, accepted.stderr
    assert "they are accepted" in accepted.stderr
    again = repartee(home, "prepare", corpus)
    assert again.returncode == 0 and "within the limits" in again.stderr
    assert "clean: reused" in again.stderr and "export: reused" in again.stderr, (
        "the setting runs stages again"
    )

    database = sqlite3.connect(home / "prefect" / "prefect.db")
    ends = database.execute("select message from flow_run_state where type = 'FAILED'").fetchall()
    assert [message for (message,) in ends] == [sentence.removeprefix("repartee: ")] * 2
    tables = database.execute("select data from artifact where key = 'repartee-contract'").fetchall()
    assert any(
        "| characters per turn |" in json.loads(data) and "**too large**" in data for (data,) in tables
    )
    kinds = database.execute("select count(*) from events where event = 'repartee.data.rejected'").fetchone()
    assert kinds == (2,)


def test_another_normalisation_is_compared_with_nothing(home):
    corpus = home / "talk.csv"
    write(corpus, replies=12)
    assert repartee(home, "prepare", corpus).returncode == 0
    write(corpus, replies=3)
    done = repartee(home, "prepare", corpus, "clean.normalisation=article")
    assert done.returncode == 0, done.stderr
    reason = "clean.normalisation changed from plain to article"
    assert f"the data are not compared with those accepted before: {reason}" in done.stderr
