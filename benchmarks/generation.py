"""Measures the milliseconds per token of a greedy reply, for Repartee and for `transformers.generate`. Both
use a KV cache.

taskset -c 1 python -m benchmarks.generation [ROUNDS]

The network is Llama-style, with 8.0 million random weights in float32. On one thread, it generates a reply of
48 tokens to a context of 16 tokens. Each round measures Repartee, transformers, transformers and Repartee, in
this order; both must generate the same ids. The benchmark measures CPU time, because other work on the
machine affects CPU time less than it affects elapsed time.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from environment import quiet_environment

quiet_environment()

from models.generation.config import GenerationConfig  # noqa: E402
from models.generation.generator import Generator  # noqa: E402
from models.network import networks  # noqa: E402
from models.network.config import NetworkConfig  # noqa: E402
from models.text.tokenizer import END, PAD, START, UNK  # noqa: E402

VOCABULARY, POSITIONS, TOKENS = 6144, 256, 48
CONTEXT = [START, *range(100, 114), END]


def main(rounds: str = "10") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = networks.build(NetworkConfig(n_layer=6, n_head=8, width=256), VOCABULARY, POSITIONS).eval()
    with torch.no_grad():
        for weights in model.parameters():  # with the initial weights, a reply would repeat one token
            weights.mul_(4 if weights.ndim > 1 else 1)
    generator = Generator(model)

    def ours() -> list[int]:
        return generator.reply(CONTEXT, GenerationConfig(temperature=0, max_tokens=TOKENS)).ids

    def theirs() -> list[int]:
        ids: list[int] = model.generate(
            torch.tensor([CONTEXT]),
            attention_mask=torch.ones(1, len(CONTEXT), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=TOKENS,
            min_new_tokens=1,
            suppress_tokens=[PAD, START, UNK],
        )[0].tolist()
        return ids[len(CONTEXT) :]

    def sampled() -> list[int]:
        return generator.reply(CONTEXT, GenerationConfig(top_k=40, max_tokens=TOKENS, seed=0)).ids

    expected = theirs()
    if ours() != expected or len(expected) != TOKENS or len(set(expected)) < TOKENS // 2:
        raise SystemExit("the ids differ, repeat or end early, so the times would be meaningless")
    times: dict[Callable[[], list[int]], list[float]] = {ours: [], theirs: [], sampled: []}
    for _ in range(int(rounds)):
        for reply in (ours, theirs, theirs, ours, sampled):
            times[reply].append(_token_ms(reply))
    for reply, all_ms in times.items():
        middle, low, high = statistics.median(all_ms), min(all_ms), max(all_ms)
        print(f"{reply.__name__:<8}{middle:6.2f} ms per token ({low:.2f} to {high:.2f})")
    ratio = statistics.median(times[ours]) / statistics.median(times[theirs])
    print(f"ours / theirs {ratio:.2f}; {sum(p.numel() for p in model.parameters()):,} parameters")


def _token_ms(reply: Callable[[], list[int]]) -> float:
    started_s = time.process_time()
    num_tokens = len(reply())
    return (time.process_time() - started_s) / num_tokens * 1000


if __name__ == "__main__":
    main(*sys.argv[1:])
