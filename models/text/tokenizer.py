"""Tokenizers with a `word` vocabulary or a byte-level `bpe` vocabulary, and the prices of spelling.

Both are a `tokenizer.json` that `transformers` can open, with the special tokens at ids 0 to 3.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONTROL = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNK = range(4)


@dataclass(frozen=True)
class SpecialTokens:
    """The special ids of a vocabulary, which stand for no text."""

    end: int = END
    """End of turn: the last id of each reply."""
    unknown: int | None = UNK
    """The id of words without an id of their own; None where every text has ids."""
    banned: tuple[int, ...] = (PAD, START, UNK)
    """Ids that a reply never holds."""


DEFAULT_SPECIAL_TOKENS = SpecialTokens()

# One conversation: <start> turn <end> turn <end> ... The text of a turn cannot yield a special token: their
# spellings are removed from it. A system message is not a turn of a dialogue.
_CONTENT = "message['content']" + "".join(f" | replace('{token}', '')" for token in CONTROL)
CHAT_TEMPLATE = (
    "{{- '<start>' -}}"
    "{%- for message in messages if message['role'] != 'system' -%}"
    "{%- if message['role'] == 'assistant' -%}"
    f"{{%- generation -%}}{{{{- ({_CONTENT}) + '<end>' -}}}}{{%- endgeneration -%}}"
    f"{{%- else -%}}{{{{- ({_CONTENT}) + '<end>' -}}}}{{%- endif -%}}"
    "{%- endfor -%}"
)


def learn_words(texts: Iterable[str], *, min_count: int) -> Tokenizer:
    """A vocabulary of the words that occur `min_count` times or more, by (-count, word); others are
    `<unk>`."""
    splitter = pre_tokenizers.Whitespace()  # letters and digits, or a run of marks
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    frequent = [
        (-count, word) for word, count in counts.items() if count >= min_count and word not in CONTROL
    ]
    vocabulary = {token: i for i, token in enumerate((*CONTROL, *(word for _, word in sorted(frequent))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=CONTROL[UNK]))
    tokenizer.pre_tokenizer = splitter
    return _with_control(tokenizer)


def learn_bpe(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Byte-level BPE: every text has ids and is restored from them exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_control(tokenizer)


def _with_control(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(list(CONTROL))
    tokenizer.encode_special_tokens = True  # what a person types is text, whatever it spells
    return tokenizer


def learn_spelling(texts: Iterable[str]) -> list[float]:
    """The prices of spelling an unknown word: nats of each byte 0..255 in the texts, then of a spelling's
    end.

    Counts start at one, so that every byte has a price.
    """
    counts = [1] * 257
    for text in texts:
        for byte, count in Counter(text.encode()).items():
            counts[byte] += count
        counts[256] += text.count(" ") + 1
    total = sum(counts)
    return [math.log(total / count) for count in counts]


def spelling_nats(text: str, spelling: list[float]) -> float:
    """The nats of `text` spelled byte by byte, its end included."""
    return sum(spelling[byte] for byte in text.encode()) + spelling[256]


def forgets_blanks(tokenizer: Tokenizer) -> bool:
    """Whether `you!` and `you !` have the same ids, as with a `word` vocabulary."""
    return isinstance(tokenizer.model, models.WordLevel)


def learn_blanks(texts: Iterable[str]) -> list[float]:
    """Nats of no blank and of a blank between a word and a mark, then between a mark and a word.

    For a vocabulary that forgets blanks they follow the 257 prices of `learn_spelling`. Counts start at one.
    """
    splitter = pre_tokenizers.Whitespace()
    counts = [1] * 4
    for text in texts:
        for gap in _gaps(text, [offsets for _, offsets in splitter.pre_tokenize_str(text)]):
            counts[gap] += 1
    totals = [counts[0] + counts[1]] * 2 + [counts[2] + counts[3]] * 2
    return [math.log(total / count) for total, count in zip(totals, counts, strict=True)]


def blank_nats(text: str, offsets: Sequence[tuple[int, int]], spelling: list[float]) -> float:
    """The nats of the blanks between the tokens at `offsets`.

    One bit each if the vocabulary is older than these prices.
    """
    prices = spelling[257:] or [math.log(2)] * 4
    return sum(prices[gap] for gap in _gaps(text, offsets))


def _gaps(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[int]:
    """For each pair of neighbours that may stand with or without a blank, the index of its price.

    Two words, or two runs of marks, always have a blank between them: it costs nothing.
    """
    for (_, end), (start, _) in pairwise(offsets):
        follows_word = bool(_WORD.match(text, end - 1))
        if start == end or follows_word != bool(_WORD.match(text, start)):
            yield (0 if follows_word else 2) + (start > end)


_WORD = re.compile(r"\w")


def save(tokenizer: Tokenizer, spelling: list[float], folder: Path) -> None:
    """Write a folder that `load` and `transformers.AutoTokenizer` can open."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), CONTROL, strict=True))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    save_spelling(spelling, folder)


def save_spelling(spelling: list[float], folder: Path) -> None:
    (folder / "spelling.json").write_text(json.dumps({"nats": spelling}) + "\n")


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; the text of a special token is encoded as text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()  # as some files of others ask
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # not kept in the file
    return tokenizer


def save_special_tokens(special_tokens: SpecialTokens, folder: Path) -> None:
    (folder / "control.json").write_text(json.dumps(asdict(special_tokens)) + "\n")


def load_special_tokens(folder: Path) -> SpecialTokens:
    """The special tokens of the tokenizer in a folder; without control.json they are the default ones."""
    path = folder / "control.json"
    if not path.is_file():
        return DEFAULT_SPECIAL_TOKENS
    content = json.loads(path.read_text())
    return SpecialTokens(**{**content, "banned": tuple(content["banned"])})


def load_spelling(folder: Path) -> list[float]:
    nats: list[float] = json.loads((folder / "spelling.json").read_text())["nats"]
    return nats
