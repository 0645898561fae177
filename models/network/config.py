"""The settings of the network: its family and its size."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import Config


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
