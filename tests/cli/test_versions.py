"""The figures of versions, also of versions that an earlier release registered."""

from dataclasses import replace
from pathlib import Path

import pytest
from registries import model_folder, register, register_as_before

from cli.show import describe_version
from cli.terminal.tables import moment_text, status_table, version_table
from cli.versions import find_model, list_versions
from deployments.doctor.installation import Installation
from deployments.doctor.runs import champion
from deployments.status import status
from models.errors import InputError
from models.registry.reference import open_registry
from settings import Settings


def test_a_version_with_the_metrics_of_an_earlier_release_is_listed_found_and_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    registry = open_registry(Settings())
    version = register_as_before(registry, model_folder(tmp_path / "model", b"weights"), "earlier")
    registry.promote(version, "the first")
    listed = list_versions(None)
    [row] = listed["models"]
    assert (row["metrics"]["test_bpb"], row["metrics"]["test_parameters"]) == (1.5, 865_152.0)
    assert "1.5000     25.0%" in version_table(listed)
    assert find_model("champion").title == "repartee v1 (champion), 1.500 bits per byte"
    assert status()["champion"]["test_bpb"] == 1.5


def test_status_shows_the_champion_of_each_line_and_doctor_examines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    for line in (None, "support bot"):
        registry = open_registry(Settings(), line)
        version = register(registry, model_folder(tmp_path / registry.model, b"weights"), registry.model)
        registry.promote(version, "the first")
    found = status()
    assert [each["line"] for each in found["champions"]] == ["repartee", "support bot"]
    assert found["champion"] == found["champions"][0]
    assert "support bot v1 since " in status_table(found)
    assert list(champion(Installation(Settings()))) == []
    Path(describe_version("support bot@champion", None).files, "model.safetensors").write_bytes(b"other")
    (fault,) = champion(Installation(Settings()))
    assert "champion v1 of line support bot cannot be used" in fault.what
    assert fault.remedy and fault.remedy.endswith(" --line 'support bot'")


def test_a_version_is_shown_with_its_report_whose_addresses_are_absolute_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    registry = open_registry(Settings())
    prefect = "[promoted by b](http://p/runs/flow-run/1)"
    report = f"[v1](#/models/x) | {prefect}\n\n![Loss](get-artifact?path=a)\nThe end.\n"
    version = register(registry, model_folder(tmp_path / "model", b"weights"), "night")
    with registry.writing() as client:
        client.update_model_version(registry.model, str(version.number), report)
    shown = describe_version("1", None)
    assert shown.report() == "The end.\n"
    served = replace(shown, server="http://m:5000")
    assert served.report() == "[v1](http://m:5000/#/models/x)\n\nThe end.\n"
    taken_out = {"repartee.taken_out": "2026-11-29T00:31:59.471+00:00: v1 was rolled back by me"}
    facts = replace(shown, run_tags=taken_out).facts()
    assert facts["taken out"] == "2026-11-29 00:31 UTC: v1 was rolled back by me"
    assert Path(shown.files, "config.json").exists() and shown.to_json()["version"] == 1
    with pytest.raises(InputError, match="has no version '7'; it has 1"):
        describe_version("7", None)


def test_a_former_champion_is_shown_with_the_time_in_which_it_was_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    registry = open_registry(Settings())
    for number in (1, 2):
        folder = model_folder(tmp_path / str(number), b"%d" % number)
        registry.promote(register(registry, folder, f"night {number}"), "better")
    first, second = (moment_text(each.at.isoformat()) for each in reversed(registry.history()))
    assert describe_version("1", None).facts()["champion"] == f"from {first} to {second}, then v2"
    assert describe_version("2", None).facts()["champion"] == f"since {second} instead of v1"
    registry.promote(registry.find("1"), "back", by_hand=True)
    assert describe_version("1", None).facts()["champion"].startswith("since ")
    assert describe_version("2", None).facts()["origin"] == "repartee lineage repartee@2"
