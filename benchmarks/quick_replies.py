"""Measures what share of a model's greedy replies to held-out prompts the sample corpus's grammar accepts.

python -m benchmarks.quick_replies [REF] [PROMPTS]
"""

import sys

from environment import quiet_environment

quiet_environment()

from cli.versions import find_model  # noqa: E402
from corpus.sample import generator as sample  # noqa: E402
from models.generation import generator  # noqa: E402
from models.generation.config import GenerationConfig  # noqa: E402
from models.network import networks  # noqa: E402
from models.text import tokenizer  # noqa: E402
from models.text.encoding import encode_context, read_model_info  # noqa: E402

SEED = 987_654  # no recipe uses this seed for training


def main(ref: str = "champion", prompts: str = "500") -> None:
    contexts = [
        list(said.lines[:turn])
        for said in sample.conversations(turns=10 * int(prompts), seed=SEED)
        for turn in range(1, len(said.lines), 2)
    ][: int(prompts)]
    folder = find_model(ref).folder
    learnt = tokenizer.load(folder)
    markup = read_model_info(folder).markup
    encoded = [encode_context(context, learnt, markup) for context in contexts]
    replies = generator.Generator(networks.load(folder)).replies(encoded, GenerationConfig(temperature=0))
    texts = [learnt.decode(reply.ids) for reply in replies]
    valid = [sample.is_valid_reply(context, text) for context, text in zip(contexts, texts, strict=True)]
    for context, text, accepted in zip(contexts, texts, valid, strict=True):
        if not accepted:
            print(f"{context[-1]!r} -> {text!r}")
    print(f"{sum(valid) / len(valid):.1%} of {len(valid)} replies are valid")


if __name__ == "__main__":
    main(*sys.argv[1:])
