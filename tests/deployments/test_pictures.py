"""The pictures of the documentation, and the clicks that their text describes. `make pictures` writes them."""

import os
import re
import tempfile
from pathlib import Path

import pytest
from dashboard import (
    CHROMIUM,
    NO_CHROMIUM,
    choose,
    open_artifact,
    open_browser,
    open_deployment,
    open_form,
    open_run,
    show_newest_log_first,
    submit,
)
from installation import ENDLESS, Api, addresses_in, ask, outcome, services_up
from pictures import HEIGHT, WIDTH, Album, scroll_to_top
from playwright.sync_api import Page, expect

from flows.config import flatten

MODE = "workflowType=machine_learning"
FIRST = {"recipe": "quick", "corpus": "sample", "settings": "train.max_steps=3"}
SETTINGS = "train.max_minutes=null, train.max_steps=100"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.flow,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]


def follow(page: Page, link: str | re.Pattern[str]) -> Page:
    """The page that a link opens in a new tab of the browser."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name=link).first.click()
    opened.value.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    return opened.value


@pytest.fixture(scope="module")
def home():
    """A home whose path, which a picture shows, does not depend on pytest and the user."""
    with tempfile.TemporaryDirectory(prefix="repartee-") as folder:
        home = Path(folder) / "var"
        home.mkdir()
        yield home


@pytest.fixture(scope="module")
def addresses(home):
    with services_up(home) as output:
        yield addresses_in(output)


@pytest.fixture(scope="module")
def prefect(addresses):
    return addresses["Prefect"]


@pytest.fixture(scope="module")
def api(prefect):
    return Api(prefect)


@pytest.fixture(scope="module")
def page():
    with open_browser(WIDTH, HEIGHT) as opened:
        yield opened


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = os.environ.get("PICTURES")
    return Album(Path(folder) if folder else tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="module")
def flow_run_id(api, page, prefect, album):
    """A run that was started by the form and replaced the champion of an earlier run."""
    assert outcome(api.ending(api.trigger(FIRST))) == "promoted"
    page.set_viewport_size({"width": WIDTH, "height": 1380})
    open_form(page, prefect)
    choose(page, "quick")
    page.locator("textarea").first.fill("sample")
    page.locator("textarea").last.fill(SETTINGS)
    page.locator("textarea").last.blur()
    album.take(page, "dashboard-form", clip=(264, 0, WIDTH, 1376))
    started = submit(page)
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    open_run(page, prefect, started)
    expect(page.get_by_text(": promoted v2").first).to_be_visible()
    return started


@pytest.fixture
def mlflow_run(page, prefect, flow_run_id):
    """The page of the run in MLflow, reached by one click in the summary of the run in Prefect."""
    open_artifact(page, prefect, flow_run_id, "repartee-summary")
    opened = follow(page, re.compile(MODE))
    expect(opened.get_by_text("About this run")).to_be_visible()
    yield opened
    opened.close()


@pytest.fixture
def version(page, addresses, flow_run_id):
    """The page of the champion's version in MLflow."""
    page.goto(f"{addresses['MLflow']}/#/models/repartee/versions/2?{MODE}")
    expect(page.get_by_text("Test split")).to_be_visible()
    return page


def test_the_page_of_the_deployments_lists_the_four_deployments(page, prefect, album):
    page.goto(f"{prefect}/deployments")
    for name in ("evaluate", "prepare", "retrain", "train"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    album.take(page, "dashboard-deployments", clip=(0, 0, WIDTH, 500))


def test_a_run_that_was_started_by_the_form_shows_its_stages_and_its_verdict(
    page, prefect, flow_run_id, album
):
    open_run(page, prefect, flow_run_id)
    show_newest_log_first(page)
    expect(page.get_by_text("Promoted: repartee v2 is the champion").first).to_be_visible()
    expect(page.get_by_text("train: epoch").first).to_be_attached()  # the loss
    page.wait_for_timeout(3000)  # the graph is drawn on a canvas
    album.take(page, "dashboard-run")


def test_the_tab_artifacts_leads_to_the_summary_the_data_and_the_replies_in_one_click_each(
    page, prefect, flow_run_id, album
):
    open_run(page, prefect, flow_run_id)
    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text("repartee-replies")).to_be_visible()
    scroll_to_top(page, page.get_by_text("Task runs", exact=True))  # Prefect loads them when they are seen
    expect(page.locator(".artifact-card").filter(has_text="progress")).to_be_visible()
    scroll_to_top(page, page.get_by_text("Flow run", exact=True).first, margin=120)
    album.take(page, "dashboard-artifacts")

    open_artifact(page, prefect, flow_run_id, "repartee-summary")
    expect(page.get_by_role("columnheader", name="champion")).to_be_visible()
    expect(page.get_by_alt_text("Loss and accuracy of the training")).to_be_attached()
    album.take(page, "dashboard-summary")

    open_artifact(page, prefect, flow_run_id, "repartee-data")
    expect(page.get_by_role("columnheader", name="validation")).to_be_visible()
    expect(page.get_by_role("heading", name="Ten conversations")).to_be_attached()
    album.take(page, "dashboard-data")

    open_artifact(page, prefect, flow_run_id, "repartee-replies")
    expect(page.get_by_role("columnheader", name="in the corpus")).to_be_visible()
    album.take(page, "dashboard-replies")


def test_a_schedule_of_the_command_is_on_the_page_of_the_deployment(page, prefect, home, flow_run_id, album):
    daily = ("--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    ask(home, "schedule", "add", "nightly", *daily, "--recipe", "quick", "--corpus", "sample")
    open_deployment(page, prefect)
    expect(page.get_by_text("nightly").first).to_be_visible()
    album.take(page, "dashboard-schedule")


def test_a_run_in_progress_shows_its_loss_and_can_be_cancelled(page, prefect, api, flow_run_id, album):
    changes = flatten({"train": ENDLESS, "download": {"sample_turns": 3000}})
    settings = ", ".join(f"{key}={value}" for key, value in changes.items()).replace("=none", "=null")
    parameters = {"recipe": "quick", "corpus": "sample", "settings": settings}
    started = api.trigger(parameters, run_name="retraining")
    open_run(page, prefect, started)
    show_newest_log_first(page)
    expect(page.get_by_text("train: epoch").first).to_be_visible()
    page.reload()  # the graph of a page that was opened at the start does not grow
    expect(page.get_by_text("train: epoch").first).to_be_visible()
    page.wait_for_timeout(3000)
    album.take(page, "dashboard-running")
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    assert api.ending(started)["type"] == "CANCELLED"


def test_the_experiment_in_mlflow_lists_the_runs(page, addresses, flow_run_id, album):
    page.goto(f"{addresses['MLflow']}/#/experiments/1/runs?{MODE}")
    expect(page.get_by_text("quick-sample #2").first).to_be_visible()
    album.take(page, "mlflow-experiment")


def test_the_run_in_mlflow_has_a_report_and_leads_back_to_prefect_in_one_click(
    mlflow_run, prefect, flow_run_id, album
):
    page = mlflow_run
    page.get_by_text("Show more").first.click()
    scroll_to_top(page, page.get_by_text("Description", exact=True).first)
    album.take(page, "mlflow-run")
    back = follow(page, "run in Prefect")
    assert back.url.startswith(f"{prefect}/runs/flow-run/{flow_run_id}")
    expect(back.get_by_text(": promoted v2").first).to_be_visible()
    back.close()


def test_a_version_leads_to_its_data_its_run_in_prefect_and_the_previous_champion(
    version, prefect, flow_run_id, album
):
    page = version
    for text in ("Promoted", "The code is at commit"):
        expect(page.get_by_text(text).first).to_be_visible()
    album.take(page, "mlflow-version")
    counts = follow(page, "counts of the splits")
    expect(counts.get_by_text("characters").first).to_be_visible()
    counts.close()
    conversations = follow(page, "ten conversations")
    conversations.get_by_text("u247").first.click()  # shows the whole text of the cell
    expect(conversations.get_by_text("u247").first).to_be_visible()
    album.take(conversations, "mlflow-tables")
    conversations.close()
    previous = follow(page, "previous champion v1")
    expect(previous.get_by_text("Version 1").first).to_be_visible()
    previous.close()
    in_prefect = follow(page, "run in Prefect")
    assert in_prefect.url.startswith(f"{prefect}/runs/flow-run/{flow_run_id}")
    in_prefect.close()


def test_the_page_of_the_model_lists_its_versions_and_names_the_champion(page, addresses, flow_run_id, album):
    page.goto(f"{addresses['MLflow']}/#/models/repartee?{MODE}")
    expect(page.get_by_text("@ champion").first).to_be_attached()
    scroll_to_top(page, page.get_by_text("Versions", exact=True).first)
    album.take(page, "mlflow-model")
