"""The model card: what users must know before they use a registered model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PIPELINE = """    from transformers import pipeline
    chat = pipeline("text-generation", model="this folder")
    chat([{"role": "user", "content": "Hello."}])
"""
SEQ2SEQ = """    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    tokenizer, model = AutoTokenizer.from_pretrained("this folder"), AutoModelForSeq2SeqLM.from_pretrained("this folder")
    context = tokenizer("<start>hello .<end>", add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)
    tokenizer.decode(model.generate(**context)[0], skip_special_tokens=True)
"""
LIMITS = """## Limits

The model repeats what it has learnt from its corpus, including rude and false statements. It has no reliable knowledge, so do
not rely on its advice. The corpus is not part of this folder and has its own terms. The Cornell Movie-Dialogs Corpus states
no licence; use it for research, and cite Danescu-Niculescu-Mizil and Lee, "Chameleons in imagined conversations" (CMCL, ACL
2011)."""
ENCODER_DECODER = ("text2text-generation", SEQ2SEQ)
DECODER = ("text-generation", PIPELINE)


def model_card(
    corpus: str,
    metrics: Mapping[str, float],
    samples: Sequence[tuple[str, str]],
    params: Mapping[str, Any],
    machine: Mapping[str, str],
) -> str:
    """Return a model folder's README.md: Hugging Face front matter, metrics, replies, usage and limits."""
    rows = "\n".join(f"| {key} | {_figure(value)} |" for key, value in metrics.items())
    replies = "\n".join(f"> **{said}**\n> {reply}\n" for said, reply in samples)
    family, init = params["network.family"], params["start.init"]
    task, use = ENCODER_DECODER if family == "encoder-decoder" else DECODER
    origins = {"scratch": "trained from scratch", "trunk": "trained night after night"}
    origin = origins.get(init, f"fine-tuned from `{Path(init).name}`")
    return f"""---
library_name: transformers
pipeline_tag: {task}
language: en
tags: [dialogue, repartee]
---

# A reply model trained on {corpus}

A small dialogue model ({family}, {metrics["parameters"]:,} parameters), {origin} on the
corpus `{corpus}` by Repartee with the recipe `{params["recipe"]}`, in {machine["precision"]} on {machine["device"]}. That precision
was chosen for that machine; on another machine, the same settings may train in another precision and give slightly
different weights.

## Metrics

Measured on a test split that shares no {params["clean.split_by"]} with the training data. Bits per byte include the end of each
reply, and a charge for the spelling of unknown words.

| metric | value |
| --- | --- |
{rows}

## Replies (temperature 0)

{replies}
## Use

{use}
{LIMITS}
"""


def _figure(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
