"""The end of a run is sent to the operator's webhook, and as an event to Prefect."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from installation import TINY
from receiver import webhook

ROOT = Path(__file__).resolve().parents[3]
# This script is a deployed run: it calls the flow with the values of a form.
RUN = """
import json, sys
from environment import quiet_environment
quiet_environment()
from flows.retrain import retrain
retrain(**json.loads(sys.argv[1]), return_state=True)
"""
pytestmark = pytest.mark.flow


@pytest.fixture
def receiver():
    with webhook() as server:
        yield server


@pytest.fixture
def home(tmp_path, new_home):
    """A home in which the run of TINY reuses its training."""
    return new_home(tmp_path, trained=True)


def run(home, url, prefect, **parameters):
    """Run the flow with this Prefect server and this webhook; return the seconds and the whole output."""
    env = {
        **os.environ,
        "REPARTEE_HOME": str(home),
        "REPARTEE_NOTICE_URL": url,
        **prefect,
        "PREFECT_LOGGING_LEVEL": "DEBUG",
    }
    asked = json.dumps({"recipe": "quick", **parameters})
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RUN, asked], cwd=ROOT, env=env, capture_output=True, text=True
    )
    return time.monotonic() - began_s, done.stdout + done.stderr


def secret(receiver):
    return f"http://127.0.0.1:{receiver.server_port}/services/s3cr3t"


def test_a_promotion_is_told_once_and_an_unchanged_run_is_not(receiver, prefect, home):
    run(home, secret(receiver), prefect, **TINY)
    _, said = run(home, secret(receiver), prefect, **TINY)
    assert "Unchanged" in said
    assert [(received["state"], received["outcome"]) for received in receiver.notices] == [
        ("Completed", "promoted")
    ]
    received = receiver.notices[0]
    assert received["text"].startswith("Repartee: quick-sample #1 ")
    assert received["text"].endswith(": Promoted: repartee v1 is the champion; there was no champion before")
    assert (received["line"], received["recipe"]) == ("repartee", "quick") and "/runs/flow-run/" in received[
        "url"
    ]
    assert "s3cr3t" not in said
    stored = [path for path in home.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert stored == []


def test_a_run_that_keeps_the_champion_is_told_only_if_the_operator_asks_for_it(
    receiver, prefect, home, monkeypatch
):
    run(home, "", prefect, **TINY)
    parameters = {**TINY, "seed": 5, "promote": "never"}
    run(home, secret(receiver), prefect, **parameters)
    assert receiver.notices == []
    monkeypatch.setenv("REPARTEE_NOTICE_REFUSED", "true")
    run(home, secret(receiver), prefect, **parameters | {"seed": 6})
    (received,) = receiver.notices
    assert received["outcome"] == "refused" and "champion v1 stays" in received["text"]


def test_a_corpus_that_is_refused_is_told_and_is_an_event(receiver, prefect, home):
    corpus = home / "bad"
    corpus.mkdir()
    for name in ("movie_lines.txt", "movie_conversations.txt"):
        (corpus / name).write_text("no separator here\n" * 50)
    _, said = run(home, secret(receiver), prefect, corpus=str(corpus))
    assert [received["state"] for received in receiver.notices] == ["Failed"], said
    assert "cannot be used" in receiver.notices[0]["reason"]
    assert receiver.notices[0]["corpus"] == str(corpus)
    events = events_of(prefect["PREFECT_API_URL"], "repartee.data.rejected")
    assert events[0]["resource"]["prefect.resource.id"] == "repartee.corpus.bad"
    assert "cannot be used" in events[0]["payload"]["reason"]


def events_of(address, name):
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{address}/csrf-token?client=test")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        headers |= {"Prefect-Csrf-Token": json.loads(answer.read())["token"], "Prefect-Csrf-Client": "test"}
    body = json.dumps({"filter": {"event": {"name": [name]}}}).encode()
    for _ in range(50):
        with urllib.request.urlopen(
            urllib.request.Request(f"{address}/events/filter", data=body, headers=headers), timeout=30
        ) as answer:
            if found := json.loads(answer.read())["events"]:
                return found
        time.sleep(0.2)
    raise AssertionError(f"no event {name}")


@pytest.mark.parametrize("gone", ["nobody listens", "it refuses"])
def test_a_receiver_that_fails_costs_seconds_and_leaves_a_warning(receiver, prefect, home, gone):
    receiver.status = 403
    url = secret(receiver) if gone == "it refuses" else "http://127.0.0.1:1/s3cr3t"
    elapsed_s, said = run(home, url, prefect, corpus="nowhere.zip")
    assert "the notice was" in said and "s3cr3t" not in said
    assert elapsed_s < 30
