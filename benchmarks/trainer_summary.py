"""The format of the summary.json that benchmarks/hf_trainer.py writes. This module has no slow imports."""

from models.record import Record


class TrainerSummary(Record):
    """The result of a training run by transformers.Trainer."""

    tokens_per_second: float
    """Useful tokens per second after the first tenth of the steps."""
    steps: int
    train_tokens: int
    parameters: int
    curve: list[tuple[float, float]]
    """A pair (minutes, bits per byte) for each validation."""
