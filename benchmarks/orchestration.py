"""Measures the overhead of Prefect: a flow of ten empty tasks compared with ten plain function calls.

The flow is called without Prefect's heartbeat, as `repartee run` calls its flow
(deployments/local/heartbeat.py).

python -m benchmarks.orchestration [REPEATS]     needs `repartee up` running under the same REPARTEE_HOME
"""

import statistics
import sys
import time
from collections.abc import Callable

from environment import quiet_environment

quiet_environment()

from prefect import flow, task  # noqa: E402  (on import, Prefect reads the environment)
from prefect.settings import (  # noqa: E402
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from settings import Settings  # noqa: E402

STAGES = (
    "plan",
    "download",
    "parse",
    "clean",
    "vocabulary",
    "export",
    "train",
    "evaluate",
    "gate",
    "register",
)


def nothing(before: int) -> int:
    return before + 1


@flow(name="nothing", log_prints=False)
def as_flow() -> int:
    count = 0
    for stage in STAGES:
        count = task(nothing, name=stage)(count)
    return count


def as_calls() -> int:
    count = 0
    for _ in STAGES:
        count = nothing(count)
    return count


def seconds(call: Callable[[], int], rest_s: float = 0.0) -> float:
    """Seconds that one call takes, after a pause of `rest_s` in which the server finishes earlier work.

    Without the pause, every second call finds SQLite locked, gets a response with status 503 and tries again
    after 2 s.
    """
    time.sleep(rest_s)
    began_s = time.perf_counter()
    assert call() == len(STAGES)
    return time.perf_counter() - began_s


def main() -> None:
    url = Settings().prefect_url
    if url is None:
        sys.exit("no Prefect server is running here; start `repartee up` first")
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        taken = sorted(seconds(as_flow, rest_s=3.0) for _ in range(repeats))
    as_calls_s = statistics.median(seconds(as_calls) for _ in range(repeats))
    middle = statistics.median(taken)
    print(f"{middle - as_calls_s:.2f} s more (flow {taken[0]:.2f} to {taken[-1]:.2f} s), median of {repeats}")


if __name__ == "__main__":
    main()
