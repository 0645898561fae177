"""Which texts can name a model line, a registered model of MLflow with its own champion and history."""

import os
import unicodedata

MAX_MODEL_BYTES = 200  # a folder's name contains the model's name, a version and a digest


def name_fault(name: str) -> str | None:
    """Why this text cannot name both an MLflow model and a folder; None if it can."""
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
    """Why MLflow and Prefect cannot record this text; None if they can."""
    if not text.strip():
        return "holds only whitespace"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        return "holds a line break, a tab or another control character"
    if len(text) > max_length:
        return f"has {len(text)} characters, more than the limit of {max_length}"
    return None
