"""Packed Llama: the way through a LlamaForCausalLM for sequences that lie one after another.

Plain functions of tensors of one shape, so that on a GPU a block is compiled once for all layers;
there each sequence attends to itself by torch's kernel for unlike lengths. In float32, which only
preflight asks for, and on the CPU, for tests, a mask does the same. Which of these parts are used,
the path says.

Name suffixes are shapes: N places of all sequences, D width, E queries, keys and values side by
side, H heads, K width of a head, P half of it, C sequences.
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
COMPILED_FROM = 8192  # places: a training of shorter steps is over before compiling pays


def hidden(
    model: PreTrainedModel,
    ids_N: Tensor,
    within_N: Tensor,
    offsets_C: Tensor,
    longest: int,
    dtype: torch.dtype,
    path: FastPath,
) -> Tensor:
    """hidden_ND of the last norm, in float32; the products are made in `dtype`.

    `within_N` is a place's number in its sequence, `offsets_C` where each sequence begins and the
    last one ends, `longest` a length that none exceeds.
    """
    network: Any = model
    config, base = network.config, network.model
    has_kernels = ids_N.device.type != "cpu"  # where only tests pack
    is_compiled = path.compiled and has_kernels and len(ids_N) >= COMPILED_FROM
    block = compiled_block() if is_compiled else _block
    # The kernel does not take float32.
    attend = _attend_varlen if path.varlen and has_kernels and dtype != torch.float32 else _attend
    # Some GPUs' autocast would cast what is meant to stay in float32.
    with torch.autocast(ids_N.device.type, enabled=False):
        x_ND = base.embed_tokens(ids_N)
        with ids_N.device:
            turns_T1P = cpu_block.turns(longest, config.head_dim, config.rope_parameters["rope_theta"])
        turns_N1P2 = torch.view_as_real(turns_T1P)[within_N]
        for layer in base.layers:
            x_ND = block(
                x_ND,
                cpu_block.matrices(layer, config.head_dim, dtype),
                turns_N1P2,
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
    turns_N1P2: Tensor,
    offsets_C: Tensor,
    longest: int,
    heads: int,
    eps: float,
    attend: Attend,
) -> Tensor:
    """x + attention(normed(x)), then that + feed_forward(normed(that)); `llama.matrices` hold the norms."""
    w_ED, w_out, w_FD, w_down = matrices
    places, head_width = len(x_ND), 2 * turns_N1P2.shape[2]
    e_NE = F.linear(_normed(x_ND, eps).to(w_ED.dtype), w_ED)
    groups = (e_NE.shape[1] // head_width - heads) // 2
    upto = (heads + groups) * head_width
    qk_NHK = _turned(e_NE[:, :upto].view(places, heads + groups, -1, 2), turns_N1P2)
    v_NHK = e_NE[:, upto:].view(places, groups, head_width)
    seen_NHK = attend(qk_NHK[:, :heads], qk_NHK[:, heads:], v_NHK, offsets_C, longest)
    x_ND = x_ND + F.linear(seen_NHK.flatten(1), w_out)
    gate_NF, up_NF = F.linear(_normed(x_ND, eps).to(w_FD.dtype), w_FD).chunk(2, dim=1)
    return x_ND + F.linear(F.silu(gate_NF) * up_NF, w_down)


@functools.cache
def compiled_block() -> Callable[..., Tensor]:
    import torch._dynamo.config as settings

    settings.suppress_errors = True  # where nothing can be compiled, it is run as it is
    settings.recompile_limit = 64  # up to eight shapes, each in two precisions
    return torch.compile(_block, dynamic=False)


def raise_what_does_not_compile() -> None:
    """From here on an error of the compiler is raised; by default the block is run as it is."""
    import torch._dynamo.config as settings

    compiled_block()
    settings.suppress_errors = False


def _normed(x_ND: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x_ND, x_ND.shape[-1:], eps=eps)


def _turned(pairs_NHP2: Tensor, turns_N1P2: Tensor) -> Tensor:
    """y_NHK: each pair turned, as a product of complex numbers, in float32."""
    real, imaginary = pairs_NHP2.float().unbind(-1)
    cosine, sine = turns_N1P2.unbind(-1)
    turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return turned.flatten(2).to(pairs_NHP2.dtype)


def _repeated(q_NHK: Tensor, *parts: Tensor) -> list[Tensor]:
    """Keys and values, each as often as there are queries for it."""
    times = q_NHK.shape[1] // parts[0].shape[1]
    return [part.repeat_interleave(times, dim=1) if times > 1 else part for part in parts]


def _attend_varlen(q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, offsets_C: Tensor, longest: int) -> Tensor:
    """`_attend` by the kernel for sequences of unlike lengths."""
    k_NHK, v_NHK = _repeated(q_NHK, k_NHK, v_NHK)
    own_NHK: Any = varlen_attn(
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
    return cast(Tensor, own_NHK)


def _attend(q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, offsets_C: Tensor, longest: int) -> Tensor:
    """Each place sees the places before it in its sequence; the queries are scaled already."""
    k_NHK, v_NHK = _repeated(q_NHK, k_NHK, v_NHK)
    places_N = torch.arange(len(q_NHK), device=q_NHK.device)
    sequence_N = torch.searchsorted(offsets_C[1:], places_N, right=True)
    sees_NN = (sequence_N[:, None] == sequence_N) & (places_N[:, None] >= places_N)
    q, k, v = (part.transpose(0, 1)[None] for part in (q_NHK, k_NHK, v_NHK))
    seen_HNK = F.scaled_dot_product_attention(q, k, v, attn_mask=sees_NN, scale=1.0)[0]
    return seen_HNK.transpose(0, 1)
