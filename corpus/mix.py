"""Mixes: one text for several sources with weights, such as `cornell + mine.jsonl=0.5`.

The sources are separated by a plus sign between blanks, or by a line break. Each of them may end in
`=WEIGHT`. A text that is an existing path is that path, even if it contains a plus sign or an equals sign.
The weight of an address with a query string must follow a blank, because the query string may contain equals
signs.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from corpus import source as sources
from corpus.source import NAMES, existing_path
from corpus.transfer import addresses
from corpus.transfer.addresses import HTTP_SCHEME, VARIABLE
from models.addresses import redact_corpus
from models.errors import InputError

MAX_WEIGHT = 100
MAX_NAME_CHARACTERS = 60
BETWEEN = " + "
SEPARATOR = re.compile(r"(?<![^ \t])\+(?![^ \t])")
NUMBER = re.compile(r"[+-]?([\d.,]+(e[+-]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)


class Part(NamedTuple):
    """One source of a mix."""

    corpus: str
    """What `corpus.source.resolve` accepts."""
    weight: float = 1.0
    """At most 1: the share of the source's conversations that is used. More: how often training repeats them,
    up to MAX_WEIGHT."""


def read_mix(text: str) -> list[Part]:
    """The sources in a text, and their weights. There is at least one source; its text may be empty.

    Raises:
        InputError: a source is missing or given twice, or a weight is not a number in the valid range.
    """
    whole = text.strip()
    if not whole or existing_path(whole):
        return [Part(whole)]
    lines = [line.strip() for line in re.split(r"[\r\n]+", whole)]
    parts = [_read_part(piece) for line in lines if line for piece in _pieces(line)]
    known: set[str] = set()
    for corpus, _ in parts:
        if (key := _key(corpus)) in known:
            raise InputError(
                f"corpus {redact_corpus(corpus)} is given twice: give it once, with a weight if it should "
                "count more"
            )
        known.add(key)
    return parts


def write_mix(parts: Sequence[Part]) -> str:
    """The text from which `read_mix` reads these parts."""
    texts = [_write_part(part) for part in parts]
    return ("\n" if any(SEPARATOR.search(text) for text in texts) else BETWEEN).join(texts)


def join_sources(texts: Sequence[str]) -> str:
    """One text for the values of several options `--corpus`; a single value is not changed.

    Raises:
        InputError: see `read_mix`.
    """
    return texts[0] if len(texts) == 1 else write_mix([part for text in texts for part in read_mix(text)])


def stored_mix(text: str) -> str:
    """The form in which a corpus may be stored, without anything that may be secret.

    Raises:
        InputError: see `read_mix`; or an address contains a username or a password.
    """
    parts = read_mix(text)
    if parts == [Part(text.strip())]:
        return addresses.stored_form(text)
    return write_mix([part._replace(corpus=addresses.stored_form(part.corpus)) for part in parts])


def without_weights(text: str) -> str:
    """The same sources, each with the weight 1: what decides which files are downloaded."""
    parts = read_mix(text)
    return text if all(weight == 1 for _, weight in parts) else write_mix([Part(each) for each, _ in parts])


def weights_of(text: str) -> dict[str, float]:
    """The weights by the names of the sources; empty if there is only one source, and it has no weight."""
    parts = read_mix(text)
    names = names_of(corpus for corpus, _ in parts)
    weights = {name: weight for name, (_, weight) in zip(names, parts, strict=True)}
    return {} if list(weights.values()) == [1] else weights


def is_built_in(text: str) -> bool:
    """Whether Repartee itself provides every source."""
    return all(corpus in NAMES for corpus, _ in read_mix(text))


def names_of(corpora: Iterable[str]) -> list[str]:
    """A name for each source of a mix. The names differ, and they are safe as names of folders."""
    names: list[str] = []
    for corpus in corpora:
        safe = re.sub(r"[^\w.-]+", "-", sources.name_of(corpus)).strip(".-")
        first = safe[:MAX_NAME_CHARACTERS] or "corpus"
        name, number = first, 1
        while name.casefold() in map(str.casefold, names):
            number += 1
            name = f"{first}-{number}"
        names.append(name)
    return names


def name_of_mix(text: str) -> str:
    """A short name of a corpus, for use in run names: `cornell+mine` if it has several sources."""
    corpora = [corpus for corpus, _ in read_mix(text)]
    return "+".join(names_of(corpora)) if len(corpora) > 1 else sources.name_of(corpora[0])


def foreign_source(text: str, home: Path) -> str | None:
    """The first source that is a file or folder on this machine outside `home`; None if there is none."""
    return next((corpus for corpus, _ in read_mix(text) if sources.is_foreign(corpus, home)), None)


def with_absolute_paths(text: str) -> str:
    """The same sources, with an absolute path for each file or folder that exists."""
    parts = read_mix(text)
    paths = {corpus: existing_path(corpus) for corpus, _ in parts if sources.is_path(corpus)}
    absolute = {corpus: str(path.resolve()) for corpus, path in paths.items() if path}
    if not absolute:
        return text
    return write_mix([part._replace(corpus=absolute.get(part.corpus, part.corpus)) for part in parts])


def _pieces(line: str) -> list[str]:
    """The texts of the sources in a line. A path may contain a plus sign between blanks."""
    corpus, weight = _divided(line)
    is_one = existing_path(corpus) and not SEPARATOR.search(weight or "")
    return [line] if is_one else SEPARATOR.split(line)


def _read_part(text: str) -> Part:
    corpus, weight = _divided(text.strip())
    if not corpus:
        raise InputError("a source is missing: give the corpus as SOURCE=WEIGHT + SOURCE=WEIGHT")
    if weight is None:
        return Part(corpus)
    try:
        number = float(weight)
    except ValueError:
        raise InputError(
            f"corpus {redact_corpus(corpus)}: the weight {weight[:40]!r} is not a number: write it after the "
            "equals sign as in cornell=0.5"
        ) from None
    if not 0 < number <= MAX_WEIGHT:
        raise InputError(
            f"corpus {redact_corpus(corpus)}: the weight {weight} is not greater than 0 and at most "
            f"{MAX_WEIGHT}: give the share of the source that is used, such as 0.5"
        )
    return Part(corpus, number)


def _divided(text: str) -> tuple[str, str | None]:
    """A source, and the text of its weight; None if the text contains no weight."""
    before, equals, weight = text.rpartition("=")
    corpus, weight = before.rstrip(), weight.strip()
    is_in_query = HTTP_SCHEME.match(text) and re.search("[?#]", before) and corpus == before
    if not equals or is_in_query or existing_path(text):
        return text, None
    is_known = corpus in ("", *NAMES) or VARIABLE.fullmatch(corpus) or existing_path(corpus)
    return (corpus, weight) if is_known or NUMBER.fullmatch(weight) else (text, None)


def _write_part(part: Part) -> str:
    corpus, weight = part
    if weight == 1 and _divided(corpus)[1] is None:
        return corpus
    blank = " " if HTTP_SCHEME.match(corpus) and re.search("[?#]", corpus) else ""
    text = format(Decimal(repr(float(weight))), "f").removesuffix(".0")
    return f"{corpus}{blank}={text}"


def _key(corpus: str) -> str:
    """A text that two mentions of the same source have in common."""
    path = existing_path(corpus) if sources.is_path(corpus) else None
    return str(path.resolve()) if path else corpus
