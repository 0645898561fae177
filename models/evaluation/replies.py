"""A model's greedy replies to contexts of the test split, and statistics of whole replies."""

import hashlib
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from models.data.conversations import read_split, reply_positions
from models.evaluation.guards import Reply
from models.generation.config import GenerationConfig
from models.text.encoding import encode_context, read_model_info
from models.text.normalisation import display, normalise

OPENERS = ("Hello.", "How are you?", "What is your name?", "Where do you live?", "Thank you.", "Goodbye.")


class Case(NamedTuple):
    """A context, and the original reply to it; "" if the context is not from the corpus."""

    context: list[str]
    said: str
    system: str = ""
    """The system text of the conversation, or ""."""


def sample_cases(turns: Path, normalisation: Any, count: int) -> list[Case]:
    """The OPENERS, then at most `count` contexts from the test split."""
    conversations = [(each, reply_positions(each)) for each in read_split(turns, "test")]
    conversations = [(each, positions) for each, positions in conversations if positions]
    chosen = conversations[:: max(1, len(conversations) // count)][:count]
    cases = [Case([normalise(text, normalisation)], "") for text in OPENERS]
    for i, (each, positions) in enumerate(chosen):
        position = positions[i % len(positions)]
        cases.append(Case(each.texts[:position], each.texts[position], each.system))
    return cases


def answer(folder: Path, contexts: list[list[str]], systems: Sequence[str] = ()) -> "list[Answer]":
    """Return the greedy reply to each context as text and ids, and whether the model ended the reply.

    Args:
        systems: as for `answers`.
    """
    (replies,) = answers(folder, contexts, [GenerationConfig(temperature=0)], systems)
    return replies


def answers(
    folder: Path,
    contexts: list[list[str]],
    configs: Sequence[GenerationConfig],
    systems: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
) -> "list[list[Answer]]":
    """For each of the generation settings, the replies to all contexts.

    Args:
        numbers: as for `Generator.replies`.
        systems: the system text before each context, or "". A model that was trained without system texts
            does not read them.
    """
    from models.generation.generator import Generator
    from models.network import networks
    from models.text import tokenizer
    from models.text.chat_template import load_chat_format

    info, vocabulary = read_model_info(folder), tokenizer.load(folder)
    chat_format = load_chat_format(folder)
    used = systems if info.has_system else ()
    encoded = [
        encode_context(context, vocabulary, info.markup, chat_format, system)
        for context, system in zip_longest(contexts, used, fillvalue="")
    ]
    generator = Generator(networks.load(folder), chat_format.special_tokens)
    return [
        [
            (display(vocabulary.decode(r.ids), info.normalisation), list(r.ids), r.finished)
            for r in generator.replies(encoded, config, numbers)
        ]
        for config in configs
    ]


Answer = tuple[str, list[int], bool]
"""A reply as text and ids, and whether the model ended it."""


def answer_cases(folder: Path, cases: Sequence[Case]) -> list[Answer]:
    """The greedy reply to each case."""
    return answer(folder, [case.context for case in cases], [case.system for case in cases])


def openers_of(replies: Sequence[Answer]) -> dict[str, str]:
    """The replies to the fixed openers, given the replies to all of `sample_cases`."""
    return {opener: text for opener, (text, *_) in zip(OPENERS, replies, strict=False)}


def compared_replies(replies: Sequence[Answer]) -> list[Reply]:
    """The replies to contexts of the test split as the guards compare them (models/evaluation/guards.py)."""
    from models.evaluation import metrics

    return [
        (finished, metrics.loops(ids), hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12])
        for text, ids, finished in replies[len(OPENERS) :]
    ]


def reply_figures(replies: Sequence[Answer]) -> dict[str, float]:
    """Statistics that show whether the replies vary, whether they repeat themselves, and whether they end."""
    from models.evaluation import metrics

    ids = [reply for _, reply, _ in replies]
    return {
        "distinct_1": metrics.distinct_n(ids, 1),
        "distinct_2": metrics.distinct_n(ids, 2),
        "repetition": metrics.repetition(ids),
        "stopped_share": metrics.stopped_share([finished for *_, finished in replies]),
        "commonest_reply_share": metrics.commonest_reply_share([text for text, *_ in replies]),
    }
