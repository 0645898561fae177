"""Measures the cost of an idle `repartee up`: the memory and the CPU time of all its processes.

python -m benchmarks.services [SECONDS]     needs `repartee up` running under the same REPARTEE_HOME
"""

import subprocess
import sys
import time

from services_state import running_services
from settings import Settings


def usage(groups: set[int]) -> tuple[float, float]:
    """The resident memory in MB and the CPU time in seconds of all processes in these groups."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid,pid,rss,cputimes"], capture_output=True, text=True, check=True
    )
    rows = [list(map(int, line.split())) for line in listed.stdout.splitlines()[1:]]
    mine = [row for row in rows if row[0] in groups or row[1] in groups]
    return sum(row[2] for row in mine) / 1024, float(sum(row[3] for row in mine))


def main() -> None:
    state = running_services(Settings().root)
    if state is None:
        sys.exit("no services are running here; start `repartee up` first")
    groups = {state.pid, *(service.pid for service in state.services.values())}
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    before = usage(groups)[1]
    time.sleep(seconds)
    megabytes, used_s = usage(groups)
    print(f"{megabytes:.0f} MB resident, {(used_s - before) / seconds:.1%} of one core over {seconds:.0f} s")


if __name__ == "__main__":
    main()
