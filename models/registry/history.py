"""History: the promotions of a model. Each promotion is stored as text in a tag of the registered model.

An entry is one line with the time, version, previous champion, flow run and reason of the promotion.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from models.registry.tags import HISTORY, INTENT

ENTRY = re.compile(
    r"(?P<at>\S+) v(?P<version>\d+)(?: after v(?P<previous>\d+))?"
    r"(?: in (?P<flow_run_id>[\w-]+))?: (?P<why>.*)",
    re.DOTALL,
)
MAX_WHY = 4000  # characters; MLflow's limit for such a tag is 5,000


@dataclass(frozen=True)
class Promotion:
    """One change of the champion."""

    at: datetime
    version: int
    previous: int | None
    why: str
    flow_run_id: str | None = None
    """The Prefect flow run that promoted the version, or None if a user promoted it."""


@dataclass(frozen=True)
class Intent:
    """A promotion in progress. After an interruption, the next run or promotion completes or drops it."""

    at: str
    version: int
    previous: int | None
    why: str
    flow_run_id: str | None
    by_hand: bool

    def entry(self) -> str:
        after = "" if self.previous is None else f" after v{self.previous}"
        flow_run = f" in {self.flow_run_id}" if self.flow_run_id else ""
        return f"{self.at} v{self.version}{after}{flow_run}: {self.why[:MAX_WHY]}"


def entries_of(tags: Mapping[str, str]) -> list[Promotion]:
    keys = sorted((key for key in tags if key.startswith(HISTORY)), reverse=True)
    return [promotion_of(tags[key]) for key in keys if ENTRY.fullmatch(tags[key])]


def promotion_of(text: str) -> Promotion:
    entry = ENTRY.fullmatch(text)
    assert entry is not None
    return Promotion(
        at=datetime.fromisoformat(entry["at"]),
        version=int(entry["version"]),
        previous=int(entry["previous"]) if entry["previous"] else None,
        why=entry["why"],
        flow_run_id=entry["flow_run_id"],
    )


def intent_of(tags: Mapping[str, str]) -> Intent | None:
    return Intent(**json.loads(tags[INTENT])) if INTENT in tags else None


def dump_intent(intent: Intent) -> str:
    return json.dumps(asdict(intent), ensure_ascii=False)


def is_recorded(intent: Intent, entries: list[Promotion]) -> bool:
    return any(
        entry.version == intent.version and entry.at == datetime.fromisoformat(intent.at) for entry in entries
    )
