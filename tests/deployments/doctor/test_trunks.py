import subprocess

from deployments.doctor.installation import Installation
from deployments.doctor.trunks import trunks
from deployments.status import status
from models.training.trunk import files as trunk_files
from settings import Settings
from tasks.trunk.chain import SHAPE, Night, Trunk


def test_a_damaged_trunk_is_found_and_its_remedy_works(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    trunk = Trunk.of(tmp_path, "support 'bot'", dict.fromkeys(SHAPE, "x y"))
    folder = trunk.path("night")
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    trunk_files.seal(folder)
    files = trunk_files.digest_of(folder)
    trunk.append(Night(at="2020-11-29T03:14:00+00:00", digest=files, files=files, folder="night"))
    installation = Installation(Settings())
    assert list(trunks(installation)) == []
    assert [(each["line"], each["nights"], each["damage"]) for each in status()["trunks"]] == [
        ("support 'bot'", 1, "")
    ]
    (folder / "state.json").unlink()
    [fault] = trunks(installation)
    assert "state.json is missing" in fault.what
    assert status()["trunks"][0]["damage"]
    subprocess.run(fault.remedy, shell=True, check=True)
    assert list(trunks(installation)) == [] == status()["trunks"]
