"""Runs the data stages once in the home of this process, and prints what each of them took, as JSON.

python -m benchmarks.corpus.data_stages RECIPE CORPUS [INIT]
    REPARTEE_HOME is the home; the time of imports does not count. INIT is the folder of the
    initial model.
"""

import json
import resource
import sys
import time
from typing import Any

from environment import quiet_environment

quiet_environment()

import torch  # noqa: E402, F401  # otherwise, a stage would import it
import transformers  # noqa: E402, F401

from flows.lifecycle.context import open_run  # noqa: E402
from flows.prepare import DATA  # noqa: E402
from flows.recipes import configure  # noqa: E402
from settings import Settings  # noqa: E402
from tasks.store.artifact import Artifact  # noqa: E402


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main(recipe: str, corpus: str, init: str | None = None) -> None:
    run = open_run(configure(recipe, corpus, [], init), Settings())
    for stage in DATA:  # finding the code of a stage imports modules
        assert stage.code.sha256
    imported_mb, outputs, stages = peak_mb(), dict[str, Artifact](), dict[str, Any]()
    for stage in DATA:
        if stage.is_used(stage.config(run)):
            inputs = {name: outputs[name] for name in stage.inputs(run, outputs)}
            cpu_s, wall_s = time.process_time(), time.monotonic()
            found = outputs[stage.name] = stage.produce(run, inputs)
            stages[stage.name] = {
                "cpu_s": time.process_time() - cpu_s,
                "wall_s": time.monotonic() - wall_s,
                "status": found.status,
                "rows": found.rows,
                "digest": found.digest,
                "path": str(found.path),
            }
    cpu_s = sum(each["cpu_s"] for each in stages.values())
    wall_s = sum(each["wall_s"] for each in stages.values())
    memory = {"peak_mb": peak_mb(), "imported_mb": imported_mb}
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s, **memory, "stages": stages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
