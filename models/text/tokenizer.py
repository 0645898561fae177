"""Tokenizers with a `word` vocabulary or a byte-level `bpe` vocabulary, and the terms of a spelling charge.

Both kinds are saved as a `tokenizer.json` that transformers can open, with the special tokens at ids 0 to 3.
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
    """The ids of a vocabulary's special tokens, which do not represent text."""

    end: int = END
    """The id that ends a turn; it is the last id of each reply."""
    unknown: int | None = UNK
    """The single id that stands for any unknown word; None if the vocabulary can encode any text."""
    banned: tuple[int, ...] = (PAD, START, UNK)
    """Ids that a reply never contains."""


DEFAULT_SPECIAL_TOKENS = SpecialTokens()

# A conversation is rendered as <start> turn <end> turn <end> ... The text of a turn cannot yield a special
# token, because the template removes the names of special tokens from it. System messages are left out,
# unless the model was trained with system texts.
_CONTENT = "message['content']" + "".join(f" | replace('{token}', '')" for token in CONTROL)
_WITHOUT_SYSTEM = " if message['role'] != 'system'"
CHAT_TEMPLATE = (
    "{{- '<start>' -}}"
    f"{{%- for message in messages{_WITHOUT_SYSTEM} -%}}"
    "{%- if message['role'] == 'assistant' -%}"
    f"{{%- generation -%}}{{{{- ({_CONTENT}) + '<end>' -}}}}{{%- endgeneration -%}}"
    f"{{%- else -%}}{{{{- ({_CONTENT}) + '<end>' -}}}}{{%- endif -%}}"
    "{%- endfor -%}"
)


def learn_words(texts: Iterable[str], *, min_count: int) -> Tokenizer:
    """Learn a vocabulary of the words that occur at least `min_count` times; all other words become `<unk>`.

    Ids are assigned by descending count; words with equal counts are in alphabetical order."""
    splitter = pre_tokenizers.Whitespace()  # a word is a run of letters and digits, or a run of punctuation
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    frequent = [
        (-count, word) for word, count in counts.items() if count >= min_count and word not in CONTROL
    ]
    vocabulary = {token: i for i, token in enumerate((*CONTROL, *(word for _, word in sorted(frequent))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=CONTROL[UNK]))
    tokenizer.pre_tokenizer = splitter
    return _with_control(tokenizer)


def learn_bpe(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary, which can encode every text and restore it exactly from its ids."""
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
    tokenizer.encode_special_tokens = True  # the user's text never yields a special token
    return tokenizer


def learn_spelling(texts: Iterable[str]) -> list[float]:
    """Learn the costs, in nats, of spelling an unknown word: one per byte value, then one for the word's end.

    A cost is a negative log-likelihood. Counts start at one, so that the cost of every byte is finite.
    """
    counts = [1] * 257
    for text in texts:
        for byte, count in Counter(text.encode()).items():
            counts[byte] += count
        counts[256] += text.count(" ") + 1
    total = sum(counts)
    return [math.log(total / count) for count in counts]


def spelling_nats(text: str, spelling: list[float]) -> float:
    """The cost, in nats, of spelling `text` byte by byte, including the cost of its end."""
    return sum(spelling[byte] for byte in text.encode()) + spelling[256]


def forgets_blanks(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer encodes `you!` and `you !` as the same ids, as a `word` vocabulary does."""
    return isinstance(tokenizer.model, models.WordLevel)


def learn_blanks(texts: Iterable[str]) -> list[float]:
    """Learn the costs, in nats, of the absence and of the presence of a space where it is optional.

    A space is optional after a word that is followed by punctuation (the first two costs), and after
    punctuation that is followed by a word (the other two). For a vocabulary that does not encode spaces,
    these four costs are appended to the 257 costs of `learn_spelling`. Counts start at one.
    """
    splitter = pre_tokenizers.Whitespace()
    counts = [1] * 4
    for text in texts:
        for gap in _gaps(text, [offsets for _, offsets in splitter.pre_tokenize_str(text)]):
            counts[gap] += 1
    totals = [counts[0] + counts[1]] * 2 + [counts[2] + counts[3]] * 2
    return [math.log(total / count) for total, count in zip(totals, counts, strict=True)]


def blank_nats(text: str, offsets: Sequence[tuple[int, int]], spelling: list[float]) -> float:
    """The cost, in nats, of the presence or absence of each space between the tokens at `offsets`.

    If the vocabulary was saved before these costs existed, each presence or absence costs one bit.
    """
    prices = spelling[257:] or [math.log(2)] * 4
    return sum(prices[gap] for gap in _gaps(text, offsets))


def _gaps(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Yield the index of the cost for each pair of neighbouring tokens between which a space is optional.

    A space between two words, or between two runs of punctuation, is always present and costs nothing.
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


def render_system(folder: Path) -> None:
    """Change the chat template in a folder so that a system message is rendered like a turn.

    The chat template of a pretrained tokenizer stays as it is.
    """
    path = folder / "chat_template.jinja"
    if path.exists() and path.read_text() == CHAT_TEMPLATE:
        path.write_text(CHAT_TEMPLATE.replace(_WITHOUT_SYSTEM, ""))


def save_spelling(spelling: list[float], folder: Path) -> None:
    (folder / "spelling.json").write_text(json.dumps({"nats": spelling}) + "\n")


def load(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder. It encodes the name of a special token as ordinary text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()  # some pretrained tokenizers enable truncation and padding
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # the file does not store this flag
    return tokenizer


def save_special_tokens(special_tokens: SpecialTokens, folder: Path) -> None:
    (folder / "control.json").write_text(json.dumps(asdict(special_tokens)) + "\n")


def load_special_tokens(folder: Path) -> SpecialTokens:
    """The special tokens of the tokenizer in a folder, or the default ones if there is no control.json."""
    path = folder / "control.json"
    if not path.is_file():
        return DEFAULT_SPECIAL_TOKENS
    content = json.loads(path.read_text())
    return SpecialTokens(**{**content, "banned": tuple(content["banned"])})


def load_spelling(folder: Path) -> list[float]:
    nats: list[float] = json.loads((folder / "spelling.json").read_text())["nats"]
    return nats
