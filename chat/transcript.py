"""Transcripts: files that each contain one conversation, as a single line of chat JSONL."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from models.errors import InputError

ROLES = ("user", "assistant")
MAX_BYTES = 10_000_000


def write_messages(path: Path, messages: Sequence[dict[str, str]]) -> None:
    """Write the messages as one line, `{"messages": [{"role": ..., "content": ...}, ...]}`.

    Raises:
        InputError: the file cannot be written.
    """
    line = json.dumps({"messages": list(messages)}, ensure_ascii=False)
    partial = path.parent / f".repartee-{os.getpid()}.partial"
    try:
        partial.write_text(line + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"cannot write {path}: {error.strerror}; save to another file") from None


def read_messages(path: Path) -> list[dict[str, str]]:
    """The messages of the conversation in a file that `write_messages` has written.

    Raises:
        InputError: the file cannot be read, or does not contain exactly one conversation in which user and
            assistant take turns, perhaps after a system message.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is too large for a conversation; give a file that /save has written")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _not_a_conversation(path, "the file is not UTF-8") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise _not_a_conversation(path, f"the file has {len(lines)} lines, but a conversation is one line")
    try:
        messages: Any = json.loads(lines[0])["messages"]
        found = [{"role": str(each["role"]), "content": str(each["content"])} for each in messages]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _not_a_conversation(
            path, 'the line is not {"messages": [{"role": ..., "content": ...}]}'
        ) from None
    turns = found[1:] if found and found[0]["role"] == "system" else found
    expected = [ROLES[i % 2] for i in range(len(turns))]
    if not turns or len(turns) % 2 or [each["role"] for each in turns] != expected:
        raise _not_a_conversation(
            path, "there are no messages, or those of user and assistant do not alternate"
        )
    return found


def free_name(path: Path) -> Path:
    """The first path of the form NAME-2, NAME-3, ... that does not exist yet."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in names if not name.exists())


def _not_a_conversation(path: Path, why: str) -> InputError:
    return InputError(f"{path} contains no saved conversation: {why}; give a file that /save has written")
