"""Tokenizers: what a text's ids are, for a `word` and for a byte-level `bpe` vocabulary.

Both are one `tokenizer.json` that `transformers` opens, with the control tokens at ids 0 to 3.
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
class Control:
    """The ids of a vocabulary that are no text."""

    end: int = END
    """Of a turn: the last id of each reply."""
    unknown: int | None = UNK
    """Stands for a word that has no id; None where every text has ids."""
    banned: tuple[int, ...] = (PAD, START, UNK)
    """What a reply never holds."""


OURS = Control()

# One conversation: <start> turn <end> turn <end> ... A turn's own text cannot yield a control
# token: their spellings are taken out of it. A system message is no turn of a dialogue.
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
    """Words seen `min_count` times or more, ids by (count, word); the others are `<unk>`."""
    splitter = pre_tokenizers.Whitespace()  # letters and digits, or a run of marks
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    kept = [(-count, word) for word, count in counts.items() if count >= min_count and word not in CONTROL]
    vocabulary = {token: i for i, token in enumerate((*CONTROL, *(word for _, word in sorted(kept))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=CONTROL[UNK]))
    tokenizer.pre_tokenizer = splitter
    return _with_control(tokenizer)


def learn_bpe(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Byte-level pairs: every text has ids and comes back from them exactly."""
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
    """Nats of each byte 0..255 in the texts, then of a spelling's end: what an unknown word costs.

    Add-one counts, so that every byte has a price.
    """
    counts = [1] * 257
    for text in texts:
        for byte, count in Counter(text.encode()).items():
            counts[byte] += count
        counts[256] += text.count(" ") + 1
    total = sum(counts)
    return [math.log(total / count) for count in counts]


def spelling_nats(text: str, spelling: list[float]) -> float:
    """What `text` costs when it is spelled byte by byte, its end included."""
    return sum(spelling[byte] for byte in text.encode()) + spelling[256]


def forgets_blanks(tokenizer: Tokenizer) -> bool:
    """Whether `you!` and `you !` have the same ids, as in a `word` vocabulary."""
    return isinstance(tokenizer.model, models.WordLevel)


def learn_blanks(texts: Iterable[str]) -> list[float]:
    """Nats of no blank and of a blank between a word and a mark, then between a mark and a word.

    These follow the 257 prices of `learn_spelling` for a vocabulary that forgets blanks. Add-one counts.
    """
    splitter = pre_tokenizers.Whitespace()
    counts = [1] * 4
    for text in texts:
        for gap in _gaps(text, [offsets for _, offsets in splitter.pre_tokenize_str(text)]):
            counts[gap] += 1
    totals = [counts[0] + counts[1]] * 2 + [counts[2] + counts[3]] * 2
    return [math.log(total / count) for total, count in zip(totals, counts, strict=True)]


def blank_nats(text: str, offsets: Sequence[tuple[int, int]], spelling: list[float]) -> float:
    """What it costs to say where the blanks between the tokens at `offsets` are.

    A bit each where the vocabulary is older than these prices.
    """
    prices = spelling[257:] or [math.log(2)] * 4
    return sum(prices[gap] for gap in _gaps(text, offsets))


def _gaps(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[int]:
    """For each pair of neighbours that may stand with or without a blank, the index of its price.

    Two words, or two runs of marks, would be one without a blank between them: that costs nothing.
    """
    for (_, end), (start, _) in pairwise(offsets):
        follows_word = bool(_WORD.match(text, end - 1))
        if start == end or follows_word != bool(_WORD.match(text, start)):
            yield (0 if follows_word else 2) + (start > end)


_WORD = re.compile(r"\w")


def save(tokenizer: Tokenizer, spelling: list[float], folder: Path) -> None:
    """Write the folder that `load` and `transformers.AutoTokenizer` open."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), CONTROL, strict=True))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    save_spelling(spelling, folder)


def save_spelling(spelling: list[float], folder: Path) -> None:
    (folder / "spelling.json").write_text(json.dumps({"nats": spelling}) + "\n")


def load(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()  # as some files of others ask
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # not kept in the file
    return tokenizer


def save_control(control: Control, folder: Path) -> None:
    (folder / "control.json").write_text(json.dumps(asdict(control)) + "\n")


def load_control(folder: Path) -> Control:
    """Of a vocabulary that began elsewhere, as its folder says; ours has no such file."""
    path = folder / "control.json"
    if not path.is_file():
        return OURS
    told = json.loads(path.read_text())
    return Control(**{**told, "banned": tuple(told["banned"])})


def load_spelling(folder: Path) -> list[float]:
    nats: list[float] = json.loads((folder / "spelling.json").read_text())["nats"]
    return nats
