"""Download stage: gets the raw files of a corpus from addresses, zips, folders, files or the generator."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from corpus.contents import unpack_contents, unpack_files
from corpus.hub.address import read_address
from corpus.hub.copy import open_copy
from corpus.layout import MEMBERS, SOURCE, SOURCES, Origin, source_named
from corpus.mix import names_of, read_mix, stored_mix
from corpus.object_store import address as object_store
from corpus.object_store import copy as object_copy
from corpus.source import Source, archive_path, identity, identity_of_copy, log_progress, resolve
from corpus.transfer.guard import ANYWHERE, Reach
from corpus.transfer.http import fetch
from corpus.transfer.limits import Limits
from models.addresses import redact_corpus
from models.config import Config
from models.errors import InputError

log = logging.getLogger(__name__)


class DownloadConfig(Config):
    corpus: Annotated[str, AfterValidator(stored_mix)] = "cornell"
    """`cornell`, `sample`, the path of a file, zip or folder, an http(s) address (its query string is never
    stored), `hf:ORG/NAME`, which is a data set of the Hugging Face hub (a folder of it: `hf:ORG/NAME/FOLDER`;
    one commit of it: `hf:ORG/NAME@COMMIT`), `s3://BUCKET/PATH` or `gs://BUCKET/PATH`, or
    `env:REPARTEE_CORPUS_NAME`, where REPARTEE_CORPUS_NAME is an environment variable that contains the
    address. Several sources are separated by a plus sign between blanks or by a line break, and each of them
    may have a weight: `cornell + mine.jsonl=0.5` (docs/corpora.md says what a weight means).
    """
    sample_turns: int = Field(default=24_000, ge=100)
    """Number of turns to generate for the `sample` corpus."""
    sample_seed: int = 0
    """Random seed of the `sample` corpus."""


@dataclass(frozen=True)
class Found:
    """A source, and an identifier of its content, as returned by `corpus.source.identity`."""

    source: Source
    identity: str


@dataclass(frozen=True)
class Corpus:
    """A corpus: its sources with what identifies their content, and what is needed to download them."""

    sources: Mapping[str, Found]
    """The sources by their names in the mix."""
    folder: Path
    """The folder in which the downloaded files are kept."""
    reach: Reach = ANYWHERE
    """The hosts to which the download may connect."""

    @property
    def identity(self) -> str:
        """An identifier of the content of all sources."""
        identities = [[name, found.identity] for name, found in self.sources.items()]
        if len(identities) == 1:
            return identities[0][1]
        return f"mix:{hashlib.sha256(json.dumps(identities).encode()).hexdigest()}"


def find_corpus(config: DownloadConfig, home: Path, reach: Reach = ANYWHERE) -> Corpus:
    """Find the corpus that `config` specifies, and identify its content.

    Raises:
        InputError: there is no such corpus, or its address cannot be reached.
    """
    folder = home / "store" / "download" / ".partial"
    corpora = [corpus for corpus, _ in read_mix(config.corpus)]
    sources: dict[str, Found] = {}
    for name, corpus in zip(names_of(corpora), corpora, strict=True):
        with source_named(name if len(corpora) > 1 else ""):
            source = resolve(corpus)
            sources[name] = Found(source, identity(source, folder, reach=reach))
    return Corpus(sources, folder, reach)


def download_corpus(out: Path, config: DownloadConfig, *, corpus: Corpus) -> int:
    """Write the raw files and record their origin in logs/source.json; return the number of raw files.

    If there are several sources, the files of each of them are written to the folder sources/NAME.

    Raises:
        InputError: a file cannot be downloaded or read, is damaged, or does not match its pinned digest.
    """
    members: dict[str, str] = {}
    if len(corpus.sources) == 1:
        (found,) = corpus.sources.values()
        name, members = found.source.name, _write_source(out, config, found, corpus)
        files = len(members) or len(MEMBERS)
    else:
        name, files = "+".join(corpus.sources), 0
        for source_name, found in corpus.sources.items():
            folder = out / SOURCES / source_name
            folder.mkdir(parents=True)
            with source_named(source_name):
                own = _write_source(folder, config, found, corpus)
            members |= {f"{source_name}/{file}": digest for file, digest in own.items()}
            files += len(own) or len(MEMBERS)
    # logs/ is not part of the digest, so equal files from different sources count as the same corpus.
    (out / "logs").mkdir()
    Origin(name=name, corpus=config.corpus, members=members).write(out / SOURCE)
    return files


def _write_source(out: Path, config: DownloadConfig, found: Found, corpus: Corpus) -> dict[str, str]:
    """Write the raw files of one source; return the SHA-256 of each file that was unpacked."""
    source = found.source
    if source.kind == "sample":
        from corpus.sample import generator

        generator.write_corpus(out, turns=config.sample_turns, seed=config.sample_seed)
        return {}
    if source.kind == "local":
        members = unpack_contents(Path(source.locations[0]), out, pins=source.pins)
        if identity(source, corpus.folder) != found.identity:
            raise InputError(f"{source.name} changed while it was copied: run the same command again")
        return members
    if source.kind == "hub":
        return _download_data_set(out, found, corpus)
    if source.kind == "objects":
        return _download_objects(out, found, corpus)
    return _download_and_unpack(out, found, corpus)


def _download_data_set(out: Path, found: Found, corpus: Corpus) -> dict[str, str]:
    """Write the files of a data set of the hub, at the commit in its identity; return their SHA-256."""
    (location,) = found.source.locations
    folder = archive_path(corpus.folder, found.source)
    data_set, identity = read_address(location), found.identity
    with open_copy(data_set, folder, identity=identity, reach=corpus.reach, progress=log_progress) as files:
        return unpack_files(files, out)


def _download_objects(out: Path, found: Found, corpus: Corpus) -> dict[str, str]:
    """Write the objects of a bucket; return their SHA-256."""
    (location,) = found.source.locations
    objects, folder = object_store.read_address(location), archive_path(corpus.folder, found.source)
    with object_copy.open_copy(objects, folder, identity=found.identity, progress=log_progress) as files:
        return unpack_files(files, out)


def _download_and_unpack(out: Path, found: Found, corpus: Corpus) -> dict[str, str]:
    """Unpack the archive, first downloading it if there is no current copy; return each file's SHA-256."""
    source, archive = found.source, archive_path(corpus.folder, found.source)
    members: dict[str, str] = {}

    def check(path: Path) -> None:
        members.update(unpack_contents(path, out, pins=source.pins, name=source.file_name))

    if identity_of_copy(source, corpus.folder) == found.identity:
        try:
            check(archive)
            return members
        except InputError as damage:
            log.warning("the copy downloaded earlier cannot be used: %s", damage)
    urls = list(source.locations)
    fetch(urls, archive, limits=Limits(), progress=log_progress, check=check, reach=corpus.reach)
    if found.identity.startswith("bytes:") and identity_of_copy(source, corpus.folder) != found.identity:
        raise InputError(f"{redact_corpus(urls[0])} changed during the download: run the same command again")
    return members
