"""The links from a model to the Prefect runs that trained and judged it."""

from tasks.run_page.prefect_runs import run_links

UP = "http://127.0.0.1:4200"
TRAINED = {"prefect.flow_run_id": "a", "prefect.flow_run_name": "quick-sample #1"}
LATER = {
    "prefect.flow_run_id": "b",
    "prefect.flow_run_name": "quick-sample #4 promote=always",
    "prefect.flow_run_url": "http://prefect:4200/runs/flow-run/b",
}


def links(
    training: dict[str, str], present: dict[str, str], *, outcome: str = "promoted", was_reused: bool
) -> dict[str, str]:
    return run_links(training, present, UP, outcome=outcome, was_reused=was_reused)


def test_a_run_with_a_server_of_its_own_is_linked_in_the_dashboard_of_up() -> None:
    page = f"{UP}/runs/flow-run/a"
    assert links(TRAINED, TRAINED, was_reused=False) == {
        "trained by quick-sample #1 (while `repartee up` is running)": page
    }


def test_a_model_that_a_later_run_has_only_promoted_is_linked_to_both_runs() -> None:
    found = links(TRAINED | {"prefect.flow_run_url": "http://p/a"}, LATER, was_reused=True)
    assert found == {
        "trained by quick-sample #1": "http://p/a",
        "promoted by quick-sample #4 promote=always": "http://prefect:4200/runs/flow-run/b",
    }
    assert list(links(TRAINED, LATER, outcome="refused", was_reused=True))[1].startswith("refused by quick")


def test_a_run_that_registered_the_model_of_an_unknown_run_is_not_called_its_trainer() -> None:
    """MLflow did not answer during the training, so the later run has created the MLflow run."""
    assert list(links(LATER, LATER, was_reused=True)) == ["promoted by quick-sample #4 promote=always"]


def test_a_run_that_prefect_did_not_record_has_no_link() -> None:
    assert links({}, {}, was_reused=False) == {}
