"""The settings of a training run."""

from typing import Annotated, Literal

from pydantic import Field

from models.config import Config


class TrainConfig(Config):
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of the weight matrices. With Muon, the embeddings and the output head use 4 times
    this rate."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon`: Muon for the matrices inside the blocks, AdamW for all other weights. `adamw`: AdamW for all
    weights."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of the matrices, as in AdamW; norms and biases have no weight decay."""
    warmup_steps: int = Field(default=50, ge=0)
    """Number of warm-up steps, in which the learning rate rises to its peak; the warm-up takes at most a
    tenth of the training run. The rate then falls linearly and reaches 0 at the end."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Batch size: the maximum number of tokens in one step, including padding."""
    context_loss: float = Field(default=0.0, ge=0, le=1)
    """Loss weight of the context turns; 0 trains on replies alone. A value above 0 helps on small corpora."""
    max_epochs: float = Field(default=10, gt=0)
    """Limit on the number of passes over the training examples."""
    max_steps: int | None = Field(default=None, ge=1)
    """Limit on the number of optimizer steps; null: no limit on steps."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Time limit in minutes from the first step; the learning rate reaches 0 at the limit. null: no time
    limit."""
    lora_rank: int = Field(default=0, ge=0, le=256)
    """Rank of the LoRA adapters that are trained instead of a pretrained network's weights; 0 trains all
    weights. Adapters need about ten times the learning rate of full training. They require the package
    peft, which the extra `finetune` installs."""
    patience: int | None = Field(default=None, ge=1)
    """Early stopping: training ends after this many validations without improvement. null: no early
    stopping."""
    max_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping: a gradient with a larger norm is scaled down to this norm."""
    log_every: int = Field(default=20, ge=1)
    """Number of steps between two lines of training metrics."""
    validations: int = Field(default=8, ge=1)
    """Number of evenly spaced validations in a training run; each epoch also ends with a validation. If
    `max_minutes` is set, an evenly spaced validation is postponed as long as the validations so far have
    together taken more than 5 % of the elapsed time."""
    checkpoint_seconds: float = Field(default=60, gt=0)
    """Seconds between two checkpoints. If training is killed, the work since the last checkpoint is lost."""
    processes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Number of data-parallel processes. `auto`: one per GPU of this machine, or 1 without a GPU
    (docs/scale.md)."""
    fast_path: Literal["auto", "on", "off"] = "auto"
    """The fast path is packed sequences, compiled blocks and CUDA graphs on a CUDA GPU. The standard path is
    padded batches and transformers' own forward pass. `auto`: take the fast path if a test on one batch shows
    that the fast path computes the same loss and gradient as the standard path and is faster. `on`: make the
    same test, but end with an error if the test fails. `off`: take the standard path."""
    seed: int = 0
    """Random seed for the initial weights, the order of the batches and dropout."""
