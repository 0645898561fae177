"""An installation as its user sees it: the command, the services of a home, and Prefect's REST interface."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

from deployments.local.ephemeral_server import temporary_server
from flows.config import flatten

ROOT = Path(__file__).resolve().parents[2]
CONFIGURED = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
TINY = {
    "recipe": "quick",
    "changes": {
        "download": {"sample_turns": 3000},
        "vocabulary": {"size": 600},
        "network": {"n_layer": 2, "width": 32},
        "train": {"max_steps": 12},
        "evaluate": {"sample_replies": 10},
    },
}
ENDLESS = {"max_minutes": "none", "max_epochs": 1_000_000, "checkpoint_seconds": 1}
LONG = {**TINY, "changes": {**TINY["changes"], "train": ENDLESS}}
PATIENCE_S = 900  # the longest wait for an event, so long that an event which does happen is never missed


def training(seed, **train):
    """The parameters of a training run that no other test uses. The settings `train` decide when it ends."""
    return {**TINY, "changes": {**TINY["changes"], "train": {**train, "seed": seed}}}


def settings(changes):
    """The changes of a recipe, converted to arguments of the command line."""
    words = {key: "null" if value == "none" else value for key, value in flatten(changes).items()}
    return [f"--set={key}={value}" for key, value in words.items()]


class Api:
    """Prefect's REST interface, as its dashboard uses it."""

    def __init__(self, address, **headers):
        self.base = f"{address}/api"
        self.headers = {"Content-Type": "application/json", **headers}
        token = self.get("/csrf-token?client=test")["token"]
        self.headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}

    def get(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=self.headers, method=method)
        for tries_left in reversed(range(10)):
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # Prefect's database may be busy for a moment. Prefect's own client also repeats the request.
                if error.code != 503 or not tries_left:
                    raise
            except ConnectionError:
                # A server under load may close a connection. Only requests that change nothing are repeated.
                if not tries_left or not (body is None or path.endswith("/filter")):
                    raise
            time.sleep(1)
        raise AssertionError

    def trigger(self, parameters, name="retrain/retrain", run_name=None):
        deployment = self.get(f"/deployments/name/{name}")
        body = {"parameters": parameters} | ({"name": run_name} if run_name else {})
        return self.get(f"/deployments/{deployment['id']}/create_flow_run", body)["id"]

    def ending(self, flow_run_id, timeout_s=PATIENCE_S):
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            state = self.get(f"/flow_runs/{flow_run_id}")["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return state
            time.sleep(0.3)
        raise AssertionError(f"{flow_run_id} did not end: {state}")


def outcome(state):
    """The outcome of a completed run, which is the first word of its state's message."""
    assert state["name"] == "Completed", state
    return state["message"].partition(":")[0].lower()


def command(home, *words, **env):
    environment = {key: value for key, value in os.environ.items() if key not in CONFIGURED}
    return {
        "args": [sys.executable, "-m", "cli", *words],
        "env": {**environment, "REPARTEE_HOME": str(home), **env},
        "cwd": home,  # any folder will do, because the command finds its own project
        "text": True,
    }


def tiny_command(home, verb, *changes, options=(), **env):
    """The verb with a tiny network, further options, and further settings such as `train.seed=1`."""
    tiny = [*settings(TINY["changes"]), "--set=train.max_minutes=null", "--set=train.log_every=2"]
    changed = [f"--set={change}" for change in changes]
    return command(home, verb, "--recipe", "quick", *options, *tiny, *changed, "--json", **env)


def ask(home, *words, timeout_s=PATIENCE_S, **env):
    done = subprocess.run(**command(home, *words, **env), capture_output=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


def go_up(home):
    """Run `repartee up` and wait until it prints that it is up; returns (process, its output)."""
    process = subprocess.Popen(
        **command(home, "up"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("Up in"):
            return process, output
    raise AssertionError(f"`repartee up` never came up: {output}")


@contextmanager
def services_up(home):
    """The output of `repartee up`, whose services run until the end of the block."""
    process, output = go_up(home)
    yield output
    ask(home, "down")
    process.wait(PATIENCE_S)
    assert not left_of(home)


def addresses_in(output):
    """The addresses of Prefect and MLflow that `repartee up` has printed."""
    return {name: re.search(rf"{name} +(http://[^/\s]+)", output)[1] for name in ("Prefect", "MLflow")}


def serve(home, **env):
    """Serve the deployments in a single process, without a worker."""
    options = command(home)
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.serve"],
        cwd=ROOT,
        env={**options["env"], **env},
        stderr=(home / "serve.log").open("w"),
    )


def install(home, api):
    """Create the deployments on a Prefect server; returns the log lines."""
    env = {**command(home)["env"], "PREFECT_API_URL": api.base, "PREFECT_HOME": str(home / "prefect")}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.install"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def installed(home):
    """Prefect's REST interface on a temporary server that has the deployments."""
    with temporary_server(home) as server:
        api = Api(server.wait().removesuffix("/api"))
        install(home, api)
        yield api


def services(home):
    return json.loads(ask(home, "status", "--json"))["services"]


def left_of(home):
    """The command line of every process that names this home in its arguments."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(home) in line]


def kill_everything(home):
    """Send SIGKILL to every process whose variable REPARTEE_HOME is this home."""
    while found := [
        int(environ.parent.name)
        for environ in Path("/proc").glob("[0-9]*/environ")
        if _works_for(home, environ)
    ]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _works_for(home, environ):
    with suppress(OSError):  # the process has ended, or belongs to another user
        return f"REPARTEE_HOME={home}\0".encode() in environ.read_bytes()
    return False


def trainers(home):
    return [line for line in left_of(home) if "models.training.trainer" in line]


def trainer_group(home):
    """The process group of the trainer that runs in this home; None if none is running."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pgid,args"], capture_output=True, text=True, check=True
    ).stdout
    groups = [
        line.split()[0]
        for line in listed.splitlines()
        if "models.training.trainer" in line and str(home) in line
    ]
    return int(groups[0]) if groups else None


@contextmanager
def held(home):
    """A context in which the trainer of this home is suspended, so that it cannot end."""
    group = until(lambda: trainer_group(home))
    os.killpg(group, signal.SIGSTOP)
    try:
        yield group
    finally:
        os.killpg(group, signal.SIGCONT)


def until(wanted, timeout_s=PATIENCE_S):
    deadline_s = time.monotonic() + timeout_s
    while not (found := wanted()):
        assert time.monotonic() < deadline_s, "the expected event did not happen in time"
        time.sleep(0.2)
    return found


class Shell:
    """The shell in which the user of a home runs commands; `repartee` is on its PATH."""

    def __init__(self, home, commands):
        self.home = home
        self.python = sys.executable
        commands.mkdir()
        (commands / "repartee").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
        (commands / "repartee").chmod(0o755)
        self.commands = commands
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in CONFIGURED},
            "REPARTEE_HOME": str(self.home),
            "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def shell(self, line, **env):
        return subprocess.run(
            ["bash", "-c", line], env={**self.env, **env}, capture_output=True, text=True, timeout=PATIENCE_S
        )

    def faults(self, before="true", words="", **env):
        """The faults that `repartee doctor` finds after the command `before` in the same shell, by check."""
        done = self.shell(f'{before}; exec "{self.python}" -m cli doctor --json {words}', **env)
        found = json.loads(done.stdout or "{}")
        assert found, done.stderr
        assert done.returncode == (0 if found["healthy"] else 1)
        return {each["check"]: each["faults"] for each in found["checks"] if each["faults"]}


def remedies(faults):
    """All the remedies that `repartee doctor` suggests, joined into one line."""
    return "; ".join(fault["remedy"] for check in faults.values() for fault in check)
