"""The model card: what a person must know before using a registered model."""

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

It repeats what its corpus taught it, the rude and the wrong included; it knows nothing and is no adviser. The corpus is not
part of this folder and keeps its own terms. The Cornell Movie-Dialogs Corpus states no licence: research use, cite
Danescu-Niculescu-Mizil and Lee, "Chameleons in imagined conversations" (CMCL, ACL 2011)."""
ENCODER_DECODER = ("text2text-generation", SEQ2SEQ)
DECODER = ("text-generation", PIPELINE)


def model_card(
    corpus: str,
    metrics: Mapping[str, float],
    samples: Sequence[tuple[str, str]],
    params: Mapping[str, Any],
    machine: Mapping[str, str],
) -> str:
    """README.md of a model folder: the front matter that Hugging Face reads, figures, limits, use."""
    rows = "\n".join(f"| {key} | {_figure(value)} |" for key, value in metrics.items())
    replies = "\n".join(f"> **{said}**\n> {reply}\n" for said, reply in samples)
    family, init = params["network.family"], params["start.init"]
    task, use = ENCODER_DECODER if family == "encoder-decoder" else DECODER
    origin = "trained from scratch" if init == "scratch" else f"trained on from `{Path(init).name}`"
    return f"""---
library_name: transformers
pipeline_tag: {task}
language: en
tags: [dialogue, repartee]
---

# A reply model of {corpus}

A small dialogue model ({family}, {metrics["parameters"]:,} parameters), {origin} on the
corpus `{corpus}` by Repartee with the recipe `{params["recipe"]}`, in {machine["precision"]} on {machine["device"]} (chosen by what
was faster on that machine: the same settings elsewhere may train in another precision, to slightly other weights).

## Figures

Measured on a test split that shares no {params["clean.split_by"]} with the training data. Bits per byte count the end of each reply,
and charge an unknown word its spelling.

| figure | value |
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
