"""Generates the `sample` corpus: any amount of small talk, from a grammar that can also validate replies."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.layout import CONVERSATIONS, LINES, SEPARATOR
from corpus.sample.grammar import Grammar, Script, fill, kind, slots
from corpus.sample.topics import FAREWELLS, GREETINGS, SCRIPTS
from corpus.sample.words import FILLERS

TURNS_PER_MOVIE = 50
MAX_TURNS = 8
GRAMMAR = Grammar(SCRIPTS, FILLERS)
is_valid_reply = GRAMMAR.is_valid_reply


@dataclass(frozen=True)
class Conversation:
    """A conversation: the lines that two characters of one movie speak in turn."""

    movie: int
    lines: tuple[str, ...]


def conversations(*, turns: int, seed: int) -> Iterator[Conversation]:
    """Yield conversations with at least `turns` lines in total. The same seed always gives the same lines."""
    rng = random.Random(seed)
    generated = 0
    while generated < turns:
        lines = _conversation(rng)
        yield Conversation(generated // TURNS_PER_MOVIE, lines)
        generated += len(lines)


def _conversation(rng: random.Random) -> tuple[str, ...]:
    """The lines of one or two scripts, sometimes with a greeting before them or a farewell after them."""
    chosen = [rng.choice(SCRIPTS) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.15:
        chosen.insert(0, rng.choice(GREETINGS))
    if rng.random() < 0.15:
        chosen.append(rng.choice(FAREWELLS))
    lines: list[str] = []
    for script in chosen:
        generated = _generate_turns(script, rng)
        if len(lines) + len(generated) <= MAX_TURNS:
            lines += generated
    return tuple(lines)


def _generate_turns(script: Script, rng: random.Random) -> list[str]:
    """The turns of a script with its slots filled, or sometimes only its first two turns."""
    names = {slot for turn in script.turns for template in turn for slot in slots(template)} - set(
        script.rules
    )
    binding: dict[str, str] = {}
    for slot in sorted(names):
        taken = {filler for other, filler in binding.items() if kind(other) == kind(slot)}
        binding[slot] = rng.choice([filler for filler in FILLERS[kind(slot)] if filler not in taken])
    turn_count = len(script.turns) if rng.random() < 0.8 else 2
    return [fill(rng.choice(turn), binding, script.rules) for turn in script.turns[:turn_count]]


def write_corpus(folder: Path, *, turns: int, seed: int) -> int:
    """Write the two files of the Cornell layout; return the number of lines.

    The lines of a conversation are written in reverse order, as in the original Cornell corpus. Only one
    conversation at a time is in memory, so the corpus may be larger than the available memory.
    """
    written = 0
    with (
        (folder / LINES).open("w") as lines,
        (folder / CONVERSATIONS).open("w") as order,
    ):
        for conversation in conversations(turns=turns, seed=seed):
            first = written + 1
            written += len(conversation.lines)
            numbered = list(enumerate(conversation.lines, first))
            speakers = (f"u{2 * conversation.movie}", f"u{2 * conversation.movie + 1}")
            for number, text in reversed(numbered):
                speaker = speakers[(number - first) % 2]
                row = (f"L{number}", speaker, f"m{conversation.movie}", speaker.upper(), text)
                lines.write(SEPARATOR.join(row) + "\n")
            ids = [f"L{number}" for number, _ in numbered]
            order.write(SEPARATOR.join((*speakers, f"m{conversation.movie}", str(ids))) + "\n")
    return written
