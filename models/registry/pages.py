"""Addresses of MLflow's pages and files, relative to the address of the server that shows them.

A relative link in a description leads to the right page on whichever server displays the description.
"""

from urllib.parse import quote, urlencode

# Without this parameter MLflow opens a page in a mode for agents, which calls runs "evaluations". The page
# that lists all registered models ignores the parameter.
MODE = "workflowType=machine_learning"
EXPERIMENTS_PAGE = f"#/experiments?{MODE}"


def pages_of(server: str) -> str:
    """The address of a server's page of the experiments; any other address is returned unchanged."""
    return f"{server.rstrip('/')}/{EXPERIMENTS_PAGE}" if server.startswith("http") else server


def experiment_page(experiment: str) -> str:
    """The address of the page that lists the runs of an experiment."""
    return f"#/experiments/{experiment}/runs?{MODE}"


def run_page(experiment: str, run_id: str, artifact: str = "") -> str:
    """The address of a run's page, or of the page of one of the run's artifacts."""
    suffix = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run_id}{suffix}?{MODE}"


def version_page(model: str, number: int) -> str:
    return f"#/models/{quote(model, safe='')}/versions/{number}?{MODE}"


def artifact_file(run_id: str, artifact: str) -> str:
    """The address of an artifact's content, for instance of a picture file."""
    return f"get-artifact?{urlencode({'path': artifact, 'run_uuid': run_id})}"
