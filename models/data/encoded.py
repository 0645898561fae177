"""Encoded chunks: the examples of some conversations, which are the same whatever else a corpus holds.

The examples of each chunk of conversations (models/data/chunks.py) are stored as a shard, so that a later run
with the same vocabulary encodes only the chunks with new or changed conversations.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.data.chunks import chunks, digest_of
from models.data.conversations import Conversation, conversations_of
from models.data.schemas import EXAMPLES, SILENT
from models.files import sha256
from models.shards import Shards
from models.text.chat_template import load_chat_format
from models.text.config import MarkupConfig
from models.text.encoding import encode_conversations
from models.text.tokenizer import load, load_spelling

ROW_GROUP = 1 << 15
CONVERSATIONS = 1024
"""The mean number of conversations in a chunk. It is less than in the stage `clean`, because a copy of a new
conversation, anywhere in the corpus, may leave its chunk."""
FEWEST_ROWS = 1 << 9  # to encode fewer turns costs less than a shard
EXAMPLES_FILE, SIZES_FILE = "examples.arrow", "sizes.npy"


class Encoded(NamedTuple):
    """The examples of some conversations of a split, in their order."""

    examples: pa.Table
    sizes: NDArray[np.int32]
    """The number of examples of each conversation."""


@dataclass(frozen=True)
class Encoder:
    """Encodes conversations with the tokenizer in a folder."""

    folder: Path
    markup: MarkupConfig
    with_system: bool
    """Whether system texts are used. The examples then have the column `silent`."""

    @property
    def schema(self) -> pa.Schema:
        return EXAMPLES.append(SILENT) if self.with_system else EXAMPLES

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the examples of a conversation, beside the code."""
        files = sorted(
            path for path in self.folder.iterdir() if path.is_file() and path.name != "manifest.json"
        )
        digests = json.dumps({path.name: sha256(path) for path in files})
        return {
            "vocabulary": hashlib.sha256(digests.encode()).hexdigest(),
            "markup": self.markup.model_dump(mode="json"),
            "with_system": self.with_system,
        }

    @cached_property
    def _tokenizer(self) -> tuple[Any, list[float], Any]:
        return load(self.folder), load_spelling(self.folder), load_chat_format(self.folder)

    def encode(self, conversations: list[Conversation], split: str) -> Encoded:
        """The examples of conversations; a conversation without a reply that counts has none.

        Raises:
            InputError: the chat format leaves too few tokens for the text.
        """
        vocabulary, spelling, chat_format = self._tokenizer
        texts, has_loss = [each.texts for each in conversations], [each.has_loss for each in conversations]
        systems = [each.system for each in conversations] if self.with_system else None
        encoded = list(
            encode_conversations(texts, vocabulary, self.markup, spelling, chat_format, has_loss, systems)
        )
        rows = [
            {**vars(example), "conversation_id": conversation.id, "group": conversation.group, "split": split}
            for conversation, examples in zip(conversations, encoded, strict=True)
            for example in examples
        ]
        columns = {name: [row[name] for row in rows] for name in self.schema.names}
        sizes = np.array([len(examples) for examples in encoded], np.int32)
        return Encoded(pa.Table.from_pydict(columns, self.schema), sizes)


def encoded_row_groups(
    tables: Iterable[pa.Table], split: str, encoder: Encoder, shards: Shards | None
) -> Iterator[pa.Table]:
    """Yield the examples of the conversations in a split, ROW_GROUP conversations at a time.

    Args:
        tables: the turns of the split, with the schema SPLIT_TURNS and perhaps the column `system`.

    Raises:
        InputError: the chat format leaves too few tokens for the text.
    """
    waiting: list[pa.Table] = []
    num_waiting = 0
    for turns in chunks(tables, CONVERSATIONS):
        examples, sizes = _encoded(turns, split, encoder, shards)
        while num_waiting + len(sizes) >= ROW_GROUP:
            own = sizes[: ROW_GROUP - num_waiting]
            yield pa.concat_tables([*waiting, examples.slice(0, int(own.sum()))]).combine_chunks()
            examples, sizes = examples.slice(int(own.sum())), sizes[len(own) :]
            waiting, num_waiting = [], 0
        waiting.append(examples)
        num_waiting += len(sizes)
    if num_waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _encoded(turns: pa.Table, split: str, encoder: Encoder, shards: Shards | None) -> Encoded:
    if shards is None or turns.num_rows < FEWEST_ROWS:
        return encoder.encode(list(conversations_of(turns)), split)
    identity = {"turns": digest_of(turns), "split": split, **encoder.identity}
    shard = shards(write_shard, identity, turns=turns, split=split, encoder=encoder)
    with pa.OSFile(str(shard / EXAMPLES_FILE)) as file, pa.ipc.open_file(file) as reader:
        return Encoded(reader.read_all(), np.load(shard / SIZES_FILE))


def write_shard(out: Path, *, turns: pa.Table, split: str, encoder: Encoder) -> None:
    """Encode conversations, and write the examples into the folder `out`."""
    examples, sizes = encoder.encode(list(conversations_of(turns)), split)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile(str(out / EXAMPLES_FILE), "wb") as file,
        pa.ipc.new_file(file, examples.schema, options=options) as writer,
    ):
        writer.write_table(examples)
    np.save(out / SIZES_FILE, sizes)
