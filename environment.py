"""What the libraries must find in the environment, set before any of them is imported."""

import os

HEARTBEAT_SECONDS = 30  # Prefect's shortest; three missed ones are a death (deployments/install.py)

_QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow knows no other spelling
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # its advice is for other callers
    "TOKENIZERS_PARALLELISM": "true",
    # A second thread that spins while another process has its core makes a step 50 times slower.
    "OMP_WAIT_POLICY": "passive",
    # Its own 180 would have every longer run taken for dead.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a stage may run without one
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks,models",  # what the stages say stands in the run's logs
}


_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where our own servers listen


def quiet_environment() -> None:
    """Keep the libraries from phoning home and from spinning; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _ask_this_machine_without_a_proxy()


def _ask_this_machine_without_a_proxy() -> None:
    """No proxy reaches the servers of this machine: in both spellings, for the libraries differ."""
    listed = [
        each.strip() for name in ("NO_PROXY", "no_proxy") for each in os.environ.get(name, "").split(",")
    ]
    if "*" in listed:  # it counts only where it stands alone
        return
    hosts = dict.fromkeys(each for each in (*listed, *_THIS_MACHINE) if each)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(hosts)
