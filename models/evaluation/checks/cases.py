"""Cases: conversations with conditions that the model's reply must meet, read from a file in YAML or JSON.

- say: What is the capital of Peru?
  contains: Lima
- say: [My name is Ann., "Nice to meet you, Ann.", "What is my name?"]
  contains: Ann
  differs_from: [My name is Bob., "Nice to meet you, Bob.", "What is my name?"]
"""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from models.config import Config
from models.errors import InputError, validation_problem

MAX_CASES = 200
MAX_BYTES = 2**20
NAME_CHARACTERS = 60
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[
    tuple[Text, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
"""Several texts; a single text may be given without a list."""
CONDITIONS = ("contains", "not_contains", "regex", "equals", "same_as", "differs_from")
FORM = "each case is a mapping such as {say: 'What is the capital of Peru?', contains: Lima}"


class Case(Config):
    """A conversation, and the conditions for the model's reply. Upper and lower case count as the same."""

    say: Annotated[Texts, Field(min_length=1)]
    """The conversation before the reply. The last text is the user's."""
    name: str = ""
    """The name of the case in reports; by default, it is the last text of `say`."""
    system: str = ""
    """The system text of the conversation."""
    contains: Texts = ()
    """The reply contains all of these texts."""
    not_contains: Texts = ()
    """The reply contains none of these texts."""
    regex: str = ""
    """The reply contains a match of this regular expression."""
    equals: Texts = ()
    """The reply is one of these texts."""
    same_as: Texts = ()
    """Another conversation. The reply to it, with the same random seed, is the same."""
    differs_from: Texts = ()
    """Another conversation. The reply to it, with the same random seed, is a different one."""

    @field_validator("regex")
    @classmethod
    def _is_a_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not any(getattr(self, name) for name in CONDITIONS):
            raise ValueError(f"has no condition: give one of {', '.join(CONDITIONS)}")
        return self

    @property
    def title(self) -> str:
        """A name for people."""
        return self.name or self.say[-1][:NAME_CHARACTERS]

    @property
    def others(self) -> tuple[tuple[str, ...], ...]:
        """The other conversations whose replies are compared with the reply."""
        return tuple(each for each in (self.same_as, self.differs_from) if each)

    def fault(self, reply: str, others: list[str]) -> str:
        """Which condition the reply does not meet; "" if it meets all of them.

        Args:
            others: the replies to the conversations of `others`.
        """
        text = reply.casefold()
        answers = dict(zip(self.others, others, strict=True))
        faults = {
            "contains": [each for each in self.contains if each.casefold() not in text],
            "not_contains": [each for each in self.not_contains if each.casefold() in text],
            "regex": self.regex and not re.search(self.regex, reply, re.IGNORECASE),
            "equals": self.equals and text.strip() not in [each.casefold().strip() for each in self.equals],
            "same_as": self.same_as and answers[self.same_as] != reply,
            "differs_from": self.differs_from and answers[self.differs_from] == reply,
        }
        return next((name for name, fault in faults.items() if fault), "")


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a file in YAML or JSON.

    Raises:
        InputError: the file cannot be read, or a case has an unknown key, a wrong value or no condition.
    """
    entries = _entries(path)
    cases = []
    for number, entry in enumerate(entries, 1):
        try:
            cases.append(Case.model_validate(entry))
        except ValidationError as error:
            key, reason = validation_problem(error, depth=1)
            raise InputError(f"{path}: case {number}: {f'{key}: ' if key else ''}{reason}; {FORM}") from None
    titles = [case.title for case in cases]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise InputError(f"{path}: two cases are called {twice!r}: give each a `name` of its own")
    return tuple(cases)


def _entries(path: Path) -> list[Any]:
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES // 2**20} MiB: give a file of checks")
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"evaluate.checks: {path} cannot be read ({error.strerror}): check the path"
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a file in YAML or JSON ({reason})") from None
    if not isinstance(content, list) or not content:
        raise InputError(f"{path} is not a list of cases: {FORM}")
    if len(content) > MAX_CASES:
        raise InputError(f"{path} has {len(content)} cases, and at most {MAX_CASES} are possible")
    return content
