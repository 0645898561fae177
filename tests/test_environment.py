"""What the libraries find in the environment of every one of our processes."""

import os
import subprocess
import sys

import pytest

PROXIES = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS", "ALL")}
LOOK = """
from environment import quiet_environment
quiet_environment()
import urllib.request, sys
print([urllib.request.proxy_bypass(host) for host in sys.argv[1:]])
"""


def bypassed(*hosts, **env):
    """Whether each host is reached without the proxy, in a process with this environment."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *hosts],
        env={**clean, **PROXIES, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word == "True" for word in done.stdout.strip("[]\n").split(", ")]


def test_the_servers_of_this_machine_are_reached_without_the_proxy_and_others_through_it():
    hosts = ("127.0.0.1", "localhost", "::1", "data.example")
    assert bypassed(*hosts) == [True, True, True, False]


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_the_hosts_that_the_user_excepted_stay_excepted(name):
    assert bypassed("127.0.0.1", "corp.example", **{name: "corp.example"}) == [True, True]
    assert bypassed("127.0.0.1", "data.example", **{name: "*"}) == [True, True]
