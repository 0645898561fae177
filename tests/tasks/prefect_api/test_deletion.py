import time
from pathlib import Path

import pytest

from tasks.prefect_api.deletion import RunDeleted, deletions, raise_if_deleted


def test_a_source_that_fails_or_hangs_says_nothing_and_holds_no_other_up():
    calls = []

    def fails():
        calls.append("fails")
        raise OSError("does not answer")

    sources = {"MLflow run 1": fails, "hung": lambda: time.sleep(60), "Prefect run 2": lambda: bool(calls)}
    with deletions(sources, every_s=0.01) as found:
        raise_if_deleted([], Path("runs/x"))
        while not found:
            time.sleep(0.01)
        with pytest.raises(RunDeleted, match=r"Prefect run 2 was deleted .* checkpoint is kept in runs/x"):
            raise_if_deleted(found, Path("runs/x"))
    assert found == ["Prefect run 2"]
