"""Writes the outputs of all stages of a training run into the store of a home, without running the stages."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from registries import model_folder, register

from corpus.layout import FILES, SOURCES
from models.data.schemas import SPLIT_TURNS, TURNS
from models.registry.reference import open_registry
from settings import Settings
from tasks.store.artifact import new_manifest, write_manifest


def rows(conversation, speakers, split):
    """The turns of a conversation, one for each speaker."""
    fields = {"group": conversation, "role": "", "weight": 1.0, "split": split}
    return [
        {
            "conversation_id": conversation,
            "turn": i,
            "speaker": speaker,
            "text": f"{conversation} {i}",
            **fields,
        }
        for i, speaker in enumerate(speakers)
    ]


def _store(home, stage, fingerprint, inputs, **tables):
    folder = home / "store" / stage / fingerprint
    folder.mkdir(parents=True)
    (folder / "content.txt").write_text(f"{stage} {fingerprint}")
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    manifest = new_manifest(folder, {"inputs": inputs}, 1, 0.0)
    write_manifest(folder, manifest)
    return {stage: manifest["digest"]}


def store_corpus(home, name, turns, sources=("mine",)):
    """The outputs of download and parse; returns the input of the stage `clean`."""
    folder = home / "store" / "download" / name
    for source in sources if len(sources) > 1 else ():
        (folder / SOURCES / source / FILES).mkdir(parents=True)
    (folder / FILES).mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir()
    (folder / "logs" / "source.json").write_text(json.dumps({"name": sources[0]}))
    (folder / "name.txt").write_text(name)
    manifest = new_manifest(folder, {"inputs": {}}, 1, 0.0)
    write_manifest(folder, manifest)
    table = pa.Table.from_pylist(turns, TURNS)
    return _store(home, "parse", name, {"download": manifest["digest"]}, turns=table)


def store_training(home, name, parse, turns, start=None):
    """The outputs of clean, export and train for a parsed corpus; the run has this fingerprint.

    Args:
        turns: the turns as the stage `clean` has written them.
        start: the folder of the model whose weights the training began with.
    """
    clean = _store(home, "clean", name, parse, turns=pa.Table.from_pylist(turns, SPLIT_TURNS))
    inputs = _store(home, "export", name, clean)
    if start is not None:
        folder = home / "store" / "start" / name
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "source.json").write_text(json.dumps({"kind": "folder", "place": str(start)}))
        (folder / "content.txt").write_text(str(start))
        manifest = new_manifest(folder, {"inputs": {}}, 1, 0.0)
        write_manifest(folder, manifest)
        inputs |= {"start": manifest["digest"]}
    _store(home, "train", name, inputs)


def store_version(home, name, line=None):
    """Register a version that the training run with this fingerprint has produced."""
    folder = model_folder(home / f"model-{name}", name.encode())
    return register(open_registry(Settings(), line), folder, name)
