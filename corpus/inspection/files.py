"""Files: opens the files of a corpus for inspection, and says what each of them is.

Nothing is stored. An address is downloaded to a temporary folder, which is removed afterwards.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from corpus.contents import open_contents
from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.layout import CORNELL, stored_files
from corpus.readers import cornell
from corpus.readers.columns import Columns
from corpus.readers.encodings import LineReader, describe_encoding
from corpus.readers.formats import Unrecognised, damage_reported, recognise, unrecognised_error
from corpus.readers.opening import SAMPLE_BYTES, open_file, sample_of
from corpus.readers.tables import ARROW_FILE, ARROW_STREAM, PARQUET
from corpus.source import Source, resolve
from models.record import Record


class FileFacts(Record):
    """What the beginning of a file says about it."""

    name: str
    size_bytes: int
    format: str = ""
    """The format; "" if the file is not read."""
    encoding: str = ""
    """The encoding of a text file."""
    evidence: str = ""
    """What speaks for this encoding."""
    problem: str = ""
    """Why the file is not read."""


@contextmanager
def open_corpus(config: DownloadConfig) -> Iterator[tuple[Source, dict[str, Path]]]:
    """The source of a corpus, and its files by name.

    Raises:
        InputError: there is no such corpus, or it cannot be read or downloaded.
    """
    source = resolve(config.corpus)
    if source.kind == "local":
        with open_contents(Path(source.locations[0])) as files:
            yield source, files
        return
    with TemporaryDirectory(prefix="repartee-") as folder:
        out = Path(folder) / "out"
        out.mkdir()
        download_corpus(out, config, corpus=find_corpus(config, Path(folder)))
        yield source, stored_files(out)


def examine_files(files: Mapping[str, Path], columns: Columns) -> list[FileFacts]:
    """What the beginnings of the files say about them.

    Raises:
        DataRejected: none of the files is in a format that can be read.
        InputError: a file is damaged.
    """
    if cornell.paths_in(files):
        return [_facts(name, path, CORNELL) for name, path in files.items()]
    facts = [_examine(name, path, columns) for name, path in files.items()]
    if all(each.problem for each in facts):
        raise unrecognised_error({each.name: each.problem for each in facts})
    return facts


def _examine(name: str, path: Path, columns: Columns) -> FileFacts:
    with damage_reported(name):
        try:
            return _facts(name, path, recognise(path, columns, LineReader()).format)
        except Unrecognised as unrecognised:
            return FileFacts(name=name, size_bytes=path.stat().st_size, problem=str(unrecognised))


def _facts(name: str, path: Path, file_format: str) -> FileFacts:
    with open_file(path) as file:
        sample = sample_of(file, SAMPLE_BYTES)
    is_binary = sample.startswith((PARQUET, ARROW_FILE, ARROW_STREAM))
    encoding, evidence = ("", "") if is_binary else describe_encoding(sample)
    size_bytes = path.stat().st_size
    return FileFacts(
        name=name, size_bytes=size_bytes, format=file_format, encoding=encoding, evidence=evidence
    )
