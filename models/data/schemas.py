"""The tables that travel between the stages; writer and reader share these declarations."""

import pyarrow as pa

SPLITS = ("train", "validation", "test")

TURNS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),  # 0, 1, 2 ... in the order they were said
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # movie, file, user: the unit of the split
    ]
)

SPLIT_TURNS = TURNS.append(pa.field("split", pa.string(), nullable=False))  # one of SPLITS

EXAMPLES = pa.schema(
    [
        pa.field("ids", pa.list_(pa.uint32()), nullable=False),
        pa.field("is_reply", pa.list_(pa.bool_()), nullable=False),  # the loss mask, one flag an id
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),  # of the first reply in `ids`
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("replies", pa.int32(), nullable=False),  # how many end in `ids`
        pa.field("reply_bytes", pa.int64(), nullable=False),  # UTF-8, of the normalised replies
        pa.field("spelled_nats", pa.float64(), nullable=False),  # charged for text without ids
    ]
)

REJECTS = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("sample", pa.string(), nullable=False),  # the first 200 characters
    ]
)
