"""Each server gets its own port, even if the servers of two homes start at the same moment."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from deployments.local.services import is_free, take_port
from services_state import HOST


def test_two_that_start_at_once_never_choose_the_same_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        wanted = probe.getsockname()[1]
    first, held = take_port(wanted)
    assert first == wanted
    assert take_port(wanted)[0] != wanted, "nobody listens yet, and all the same it is taken"
    held.release()
    assert take_port(wanted)[0] == wanted


def test_a_port_on_which_somebody_listens_is_not_taken():
    with socket.socket() as stranger:
        stranger.bind((HOST, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        assert not is_free(port)
        assert take_port(port)[0] != port
    assert is_free(port)


def test_a_name_that_another_user_has_taken_stops_no_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = tmp_path / f"repartee-ports-{os.getuid()}"
    if os.geteuid() == 0:
        taken.mkdir(mode=0o700)
        os.chown(taken, 65534, 65534)
    else:
        taken.symlink_to("/")
    _, lock = take_port(0)
    assert Path(lock.lock_file).parent == tmp_path / f"{taken.name}-1"
    lock.release()
