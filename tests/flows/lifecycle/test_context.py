"""Tests of what a run knows about itself."""

from uuid import uuid4

from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from flows.lifecycle.context import url_of
from settings import Settings


def test_the_page_of_a_run_has_no_password_and_a_server_that_ends_with_its_run_has_no_page(
    monkeypatch,
) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="night")
    with temporary_settings({PREFECT_API_URL: "http://me:secret@prefect:4200/api", PREFECT_UI_URL: None}):
        assert url_of(run, Settings()) is None
        monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@prefect:4200/api")
        assert url_of(run, Settings()) == f"http://prefect:4200/runs/flow-run/{run.id}"
