"""The output of a verb: text for people, or one JSON object."""

import json
from typing import Any

from cli.terminal.wrapping import fit
from console import say


def print_result(result: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        say(fit(text))


def print_json(result: dict[str, Any]) -> None:
    say(json.dumps(result, default=str))
