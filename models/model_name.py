"""The names of model lines, which are registered models with their own champions."""

import hashlib
import os
import re
import unicodedata

MAX_MODEL_BYTES = 200  # leaves room for a version and a digest in a folder name of at most 255 bytes


def name_fault(name: str) -> str | None:
    """What is wrong with this text as the name of an MLflow model and of a folder; None if nothing is."""
    if wrong := {"/", ":"} & set(name):
        return f"contains {' and '.join(sorted(wrong))}, which MLflow does not accept in a name"
    if name in (".", ".."):
        return "is not a name"
    if "'" in name and '"' in name:
        return "contains both kinds of quotation marks, which MLflow cannot search for"
    if len(os.fsencode(name)) > MAX_MODEL_BYTES:
        return f"has {len(os.fsencode(name))} bytes, more than the limit of {MAX_MODEL_BYTES}"
    return text_fault(name)


def text_fault(text: str, max_length: int = 100_000) -> str | None:
    """Why MLflow or Prefect cannot store this text; None if both can store it."""
    if not text.strip():
        return "contains only whitespace"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        return "contains a line break, a tab or another control character"
    if len(text) > max_length:
        return f"has {len(text)} characters, more than the limit of {max_length}"
    return None


def file_name_of(line: str) -> str:
    """A file name for a model line. A digest distinguishes lines whose readable parts are equal."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", line)[:40]
    return f"{readable}-{hashlib.sha256(line.encode()).hexdigest()[:8]}"
