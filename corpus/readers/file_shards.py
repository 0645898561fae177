"""File shards: what the stage `parse` reads of one file of a corpus, so that later runs need not read it.

A shard has the turns of its file, before the ids of conversations are made different, and the counts of what
was read. The table and the report of a corpus are made from these alone, in the order of its files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.readers.parsing import Counts, ParseConfig, Parsing
from corpus.readers.writer import WITH_SYSTEM, tables_of
from models.files import sha256
from models.shards import Shards

FEWEST_BYTES = 1 << 16  # reading a smaller file costs less than a shard
TURNS_FILE, COUNTS_FILE = "turns.parquet", "counts.json"


def read_tables(parsing: Parsing, shards: Shards | None = None) -> Iterator[pa.Table]:
    """Yield the turns of all files in tables with the schema WITH_SYSTEM; `parsing` counts what is read.

    If there are several files, each of them is read from its shard, which is built if it does not exist yet.

    Raises:
        InputError: a file is damaged.
        TooManyRejects: the share of unusable lines is too large.
    """
    if shards is None or parsing.cornell or len(parsing.files) == 1:
        yield from tables_of(parsing.read())
        return
    for name, path in parsing.files.items():
        if path.stat().st_size < FEWEST_BYTES:
            own = Parsing(parsing.config, {name: path})
            yield from tables_of(own.read())
            parsing.add(own.counts())
            continue
        columns = parsing.config.columns
        identity = {"name": name, "sha256": sha256(path), "columns": columns.model_dump(mode="json")}
        shard = shards(write_shard, identity, files={name: path}, config=parsing.config)
        with pq.ParquetFile(shard / TURNS_FILE) as file:
            for i in range(file.num_row_groups):
                yield file.read_row_group(i)
        parsing.add(Counts.read(shard / COUNTS_FILE))


def write_shard(out: Path, *, files: Mapping[str, Path], config: ParseConfig) -> None:
    """Read one file, and write its shard into the folder `out`.

    Raises:
        InputError: the file is damaged.
    """
    parsing = Parsing(config, files)
    with pq.ParquetWriter(out / TURNS_FILE, WITH_SYSTEM, compression="zstd") as writer:
        for table in tables_of(parsing.read()):
            writer.write_table(table)
    parsing.counts().write(out / COUNTS_FILE)
