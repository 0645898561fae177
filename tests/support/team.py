"""A team's set-up without containers: the services of compose.yaml as processes, with a new PostgreSQL."""

import asyncio
import base64
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
import yaml
from installation import PATIENCE_S, ROOT, Api, until

DEPLOYMENTS = ROOT / "deployments"
BIN = Path(sys.executable).parent
NOBODY = 65534  # runs PostgreSQL if the tests run as root, because PostgreSQL refuses to run as root
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")
FILLED = {
    "POSTGRES_PASSWORD": "of-the-database",
    "PREFECT_SERVER_API_AUTH_STRING": "team:of-prefect",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "of-mlflow-first",
    "MLFLOW_TRACKING_PASSWORD": "of-mlflow-first",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-forms",
}


def example():
    """The variables of compose.env.example, with exactly the values in that file."""
    lines = (DEPLOYMENTS / "compose.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services(variables):
    """The services of compose.yaml, with its variables replaced as `docker compose` replaces them."""
    text = (DEPLOYMENTS / "compose.yaml").read_text()

    def put(found):
        name, rule, default = found.groups()
        value = variables.get(name, "")
        assert value or rule != ":?", f"{name} is missing"
        return value or default or ""

    return yaml.safe_load(VARIABLE.sub(put, text))["services"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(address, login=None):
    """The HTTP status with which a server answers a GET request, such as 200 or 401."""
    request = urllib.request.Request(address, headers=authorization(login) if login else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def authorization(login):
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


class Team:
    """The services, each in its own process group. Folders replace the volumes, and all ports are free."""

    def __init__(self, folder, postgres):
        self.folder = folder
        self.postgres = postgres
        self.home = folder / "home"
        self.login = FILLED["PREFECT_SERVER_API_AUTH_STRING"]
        ports = {name: str(free_port()) for name in ("4200", "5000", "8080")}
        self.prefect, self.mlflow = (f"http://127.0.0.1:{ports[port]}" for port in ("4200", "5000"))
        self.replacements = {
            "mlflow.localhost": "127.0.0.1",
            "//prefect:": "//127.0.0.1:",
            "0.0.0.0": "127.0.0.1",
        }
        self.replacements |= ports | {"/app": str(ROOT)}
        self.services = services(example() | FILLED)
        self.running = {}

    def start(self, name):
        self.running[name] = subprocess.Popen(self.command(name), **self.surroundings(name))
        return self.running[name]

    def run(self, *words):
        """Run a command as it would be run in the worker's container, and return its output."""
        done = subprocess.run(words, capture_output=True, text=True, **self.surroundings("worker", log=False))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, name):
        command = self.services[name]["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        program = sys.executable if words[0] == "python" else str(BIN / words[0])
        return [program, *(self.localised(word, name) for word in words[1:])]

    def surroundings(self, name, log=True):
        # A variable without a value is left to the surroundings of `docker compose`, which do not set it here.
        env = {
            key: self.localised(str(value), name)
            for key, value in self.services[name]["environment"].items()
            if value is not None
        }
        if "PGHOST" in env:
            env["PGHOST"] = str(self.postgres)
        inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        options = {"env": {**inherited, "PYTHONPATH": path, **env}, "cwd": ROOT}
        if log:
            file = (self.folder / f"{name}.log").open("ab")
            options |= {
                "stdout": file,
                "stderr": file,
                "stdin": subprocess.DEVNULL,
                "start_new_session": True,
            }
        return options

    def localised(self, text, name):
        volume = self.services[name]["volumes"][0].partition(":")[0]
        for text_of_container, replacement in {
            **self.replacements,
            "/data": str(self.folder / volume),
        }.items():
            text = text.replace(text_of_container, replacement)
        return text

    def api(self):
        return Api(self.prefect, **authorization(self.login))

    def is_healthy(self, name):
        """Whether the service is healthy according to the health check of its container."""
        check = self.services[name]["healthcheck"]["test"][1:]
        assert check[0] == "python"
        words = [sys.executable, *(self.localised(word, name) for word in check[1:])]
        return subprocess.run(words, capture_output=True).returncode == 0

    def said(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def end(self):
        """Stop the services one by one. The worker is first, as it reports the end of its run to them."""
        for process in reversed(self.running.values()):
            process.terminate()
            process.wait(PATIENCE_S)


@contextmanager
def postgres():
    """Run a new PostgreSQL cluster with the databases of databases.sql; yields the folder of its socket."""
    initdb, server = shutil.which("initdb"), shutil.which("postgres")
    if not (initdb and server):
        pytest.skip("no initdb or postgres on the PATH: install PostgreSQL's server, 14 or newer")
    if not all(find_spec(name) for name in ("psycopg", "flask_wtf")):
        pytest.skip("the extra `team` is not installed: pip install -c constraints.txt -e '.[dev,team]'")
    folder = Path(
        tempfile.mkdtemp(prefix="repartee-pg-")
    )  # short: a socket's path is limited to 107 characters
    password = folder / "password"
    password.write_text(FILLED["POSTGRES_PASSWORD"])
    as_user = []
    if os.geteuid() == 0:
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (folder, password):
            os.chown(path, NOBODY, NOBODY)
    rule = [
        "--username=repartee",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--no-sync",
    ]
    subprocess.run([*as_user, initdb, *rule, f"--pgdata={folder}/data"], check=True, capture_output=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_user, server, "-D", f"{folder}/data", "-k", str(folder), "-h", "", "-F"],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: (folder / ".s.PGSQL.5432").exists())
        query(folder, "postgres", "CREATE DATABASE prefect")
        query(folder, "postgres", (DEPLOYMENTS / "databases.sql").read_text())
        yield folder
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        shutil.rmtree(folder)


def query(folder, database, statement):
    """The rows that the database returns for the statement."""

    async def ask():
        password = FILLED["POSTGRES_PASSWORD"]
        for tries_left in reversed(range(1000)):
            try:
                link = await asyncpg.connect(
                    host=str(folder), user="repartee", password=password, database=database
                )
                break
            except asyncpg.CannotConnectNowError:  # PostgreSQL is still starting
                assert tries_left
                time.sleep(0.5)
        try:
            return [tuple(row) for row in await link.fetch(statement)]
        finally:
            await link.close()

    return asyncio.run(ask())
