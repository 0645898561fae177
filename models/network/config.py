"""The settings of the network: its family, its size and its dropout."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import Config


class NetworkConfig(Config):
    family: Literal["llama", "gpt2", "encoder-decoder", "pretrained"] = "llama"
    """`llama`, `gpt2`: decoder-only networks. `encoder-decoder`: GPT-2 blocks that attend to a BERT
    encoder, as in the tutorial that the recipe `tutorial` follows. `pretrained`: the causal language model
    that `start.init` names; the other network settings do not change its shape."""
    n_layer: int = Field(default=4, ge=1, le=64)
    """Number of blocks in the decoder, and also in the encoder if there is one."""
    n_head: int = Field(default=4, ge=1, le=64)
    """Number of attention heads; each has `width` / `n_head` dimensions."""
    width: int = Field(default=192, ge=8, le=4096)
    """Width of the residual stream; a multiple of `n_head`."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations that dropout zeroes in training; `llama` applies it to attention weights only."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.n_head:
            raise ValueError(f"width {self.width} is not a multiple of n_head {self.n_head}")
        return self
