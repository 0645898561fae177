"""Turns: the conversations that the readers yield, and the counts of what becomes of each turn.

Every turn that a reader finds is counted once as read, and once as kept, joined or rejected, by its role. The
sums are therefore equal; this is what the ledger in report.json shows.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"
SPEAKER = "speaker"  # how the ledger lists the turns of speakers that have no role

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "input", "question", "client", "customer"), USER),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "chatbot", "model", "ai", "output", "answer"),
        ASSISTANT,
    ),
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(
        ("tool", "function", "observation", "function_call", "function_response", "tool_call", "ipython"),
        TOOL,
    ),
}
"""The roles by the names that data sets give them, in lower case."""


class Turn(NamedTuple):
    """What one speaker says before another one speaks."""

    speaker: str
    """The name or the role; "" if the source names no speaker."""
    text: str
    role: str = ""
    """`user`, `assistant`, `system`, `tool`, or "" if the source names speakers but no roles."""
    weight: float = 1.0
    """0: the turn is context for later turns, but training and evaluation do not count it as a reply."""


@dataclass(frozen=True)
class Conversation:
    """A conversation as a reader found it, before `settle`."""

    id: str
    turns: Sequence[Turn]
    group: str = ""
    """What is never divided between splits, such as a film or a customer; "" if the source has no groups."""


@dataclass
class Ledger:
    """The number of turns that were read, by role, and what became of them."""

    read: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    joined: Counter[str] = field(default_factory=Counter)
    """Turns that were appended to the turn before them, because the same speaker goes on."""
    system: int = 0
    """The number of system texts that are used. They are read, but they are no turns of the dialogue."""
    rejected: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Turns that were left out: the number for each cause, by role."""

    def reject(self, turns: Sequence[Turn], cause: str) -> None:
        """Count turns as read and rejected."""
        for turn in turns:
            self.read[turn.role or SPEAKER] += 1
            self.rejected[turn.role or SPEAKER][cause] += 1

    def as_dict(self) -> dict[str, dict[str, object]]:
        """The counts of each role, for report.json."""
        return {
            role: {
                "read": self.read[role],
                "kept": self.accepted[role] + (self.system if role == SYSTEM else 0),
                "joined": self.joined[role],
                "rejected": dict(self.rejected[role].most_common()),
            }
            for role in sorted(self.read)
        }


def system_of(conversation: Conversation) -> str:
    """The system text of a conversation: the texts of the role `system` before its first turn; "" if none."""
    return " ".join(text for turn in _leading(conversation) if (text := turn.text.strip()))


def _leading(conversation: Conversation) -> list[Turn]:
    return list(takewhile(lambda turn: turn.role == SYSTEM, conversation.turns))


def settle(conversation: Conversation, ledger: Ledger, *, join: bool = True) -> list[Turn]:
    """The turns of the dialogue, without system texts, tool calls and turns of known roles that have no text.

    A system text before the first turn belongs to the conversation (`system_of`); a later one is left out.

    Consecutive turns of one speaker with one weight are joined with a space, if `join` is true. A user's turn
    is no reply, so its weight is 0. Turns without a speaker are those of two speakers, who take turns. An
    empty turn of a speaker without a role is kept, because the turns around it do not belong together; the
    stage `clean` divides the conversation there.
    """
    settled: list[Turn] = []
    num_leading = len(_leading(conversation))
    for number, turn in enumerate(conversation.turns):
        role = turn.role or SPEAKER
        if turn.role == SYSTEM and turn.text.strip() and number < num_leading:
            ledger.read[SYSTEM] += 1
            ledger.system += 1
        elif turn.role == SYSTEM and turn.text.strip():
            ledger.reject([turn], "a system text after the first turn, which is no turn of the dialogue")
        elif turn.role == TOOL:
            ledger.reject([turn], "a tool call or its result, which is no turn of the dialogue")
        elif turn.role and not turn.text.strip():
            ledger.reject([turn], "no text")
        else:
            ledger.read[role] += 1
            speaker = turn.speaker or f"speaker {1 + number % 2}"
            turn = Turn(speaker, turn.text, turn.role, 0.0 if turn.role == USER else turn.weight)
            last = settled[-1] if settled else None
            if join and last and _goes_on(last, turn):
                ledger.joined[role] += 1
                settled[-1] = last._replace(text=f"{last.text} {turn.text}")
            else:
                ledger.accepted[role] += 1
                settled.append(turn)
    return settled


def _goes_on(last: Turn, turn: Turn) -> bool:
    """Whether a turn continues the turn before it."""
    is_same = (last.speaker, last.role, last.weight) == (turn.speaker, turn.role, turn.weight)
    return is_same and bool(last.text.strip()) and bool(turn.text.strip())


def group_of(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """The conversation's group; without one, a hash of its first two turns.

    The hash depends neither on the file nor on other data. A conversation that grows therefore stays in its
    split, and all copies of a conversation are in the same split.
    """
    if conversation.group:
        return conversation.group
    beginning = "\0".join(turn.text for turn in turns[:2])
    return hashlib.sha256(beginning.encode("utf-8", "replace")).hexdigest()[:16]
