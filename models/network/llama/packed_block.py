"""The forward pass of a LlamaForCausalLM for packed sequences, which follow each other without padding.

All layers pass tensors of the same shapes to the same function, so that on a GPU a block is compiled only
once. With torch's variable-length attention kernel, each sequence attends only to itself. Where the kernel
does not work, a mask replaces it: in float32, which only preflight uses, and on the CPU, which only tests
use.
The argument `path` determines whether the kernel and compiled blocks may be used.

The suffix of a tensor's name gives its shape: N positions of all sequences, D width, E queries, keys and
values side by side, H heads, K width of a head, P half of K, C sequences, F inner width of the feed-forward
part, T positions of the longest sequence.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import PreTrainedModel

from models.devices import FastPath
from models.network.llama import cpu_block

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
COMPILED_FROM = 8192  # positions: training with smaller steps would end before compilation pays off


def hidden_states(
    model: PreTrainedModel,
    ids_N: Tensor,
    within_N: Tensor,
    offsets_C: Tensor,
    longest: int,
    dtype: torch.dtype,
    path: FastPath,
) -> Tensor:
    """hidden_ND, the output of the last norm, in float32; matmuls are computed in `dtype`.

    `within_N` is each token's position in its sequence. `offsets_C` contains the start of each sequence, then
    the end of the last one. `longest` is an upper limit on the lengths of the sequences.
    """
    network: Any = model
    config, base = network.config, network.model
    has_kernels = ids_N.device.type != "cpu"  # only tests pack on the CPU
    is_compiled = path.compiled and has_kernels and len(ids_N) >= COMPILED_FROM
    block = compiled_block() if is_compiled else _block
    # The variable-length kernel does not support float32.
    attend = _attend_varlen if path.varlen and has_kernels and dtype != torch.float32 else _attend
    # Autocast would cast tensors that must stay in float32.
    with torch.autocast(ids_N.device.type, enabled=False):
        x_ND = base.embed_tokens(ids_N)
        with ids_N.device:
            freqs_cis_T1P = cpu_block.rope_table(
                longest, config.head_dim, config.rope_parameters["rope_theta"]
            )
        freqs_cis_N1P2 = torch.view_as_real(freqs_cis_T1P)[within_N]
        for layer in base.layers:
            x_ND = block(
                x_ND,
                cpu_block.matrices(layer, config.head_dim, dtype),
                freqs_cis_N1P2,
                offsets_C,
                longest,
                config.num_attention_heads,
                config.rms_norm_eps,
                attend,
            )
        return F.rms_norm(x_ND, x_ND.shape[-1:], base.norm.weight, config.rms_norm_eps)


def _block(
    x_ND: Tensor,
    matrices: tuple[Tensor, ...],
    freqs_cis_N1P2: Tensor,
    offsets_C: Tensor,
    longest: int,
    heads: int,
    eps: float,
    attend: Attend,
) -> Tensor:
    """A whole block: y = x + attention(norm(x)), and the result is y + feed_forward(norm(y)).

    The norms' weights are already multiplied into `matrices`.
    """
    w_ED, w_out, w_FD, w_down = matrices
    positions, head_width = len(x_ND), 2 * freqs_cis_N1P2.shape[2]
    e_NE = F.linear(_normed(x_ND, eps).to(w_ED.dtype), w_ED)
    groups = (e_NE.shape[1] // head_width - heads) // 2
    qk_width = (heads + groups) * head_width
    qk_NHK = _rotated(e_NE[:, :qk_width].view(positions, heads + groups, -1, 2), freqs_cis_N1P2)
    v_NHK = e_NE[:, qk_width:].view(positions, groups, head_width)
    attended_NHK = attend(qk_NHK[:, :heads], qk_NHK[:, heads:], v_NHK, offsets_C, longest)
    x_ND = x_ND + F.linear(attended_NHK.flatten(1), w_out)
    gate_NF, up_NF = F.linear(_normed(x_ND, eps).to(w_FD.dtype), w_FD).chunk(2, dim=1)
    return x_ND + F.linear(F.silu(gate_NF) * up_NF, w_down)


@functools.cache
def compiled_block() -> Callable[..., Tensor]:
    """The function `_block`, compiled by torch.compile once for each combination of argument shapes."""
    import torch._dynamo.config as dynamo_config

    dynamo_config.suppress_errors = True  # if compilation fails, the block runs uncompiled
    dynamo_config.recompile_limit = 64  # enough for up to eight shapes, each in two precisions
    return torch.compile(_block, dynamic=False)


def raise_what_does_not_compile() -> None:
    """Raise compilation errors from now on, instead of running the block uncompiled."""
    import torch._dynamo.config as dynamo_config

    compiled_block()
    dynamo_config.suppress_errors = False


def _normed(x_ND: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x_ND, x_ND.shape[-1:], eps=eps)


def _rotated(pairs_NHP2: Tensor, freqs_cis_N1P2: Tensor) -> Tensor:
    """y_NHK: each pair of dimensions is rotated in float32, as by a multiplication of complex numbers."""
    real, imaginary = pairs_NHP2.float().unbind(-1)
    cosine, sine = freqs_cis_N1P2.unbind(-1)
    rotated = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return rotated.flatten(2).to(pairs_NHP2.dtype)


def _repeat_kv(q_NHK: Tensor, *parts: Tensor) -> list[Tensor]:
    """The keys and values, with each head repeated for every query head of its group."""
    times = q_NHK.shape[1] // parts[0].shape[1]
    return [part.repeat_interleave(times, dim=1) if times > 1 else part for part in parts]


def _attend_varlen(q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, offsets_C: Tensor, longest: int) -> Tensor:
    """Computes the same as `_attend`, with torch's variable-length kernel."""
    k_NHK, v_NHK = _repeat_kv(q_NHK, k_NHK, v_NHK)
    attended_NHK: Any = varlen_attn(
        q_NHK.contiguous(),
        k_NHK.contiguous(),
        v_NHK.contiguous(),
        offsets_C,
        offsets_C,
        longest,
        longest,
        scale=1.0,
        window_size=(-1, 0),
    )
    return cast(Tensor, attended_NHK)


def _attend(q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, offsets_C: Tensor, longest: int) -> Tensor:
    """Causal attention within each sequence; the queries are already scaled."""
    k_NHK, v_NHK = _repeat_kv(q_NHK, k_NHK, v_NHK)
    positions_N = torch.arange(len(q_NHK), device=q_NHK.device)
    sequence_N = torch.searchsorted(offsets_C[1:], positions_N, right=True)
    mask_NN = (sequence_N[:, None] == sequence_N) & (positions_N[:, None] >= positions_N)
    q, k, v = (part.transpose(0, 1)[None] for part in (q_NHK, k_NHK, v_NHK))
    attended_HNK = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_NN, scale=1.0)[0]
    return attended_HNK.transpose(0, 1)
