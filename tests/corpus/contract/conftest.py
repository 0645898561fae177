import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.schemas import SPLIT_TURNS


@pytest.fixture
def written():
    return write_clean


def write_clean(folder, conversations, counts=None):
    """The folder of a clean stage with these conversations: lists of texts by group."""
    rows = [
        {
            "conversation_id": f"c{number}",
            "turn": turn,
            "speaker": "a",
            "text": text,
            "group": group,
            "role": "",
            "weight": 1.0,
            "split": "train",
        }
        for number, (group, texts) in enumerate(conversations)
        for turn, text in enumerate(texts)
    ]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), folder / "turns.parquet")
    (folder / "report.json").write_text(json.dumps({"counts": counts or {}}))
    return folder
