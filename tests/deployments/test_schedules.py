"""Settings that a user has made on a deployment's page survive `install`, `serve` and a restart of `up`."""

import re

import pytest
from installation import Api, ask, go_up, install, left_of, serve, until

from deployments.local.ephemeral_server import temporary_server

pytestmark = pytest.mark.flow


@pytest.fixture
def home(tmp_path, new_home):
    return new_home(tmp_path)


PAGE = {"parameters": {"recipe": "base"}, "tags": ["night"], "job_variables": {"env": {"A": "1"}}}
OTHERS = {"cron": "17 4 * * *", "timezone": "Europe/Berlin", "day_or": True}


def of_text(text):
    """The Prefect server whose address `up` printed; its port may change at the next start."""
    return Api(re.search(r"Prefect +(http\S+)", text)[1])


def of_page(api):
    """What the page of the deployment shows, without its timestamps."""
    found = api.get("/deployments/name/retrain/retrain")
    schedules = {
        (each["slug"], each["schedule"]["cron"], each["active"], str(each["parameters"]))
        for each in found["schedules"]
    }
    return found["id"], schedules, {name: found[name] for name in PAGE}, found["paused"]


def set_on_page(api):
    """Enable the weekly schedule, add one schedule with and one without a slug, and fill in the form."""
    deployment = api.get("/deployments/name/retrain/retrain")
    assert [(each["slug"], each["active"]) for each in deployment["schedules"]] == [("weekly", False)]
    path = f"/deployments/{deployment['id']}"
    api.get(f"{path}/schedules/{deployment['schedules'][0]['id']}", {"active": True}, method="PATCH")
    for schedule in ({"slug": None, "active": True}, {"slug": "quarterly", "active": False}):
        api.get(f"{path}/schedules", [{**schedule, "schedule": OTHERS, "parameters": {"recipe": "quick"}}])
    api.get(path, PAGE, method="PATCH")
    page = of_page(api)
    assert len(page[1]) == 3 and page[2] == PAGE
    return page


def automations(api):
    return sorted((each["name"], each["enabled"]) for each in api.get("/automations/filter", {}))


def test_a_restart_of_up_keeps_every_schedule_and_its_switch(home):
    process, text = go_up(home)
    page = set_on_page(of_text(text))
    ask(home, "down")
    process.wait(30)

    process, text = go_up(home)
    try:
        api = of_text(text)
        assert of_page(api) == page
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        assert until(lambda: api.get("/flow_runs/filter", wanted)), "the schedules make runs again"
    finally:
        ask(home, "down")
        process.wait(30)
    assert not left_of(home)


def test_install_and_serve_keep_what_a_person_has_set_on_the_page(home):
    with temporary_server(home) as server:
        api = Api(server.wait().removesuffix("/api"))
        install(home, api)
        path = f"/deployments/{set_on_page(api)[0]}"
        api.get(path, {"paused": True}, method="PATCH")
        page = of_page(api)
        first, _ = api.get("/automations/filter", {})
        api.get(f"/automations/{first['id']}", {"enabled": False}, method="PATCH")
        switches = automations(api)

        install(home, api)
        assert of_page(api) == page
        assert automations(api) == switches, "one that is switched off stays off, and none is doubled"

        process = serve(home, PREFECT_API_URL=api.base)
        try:
            until(lambda: "serving the deployments" in (home / "serve.log").read_text())
            assert of_page(api) == page
        finally:
            process.terminate()
            process.wait(60)

        ours = next(each for each in api.get(path)["schedules"] if each["slug"] == "weekly")
        api.get(f"{path}/schedules/{ours['id']}", method="DELETE")
        api.get(path, {"enforce_parameter_schema": False, "parameters": {"huge": 1}}, method="PATCH")
        text = install(home, api)
        _, schedules, shown, paused = of_page(api)
        assert "weekly" not in {slug for slug, *_ in schedules}, "a schedule that a person deleted stays away"
        assert paused and shown["parameters"] == {} and "huge" in text, "an upgrade may take a field away"


def test_an_upgrade_converts_what_an_older_form_has_stored(home):
    with temporary_server(home) as server:
        api = Api(server.wait().removesuffix("/api"))
        install(home, api)
        deployment = api.get("/deployments/name/retrain/retrain")
        path = f"/deployments/{deployment['id']}"
        older = {"train": {"seed": 3, "max_steps": "none", "patience": None}, "network": None}
        api.get(path, {"parameters": {"recipe": "base", "changes": older}}, method="PATCH")
        stored = {"minutes": 5, "changes": {"generation": {"stop": ["a, b"]}}}
        nightly = {"slug": "nightly", "active": True, "schedule": OTHERS, "parameters": stored}
        api.get(f"{path}/schedules", [nightly])

        assert "dropped" not in install(home, api)
        found = api.get("/deployments/name/retrain/retrain")
        settings = "train.seed=3, train.max_steps=null"
        assert found["parameters"] == {"recipe": "base", "settings": settings}
        schedules = {each["slug"]: each for each in found["schedules"]}
        assert schedules["nightly"]["parameters"] == {"minutes": 5, "settings": 'generation.stop=["a, b"]'}
        assert "anyOf" not in found["parameter_openapi_schema"]["properties"]["settings"]
        assert schedules["nightly"]["active"] and schedules["nightly"]["schedule"] == OTHERS
        assert not schedules["weekly"]["active"] and schedules["weekly"]["parameters"] == {}
