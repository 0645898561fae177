"""Vocabulary: the stage that trains a tokenizer, or takes the tokenizer of an initial model."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from models.files import sha256
from models.text.vocabulary import VocabularyConfig, learn_vocabulary
from models.training.trunk.files import MODEL
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import External, Stage, digests_of
from tasks.trunk.night import is_night, trunk_of

FILES = ("tokenizer.json", "spelling.json")


def _may_read(config: VocabularyConfig) -> tuple[str, ...]:
    return () if config.kind == "word" else ("start",)


def _external(run: RunContext, config: VocabularyConfig, inputs: Mapping[str, Artifact]) -> External:
    """The vocabulary of the trunk from which a night goes on; nothing if the run is no night.

    It is no input either if it is the one that was learnt from the very data of this run.
    """
    folder = _trunk(run) if config.kind == "bpe" and is_night(run) else None
    if folder is None:
        return External()
    own = vocabulary.find(run.home, vocabulary.fingerprint(config, digests_of(inputs)))
    if own is not None and _identity(own.path) == _identity(folder):
        return External()
    return External(_identity(folder), {"trunk": folder})


def _trunk(run: RunContext) -> Path | None:
    """The model folder of the trunk; None if there is no trunk, or it has no vocabulary of Repartee's own."""
    chain, _ = trunk_of(run).read()
    if not (chain.nights and chain.nights[-1].folder):
        return None
    folder = trunk_of(run).path(chain.nights[-1].folder) / MODEL
    return folder if all((folder / name).is_file() for name in FILES) else None


def _identity(folder: Path) -> str:
    digests = " ".join(sha256(folder / name) for name in FILES)
    return f"vocabulary: {hashlib.sha256(digests.encode()).hexdigest()}"


vocabulary = Stage(
    "vocabulary",
    learn_vocabulary,
    reads=("clean",),
    may_read=_may_read,
    external=_external,
    outside="the vocabulary of the trunk",
    unit="tokens",
)
