"""The steps of a new user: `up`, a run from the dashboard's form, its MLflow page, the version, a chat."""

import json

import pytest
from dashboard import CHROMIUM, NO_CHROMIUM, choose, open_browser, open_form, set_minutes, submit
from installation import addresses_in, ask, services_up
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.soak,
    pytest.mark.flow,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("new")


@pytest.fixture(scope="module")
def addresses(home):
    with services_up(home) as output:
        yield addresses_in(output)


@pytest.fixture(scope="module")
def page():
    with open_browser(1400, 1000) as opened:
        yield opened


def test_a_bad_value_in_the_form_is_refused_there_and_the_field_is_named(addresses, page, tmp_path):
    open_form(page, addresses["Prefect"])
    set_minutes(page, "-1")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Validation failed for field 'minutes'").first).to_be_visible()
    page.screenshot(path=tmp_path / "refused.png")
    assert "/runs/" not in page.url


def test_a_text_that_does_not_begin_with_a_setting_is_refused_in_the_form(addresses, page):
    open_form(page, addresses["Prefect"])
    page.locator("textarea").last.fill("train.seed 3")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Validation failed for field 'settings'").first).to_be_visible()
    assert "/runs/" not in page.url


def test_a_wrong_setting_ends_the_run_with_the_sentence_of_the_command(addresses, page, tmp_path):
    open_form(page, addresses["Prefect"])
    page.locator("textarea").last.fill("train.seed=3,\ntrain.learning_rat=1")
    page.goto(f"{addresses['Prefect']}/runs/flow-run/{submit(page)}")
    sentence = (
        "settings: train.learning_rat=1: there is no key 'train.learning_rat', "
        "did you mean 'train.learning_rate'?"
    )
    expect(page.get_by_text(sentence).first).to_be_visible()
    page.screenshot(path=tmp_path / "failed.png")


def test_from_the_form_to_a_promoted_version_in_mlflow_and_a_chat(addresses, page, home, tmp_path):
    open_form(page, addresses["Prefect"])
    choose(page, "quick")
    set_minutes(page, "0.3")
    page.screenshot(path=tmp_path / "form.png", full_page=True)
    page.goto(f"{addresses['Prefect']}/runs/flow-run/{submit(page)}")
    expect(page.get_by_text(": promoted v1").first).to_be_visible()
    page.screenshot(path=tmp_path / "run.png")

    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text("repartee-summary").first).to_be_visible()
    page.screenshot(path=tmp_path / "artifacts.png")
    page.get_by_text("repartee-mlflow").first.click()
    link = page.get_by_role("link", name="The run in MLflow").first
    expect(link).to_be_visible()
    page.goto(link.get_attribute("href"))
    expect(page.get_by_text("quick-sample").first).to_be_visible()
    expect(page.get_by_text("test/bpb").first).to_be_visible()
    page.screenshot(path=tmp_path / "mlflow-run.png")

    page.goto(f"{addresses['MLflow']}/#/models/repartee?workflowType=machine_learning")
    expect(page.get_by_text("Version 1").first).to_be_visible()
    expect(page.get_by_text("champion").first).to_be_visible()
    page.screenshot(path=tmp_path / "model.png")

    reply = json.loads(ask(home, "chat", "--once", "Hello.", "--json"))
    assert reply["version"] == 1 and reply["reply"]
