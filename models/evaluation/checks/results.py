"""Results: a model's replies to the cases, and the comparison of two models.

A model replies to each case once greedily and SEEDS times with random numbers, with equal settings and seeds
for all models. A case in which the champion itself passes only sometimes says nothing about a new model, so
it is set aside. Of the others, a case fails if the new model certainly passes less often than the champion
(Fisher's exact test). The tests are corrected for their number with the method of Holm (1979), so that a
model that is as good fails any case with a probability of at most ERROR.
"""

import logging
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import NamedTuple

from models.evaluation.checks.cases import Case
from models.evaluation.guards import holm
from models.evaluation.replies import answers
from models.generation.config import GenerationConfig
from models.record import Record
from models.text.encoding import read_model_info
from models.text.normalisation import normalise

log = logging.getLogger(__name__)

SEEDS = 10
RELIABLE_SHARE = 0.8
"""A case counts if the champion passes in at least this share of its replies."""
GREEDY = GenerationConfig(temperature=0)
SAMPLED = tuple(GenerationConfig(seed=1000 * number) for number in range(SEEDS))


class Result(Record):
    """A model's replies to one case."""

    name: str
    reply: str
    """The greedy reply."""
    fault: str = ""
    """The condition that the greedy reply does not meet; "" if it meets all."""
    passed: int
    """How many of the replies meet all conditions."""
    replies: int


class Change(NamedTuple):
    """One case in two models."""

    name: str
    new: Result
    old: Result
    holds: bool
    """False if the new model certainly passes less often than the champion."""
    is_unreliable: bool
    """Whether the champion passes too seldom for the case to count."""


def run_cases(folder: Path, cases: Sequence[Case]) -> list[Result]:
    """The model's results in all cases; the texts are normalised as the model's training text was."""
    if not cases:
        return []
    normalisation = read_model_info(folder).normalisation
    talks = [
        (number, talk, case.system) for number, case in enumerate(cases) for talk in (case.say, *case.others)
    ]
    numbers, spoken, systems = zip(*talks, strict=True)
    texts = [[normalise(text, normalisation) for text in talk] for talk in spoken]
    replies = answers(folder, texts, [GREEDY, *SAMPLED], systems, numbers)
    results, row = [], 0
    for case in cases:
        rows = slice(row, row + 1 + len(case.others))
        row = rows.stop
        own = [[text for text, *_ in each[rows]] for each in replies]
        faults = [case.fault(first, others) for first, *others in own]
        results.append(
            Result(
                name=case.title,
                reply=own[0][0],
                fault=faults[0],
                passed=faults.count(""),
                replies=len(faults),
            )
        )
    return results


def compare_results(new: Sequence[Result], old: Sequence[Result]) -> list[Change]:
    """The cases that both models have answered, in their order."""
    known = {result.name: result for result in old}
    pairs = [(each, known[each.name]) for each in new if each.name in known]
    reliable = [pair for pair in pairs if _is_reliable(pair[1])]
    is_worse = dict(
        zip(
            [ours.name for ours, _ in reliable], holm([_probability(*pair) for pair in reliable]), strict=True
        )
    )
    return [
        Change(ours.name, ours, theirs, not is_worse.get(ours.name), not _is_reliable(theirs))
        for ours, theirs in pairs
    ]


def _is_reliable(champion: Result) -> bool:
    return champion.passed >= RELIABLE_SHARE * champion.replies


def failure(changes: Sequence[Change]) -> str:
    """Which cases do not hold, with their figures; "" if all hold."""
    return ", ".join(
        f"{each.name!r} passes in {each.new.passed} of {each.new.replies} replies instead of "
        f"{each.old.passed}"
        for each in changes
        if not each.holds
    )


def passed_share(results: Sequence[Result]) -> float:
    """The share of all replies that meet the conditions of their cases."""
    return sum(each.passed for each in results) / sum(each.replies for each in results)


def _probability(new: Result, old: Result) -> float:
    """The probability of at most `new.passed` passes if both models passed equally often (Fisher's test)."""
    passed = new.passed + old.passed
    ways = comb(new.replies + old.replies, passed)
    fewest = max(0, passed - old.replies)
    counts = range(fewest, new.passed + 1)
    return sum(comb(new.replies, each) * comb(old.replies, passed - each) for each in counts) / ways
