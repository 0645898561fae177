"""`mlflow models serve`, MLflow's own server, serves the champion and answers chat messages."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_models import model_folder, set_generation
from installation import until
from registries import register

from models.registry import mlflow_model
from models.registry.versions import Registry

HELLO = {"messages": [{"role": "user", "content": "hello there ."}]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_up(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None, "the server has ended"
    try:
        urllib.request.urlopen(f"{address}/ping", timeout=60).close()
    except OSError:
        return False
    return True


def ask(address: str, request: dict[str, object]) -> tuple[int, str]:
    """The status and the body of the server's response to a request."""
    headers = {"Content-Type": "application/json"}
    body = json.dumps(request).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{address}/invocations", body, headers), timeout=300
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def served(registry: Registry, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of the server, and the folder of the champion that it serves."""
    folder = set_generation(model_folder(tmp_path / "model"), temperature=0.7, max_tokens=12)
    mlflow_model.write(folder, folder)
    version = registry.promote(register(registry, folder, registry.model), "the first")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", f"models:/{registry.model}@champion", "--port", str(port), "--timeout", "600"]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": registry.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "HF_HUB_OFFLINE": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: is_up(process, address), 600)
        yield address, registry.folder(version, tmp_path)
    finally:
        os.killpg(process.pid, 15)  # `mlflow` has started the server as a separate process
        process.wait(60)


@pytest.mark.flow
def test_mlflows_server_answers_chat_messages_and_refuses_a_temperature_of_0(
    served: tuple[str, Path], registry: Registry
) -> None:
    address, folder = served
    for options in ({}, {"max_tokens": 3}, {"temperature": 0.5, "stop": ["a"]}):
        status, body = ask(address, {**HELLO, **options})
        assert status == 200, body
        (answer,) = json.loads(body)
        assert answer["choices"][0]["message"]["role"] == "assistant"
        assert 0 < answer["usage"]["completion_tokens"] <= options.get("max_tokens", 12)
    status, body = ask(address, {**HELLO, "temperature": 0})
    assert status >= 400 and "temperature" in body
    assert ask(address, HELLO)[0] == 200, "the next request is answered"
    assert (folder / "registered_model_meta").exists(), "MLflow has opened the folder of the champion"
    assert registry.damage(registry.find("champion")) is None
