"""Accepted data: the figures of the data that a model line last accepted from a corpus.

    contracts/LINE-CORPUS-DIGEST.json

The file is written under a temporary name and renamed, so that it is always complete. Processes that write it
at the same time take turns, and the last one counts.
"""

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from corpus.contract.figures import Figures
from corpus.source import name_of
from models.addresses import redact_corpus
from models.files import sync
from models.locks import lock
from models.record import Record

log = logging.getLogger(__name__)

FOLDER = "contracts"


class Accepted(Record):
    """Accepted data, and where they come from."""

    run: str
    """The name of the run that accepted the data."""
    date: str
    settings: dict[str, Any]
    """The settings on which the meaning of the figures depends. Others cannot be compared with these."""
    figures: Figures


def accepted_file(home: Path, line: str, corpus: str) -> Path:
    """The file for the data of a model line and a corpus, whether or not the file exists."""
    # The hash is made without the password of an address, because an attacker could find it by guessing.
    address = redact_corpus(corpus.strip())
    digest = hashlib.sha256(json.dumps([line, address]).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{line}-{name_of(address)}")[:60]
    return home / FOLDER / f"{readable}-{digest}.json"


def read_accepted(file: Path) -> Accepted | None:
    """The accepted data; None if no data have been accepted or the file cannot be read."""
    try:
        return Accepted.read(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("contract: %s cannot be read, so the data are compared with nothing: %s", file, error)
        return None


def write_accepted(file: Path, accepted: Accepted) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock(file.parent / ".lock"):
        partial = file.with_suffix(".tmp")
        partial.write_text(accepted.model_dump_json() + "\n")
        sync(partial)
        partial.replace(file)
