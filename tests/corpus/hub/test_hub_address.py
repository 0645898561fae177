"""How a data set of the hub is written: in a source, in a mix and in the form."""

import re

import pytest

from corpus.download import DownloadConfig
from corpus.mix import Part, join_sources, names_of, read_mix, weights_of
from corpus.source import is_path, name_of, resolve
from corpus.transfer.addresses import FORM_PATTERN
from models.addresses import redact_corpus
from models.errors import InputError


@pytest.mark.parametrize(
    ("text", "location", "name"),
    [
        ("hf:org/talk", "hf:org/talk", "talk"),
        (" hf:Org.x/talk_v1.0-a ", "hf:Org.x/talk_v1.0-a", "talk_v1.0-a"),
        ("hf:org/talk@v1", "hf:org/talk@v1", "talk"),
        ("hf:org/talk/data/en/", "hf:org/talk/data/en", "talk-data-en"),
        ("hf:org/talk/a b/é.jsonl@refs/convert/parquet", None, "talk-a-b"),
    ],
)
def test_a_data_set_has_a_name_that_is_safe_as_a_file(text: str, location: str | None, name: str) -> None:
    source = resolve(text)
    assert (source.kind, source.locations) == ("hub", (location or text,))
    assert source.name.startswith(name) and re.fullmatch(r"[\w.-]+", source.name)
    assert name_of(text) == source.name
    assert not is_path(text)
    assert redact_corpus(text) == text.strip()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("hf:talk", "hf:ORG/NAME"),
        ("hf:", "hf:ORG/NAME"),
        ("hf:org/talk@", "hf:ORG/NAME"),
        ("hf:org/talk/../../x", "hf:ORG/NAME"),
        ("hf:org//talk", "hf:ORG/NAME"),
        ("hf:me:s3cr3t@org/talk", "hf:ORG/NAME"),
        ("hf:org/talk?token=s3cr3t", "hf:ORG/NAME"),
        ("hf://datasets/org/talk", "give hf:org/talk"),
        ("hf://datasets/org/talk@v1/data/en", "give hf:org/talk/data/en@v1"),
        ("https://huggingface.co/datasets/org/talk", "give hf:org/talk"),
        ("https://huggingface.co/datasets/org/talk/tree/main/data", "give hf:org/talk/data@main"),
    ],
)
def test_another_form_is_refused_with_the_right_one(wrong: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        resolve(DownloadConfig(corpus=wrong).corpus)
    assert hint in str(error.value) and "s3cr3t" not in str(error.value)


def test_the_address_of_a_file_on_the_hub_is_an_address() -> None:
    assert resolve("https://huggingface.co/datasets/org/talk/resolve/main/a.jsonl").kind == "http"


def test_a_data_set_is_a_source_of_a_mix() -> None:
    text = join_sources(["sample", "hf:org/talk=0.3", "hf:org/talk/en@v1.0=2", "hf:org/other/lang=en"])
    assert read_mix(text) == [
        Part("sample"),
        Part("hf:org/talk", 0.3),
        Part("hf:org/talk/en@v1.0", 2),
        Part("hf:org/other/lang=en"),
    ]
    assert DownloadConfig(corpus=text).corpus == text
    assert weights_of(text) == {"sample": 1, "talk": 0.3, "talk-en": 2, "other-lang-en": 1}
    assert names_of(["hf:org/talk", "hf:other/talk"]) == ["talk", "talk-2"]


@pytest.mark.parametrize(
    "text",
    [
        "hf:org/talk",
        "hf:org/talk@v1",
        "hf:org/talk/a b@refs/convert/parquet =0.5",
        "sample + hf:org/talk=0.3",
        "hf:org/talk=0.3 + https://example.org/mine.zip",
    ],
)
def test_the_form_accepts_it(text: str) -> None:
    assert re.search(FORM_PATTERN, text)


@pytest.mark.parametrize(
    "text", ["hf:me:pw@org/talk", "hf:org/talk?token=x", "hf://datasets/org/talk", "hf:talk"]
)
def test_the_form_refuses_what_may_hold_a_secret(text: str) -> None:
    assert not re.search(FORM_PATTERN, text)
