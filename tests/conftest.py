import os

import pytest

from environment import quiet_environment

quiet_environment()
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(autouse=True)
def _nobody_elses_home(monkeypatch, tmp_path):
    """No test sees the home, the servers or the settings of whoever runs it."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
