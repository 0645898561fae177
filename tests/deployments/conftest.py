"""One home that is up, for every test that changes nothing that another one needs."""

import re

import pytest
from installation import TINY, Api, ask, go_up, left_of


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="session")
def upped(home):
    process, told = go_up(home)
    yield told
    ask(home, "down")
    process.wait(30)
    assert not left_of(home)


@pytest.fixture(scope="session")
def api(upped):
    return Api(re.search(r"Prefect +(\S+)", upped)[1])


@pytest.fixture(scope="session")
def promoted(api):
    return api.ending(api.trigger(TINY))
