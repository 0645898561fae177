"""Prefect's dashboard in a browser, as its user clicks through it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from installation import PATIENCE_S
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NO_CHROMIUM = "no browser is installed: apt-get install chromium"
# Prefect's light theme, and MLflow's pages without the assistant, which covers a third of the first page.
PREFERENCES = {
    "color-scheme": '"light"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}


@contextmanager
def open_browser(width: int, height: int) -> Iterator[Page]:
    """A page of a new browser, in which each action waits as long as PATIENCE_S."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        for name, value in PREFERENCES.items():
            page.context.add_init_script(f"localStorage.setItem({name!r}, {value!r})")
        page.set_default_timeout(1000 * PATIENCE_S)
        expect.set_options(timeout=1000 * PATIENCE_S)
        yield page
        browser.close()


def open_deployment(page: Page, address: str) -> None:
    page.goto(f"{address}/deployments")
    page.get_by_text("retrain", exact=True).first.click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()


def open_form(page: Page, address: str) -> None:
    open_deployment(page, address)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").first.click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def choose(page: Page, recipe: str) -> None:
    """Choose a recipe in Prefect's drop-down list, which responds only to the keyboard."""
    control = page.locator("button.p-select-button__control").first
    control.focus()
    for key in ("ArrowDown", "ArrowUp", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(control).to_contain_text(recipe)


def set_minutes(page: Page, minutes: str) -> None:
    page.locator("input[type=number]").first.fill(minutes)


def submit(page: Page) -> str:
    """Submit the form, again if the server is busy; returns the id of the new run."""
    for _ in range(5):
        with page.expect_response("**/create_flow_run") as response_info:
            page.get_by_role("button", name="Submit").click()
        answer = response_info.value
        if answer.status != 503:
            break
    assert answer.ok, answer.text()
    return str(answer.json()["id"])


def show_newest_log_first(page: Page) -> None:
    """Reverse the order of the log lines in Prefect's drop-down list, which responds only to the keyboard."""
    control = page.locator("button.p-select-button__control").filter(has_text=re.compile("newest|oldest"))
    expect(control).to_be_visible()
    if "to oldest" in control.inner_text():  # Prefect remembers the order
        return
    control.focus()
    for key in ("ArrowDown", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(control).to_contain_text("to oldest")
    control.blur()


def open_run(page: Page, address: str, flow_run_id: str) -> None:
    page.goto(f"{address}/runs/flow-run/{flow_run_id}")
    expect(page.get_by_text("Artifacts", exact=True).first).to_be_visible()


def open_artifact(page: Page, address: str, flow_run_id: str, key: str) -> None:
    open_run(page, address, flow_run_id)
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text(key, exact=True).first.click()
    page.wait_for_url("**/artifacts/artifact/**")
