"""The output of a verb: text for people, or one JSON object."""

import json
from typing import Any

from cli.terminal.wrapping import fit


def print_result(result: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        print(fit(text))


def print_json(result: dict[str, Any]) -> None:
    print(json.dumps(result, default=str))
