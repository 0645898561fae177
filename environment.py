"""The environment variables of all Repartee processes, set before the libraries that read them are imported.

    python -m environment MODULE ARGUMENTS...      sets the variables, then runs a module, such as a server

Every entry point of Repartee calls `quiet_environment` before it imports or starts anything else. In other
processes that run a flow (a Prefect worker of any kind, or a Python program), flows/__init__.py calls it.
"""

import logging
import os
import runpy
import sys

HEARTBEAT_SECONDS = 30  # Prefect's minimum; a run that misses three heartbeats counts as crashed

EVERY_PROCESS = {
    "DO_NOT_TRACK": "true",  # the only value that MLflow recognises
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # transformers' warnings give advice that does not apply here
    "TOKENIZERS_PARALLELISM": "true",
    # If waiting threads spin while another process needs their cores, a training step takes 50 times as long.
    "OMP_WAIT_POLICY": "passive",
    # With Prefect's default interval of 180 s, each run longer than 180 s would count as crashed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    # Delete each run and its logs 90 days after the run has ended; by default, Prefect never deletes them.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    # If a flow is called without a server, Prefect starts one, which has to create its database first.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a stage may also run outside a flow
}

# The additional variables of the servers and the worker. deployments/local/services.py sets them, and
# compose.yaml and the systemd units repeat them, as tests/deployments/test_compose.py checks.
CSRF_PROTECTION = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
PREFECT_SERVER = {
    **CSRF_PROTECTION,
    # If Prefect stored concurrency leases only in memory, a restarted server would not know which runs occupy
    # a slot, and the slots of ended runs would block all later runs.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
MLFLOW_SERVER = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
WORKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # a triggered run starts within seconds
    # A run that the worker cannot submit counts as crashed. Therefore, while the server is busy or restarts,
    # the worker and its runs repeat their requests for up to eight minutes; Prefect's default is one minute.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}

LOGGED = ("flows", "tasks", "corpus", "models")  # packages whose log lines are also sent to Prefect

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where our own servers listen


def quiet_environment() -> None:
    """Turn off telemetry and busy waiting in the libraries. Variables set by the user keep their values.

    Also make Prefect show the log lines of our packages in the logs of the run that wrote them.
    """
    if "HF_HUB_OFFLINE" not in os.environ:  # our own download of data sets must not take it for the user's
        os.environ["HF_HUB_OFFLINE_BY_REPARTEE"] = "1"
    for name, value in EVERY_PROCESS.items():
        os.environ.setdefault(name, value)
    _exempt_this_machine_from_proxies()
    for name in LOGGED:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, _RunLogs) for handler in logger.handlers):
            logger.addHandler(_RunLogs())


class _RunLogs(logging.Handler):
    """Passes each log record to the handler that Prefect uses for packages other than its own.

    PREFECT_LOGGING_EXTRA_LOGGERS would have the same effect, but in a run that a worker started, Prefect
    reads this variable before any of our code can set it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger("prefect.extra").handlers:
            if type(handler).__module__.startswith("prefect."):
                handler.handle(record)


def _exempt_this_machine_from_proxies() -> None:
    """Add this machine to NO_PROXY, because a proxy cannot reach the servers on this machine.

    Both NO_PROXY and no_proxy are set, because some libraries read only one of them.
    """
    listed = [
        each.strip() for name in ("NO_PROXY", "no_proxy") for each in os.environ.get(name, "").split(",")
    ]
    if "*" in listed:  # already exempts every host, and is valid only as the sole entry
        return
    hosts = dict.fromkeys(each for each in (*listed, *_THIS_MACHINE) if each)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(hosts)


if __name__ == "__main__":
    quiet_environment()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
