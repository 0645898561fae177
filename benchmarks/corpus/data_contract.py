"""Measures how often the data contract rejects data that are alike, and whether it finds planted shifts.

python -m benchmarks.corpus.data_contract CORPUS [--times 40] [--groups N]
    CORPUS is a file, folder or zip, or `sample`; takes some minutes for 270,000 turns

The groups of the corpus are divided at random into two halves, of which one is the accepted data and the
other the new data: every alarm is false. Then the shifts are planted into the second half: every one has to
be found. With --groups, only so many groups, drawn at random each time, are divided, like those of a small
corpus.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from corpus.contract.comparison import Difference, compare
from corpus.contract.figures import Figures, measure
from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig
from models.markdown import markdown_table

CLEAN = CleanConfig(redact="none")
OTHER_LANGUAGE = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
Turns = pa.Table


def prepared(corpus: str, root: Path) -> Turns:
    """The cleaned turns of a corpus."""
    for stage in ("download", "parse", "clean"):
        (root / stage).mkdir()
    config = DownloadConfig(corpus=corpus)
    download_corpus(root / "download", config, corpus=find_corpus(config, root))
    parse_corpus(root / "parse", ParseConfig(), root / "download")
    clean_turns(root / "clean", CLEAN, root / "parse")
    return pq.read_table(root / "clean" / "turns.parquet")


def figures(turns: Turns, root: Path) -> Figures:
    """The figures of some cleaned turns; nothing was removed from them."""
    pq.write_table(turns, root / "turns.parquet")
    (root / "report.json").write_text('{"counts": {}}')
    return measure(root, CLEAN)


def halves(turns: Turns, rng: random.Random, groups: int | None) -> tuple[Turns, Turns]:
    names = sorted(pc.unique(turns["group"]).to_pylist())
    rng.shuffle(names)
    names = names[:groups]
    half = len(names) // 2
    return tuple(
        turns.filter(pc.is_in(turns["group"], pa.array(some))) for some in (names[:half], names[half:])
    )


def with_texts(turns: Turns, change: Callable[[str, int, str], str]) -> Turns:
    """The turns with other texts; `change` gets the text, the position and the conversation of a turn."""
    columns = (turns[name].to_pylist() for name in ("text", "turn", "conversation_id"))
    texts = pa.array([change(*row) for row in zip(*columns, strict=True)], pa.string())
    return turns.set_column(turns.schema.get_field_index("text"), turns.schema.field("text"), texts)


def half_of_replies_shortened(turns: Turns, rng: random.Random) -> Turns:
    def change(text: str, turn: int, _: str) -> str:
        return " ".join(text.split()[:3]) if turn % 2 and rng.random() < 0.5 else text

    return with_texts(turns, change)


def tenth_in_another_language(turns: Turns, rng: random.Random) -> Turns:
    """The letters of these conversations are exchanged: the words are unknown, and their lengths stay."""
    names = pc.unique(turns["conversation_id"]).to_pylist()
    chosen = {name for name in names if rng.random() < 0.1}
    return with_texts(
        turns, lambda text, _, name: text.lower().translate(OTHER_LANGUAGE) if name in chosen else text
    )


def turns_duplicated(turns: Turns, rng: random.Random) -> Turns:
    """Each turn occurs twice in its conversation, as after a faulty join of two tables."""
    twice = turns.take(pa.array(np.repeat(np.arange(turns.num_rows), 2)))
    copies = np.tile([0, 1], turns.num_rows)
    positions = 2 * twice["turn"].to_numpy() + copies
    column = pa.array(positions.astype(np.int32))
    return twice.set_column(twice.schema.get_field_index("turn"), twice.schema.field("turn"), column)


def half_of_conversations_gone(turns: Turns, rng: random.Random) -> Turns:
    names = sorted(pc.unique(turns["conversation_id"]).to_pylist())
    chosen = pa.array(rng.sample(names, len(names) // 2))
    return turns.filter(pc.is_in(turns["conversation_id"], chosen))


SHIFTS = (half_of_replies_shortened, tenth_in_another_language, turns_duplicated, half_of_conversations_gone)


def row(name: str, comparisons: list[list[Difference]]) -> dict[str, str]:
    """In how many comparisons the data were rejected, and the figures that were over their limits."""
    over = Counter(each.figure for found in comparisons for each in found if each.is_too_large)
    largest = max((each for found in comparisons for each in found), key=lambda each: each.excess)
    alarms = sum(any(each.is_too_large for each in found) for found in comparisons)
    return {
        "new data": name,
        "rejected": f"{alarms} of {len(comparisons)}",
        "figures over their limits": ", ".join(f"{figure} ({n})" for figure, n in over.most_common())
        or "none",
        "largest difference / limit": f"{largest.excess:.2f} ({largest.figure})",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--groups", type=int)
    options = parser.parse_args()
    rng = random.Random(20_261_128)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        turns = prepared(options.corpus, root)
        alike: list[list[Difference]] = []
        shifted: dict[str, list[list[Difference]]] = {shift.__name__: [] for shift in SHIFTS}
        for number in range(options.times):
            first, second = halves(turns, rng, options.groups)
            accepted = figures(first, root)
            alike.append(compare(accepted, figures(second, root)))
            if number % 10 == 0:
                for shift in SHIFTS:
                    found = compare(accepted, figures(shift(second, rng), root))
                    shifted[shift.__name__].append(found)
    rows = [row("the other half", alike)]
    rows += [row(name.replace("_", " "), found) for name, found in shifted.items()]
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
