"""The grammar of the `sample` corpus: generates conversations, and decides which replies are valid.

A script is a short conversation of two people. A slot such as `{name}` is filled once and keeps its filler to
the end of the script; a derived slot such as `{total}` follows from the others. The same declarations
generate the text and say which replies are valid.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

Binding = Mapping[str, str]
Rule = Callable[[Binding], str]


@dataclass(frozen=True)
class Script:
    """One of the conversations about a topic; each turn is generated from one of several templates."""

    topic: str
    turns: tuple[tuple[str, ...], ...]
    rules: Mapping[str, Rule] = field(default_factory=dict, hash=False)


def script(topic: str, *turns: str | tuple[str, ...], **rules: Rule) -> Script:
    """A script, from the template or the templates of each turn."""
    return Script(topic, tuple((turn,) if isinstance(turn, str) else turn for turn in turns), rules)


def kind(slot: str) -> str:
    """The kind of filler that a slot takes: `name2` takes the same as `name`."""
    return slot.rstrip("0123456789")


_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z0-9']+|[.,!?]")


def slots(template: str) -> list[str]:
    return _SLOT.findall(template)


def fill(template: str, binding: Binding, rules: Mapping[str, Rule]) -> str:
    """The template with its slots filled, beginning with a capital letter."""
    values = {slot: rules[slot](binding) if slot in rules else binding[slot] for slot in slots(template)}
    text = _SLOT.sub(lambda match: values[match[1]], template)
    return text[:1].upper() + text[1:]


def canonical(text: str) -> str:
    """The form in which two texts are compared: words and marks, without case and blanks."""
    return " ".join(_WORD.findall(text.lower()))


class Grammar:
    """The scripts, and the fillers for their slots."""

    def __init__(self, scripts: Sequence[Script], fillers: Mapping[str, Sequence[str]]) -> None:
        self.scripts, self.fillers = scripts, fillers
        self._pattern = cache(self._make_pattern)

    def is_valid_reply(self, context: Sequence[str], reply: str) -> bool:
        """Whether the grammar can generate `reply` after `context`, which is all turns, the oldest first."""
        said = canonical(reply)
        for index, binding, current in self._courses(context):
            if index < len(current.turns) and any(True for _ in self._match(current, index, said, binding)):
                return True
            # The person who began the conversation may begin another script.
            if index % 2 == 0 and any(
                True for opener in self.scripts for _ in self._match(opener, 0, said, {})
            ):
                return True
        return False

    def _courses(self, context: Sequence[str]) -> list[tuple[int, Binding, Script]]:
        """The scripts from which the last turns of the context can be generated.

        Returns:
            (number of these turns, fillers, script) for each one, with as many turns as possible: a name that
            was said two turns ago still counts.
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
        """The fillers with which the script begins with exactly these turns."""
        bindings: list[Binding] = [{}]
        for index, turn in enumerate(said):
            bindings = [more for binding in bindings for more in self._match(current, index, turn, binding)]
        return bindings

    def _match(self, current: Script, index: int, said: str, binding: Binding) -> Iterator[Binding]:
        """The fillers, including those of `binding`, with which a turn of the script gives this text."""
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
        """The filler in its declared spelling: `Anna` for `anna`."""
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
