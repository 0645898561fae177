"""The plan warns before a champion of one corpus is replaced by a model of another one."""

from datetime import UTC, datetime

import pytest

from flows.lifecycle.context import describe_run
from flows.recipes import configure
from models.registry.version import Version
from settings import Settings
from tasks.plan import other_corpus


def warning(corpus: str, champions: str | None) -> str:
    run = describe_run(configure("quick", corpus, []), Settings())
    tags = {} if champions is None else {"repartee.corpus": champions}
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return other_corpus(run, Version(3, (), tags, {}, "run", created, "", "models:/m"))


def test_a_champion_of_another_corpus_is_named_with_the_option_that_keeps_both() -> None:
    assert warning("sample", "bakery") == (
        "champion v3 of the line repartee was trained on bakery, and a model that is better than it on the "
        "test split of sample replaces it; if both are to be in service, give this corpus a line of its own "
        "with --line NAME"
    )


@pytest.mark.parametrize(
    ("corpus", "champions"), [("sample", "sample"), ("sample + cornell=0.5", "cornell"), ("sample", None)]
)
def test_a_corpus_that_grows_or_gets_a_further_source_is_no_other_one(
    corpus: str, champions: str | None
) -> None:
    assert warning(corpus, champions) == ""
