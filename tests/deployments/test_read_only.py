"""The verbs that only read write no files, not even in an empty folder."""

import pytest

from cli.champion import history
from cli.run import plan_stages
from cli.versions import find_model, list_versions
from deployments.doctor.examination import doctor
from deployments.schedules import list_schedules
from deployments.status import status
from flows.recipes import configure
from models.errors import InputError


@pytest.mark.parametrize("depth", ["var", "no/where/deep/var"])
def test_the_verbs_that_only_read_leave_no_file(tmp_path, monkeypatch, depth):
    home = tmp_path / "empty" / depth
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    found = status()
    assert (found["champion"], found["unknown"]) == (None, None)
    assert list_versions(None)["models"] == [] and history(None) == []
    assert list_schedules() == []
    assert doctor(fix=True, report=lambda _: None)["healthy"]
    assert {step.action for step in plan_stages(configure("quick", None, []))} == {"run"}
    with pytest.raises(InputError, match="no version of 'repartee' is registered yet"):
        find_model("champion")
    assert not list(tmp_path.iterdir())
