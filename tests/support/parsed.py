"""Runs the stage `parse` on files, without the stages before it."""

import json

import pyarrow.parquet as pq

from corpus.layout import FILES, MEMBERS
from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig


def download_of(folder, **files):
    """Write files (their text or bytes by name) as the stage `download` leaves them; return the folder."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / FILES).mkdir(exist_ok=True)
    (folder / "logs" / "source.json").write_text(json.dumps({"name": "tiny"}))
    for name, content in files.items():
        path = folder / name if name in MEMBERS else folder / FILES / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def parsed(folder, **settings):
    """The turns by conversation, each as (role or speaker, text, weight), and the report."""
    out = folder.parent / f"{folder.name}-parsed"
    out.mkdir(exist_ok=True)
    parse_corpus(out, ParseConfig.model_validate(settings), folder)
    conversations = {}
    for row in pq.read_table(out / "turns.parquet").to_pylist():
        turn = (row["role"] or row["speaker"], row["text"], row["weight"])
        conversations.setdefault(row["conversation_id"], []).append(turn)
    return conversations, json.loads((out / "report.json").read_text())


def texts(conversations):
    """The texts of each conversation."""
    return [[text for _, text, _ in turns] for turns in conversations.values()]


def is_balanced(report):
    """Whether each role's turns add up: read = kept + joined + rejected."""
    return all(
        counts["read"] == counts["kept"] + counts["joined"] + sum(counts["rejected"].values())
        for counts in report["turns_by_role"].values()
    )
