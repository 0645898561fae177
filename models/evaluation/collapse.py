"""Mode collapse: statistics of greedy replies that show whether a model gives every context the same reply.

Bits per byte do not reveal a collapse: the most likely reply to any context is "I don't know", and a model
that has learnt only this reply scores well.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from models.data.batches import Examples
from models.evaluation import metrics
from models.generation.config import GenerationConfig
from models.generation.generator import Generator
from models.text.tokenizer import DEFAULT_SPECIAL_TOKENS, SpecialTokens

NUM_CONTEXTS = 32  # evenly spaced in the validation split
MAX_TOKENS = 24  # the maximum number of tokens in a reply
# Training tokens between two samples. A sample takes as long as training on 4,000 tokens (0.4 s at 10,000
# tokens per second), so sampling adds 1 % to the training time.
TOKENS_BETWEEN = 400_000
# A model cannot converse if it gives the same reply to half of the contexts, or repeats itself in half of its
# replies. 90 % of the film lines have fewer than 24 tokens, so if none of its replies ends within 24 tokens,
# the model has not learnt to end a reply.
MAX_COMMONEST_SHARE = 0.5
MAX_REPETITION = 0.5


@dataclass(frozen=True)
class ReplyStats:
    """Statistics of greedy replies. Each statistic is a share of the replies or of their n-grams."""

    distinct_1: float
    distinct_2: float
    repetition: float
    commonest_reply_share: float
    stopped_share: float

    def figures(self) -> dict[str, float]:
        return asdict(self)

    def alarm(self) -> str | None:
        """What is wrong with the replies, or None if they have not collapsed."""
        problems = []
        if self.commonest_reply_share > MAX_COMMONEST_SHARE:
            problems.append(f"{self.commonest_reply_share:.0%} of the replies are identical")
        if self.repetition > MAX_REPETITION:
            problems.append(f"{self.repetition:.0%} of the replies repeat themselves")
        if self.stopped_share == 0:
            problems.append("the model itself ended none of the replies")
        return "; ".join(problems) or None


def sample_replies(
    model: PreTrainedModel, validation: pa.Table, special_tokens: SpecialTokens = DEFAULT_SPECIAL_TOKENS
) -> ReplyStats:
    """Compute statistics of greedy replies to some contexts; weights and random states do not change."""
    rows = Examples(validation)
    chosen = np.linspace(0, len(rows) - 1, min(NUM_CONTEXTS, len(rows))).astype(np.int64)
    contexts = [ids[: int(np.argmax(flags))].tolist() for ids, flags in map(rows.row, chosen)]
    greedy = GenerationConfig(temperature=0, max_tokens=MAX_TOKENS)
    replies = Generator(model, special_tokens).replies(contexts, greedy)
    ids = [tuple(reply.ids) for reply in replies]
    return ReplyStats(
        distinct_1=metrics.distinct_n(ids, 1),
        distinct_2=metrics.distinct_n(ids, 2),
        repetition=metrics.repetition(ids),
        commonest_reply_share=metrics.commonest_reply_share(ids),
        stopped_share=metrics.stopped_share([reply.finished for reply in replies]),
    )
