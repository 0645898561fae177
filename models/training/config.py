"""The settings of the training."""

from typing import Annotated, Literal

from pydantic import Field

from models.config import Config


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
