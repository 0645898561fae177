"""Each test file starts `repartee up` once in its own home, which its tests share."""

import pytest
from installation import TINY, Api, addresses_in, services_up


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    """A home in which the first run reuses its training."""
    return new_home(tmp_path_factory.mktemp("up"), trained=True)


@pytest.fixture(scope="module")
def upped(home):
    with services_up(home) as output:
        yield output


@pytest.fixture(scope="module")
def api(upped):
    return Api(addresses_in(upped)["Prefect"])


@pytest.fixture(scope="module")
def promoted(api):
    return api.ending(api.trigger(TINY))
