"""`repartee schedule`: schedules are checked when they are added, and they are the ones of the dashboard."""

import json
import subprocess

import pytest
from installation import ask, command, installed

from cli.terminal.tables import status_table
from deployments import schedules
from deployments.logs import lines_of_run
from deployments.status import status
from flows.recipes import configure
from models.errors import InputError

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def api(home):
    with installed(home) as api:
        yield api


@pytest.fixture(autouse=True)
def settings_of_home(api, home, monkeypatch):
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    monkeypatch.setenv("PREFECT_API_URL", api.base)


def of_server(api, name):
    found = api.get("/deployments/name/retrain/retrain")["schedules"]
    return next((each for each in found if each["slug"] == name), None)


def test_a_schedule_is_added_paused_resumed_and_removed(api):
    config = configure("quick", "sample", ["max_hours=2", "train.seed=3"], None, "support-bot")
    added = schedules.add("nightly", "0 3 * * *", "Europe/Berlin", config)
    assert (added.line, added.when, added.timezone, added.active) == (
        "support-bot",
        "0 3 * * *",
        "Europe/Berlin",
        True,
    )
    assert added.next_run and added.next_run[10:] in ("T03:00+01:00", "T03:00+02:00")
    stored = of_server(api, "nightly")
    assert stored["parameters"] == {
        "recipe": "quick",
        "seed": 3,
        "settings": "line=support-bot, max_hours=2.0",
    }
    next_runs = status()["next_runs"]
    assert [(run["schedule"], run["line"]) for run in next_runs] == [("nightly", "support-bot")] * 3
    assert next_runs[0]["at"] == added.next_run
    assert added.what == "recipe quick, corpus sample, seed 3, settings line=support-bot, max_hours=2.0"
    run = f"{added.next_run[:10]} 03:00 Europe/Berlin, schedule nightly, line support-bot, {added.what}"
    assert run in status_table(status())
    assert not schedules.set_active("nightly", active=False).active
    assert "every schedule is paused" in status_table(status())
    assert not of_server(api, "nightly")["active"]
    assert schedules.set_active("nightly", active=True).next_run == added.next_run
    assert of_server(api, "nightly") == stored | {"updated": of_server(api, "nightly")["updated"]}
    assert {each.name for each in schedules.list_schedules()} == {"weekly", "nightly"}
    schedules.remove("nightly")
    assert of_server(api, "nightly") is None


def test_the_command_prints_what_it_has_done_and_starts_a_run_at_once(api, home):
    words = ("schedule", "add", "é 'q\"", "--cron", "0 4 * * 1", "--recipe", "quick", "--corpus", "sample")
    options = command(home, *words)
    options["env"]["PREFECT_API_URL"] = api.base
    done = subprocess.run(**options, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "0 4 * * 1 (UTC), next run: 20" in done.stdout and "recipe quick, corpus sample" in done.stdout
    assert "settings start.init=trunk" in done.stdout
    started = schedules.run_now("é 'q\"")
    run = api.get(f"/flow_runs/{started['flow_run_id']}")
    assert run["parameters"]["recipe"] == "quick"
    assert started["url"].endswith(run["id"])
    assert "schedule:é 'q\"" in run["tags"]
    planned = api.get("/flow_runs/filter", {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}})
    creators = {(each["created_by"]["type"], each["created_by"]["display_value"]) for each in planned}
    assert ("SCHEDULE", "é 'q\"") in creators, "the name of a run is made from this"
    schedules.remove("é 'q\"")


@pytest.mark.parametrize(
    ("name", "cron", "timezone", "corpus", "message"),
    [
        ("x", "0 3 * *", "UTC", "sample", r"--cron '0 3 \* \*': .*minute, hour, day, month and weekday"),
        ("x", "0 3 * * *", "Europe/Berlim", "sample", "--timezone Europe/Berlim: .*'Europe/Berlin'"),
        ("x", "0 3 * * *", "UTC", "sampel", "there is no such corpus.*'sample'"),
        ("x", "0 3 * * *", "UTC", "/etc", "corpus .?/etc.*under REPARTEE_HOME"),
        ("x", "0 3 * * *", "UTC", ["sample", "/etc=0.5"], "corpus .?/etc.*under REPARTEE_HOME"),
        ("x", "0 3 * * *", "UTC", ["sample", "none.jsonl=0.5"], "corpus 'none.jsonl': there is no such file"),
        (" ", "0 3 * * *", "UTC", "sample", "the schedule name ' ' contains only whitespace"),
        ("weekly", "0 3 * * *", "UTC", "sample", "already a schedule 'weekly'; .*schedule remove weekly"),
    ],
)
def test_what_a_run_could_not_use_is_refused_when_it_is_added(api, name, cron, timezone, corpus, message):
    with pytest.raises(InputError, match=message):
        schedules.add(name, cron, timezone, configure("quick", corpus, []))
    assert [each.name for each in schedules.list_schedules()] == ["weekly"]


def test_each_file_of_a_mix_gets_its_absolute_path_and_keeps_its_weight(api, home, monkeypatch):
    (home / "mine.jsonl").write_text('["Do you have bread?", "Yes."]\n')
    monkeypatch.chdir(home)
    config = configure("quick", ["sample", "mine.jsonl=0.5", "hf:org/talk@v1=3"], [])
    schedules.add("mixed", "0 3 * * *", "UTC", config)
    mix = f"sample + {home}/mine.jsonl=0.5 + hf:org/talk@v1=3"
    assert of_server(api, "mixed")["parameters"]["corpus"] == mix
    schedules.remove("mixed")


def test_the_log_of_a_run_is_an_error_if_no_run_has_started():
    with pytest.raises(InputError, match="no run has started yet; `repartee run` starts the first one"):
        list(lines_of_run(None, follow=False))


def test_an_unknown_schedule_is_an_error_that_suggests_a_similar_name():
    with pytest.raises(InputError, match="there is no schedule 'wekly'; did you mean 'weekly'"):
        schedules.remove("wekly")


def test_a_schedule_of_the_dashboard_without_a_name_is_listed_by_its_id(api):
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    new = {"slug": None, "active": True, "schedule": {"interval": 7200}, "parameters": {"minutes": 5}}
    created = api.get(f"/deployments/{deployment}/schedules", [new])[0]["id"]
    found = next(each for each in schedules.list_schedules() if each.name == created[:8])
    assert (found.when, found.parameters) == ("every 2:00:00", {"minutes": 5})
    schedules.remove(created[:8])
    assert [each.name for each in schedules.list_schedules()] == ["weekly"]


def test_without_a_server_the_schedules_of_the_home_are_opened(tmp_path):
    added = ask(tmp_path, "schedule", "add", "often", "--cron", "* * * * *", "--corpus", "sample", "--json")
    assert json.loads(added)["name"] == "often"
    listed = json.loads(ask(tmp_path, "schedule", "list", "--json"))["schedules"]
    assert {each["name"] for each in listed} == {"weekly", "often"}


def test_in_a_home_without_schedules_nothing_is_written(tmp_path):
    assert ask(tmp_path, "schedule", "list").startswith("there is no schedule; `repartee schedule add")
    done = subprocess.run(**command(tmp_path, "schedule", "remove", "nightly"), capture_output=True)
    assert done.returncode == 2
    last_line = done.stderr.splitlines()[-1]  # signs of life may precede it
    assert last_line.startswith(f"repartee: {tmp_path} has no schedules yet; `repartee schedule add`")
    assert list(tmp_path.iterdir()) == []
