"""The environment of every process of ours, set before any library is imported that reads it.

    python -m environment MODULE WORDS...      the same for a server that is none of ours

flows/__init__.py calls it for whoever runs a flow (a worker of any kind, a Python program), and so does
each entry point before it starts or imports anything.
"""

import logging
import os
import runpy
import sys

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
    # Runs that ended 90 days ago go with their logs; Prefect's own default keeps them for ever.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    # Of the server that Prefect starts for a flow called from Python: a new database takes its time.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a stage may run without one
}
STAGES = ("tasks", "corpus", "models", "flows")  # what they say stands in the run's logs


_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where our own servers listen


def quiet_environment() -> None:
    """Keep the libraries from phoning home and from spinning; what the user has set stays.

    What the stages say goes to the logs of the run in which they say it.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _ask_this_machine_without_a_proxy()
    for name in STAGES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, _RunLogs) for handler in logger.handlers):
            logger.addHandler(_RunLogs())


class _RunLogs(logging.Handler):
    """Hands a line to Prefect's own handler for the lines of others.

    PREFECT_LOGGING_EXTRA_LOGGERS would do the same, but in a worker's run Prefect has read it before any
    line of ours is run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger("prefect.extra").handlers:
            if type(handler).__module__.startswith("prefect."):
                handler.handle(record)


def _ask_this_machine_without_a_proxy() -> None:
    """No proxy reaches the servers of this machine: in both spellings, for the libraries differ."""
    listed = [
        each.strip() for name in ("NO_PROXY", "no_proxy") for each in os.environ.get(name, "").split(",")
    ]
    if "*" in listed:  # it counts only where it stands alone
        return
    hosts = dict.fromkeys(each for each in (*listed, *_THIS_MACHINE) if each)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(hosts)


if __name__ == "__main__":
    quiet_environment()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
