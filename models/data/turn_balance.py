"""The balance of the stage `clean`: what has become of each turn that the stage read."""

from pathlib import Path
from typing import Self

from models.record import Record

BALANCE = "logs/turns.json"
"""The file in the output of `clean`. Like all logs, it is no part of the output's digest."""


class TurnBalance(Record):
    """What has become of the turns: `turns_read + turns_copied == turns_written + sum(removed.values())`."""

    turns_read: int
    """The turns in the output of `parse`."""
    turns_written: int
    """The turns in the output of `clean`, with the copies."""
    turns_copied: int
    """The turns that were added because their source has a weight of more than 1."""
    removed: dict[str, int]
    """The turns that were left out, by cause. A cause follows a number of turns, as in `7 near copies`."""

    @classmethod
    def of(cls, clean: Path) -> Self | None:
        """The balance of an output of `clean`; None if an earlier release has written the output."""
        try:
            return cls.read(clean / BALANCE)
        except FileNotFoundError:
            return None

    def text(self) -> str:
        """The balance in one line, with only the causes that occurred, the most frequent one first."""
        causes = sorted(((count, cause) for cause, count in self.removed.items() if count), reverse=True)
        listed = "; ".join(f"{count:,} {cause}" for count, cause in causes)
        left_out = f"{sum(self.removed.values()):,} left out ({listed})" if causes else "none left out"
        once = self.turns_written - self.turns_copied
        copies = f"; {self.turns_copied:,} added as copies, for the weight of their source"
        return (
            f"{self.turns_read:,} turns read: {once:,} kept, {left_out}{copies if self.turns_copied else ''}"
        )
