"""Several sources with weights stand in one text, which is read and written without loss."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.download import DownloadConfig
from corpus.mix import (
    SEPARATOR,
    Part,
    foreign_source,
    join_sources,
    name_of_mix,
    names_of,
    read_mix,
    weights_of,
    with_absolute_paths,
    without_weights,
    write_mix,
)
from models.errors import InputError

CHARACTERS = st.text("ab./=+? #:05\tä", min_size=1, max_size=12).map(str.strip)
CORPORA = st.lists(
    st.one_of(CHARACTERS, CHARACTERS.map("https://h.org/".__add__)).filter(
        lambda text: text and SEPARATOR.split(text) == [text]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Ann: Yes.\n")


def refusal(corpus: str) -> str:
    with pytest.raises(InputError) as error:
        DownloadConfig(corpus=corpus)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "cornell + mine.jsonl=0.5",
        "cornell\nmine.jsonl = 0.5\n",
        " cornell=1 \r\n\r\n mine.jsonl=.5",
        "cornell=1.0  +  mine.jsonl=0.50",
    ],
)
def test_sources_are_separated_by_a_plus_between_blanks_or_a_line_break(text: str) -> None:
    assert read_mix(text) == [Part("cornell", 1), Part("mine.jsonl", 0.5)]
    assert DownloadConfig(corpus=text).corpus == "cornell + mine.jsonl=0.5"


def test_the_text_of_one_source_is_stored_unchanged(folder: Path) -> None:
    write("a=0.5", "b + c.txt")
    for text in ("sample", " sample ", "a=0.5", "b + c.txt", "/data/day=5/x.jsonl", "x+y", ""):
        assert DownloadConfig(corpus=text).corpus == text
        assert read_mix(text) == [Part(text.strip(), 1)]
        assert weights_of(text) == {}


def test_a_path_that_exists_is_that_path_whatever_characters_it_has(folder: Path) -> None:
    write("a=0.5", "b + c.txt", "d=2/e.txt")
    assert read_mix("a=0.5=0.3 + sample") == [Part("a=0.5", 0.3), Part("sample")]
    assert read_mix("b + c.txt=0.2\nd=2/e.txt") == [Part("b + c.txt", 0.2), Part("d=2/e.txt")]
    joined = join_sources(["b + c.txt", "a=0.5", "sample=2"])
    assert read_mix(joined) == [Part("b + c.txt"), Part("a=0.5"), Part("sample", 2)]


def test_the_weight_of_an_address_with_a_query_follows_a_blank() -> None:
    assert read_mix("https://h.org/a=b") == [Part("https://h.org/a=b")]
    assert read_mix("https://h.org/a.csv=0.5") == [Part("https://h.org/a.csv", 0.5)]
    assert read_mix("https://h.org/a?v=2") == [Part("https://h.org/a?v=2")]
    assert read_mix("https://h.org/a?v=2 =0.5") == [Part("https://h.org/a?v=2", 0.5)]
    assert read_mix("env:REPARTEE_CORPUS_X=0.5") == [Part("env:REPARTEE_CORPUS_X", 0.5)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sample=half", "the weight 'half' is not a number"),
        ("sample=0,5", "the weight '0,5' is not a number"),
        ("sample=", "the weight '' is not a number"),
        ("mine.jsonl=0", "the weight 0 is not"),
        ("cornell + sample=-1", "the weight -1 is not"),
        ("sample=nan", "the weight nan is not"),
        ("sample=inf", "the weight inf is not"),
        ("sample=101", "the weight 101 is not"),
        ("cornell + ", "a source is missing"),
        ("cornell + + sample", "a source is missing"),
        ("=0.5", "a source is missing"),
        ("cornell + cornell=0.5", "corpus 'cornell' is given twice"),
        ("https://h.org/a?t=1 + https://h.org/a?t=1 =2", "https://h.org/a is given twice"),
    ],
)
def test_a_mix_that_cannot_be_used_is_refused_in_one_sentence(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_two_paths_of_one_file_are_the_same_source(folder: Path) -> None:
    write("data/a.txt")
    assert "is given twice" in refusal(f"data/a.txt + {folder}/data/../data/a.txt")


@given(CORPORA, st.lists(st.just(1.0) | st.floats(0.001, 100), min_size=4, max_size=4))
def test_a_mix_is_read_as_it_was_written(corpora: list[str], weights: list[float]) -> None:
    parts = [Part(corpus, weight) for corpus, weight in zip(corpora, weights, strict=False)]
    assert read_mix(write_mix(parts)) == parts
    assert [part.corpus for part in read_mix(without_weights(write_mix(parts)))] == corpora


def test_an_address_of_a_mix_is_stored_without_its_query() -> None:
    stored = DownloadConfig(corpus="https://h.org/a?token=s3cr3t =0.5 + sample").corpus
    assert "s3cr3t" not in stored and stored.endswith(" =0.5 + sample")
    assert DownloadConfig(corpus=stored).corpus == stored
    assert "username and password" in refusal("sample + https://me:pw@h.org/a=0.5")


def test_each_source_has_a_name_of_its_own_that_is_safe_as_a_folder() -> None:
    assert names_of(["a/train.jsonl", "b/Train.csv", "cornell", "..", "x/y z?.txt"]) == [
        "train",
        "Train-2",
        "cornell",
        "corpus",
        "y-z",
    ]
    assert name_of_mix("cornell + a/mine.jsonl=0.5") == "cornell+mine"
    assert name_of_mix("/data/my chats.zip=0.5") == "my chats"
    assert weights_of("cornell + a/mine.jsonl=0.5") == {"cornell": 1, "mine": 0.5}
    assert weights_of("cornell=0.5") == {"cornell": 0.5}


def test_one_file_outside_the_home_makes_a_mix_foreign(folder: Path) -> None:
    write("home/a.txt", "b.txt")
    home = folder / "home"
    assert foreign_source("sample + home/a.txt=0.5", home) is None
    assert foreign_source("sample + home/a.txt + b.txt=0.5", home) == "b.txt"
    assert foreign_source("sample + /etc/passwd", home) == "/etc/passwd"


def test_the_paths_of_a_mix_become_absolute_and_the_rest_stays(folder: Path) -> None:
    write("a.txt", "b=2")
    mix = with_absolute_paths("a.txt=0.5 + sample + b=2 + missing.txt")
    assert mix == f"{folder}/a.txt=0.5 + sample + {folder}/b=2 + missing.txt"
    assert with_absolute_paths("a.txt") == f"{folder}/a.txt"
