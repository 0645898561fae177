"""The data loops of the tutorial that the recipe `tutorial` follows, with the repairs that let them run.

python -m benchmarks.corpus.tutorial_loops CORPUS.zip
    prints the CPU seconds and the peak of the memory, as JSON

The steps and their order are the tutorial's: everything is in memory, nothing is checked, counted or written.
Three repairs were necessary: the ids of the lines lose their quotes and blanks, a line whose last field is
empty has a text, and the sequences become tensors before they are padded.
"""

import json
import re
import resource
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.utils.rnn import pad_sequence

from corpus.layout import CONVERSATIONS, LINES

FIELDS = " +++$+++ "
START, END, MAX_LENGTH, MIN_COUNT = 1, 2, 20, 10


def exchanges_of(folder: Path) -> list[tuple[str, str]]:
    text_of = {}
    with next(folder.rglob(LINES)).open(errors="ignore") as file:
        for line in file:
            fields = line.strip().split(FIELDS)
            text_of[fields[0]] = fields[4] if len(fields) > 4 else ""
    exchanges = []
    with next(folder.rglob(CONVERSATIONS)).open(errors="ignore") as file:
        for line in file:
            ids = line.strip().split(FIELDS)[3][1:-1].split(",")
            texts = [text_of.get(each.strip(" '"), "") for each in ids]
            for i in range(len(texts) - 1):
                exchanges.append((texts[i], texts[i + 1]))
    return exchanges


def prepared(sentence: str) -> str:
    sentence = re.sub(r"([?.!,])", r" \1 ", sentence)
    return re.sub(r"[^a-zA-Z?.!,]+", " ", sentence).lower()


def ids_in(sentence: str, vocabulary: dict[str, int]) -> list[int]:
    return [START, *(vocabulary[word] for word in sentence.split(" ") if word in vocabulary), END]


def tensors_of(exchanges: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [(prepared(context), prepared(reply)) for context, reply in exchanges]
    counts: dict[str, int] = {}
    for pair in pairs:
        for sentence in pair:
            for word in sentence.split(" "):
                if word not in counts:
                    counts[word] = 0
                counts[word] += 1
    frequent = [word for word, count in counts.items() if count >= MIN_COUNT]
    vocabulary = {word: 4 + i for i, word in enumerate(frequent)}
    contexts, replies = [], []
    for context, reply in pairs:
        context_ids, reply_ids = ids_in(context, vocabulary), ids_in(reply, vocabulary)
        if len(context_ids) <= MAX_LENGTH and len(reply_ids) <= MAX_LENGTH:
            contexts.append(torch.tensor(context_ids))
            replies.append(torch.tensor(reply_ids))
    return pad_sequence(contexts, batch_first=True), pad_sequence(replies, batch_first=True)


def main(corpus: str) -> None:
    imported_s = time.process_time()
    with TemporaryDirectory() as folder:
        zipfile.ZipFile(corpus).extractall(folder)
        contexts, _ = tensors_of(exchanges_of(Path(folder)))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    cpu_s = time.process_time() - imported_s
    print(json.dumps({"cpu_s": cpu_s, "peak_mb": peak_mb, "exchanges": len(contexts)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
