"""Download stage: gets the two raw files of a corpus from an address, a zip, a folder or the generator."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from corpus.contents import unpack_contents
from corpus.layout import MEMBERS, SOURCE, Origin
from corpus.source import Source, archive_path, identity, identity_of_copy, log_progress, resolve
from corpus.transfer.addresses import stored_form
from corpus.transfer.guard import ANYWHERE, Reach
from corpus.transfer.http import fetch
from corpus.transfer.limits import Limits
from models.addresses import redact_corpus
from models.config import Config
from models.errors import InputError

log = logging.getLogger(__name__)


class DownloadConfig(Config):
    corpus: Annotated[str, AfterValidator(stored_form)] = "cornell"
    """`cornell`, `sample`, the path of a file, zip or folder, an http(s) address (its query string is never
    stored), or `env:REPARTEE_CORPUS_NAME`, where REPARTEE_CORPUS_NAME is an environment variable that
    contains the address."""
    sample_turns: int = Field(default=24_000, ge=100)
    """Number of turns to generate for the `sample` corpus."""
    sample_seed: int = 0
    """Random seed of the `sample` corpus."""


@dataclass(frozen=True)
class Corpus:
    """A corpus: where it comes from, what identifies its content, and what is needed to download it."""

    source: Source
    identity: str
    """An identifier of the corpus's content, as returned by `corpus.source.identity`."""
    folder: Path
    """The folder in which the downloaded files are kept."""
    reach: Reach = ANYWHERE
    """The hosts to which the download may connect."""


def find_corpus(config: DownloadConfig, home: Path, reach: Reach = ANYWHERE) -> Corpus:
    """Find the corpus that `config` specifies, and identify its content.

    Raises:
        InputError: there is no such corpus, or its address cannot be reached.
    """
    source, folder = resolve(config.corpus), home / "store" / "download" / ".partial"
    return Corpus(source, identity(source, folder, reach=reach), folder, reach)


def download_corpus(out: Path, config: DownloadConfig, *, corpus: Corpus) -> int:
    """Write the raw files and record their origin in logs/source.json; return the number of raw files.

    Raises:
        InputError: a file cannot be downloaded or read, is damaged, or does not match its pinned digest.
    """
    source = corpus.source
    members: dict[str, str] = {}
    if source.kind == "sample":
        from corpus.sample import generator

        generator.write_corpus(out, turns=config.sample_turns, seed=config.sample_seed)
    elif source.kind == "local":
        members |= unpack_contents(Path(source.locations[0]), out, pins=source.pins)
        if identity(source, corpus.folder) != corpus.identity:
            raise InputError(f"{source.name} changed while it was copied: run the same command again")
    else:
        members |= _download_and_unpack(out, corpus)
    # logs/ is not part of the digest, so equal files from different sources count as the same corpus.
    (out / "logs").mkdir()
    Origin(name=source.name, corpus=config.corpus, members=members).write(out / SOURCE)
    return len(members) or len(MEMBERS)


def _download_and_unpack(out: Path, corpus: Corpus) -> dict[str, str]:
    """Unpack the archive, first downloading it if there is no current copy; return each file's SHA-256."""
    source, archive = corpus.source, archive_path(corpus.folder, corpus.source)
    members: dict[str, str] = {}

    def check(path: Path) -> None:
        members.update(unpack_contents(path, out, pins=source.pins, name=source.file_name))

    if identity_of_copy(source, corpus.folder) == corpus.identity:
        try:
            check(archive)
            return members
        except InputError as damage:
            log.warning("the copy downloaded earlier cannot be used: %s", damage)
    urls = list(source.locations)
    fetch(urls, archive, limits=Limits(), progress=log_progress, check=check, reach=corpus.reach)
    if corpus.identity.startswith("bytes:") and identity_of_copy(source, corpus.folder) != corpus.identity:
        raise InputError(f"{redact_corpus(urls[0])} changed during the download: run the same command again")
    return members
