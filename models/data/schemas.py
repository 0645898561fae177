"""The schemas of the tables that the stages exchange. A table's writer and readers use the same schema."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")

TURNS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),  # 0, 1, 2 ... in the order of the conversation
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # a movie, file or user; never divided between splits
        pa.field("role", pa.string(), nullable=False),  # user or assistant; "" if the source has no roles
        pa.field("weight", pa.float32(), nullable=False),  # 0: context only, not counted as a reply
    ]
)

SYSTEM = pa.field("system", pa.string(), nullable=False)
"""A further column of TURNS and SPLIT_TURNS, if a conversation of the corpus has a system text: the text in
the row of the conversation's first turn, "" in its other rows."""


def has_system(turns: Path) -> bool:
    """Whether a table of turns has the column `system`."""
    return SYSTEM.name in pq.read_schema(turns).names


SPLIT_TURNS = TURNS.append(pa.field("split", pa.string(), nullable=False))  # one of SPLITS

EXAMPLES = pa.schema(
    [
        pa.field("ids", pa.list_(pa.uint32()), nullable=False),
        pa.field("is_reply", pa.list_(pa.bool_()), nullable=False),  # the loss mask, one flag per id
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),  # the turn of the first reply in `ids`
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("replies", pa.int32(), nullable=False),  # the number of replies that carry loss
        pa.field("reply_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the normalised replies
        pa.field("spelled_nats", pa.float64(), nullable=False),  # the spelling charge for text without ids
    ]
)

SILENT = pa.field("silent", pa.int32(), nullable=False)
"""A further column of EXAMPLES, if a conversation of the corpus has a system text: the number of ids at the
beginning of an example that carry no loss at all, not even that of the setting `train.context_loss`."""

REJECTS = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("sample", pa.string(), nullable=False),  # the first 200 characters of the line
    ]
)

LEAKS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),  # as it was before it was divided
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train or validation
        pa.field("text", pa.string(), nullable=False),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),  # from 0.5 to 1
        pa.field("twin_conversation_id", pa.string(), nullable=False),
        pa.field("twin_turn", pa.int32(), nullable=False),
        pa.field("twin_split", pa.string(), nullable=False),  # validation or test
        pa.field("twin_text", pa.string(), nullable=False),
    ]
)
