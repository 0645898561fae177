"""What decides a result: the knobs of the network, the training and the generation.

They stand apart from the code that uses them so that the command line can read, check and show
them without importing torch. The knobs of the data stages stand in tasks/, each in its stage.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Config(BaseModel):
    """A frozen group of knobs; an unknown key is an error, a docstring is a knob's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NetworkConfig(Config):
    family: Literal["llama", "gpt2", "encoder-decoder", "pretrained"] = "llama"
    """`llama`, `gpt2`: decoders; `encoder-decoder`: the article's, GPT-2 blocks that attend to an encoder;
    `pretrained`: whatever causal language model `start.init` is, whose shape nothing here changes."""
    n_layer: int = Field(default=4, ge=1, le=64)
    """Blocks of the decoder (and of the encoder, where there is one)."""
    n_head: int = Field(default=4, ge=1, le=64)
    """Attention heads; they share `width` evenly."""
    width: int = Field(default=192, ge=8, le=4096)
    """Of the residual stream; a multiple of `n_head`."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped in training (`llama` drops in attention only)."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.n_head:
            raise ValueError(f"width {self.width} is no multiple of n_head {self.n_head}")
        return self


class TrainConfig(Config):
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak rate of the matrices, Muon's or AdamW's; beside Muon token table and head have four times it."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon`: Muon for the matrices and AdamW for the rest; `adamw`: AdamW for all."""
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    """Steps from rate 0 to the peak, a tenth of the training at most; from there it falls to 0 at the end."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Tokens of one step, padding included."""
    context_loss: float = Field(default=0.0, ge=0, le=1)
    """Weight of the loss on the turns that are no reply; a small corpus is used better with some."""
    max_epochs: float = Field(default=10, gt=0)
    """Passes over the training examples, at most."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps, at most; none: as many as the epochs hold."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Minutes of training, at most, what comes before its first step not counted; the rate is 0 by then."""
    lora_rank: int = Field(default=0, ge=0, le=256)
    """Rank of the adapters (LoRA) that are trained in place of a pretrained network's weights; 0: all of them
    are. Ten times the learning rate suits them; the extra `finetune` brings peft."""
    patience: int | None = Field(default=None, ge=1)
    """Looks at the validation split without a better one that end the training; none: nothing does."""
    max_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    log_every: int = Field(default=20, ge=1)
    """Steps between two lines of metrics.jsonl."""
    validations: int = Field(default=8, ge=1)
    """Looks at the validation split, at most, evenly over the training; each epoch's end has one besides."""
    checkpoint_seconds: float = Field(default=60, gt=0)
    """Seconds between two checkpoints: what a kill can cost at most."""
    processes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """That share each batch; `auto`: one for each GPU of the machine, else one. docs/scale.md has more."""
    fast_path: Literal["auto", "on", "off"] = "auto"
    """Packed sequences, compiled blocks and CUDA graphs on a CUDA GPU. `auto`: if they prove themselves on a
    few rows; `on`: an error if they do not; `off`: padded batches, through transformers' own forward pass."""
    seed: int = 0
    """Of the weights, the batches and the dropout."""


def _texts(given: Any) -> Any:
    """One text alone stands for a list of one."""
    return (given,) if isinstance(given, str) else given


class GenerationConfig(Config):
    temperature: float = Field(default=0.7, ge=0)
    """0 takes the likeliest token each time; 1 samples from the model as it is."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Sample from the likeliest tokens that together hold this probability."""
    max_tokens: int = Field(default=60, ge=1)
    """Of one reply."""
    seed: int | None = None
    """In the chat, the same seed gives the same reply; none: a new one each time."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many of the likeliest tokens; 0: from as many as `top_p` lets in."""
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Above 1, tokens of the context and the reply become less likely (CTRL, section 4.1); 1: as they are."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """A reply repeats no sequence of this many tokens, the context's neither; 0: it may."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_texts)] = ()
    """In the chat, a reply ends before any of these texts."""


class MarkupConfig(Config):
    """How a conversation becomes the sequence that a model reads."""

    unit: Literal["conversation", "pair"] = "conversation"
    """`conversation`: loss on every reply, the turns before as context; `pair`: a turn and the next alone."""
    max_tokens: int = Field(default=512, ge=8, le=2048)
    """Longest sequence, control tokens included; for a pair, the longest side."""

    @property
    def context_tokens(self) -> int:
        """Places for what was said before a sequence's first reply, the start token included.

        A quarter of a conversation: the rest is for its replies, of which long ones are cut least.
        """
        return self.max_tokens if self.unit == "pair" else max(3, self.max_tokens // 4)

    @property
    def reply_tokens(self) -> int:
        """Places for a reply, its end token included."""
        return self.max_tokens - (1 if self.unit == "pair" else self.context_tokens)
