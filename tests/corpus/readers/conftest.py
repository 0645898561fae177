import json

import pytest
from parsed import download_of, parsed


@pytest.fixture
def read(tmp_path):
    """A function that reads one file, whose content may be a value for JSON or rows for JSON Lines."""

    def read(name, content, **given):
        if isinstance(content, list) and name.endswith(".jsonl"):
            content = "".join(json.dumps(each) + "\n" for each in content)
        elif not isinstance(content, str | bytes):
            content = json.dumps(content)
        return parsed(download_of(tmp_path / "raw", **{name: content}), **given)

    return read
