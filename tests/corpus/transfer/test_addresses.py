"""Tests that the parts of an address that may be secret are sent to the server but never stored or shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.download import DownloadConfig
from corpus.source import name_of, resolve
from corpus.transfer.addresses import full_address, holds_query, stored_form
from models.addresses import redact_addresses, redact_corpus
from models.errors import InputError
from models.pretrained.source import StartConfig

SECRET = "s3cr3t"


def test_a_query_is_stored_as_a_hash_and_requested_whole() -> None:
    stored = DownloadConfig(corpus=f" https://h.org/a.zip?token={SECRET}#f").corpus
    assert stored.startswith("https://h.org/a.zip?redacted-") and SECRET not in stored
    assert resolve(stored).locations == (f"https://h.org/a.zip?token={SECRET}",)
    assert DownloadConfig(corpus=stored).corpus == stored
    other = stored_form("https://h.org/a.zip?token=other")
    assert other != stored and full_address(other).endswith("other")
    assert holds_query("https://h.org/a.zip?x") and not holds_query(stored)


def test_a_query_that_only_another_process_knows_must_be_given_again() -> None:
    with pytest.raises(
        InputError, match=r"https://h.org/a.zip: the query string of this address is not stored: give "
    ):
        resolve("https://h.org/a.zip?redacted-00000000")


@pytest.mark.parametrize(
    "address",
    [
        f"https://me:{SECRET}@h.org/a.zip",
        f"https://{SECRET}@h.org",
        f"https://me:{SECRET}@h.org/a.zip?token={SECRET}",
        f"http://me:a@{SECRET}@h.org/a.zip",
        f"http://me:a/{SECRET}@h.org/a.zip",
        f"http://me:a?{SECRET}@h.org/a.zip",
        f"http://me:a#{SECRET}@h.org/a.zip",
        f"https:/me:{SECRET}@h.org/a.zip",
        f"https://me%40x:{SECRET}@h.org:bad/a.zip",
        f"https://127.0.0.1\\@{SECRET}.example/",
    ],
)
def test_user_and_password_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(InputError, match=r"would be stored.*\.netrc.*env:REPARTEE_CORPUS_NAME") as error:
        DownloadConfig(corpus=address)
    if "\\" not in address:
        assert SECRET not in str(error.value)


def test_the_line_for_netrc_names_the_host() -> None:
    with pytest.raises(InputError, match=r"machine h\.org login USER password PASSWORD"):
        stored_form(f"https://me:{SECRET}@h.org:8443/a.zip")


def test_a_variable_holds_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPARTEE_CORPUS_FILMS", f"https://me:{SECRET}@h.org/films.zip?token={SECRET}")
    stored = DownloadConfig(corpus="env:REPARTEE_CORPUS_FILMS").corpus
    assert stored == "env:REPARTEE_CORPUS_FILMS"
    source = resolve(stored)
    assert source.locations == (f"https://me:{SECRET}@h.org/films.zip?token={SECRET}",)
    assert (source.name, name_of(stored)) == ("films", "films")


@pytest.mark.parametrize(
    ("corpus", "line"),
    [
        ("env:REPARTEE_CORPUS_NONE", "the variable REPARTEE_CORPUS_NONE contains no http"),
        ("env:HOME", "the variable that holds the address must be called REPARTEE_CORPUS_NAME"),
    ],
)
def test_no_other_variable_is_read(corpus: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        resolve(corpus)


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        (f"https://h.org/d/films.zip?token={SECRET}.zip", "films"),
        (f"https://h.org/download?{SECRET}", "download"),
        (f"https://me:{SECRET}@h.org/", "h.org"),
        (f"https://me:{SECRET}/x@h.org/", "h.org"),
        ("/data/cornell-standin.zip", "cornell-standin"),
    ],
)
def test_the_name_of_a_run_holds_no_login_and_no_query(corpus: str, name: str) -> None:
    assert name_of(corpus) == name


def test_an_address_is_no_start_for_a_training() -> None:
    with pytest.raises(
        InputError, match=r"init https://h.org/m: an address cannot name the initial model"
    ) as error:
        StartConfig(init=f"https://me:{SECRET}@h.org/m?token={SECRET}")
    assert SECRET not in str(error.value)


SAFE = st.text("abcXYZ019-_.~%", min_size=1, max_size=12)


@given(SAFE, SAFE, st.text("abc019@:/?#&=%-", max_size=12))
def test_nothing_of_a_login_or_a_query_is_shown(user: str, password: str, query: str) -> None:
    address = f"https://u{user}q:p{password}q@host.org/a.zip?token=t{query}q"
    for text in (redact_corpus(address), redact_addresses(f"GET {address} failed")):
        assert f"p{password}q" not in text and f"u{user}q" not in text and "token" not in text
        assert "host.org/a.zip" in text


def test_a_text_without_a_secret_is_not_changed() -> None:
    for text in ("https://h.org:8443/@me/x.zip", "sqlite:////home/a@b/mlflow.db", "C:\\corpus", "a?b@c"):
        assert redact_addresses(text) == text
