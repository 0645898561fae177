"""The keys of the artifacts, which all flows of a Prefect server share."""

import re

import pytest

from tasks.prefect_api.reporting import key_prefix


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("repartee", "repartee"),
        ("Support Bot 2", "support-bot-2"),
        ("o'neil_DE", "o-neil-de"),
        ("чат", "repartee"),
        ("--", "repartee"),
    ],
)
def test_the_name_of_any_model_gives_a_key_that_prefect_accepts(model, key):
    assert key_prefix(model) == key
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key_prefix(model))
