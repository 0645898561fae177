"""Each test file starts `repartee up` once in its own home, which its tests share."""

import re

import pytest
from installation import PATIENCE_S, TINY, Api, ask, go_up, left_of


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def upped(home):
    process, output = go_up(home)
    yield output
    ask(home, "down")
    process.wait(PATIENCE_S)
    assert not left_of(home)


@pytest.fixture(scope="module")
def api(upped):
    return Api(re.search(r"Prefect +(http\S+)", upped)[1])


@pytest.fixture(scope="module")
def promoted(api):
    return api.ending(api.trigger(TINY))
