"""compose.yaml and the systemd units are consistent and safe; test_postgres.py shows that they work."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from functools import cache

import pytest
from installation import ROOT
from team import BIN, DEPLOYMENTS, FILLED, VARIABLE, example, services

from environment import EVERY_PROCESS, MLFLOW_SERVER, PREFECT_SERVER, WORKER

SECRET = re.compile("PASSWORD|SECRET|AUTH_STRING")
COMPOSE = (DEPLOYMENTS / "compose.yaml").read_text()
ENV_FILES = "".join(path.read_text() for path in (DEPLOYMENTS / "systemd").glob("*.env.example"))
UNITS = sorted((DEPLOYMENTS / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def filled():
    return services(example() | FILLED)


def test_every_variable_is_in_the_example_file_and_explained():
    assert {found[1] for found in VARIABLE.finditer(COMPOSE)} == set(example()) - {"COMPOSE_PROJECT_NAME"}
    blocks = (DEPLOYMENTS / "compose.env.example").read_text().split("\n\n")
    assert [block for block in blocks if not block.startswith("#")] == []


def test_no_secret_has_a_default_and_without_one_nothing_starts():
    assert [name for name, value in example().items() if SECRET.search(name) and value] == []
    for missing in FILLED:
        with pytest.raises(AssertionError, match=missing):
            services(example() | FILLED | {missing: ""})


def test_no_secret_is_written_down(filled):
    unfilled = services(dict.fromkeys(example(), "FROM-OUTSIDE"))
    for name, service in unfilled.items():
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or value == "FROM-OUTSIDE", f"{name}: {key}"
    written = re.compile(r"(?mi)^[^#;]*(password|secret|auth_string)\w*[ \t]*=[ \t]*\S|://\w*:\w*@")
    for path in [*(DEPLOYMENTS / "systemd").iterdir(), DEPLOYMENTS / "mlflow-auth.ini"]:
        assert not written.search(path.read_text()), path


def test_every_image_is_pinned_to_a_version(filled):
    images = {service["image"] for service in filled.values()}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert images == {f"repartee:{version}", "postgres:17.10"}
    first = re.search(r"(?m)^FROM (\S+)$", (DEPLOYMENTS / "Dockerfile").read_text())[1]
    assert all(re.search(r":\d+\.\d+", image) for image in {*images, first})


def test_nothing_is_published_beyond_this_machine(filled):
    ports = [port for service in filled.values() for port in service.get("ports", [])]
    assert len(ports) == 2 and all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_has_a_health_check_or_says_why_not(filled):
    without = [name for name, service in filled.items() if "healthcheck" not in service]
    assert without == ["install"]
    assert re.search(r"# .*no health check\.\n  install:", COMPOSE)


def test_our_containers_have_no_rights_and_write_to_their_volume_alone(filled):
    for name, service in filled.items():
        if service["image"].startswith("repartee"):
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
    assert re.search(r"(?m)^USER 10001:10001$", (DEPLOYMENTS / "Dockerfile").read_text())


def test_the_image_holds_every_package_of_the_wheel_and_no_secret():
    held = (DEPLOYMENTS / "Dockerfile.dockerignore").read_text().splitlines()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in wheel["only-include"]:
        assert f"!{name}" in held or (name.endswith(".py") and "!*.py" in held), name
    assert held.index("*") < held.index("!deployments") < held.index("**/.env")


def commands():
    """Yield the service or unit and the words of each command in compose.yaml and the systemd units."""
    for name, service in services(example() | FILLED | {"WORKER_QUEUES": "--work-queue default"}).items():
        if command := service.get("command"):
            yield name, shlex.split(command) if isinstance(command, str) else command
    for unit in UNITS:
        for line in re.findall(r"(?m)^Exec\w+=(.+)$", unit.read_text().replace("\\\n", " ")):
            words = shlex.split(line)
            yield unit.stem, [words[0].rpartition("/")[2], *words[1:]]


@pytest.mark.parametrize(
    ("where", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_commands_use_switches_that_the_installed_programs_know(where, words):
    program, *rest = words
    switches = {word.partition("=")[0] for word in rest if word.startswith("--")}
    if program == "python":
        module = ROOT / f"{rest[1].replace('.', '/')}.py"
        assert rest[0] == "-m" and '__name__ == "__main__"' in module.read_text()
        if rest[1] == "environment":
            _, _, program, *rest = rest
        else:
            program, rest = "prefect", ["worker", "start"]  # the command that deployments.worker runs
    if not switches:
        return
    verbs = rest[: next(i for i, word in enumerate([*rest, "--"]) if word.startswith("-"))]
    assert {switch for switch in switches if not re.search(rf"{switch}\b", manual(program, *verbs))} == set()


@cache
def manual(program, *verbs):
    return subprocess.run(
        [str(BIN / program), *verbs, "--help"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong_with_the_units(unit, tmp_path):
    scope = ["--user"] if unit.stem == "repartee" else []
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"(/opt|%h)/repartee/.venv/bin", str(BIN), unit.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *scope, str(copy)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


UNIT_OF = {"prefect": "prefect-server", "mlflow": "mlflow-server", "worker": "repartee-worker"}
"""The systemd unit that corresponds to each service of compose.yaml."""


def unit_environment(unit):
    text = (DEPLOYMENTS / "systemd" / f"{unit}.service").read_text()
    return dict(re.findall(r"(?m)^Environment=(\w+)=(.*)$", text))


def test_the_units_set_the_same_switches_as_the_containers(filled):
    for service, unit in UNIT_OF.items():
        of_unit, of_container = unit_environment(unit), filled[service]["environment"]
        differing = {
            key
            for key in of_unit.keys() & of_container.keys()
            if "/" not in of_unit[key] and of_unit[key] != of_container[key]
        }
        assert differing == set(), service
        outside = set(example()) | set(re.findall(r"(?m)^#?(\w+)=", ENV_FILES))
        assert {key for key in of_container if key not in of_unit and key not in outside} == set(), service


@pytest.mark.parametrize(
    ("service", "needed"), [("prefect", PREFECT_SERVER), ("mlflow", MLFLOW_SERVER), ("worker", WORKER)]
)
def test_the_units_and_the_containers_set_what_environment_py_says_that_a_service_needs(
    filled, service, needed
):
    for environment in (filled[service]["environment"], unit_environment(UNIT_OF[service])):
        # The commands run `environment` or deployments.worker, which set the variables in EVERY_PROCESS.
        assert {key: (EVERY_PROCESS | environment).get(key) for key in needed} == needed


def test_no_unit_and_no_container_sets_a_variable_of_every_process_otherwise(filled):
    units = [unit_environment(unit.stem) for unit in UNITS]
    for environment in (*units, *(service.get("environment", {}) for service in filled.values())):
        assert {
            key: value for key, value in environment.items() if EVERY_PROCESS.get(key, value) != value
        } == {}
