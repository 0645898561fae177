"""Writes the outputs of the data stages for a few conversations, without running the stages."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from models.data.schemas import EXAMPLES, SPLIT_TURNS, SPLITS


def write_outputs(folder, conversations, rejected=None):
    """Write the outputs of parse, clean and export. Each conversation (id, split, texts) is one example."""
    outputs = [folder / name for name in ("parse", "clean", "export")]
    for output in outputs:
        output.mkdir()
    parse, clean, export = outputs
    (parse / "report.json").write_text(json.dumps({"lines_read": 100, "rejected": rejected or {}}))
    counts = {"turns read": 9, "turns with no letter left": 0}
    (clean / "report.json").write_text(json.dumps({"counts": counts}))
    rows = [
        {
            "conversation_id": name,
            "turn": i,
            "speaker": f"u{i % 2}",
            "text": text,
            "group": "m",
            "role": "",
            "weight": 1.0,
            "split": split,
        }
        for name, split, texts in conversations
        for i, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), clean / "turns.parquet")
    for split in SPLITS:
        examples = [
            {
                "ids": list(range(3 * len(texts))),
                "is_reply": [True] * 3 * len(texts),
                "conversation_id": name,
                "turn": 1,
                "group": "m",
                "split": split,
                "replies": 1,
                "reply_bytes": 5,
                "spelled_nats": 0.0,
            }
            for name, own_split, texts in conversations
            if own_split == split
        ]
        pq.write_table(pa.Table.from_pylist(examples, EXAMPLES), export / f"{split}.parquet")
    return outputs
