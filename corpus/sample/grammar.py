"""The grammar of the `sample` corpus: scripts with slots, how they are said, and how they are judged.

A script is a short conversation, two people in turn. A slot `{name}` is filled once and keeps its
filler to the script's end; a derived slot `{total}` follows from the others. What is said and what
is a valid reply come from the same declarations.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

Binding = Mapping[str, str]
Rule = Callable[[Binding], str]


@dataclass(frozen=True)
class Script:
    """One course that a topic can take; each turn is said in one of its templates."""

    topic: str
    turns: tuple[tuple[str, ...], ...]
    rules: Mapping[str, Rule] = field(default_factory=dict, hash=False)


def script(topic: str, *turns: str | tuple[str, ...], **rules: Rule) -> Script:
    """A script whose turns are one template or several."""
    return Script(topic, tuple((turn,) if isinstance(turn, str) else turn for turn in turns), rules)


def kind(slot: str) -> str:
    """`name2` is filled as `name` is."""
    return slot.rstrip("0123456789")


_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z0-9']+|[.,!?]")


def slots(template: str) -> list[str]:
    return _SLOT.findall(template)


def fill(template: str, binding: Binding, rules: Mapping[str, Rule]) -> str:
    """The template with every slot's filler; a sentence begins with a capital."""
    values = {slot: rules[slot](binding) if slot in rules else binding[slot] for slot in slots(template)}
    text = _SLOT.sub(lambda match: values[match[1]], template)
    return text[:1].upper() + text[1:]


def canonical(text: str) -> str:
    """What counts when two texts are compared: the words and marks, not case or blanks."""
    return " ".join(_WORD.findall(text.lower()))


class Grammar:
    """Scripts and what fills their slots."""

    def __init__(self, scripts: Sequence[Script], fillers: Mapping[str, Sequence[str]]) -> None:
        self.scripts, self.fillers = scripts, fillers
        self._pattern = cache(self._make_pattern)

    def is_valid_reply(self, context: Sequence[str], reply: str) -> bool:
        """Whether the grammar could say `reply` after `context` (all turns so far, the oldest first)."""
        said = canonical(reply)
        for index, binding, current in self._courses(context):
            if index < len(current.turns) and any(True for _ in self._match(current, index, said, binding)):
                return True
            # The one who began may begin anew.
            if index % 2 == 0 and any(
                True for opener in self.scripts for _ in self._match(opener, 0, said, {})
            ):
                return True
        return False

    def _courses(self, context: Sequence[str]) -> list[tuple[int, Binding, Script]]:
        """(turns said, fillers, script) of each script that the end of the context may be.

        The longest end that makes sense counts: what was told two turns ago is not forgotten.
        """
        said = [canonical(turn) for turn in context]
        for start in range(len(said)):
            tail = said[start:]
            found = [
                (len(tail), binding, current)
                for current in self.scripts
                if len(tail) <= len(current.turns)
                for binding in self._follow(current, tail)
            ]
            if found:
                return found
        return []

    def _follow(self, current: Script, said: Sequence[str]) -> list[Binding]:
        """The fillers under which the script begins with exactly these turns."""
        bindings: list[Binding] = [{}]
        for index, turn in enumerate(said):
            bindings = [more for binding in bindings for more in self._match(current, index, turn, binding)]
        return bindings

    def _match(self, current: Script, index: int, said: str, binding: Binding) -> Iterator[Binding]:
        """The fillers, `binding` among them, under which the script's turn is said so."""
        for template in current.turns[index]:
            found = self._pattern(template, tuple(current.rules)).fullmatch(said)
            if found is None:
                continue
            more = {
                **binding,
                **{slot: self._spelled(slot, text) for slot, text in found.groupdict().items()},
            }
            consistent = all(more[slot] == value for slot, value in binding.items())
            if consistent and canonical(fill(template, more, current.rules)) == said:
                yield more

    def _spelled(self, slot: str, text: str) -> str:
        """The filler as it is declared: `anna` is `Anna`."""
        return next(filler for filler in self.fillers[kind(slot)] if canonical(filler) == text)

    def _make_pattern(self, template: str, derived: tuple[str, ...]) -> re.Pattern[str]:
        parts, captured = [], set[str]()
        for i, part in enumerate(_SLOT.split(template)):
            if i % 2 == 0:
                parts.append(re.escape(canonical(part)))
            elif part in derived:
                parts.append(".+?")
            elif part in captured:
                parts.append(f"(?P={part})")
            else:
                captured.add(part)
                options = "|".join(re.escape(canonical(filler)) for filler in self.fillers[kind(part)])
                parts.append(f"(?P<{part}>{options})")
        return re.compile(r"\ ".join(part for part in parts if part))
