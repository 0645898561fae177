"""Addresses of MLflow's pages and files, relative to the address of the server that shows them.

In the Markdown of a description, such an address leads to the right page, whichever server shows it.
"""

from urllib.parse import quote, urlencode

# Without this parameter MLflow opens a page in a mode for agents, which calls runs "evaluations". The page of
# all registered models ignores the parameter.
MODE = "workflowType=machine_learning"
EXPERIMENTS_PAGE = f"#/experiments?{MODE}"


def run_page(experiment: str, run_id: str, artifact: str = "") -> str:
    """The page of a run, or of one of its artifacts."""
    suffix = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run_id}{suffix}?{MODE}"


def version_page(model: str, number: int) -> str:
    return f"#/models/{quote(model, safe='')}/versions/{number}?{MODE}"


def artifact_file(run_id: str, artifact: str) -> str:
    """The content of an artifact, for instance of a picture."""
    return f"get-artifact?{urlencode({'path': artifact, 'run_uuid': run_id})}"
