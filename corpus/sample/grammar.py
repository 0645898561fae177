"""The grammar of the `sample` corpus: generates conversations, and decides which replies are valid.

A script is a short conversation between two people. A slot such as `{name}` is filled once and keeps its
filler to the end of the script; a derived slot such as `{total}` is computed from the other slots. The
scripts that generate the text also define which replies are valid.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

Binding = Mapping[str, str]
Rule = Callable[[Binding], str]


@dataclass(frozen=True)
class Script:
    """A short conversation about a topic; each turn is generated from one of the templates for that turn."""

    topic: str
    turns: tuple[tuple[str, ...], ...]
    rules: Mapping[str, Rule] = field(default_factory=dict, hash=False)


def script(topic: str, *turns: str | tuple[str, ...], **rules: Rule) -> Script:
    """Make a script from one or more templates for each turn; `rules` computes the derived slots."""
    return Script(topic, tuple((turn,) if isinstance(turn, str) else turn for turn in turns), rules)


def kind(slot: str) -> str:
    """The kind of filler that a slot takes: its name without final digits (`name` for the slot `name2`)."""
    return slot.rstrip("0123456789")


_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z0-9']+|[.,!?]")


def slots(template: str) -> list[str]:
    """The names of the slots in a template, in the order in which they occur."""
    return _SLOT.findall(template)


def fill(template: str, binding: Binding, rules: Mapping[str, Rule]) -> str:
    """The template with its slots filled, beginning with a capital letter."""
    values = {slot: rules[slot](binding) if slot in rules else binding[slot] for slot in slots(template)}
    text = _SLOT.sub(lambda match: values[match[1]], template)
    return text[:1].upper() + text[1:]


def canonical(text: str) -> str:
    """The form in which texts are compared: lower-case words and punctuation, separated by single spaces."""
    return " ".join(_WORD.findall(text.lower()))


class Grammar:
    """The scripts, and the fillers for their slots."""

    def __init__(self, scripts: Sequence[Script], fillers: Mapping[str, Sequence[str]]) -> None:
        self.scripts, self.fillers = scripts, fillers
        self._pattern = cache(self._make_pattern)

    def is_valid_reply(self, context: Sequence[str], reply: str) -> bool:
        """Whether the grammar can generate `reply` after `context`, the list of all earlier turns."""
        spoken = canonical(reply)
        for index, binding, candidate in self._scripts_of(context):
            if index < len(candidate.turns) and any(
                True for _ in self._match(candidate, index, spoken, binding)
            ):
                return True
            # The speaker who began the matched script may begin another script instead of continuing it.
            if index % 2 == 0 and any(
                True for opener in self.scripts for _ in self._match(opener, 0, spoken, {})
            ):
                return True
        return False

    def _scripts_of(self, context: Sequence[str]) -> list[tuple[int, Binding, Script]]:
        """The scripts that can generate the last turns of the context.

        Returns:
            For each such script: how many turns at the end of the context it can generate, the fillers that
            these turns use, and the script. As many turns as possible are matched, because the reply
            may have to repeat a name from two turns ago.
        """
        spoken = [canonical(turn) for turn in context]
        for start in range(len(spoken)):
            tail = spoken[start:]
            found = [
                (len(tail), binding, candidate)
                for candidate in self.scripts
                if len(tail) <= len(candidate.turns)
                for binding in self._bindings_of(candidate, tail)
            ]
            if found:
                return found
        return []

    def _bindings_of(self, candidate: Script, spoken: Sequence[str]) -> list[Binding]:
        """All choices of fillers with which the first turns of the script read exactly like `spoken`."""
        bindings: list[Binding] = [{}]
        for index, turn in enumerate(spoken):
            bindings = [
                extended for binding in bindings for extended in self._match(candidate, index, turn, binding)
            ]
        return bindings

    def _match(self, candidate: Script, index: int, spoken: str, binding: Binding) -> Iterator[Binding]:
        """Yield each extension of `binding` with which turn `index` of the script reads like `spoken`."""
        for template in candidate.turns[index]:
            found = self._pattern(template, tuple(candidate.rules)).fullmatch(spoken)
            if found is None:
                continue
            extended = {
                **binding,
                **{slot: self._declared_filler(slot, text) for slot, text in found.groupdict().items()},
            }
            consistent = all(extended[slot] == value for slot, value in binding.items())
            if consistent and canonical(fill(template, extended, candidate.rules)) == spoken:
                yield extended

    def _declared_filler(self, slot: str, text: str) -> str:
        """The filler as it is spelt in the grammar, such as `Anna` for `anna`."""
        return next(filler for filler in self.fillers[kind(slot)] if canonical(filler) == text)

    def _make_pattern(self, template: str, derived: tuple[str, ...]) -> re.Pattern[str]:
        """A regular expression for the template's canonical form, with a group for each slot not derived."""
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
