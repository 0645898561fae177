"""Measures how many planted near copies the stage `clean` finds, and whether it removes short replies.

python -m benchmarks.corpus.near_copies [CORPUS] [--copies 2000] [--short 10000] [--long 20000]
    CORPUS is a zip in the Cornell layout, from which the long replies are taken; without it they consist of
    random words. The command takes less than a minute. One row of the table needs datasketch, which no extra
    of the project contains (`.venv/bin/pip install datasketch`); without it, the row is left out.

The corpus that is generated has different replies of one to four words in all splits, long replies in the
test split, a copy of each in the training split in which one word is another one, and other long replies in
the training split. A removed turn that was not planted is printed, so that a person can judge it.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus.personal_data import SEED, read_turns
from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.split import split_of
from models.data.schemas import SPLITS, TURNS
from models.markdown import markdown_table

CLEAN = CleanConfig(redact="none")
FEWEST_WORDS = 8
SHINGLE_WORDS, PERMUTATIONS, LSH_THRESHOLD = 5, 128, 0.7  # usual values for deduplication


class Planted:
    """A corpus of exchanges; each reply has a name: `short`, `long`, `original` or `copy`, and a number."""

    def __init__(
        self, *, short: list[str], originals: list[str], copies: list[str], others: list[str]
    ) -> None:
        by_split = {
            split: [f"g{i}" for i in range(400) if split_of(f"g{i}", CLEAN) == split] for split in SPLITS
        }
        anywhere = [f"g{i}" for i in range(400)]
        groups = {
            "short": anywhere,
            "original": by_split["test"],
            "copy": by_split["train"],
            "long": by_split["train"],
        }
        texts = {"short": short, "original": originals, "copy": copies, "long": others}
        self.replies = {
            f"{kind}-{i}": (text, groups[kind][i % len(groups[kind])])
            for kind, replies in texts.items()
            for i, text in enumerate(replies)
        }
        """The text and the group of each reply."""

    def table(self) -> pa.Table:
        """The turns; each reply follows a question that occurs only once."""
        rows: list[dict[str, Any]] = [
            {
                "conversation_id": name,
                "turn": turn,
                "speaker": f"u{turn}",
                "text": said,
                "group": group,
                "role": "",
                "weight": 1.0,
            }
            for name, (text, group) in self.replies.items()
            for turn, said in enumerate((f"Question {name}?", text))
        ]
        return pa.Table.from_pylist(rows, TURNS)


def random_words(count: int, rng: random.Random) -> list[str]:
    letters = ["".join(pair) for pair in zip("bdfgklmnprst" * 5, "aeiou" * 12, strict=True)]
    return sorted({"".join(rng.choices(letters, k=rng.randrange(1, 4))) for _ in range(3 * count)})[:count]


def long_replies(corpus: Path | None, count: int, rng: random.Random) -> list[str]:
    """Different replies of at least FEWEST_WORDS words, in a random order."""
    if corpus is not None:
        turns = sorted(set(read_turns(corpus, 10**9, rng)))
        turns = [turn for turn in turns if len(turn.split()) >= FEWEST_WORDS]
        return rng.sample(turns, min(count, len(turns)))
    words = random_words(5000, rng)
    rng.shuffle(words)
    weights = [1 / (rank + 10) for rank in range(len(words))]  # a few words are common, as in a language
    return [" ".join(rng.choices(words, weights, k=rng.randrange(FEWEST_WORDS, 30))) for _ in range(count)]


def planted(corpus: Path | None, rng: random.Random, *, copies: int, short: int, long: int) -> Planted:
    replies = long_replies(corpus, copies + long, rng)
    words = random_words(3000, rng)
    originals, copied = replies[:copies], []
    for original in originals:
        said = original.split()
        said[rng.randrange(len(said))] = rng.choice(words).upper()
        copied.append(" ".join(said))
    brief: set[str] = set()
    while len(brief) < short:
        brief.add(" ".join(rng.choices(words, k=rng.randint(1, 4))))
    return Planted(short=sorted(brief), originals=originals, copies=copied, others=replies[copies:])


def removed_by_clean(corpus: Planted) -> set[str]:
    """The names of the replies that the stage `clean` removes."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        pq.write_table(corpus.table(), root / "turns.parquet")
        clean_turns(root, CLEAN, root)
        leaks = pq.read_table(root / "leaks.parquet").to_pylist()
        names = {row["conversation_id"] for row in pq.read_table(root / "turns.parquet").to_pylist()}
    for leak in leaks:
        if not leak["conversation_id"].startswith("copy-"):
            print(f"not planted: {leak['similarity']:.2f} {leak['text']!r} / {leak['twin_text']!r}")
    return (set(corpus.replies) - names) | {leak["conversation_id"] for leak in leaks}


def removed_by_lsh(corpus: Planted) -> set[str]:
    """The names of the replies that MinHash, LSH and union-find remove: all of a cluster but one."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=LSH_THRESHOLD, num_perm=PERMUTATIONS)
    parents = {name: name for name in corpus.replies}
    known: dict[bytes, str] = {}

    def root(name: str) -> str:
        while parents[name] != name:
            name = parents[name]
        return name

    # The originals come first, so that of a cluster with an original, an original stays.
    for name in sorted(corpus.replies, key=lambda name: not name.startswith("original")):
        words = corpus.replies[name][0].lower().split()
        shingles = zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False)
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([" ".join(shingle).encode() for shingle in shingles])
        # A search that returns thousands of equal signatures would take minutes, for the same clusters.
        same = known.setdefault(signature.hashvalues.tobytes(), name)
        for twin in [same] if same != name else sorted(index.query(signature)):
            parents[root(name)] = root(twin)
        if same == name:
            index.insert(name, signature)
    return {name for name, parent in parents.items() if name != parent}


def row(name: str, corpus: Planted, removed: set[str], cpu_s: float) -> dict[str, object]:
    kinds = [name.partition("-")[0] for name in removed]
    planted_copies = sum(name.startswith("copy-") for name in corpus.replies)
    short = sum(name.startswith("short-") for name in corpus.replies)
    return {
        "search": name,
        "short replies removed": f"{kinds.count('short'):,} of {short:,}",
        "near copies found": f"{kinds.count('copy'):,} of {planted_copies:,}",
        "recall": f"{kinds.count('copy') / planted_copies:.1%}",
        "precision": f"{kinds.count('copy') / max(1, len(kinds)):.1%}",
        "CPU seconds": f"{cpu_s:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus.near_copies")
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=2000)
    parser.add_argument("--short", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=20_000)
    options = parser.parse_args()
    sizes = {"copies": options.copies, "short": options.short, "long": options.long}
    corpus = planted(options.corpus, random.Random(SEED), **sizes)
    rows = []
    for name, search in (
        ("the stage `clean`", removed_by_clean),
        ("datasketch and union-find", removed_by_lsh),
    ):
        started_s = time.process_time()
        try:
            removed = search(corpus)
        except ModuleNotFoundError:
            print("datasketch is not installed (pip install datasketch), so its row is left out of the table")
            continue
        rows.append(row(name, corpus, removed, time.process_time() - started_s))
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
