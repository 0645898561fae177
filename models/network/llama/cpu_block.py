"""Llama: the way through a LlamaForCausalLM on the CPU, in a fraction of transformers' operations.

Of a small network's training step the matrix products are about half there. The rest are passes
over activations, which transformers and autograd make one small operation at a time: casts, norms,
rotations, masks. Here a block is one function with its own backward pass; what it computes is the
same, to rounding.

Name suffixes are shapes: P places (batch times tokens), N places and behind them rows of zeros where
products want a rounder number, B batch, T tokens, D width, E what comes of
it (queries, keys, values side by side), J batch times groups of heads, K width of a head, F inner
width of the feed-forward part.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from models.network.llama import row_padding
from models.network.lora import weight

_through_softmax = torch.ops.aten._softmax_backward_data
_through_silu = torch.ops.aten.silu_backward


class Shape(NamedTuple):
    batch: int
    tokens: int
    rows: int  # of the products: the places, and the zeros behind them
    heads: int  # of the queries
    groups: int  # of them, each with one head of keys and values
    eps: float

    @property
    def places(self) -> int:
        return self.batch * self.tokens

    @property
    def rotated(self) -> int:
        """Heads that are rotated: the queries' and the keys'."""
        return self.heads + self.groups


def is_plain(model: PreTrainedModel) -> bool:
    """Whether the network is of the shape that is read here: no biases, the rotation of the paper."""
    if not isinstance(model, LlamaForCausalLM):
        return False
    config: Any = model.config
    usual = config.hidden_act == "silu" and config.rope_parameters["rope_type"] == "default"
    return usual and not (config.attention_bias or config.mlp_bias)


def reads(model: PreTrainedModel) -> bool:
    """Whether `hidden` computes what this network's own forward does."""
    config: Any = model.config
    return (
        is_plain(model) and model.device.type == "cpu" and not (model.training and config.attention_dropout)
    )


def hidden(model: LlamaForCausalLM, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """hidden_BTD of the last norm, in float32; the products are made in `dtype`."""
    base: Any = model.model
    config: Any = model.config
    batch, tokens = ids_BT.shape
    rows = row_padding.rows(batch * tokens, dtype, ids_BT.device)
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    shape = Shape(batch, tokens, rows, heads, groups, config.rms_norm_eps)
    with torch.autocast("cpu", enabled=False):
        x_ND = row_padding.lengthened(base.embed_tokens(ids_BT).flatten(0, 1), shape.rows)
        turns_T1K = turns(tokens, config.head_dim, config.rope_parameters["rope_theta"])
        mask_TT = torch.full((tokens,) * 2, -math.inf, dtype=dtype).triu_(1)
        mask_TT = mask_TT.repeat(shape.heads // shape.groups, 1)
        for layer in base.layers:
            products = matrices(layer, config.head_dim, dtype)
            x_ND = _Block.apply(x_ND, *products, turns_T1K, mask_TT, shape)  # type: ignore[no-untyped-call]
        x_ND = x_ND[: shape.places]
        x_ND = F.rms_norm(x_ND, x_ND.shape[-1:], base.norm.weight, config.rms_norm_eps)
    return x_ND.view(batch, tokens, -1)


def turns(tokens: int, head_width: int, theta: float) -> Tensor:
    """How far each place turns each pair of a head's numbers, as complex numbers (RoPE, section 3.2)."""
    rates_K = theta ** -(torch.arange(0, head_width, 2) / head_width)
    angles_TK = torch.arange(tokens)[:, None] * rates_K
    return torch.polar(torch.ones_like(angles_TK), angles_TK)[:, None]


def matrices(layer: Any, head_width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(w_ED, w_out, w_FD, w_down) of a block.

    A norm's weight goes into the matrix behind it, the attention's scale into the queries': these
    are small, the activations are not. The two numbers of a pair, half a head apart, come together.
    """
    attention, feed = layer.self_attn, layer.mlp

    def paired(w: Tensor) -> Tensor:
        return w.view(-1, 2, head_width // 2, w.shape[1]).transpose(1, 2).flatten(0, 2)

    queries = paired(weight(attention.q_proj)) * head_width**-0.5
    w_ED = torch.cat([queries, paired(weight(attention.k_proj)), weight(attention.v_proj)])
    w_FD = torch.cat([weight(feed.gate_proj), weight(feed.up_proj)])
    return (
        (w_ED * layer.input_layernorm.weight).to(dtype),
        weight(attention.o_proj).to(dtype),
        (w_FD * layer.post_attention_layernorm.weight).to(dtype),
        weight(feed.down_proj).to(dtype),
    )


class _Block(torch.autograd.Function):
    """x + attention(normed(x)), then that + feed_forward(normed(that))."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        w_ED: Tensor,
        w_out: Tensor,
        w_FD: Tensor,
        w_down: Tensor,
        turns_T1K: Tensor,
        mask_TT: Tensor,
        shape: Shape,
    ) -> Tensor:
        n_ND, rate_N1 = _normed(x_ND, shape.eps, w_ED.dtype)
        q_JTK, k_JTK, v_JTK = _to_heads(torch.mm(n_ND, w_ED.T), turns_T1K, shape)
        scores_JTT = torch.baddbmm(mask_TT, q_JTK, k_JTK.mT)
        # In bfloat16 torch's softmax and its gradient take two to twelve times as long.
        p_JTT = torch.softmax(scores_JTT, dim=-1, dtype=torch.float32).to(w_ED.dtype)
        seen_NE = _beside_each_other(torch.bmm(p_JTT, v_JTK), shape)
        x_ND = x_ND + torch.mm(seen_NE, w_out.T)

        m_ND, mid_rate_N1 = _normed(x_ND, shape.eps, w_FD.dtype)
        both_NF = torch.mm(m_ND, w_FD.T)
        gate_NF, up_NF = both_NF.chunk(2, dim=-1)
        open_NF = F.silu(gate_NF)
        inner_NF = open_NF * up_NF
        ctx.shape = shape
        ctx.save_for_backward(
            *(w_ED, w_out, w_FD, w_down, turns_T1K),
            *(n_ND, rate_N1, q_JTK, k_JTK, v_JTK, p_JTT, seen_NE),
            *(m_ND, mid_rate_N1, both_NF, open_NF, inner_NF),
        )
        return x_ND.add_(torch.mm(inner_NF, w_down.T))

    @staticmethod
    def backward(ctx: Any, dx_ND: Tensor) -> tuple[Tensor | None, ...]:
        w_ED, w_out, w_FD, w_down, turns_T1K, *saved = ctx.saved_tensors
        n_ND, rate_N1, q_JTK, k_JTK, v_JTK, p_JTT, seen_NE, *saved = saved
        m_ND, mid_rate_N1, both_NF, open_NF, inner_NF = saved
        shape, dtype = ctx.shape, w_ED.dtype
        dx_ND = dx_ND.clone()

        dy_ND = dx_ND.to(dtype)
        dw_down = torch.mm(dy_ND.T, inner_NF)
        dboth_NF = _through_gate(torch.mm(dy_ND, w_down), both_NF, open_NF)
        dw_FD = torch.mm(dboth_NF.T, m_ND)
        _add_through_norm(dx_ND, torch.mm(dboth_NF, w_FD), m_ND, mid_rate_N1)

        dy_ND = dx_ND.to(dtype)
        dw_out = torch.mm(dy_ND.T, seen_NE)
        dseen_JTK = _by_heads(torch.mm(dy_ND, w_out)[: shape.places], shape, shape.heads)
        dv_JTK = torch.bmm(p_JTT.mT, dseen_JTK)
        dp_JTT = torch.bmm(dseen_JTK, v_JTK.mT).float()
        dscores_JTT = _through_softmax(dp_JTT, p_JTT.float(), -1, torch.float32).to(dtype)
        dq_JTK, dk_JTK = torch.bmm(dscores_JTT, k_JTK), torch.bmm(dscores_JTT.mT, q_JTK)
        de_NE = _through_heads(dq_JTK, dk_JTK, dv_JTK, turns_T1K, shape)
        dw_ED = torch.mm(de_NE.T, n_ND)
        _add_through_norm(dx_ND, torch.mm(de_NE, w_ED), n_ND, rate_N1)
        return dx_ND, dw_ED, dw_out, dw_FD, dw_down, None, None, None


def _normed(x_ND: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x at a root mean square of 1, what it was multiplied by)."""
    length_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
    rate_N1 = length_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
    return (x_ND * rate_N1).to(dtype), rate_N1


def _add_through_norm(dx_ND: Tensor, dn_ND: Tensor, n_ND: Tensor, rate_N1: Tensor) -> None:
    """Add to dx what comes back through a norm: the part of dn along n is of no effect."""
    dn_ND, n_ND = dn_ND.float(), n_ND.float()
    along_N1 = torch.linalg.vecdot(dn_ND, n_ND)[:, None].div_(-n_ND.shape[-1])
    dx_ND.addcmul_(dn_ND.addcmul_(n_ND, along_N1), rate_N1)


def _through_gate(dinner_NF: Tensor, both_NF: Tensor, open_NF: Tensor) -> Tensor:
    """Gradient of (gate, up) side by side, in their own memory: fresh pages cost more than sums."""
    gate_NF, up_NF = both_NF.chunk(2, dim=-1)
    torch.mul(dinner_NF, up_NF, out=up_NF)
    _through_silu.grad_input(up_NF, gate_NF, grad_input=gate_NF)
    torch.mul(dinner_NF, open_NF, out=up_NF)
    return both_NF


def _by_heads(y_PE: Tensor, shape: Shape, heads: int) -> Tensor:
    """A group's heads follow each other: J rows of (heads of a group times tokens)."""
    y_BHTK = y_PE.view(shape.batch, shape.tokens, heads, -1).transpose(1, 2)
    return y_BHTK.reshape(shape.batch * shape.groups, -1, y_BHTK.shape[-1])


def _from_heads(y_JTK: Tensor, shape: Shape) -> Tensor:
    """y_BTHK, a view."""
    return y_JTK.view(shape.batch, -1, shape.tokens, y_JTK.shape[-1]).transpose(1, 2)


def _beside_each_other(y_JTK: Tensor, shape: Shape) -> Tensor:
    """y_NE: what all heads have for a place."""
    y_BTHK = _from_heads(y_JTK, shape)
    y_NE = y_JTK.new_empty(shape.rows, shape.heads * y_JTK.shape[-1])
    y_NE[: shape.places].view(y_BTHK.shape).copy_(y_BTHK)
    y_NE[shape.places :] = 0
    return y_NE


def _to_heads(e_NE: Tensor, turns_T1K: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, rotated, and values."""
    head_width = 2 * turns_T1K.shape[-1]
    upto = shape.rotated * head_width
    e_PE = e_NE[: shape.places]
    pairs = e_PE[:, :upto].float().view(shape.batch, shape.tokens, shape.rotated, -1, 2)
    turned = torch.view_as_complex(pairs) * turns_T1K
    qk_BTHK = torch.view_as_real(turned).flatten(3).to(e_PE.dtype)
    queries, keys = qk_BTHK[:, :, : shape.heads], qk_BTHK[:, :, shape.heads :]
    return (
        _by_heads(queries, shape, shape.heads),
        _by_heads(keys, shape, shape.groups),
        _by_heads(e_PE[:, upto:], shape, shape.groups),
    )


def _through_heads(dq_JTK: Tensor, dk_JTK: Tensor, dv_JTK: Tensor, turns_T1K: Tensor, shape: Shape) -> Tensor:
    """Gradient of the product behind `_to_heads`, turned back."""
    head_width = dq_JTK.shape[-1]
    dqk_BTHK = dq_JTK.new_empty(shape.batch, shape.tokens, shape.rotated, head_width, dtype=torch.float32)
    dqk_BTHK[:, :, : shape.heads] = _from_heads(dq_JTK, shape)
    dqk_BTHK[:, :, shape.heads :] = _from_heads(dk_JTK, shape)
    torch.view_as_complex(dqk_BTHK.view(*dqk_BTHK.shape[:3], -1, 2)).mul_(turns_T1K.conj())
    de_NE = dq_JTK.new_empty(shape.rows, (shape.rotated + shape.groups) * head_width)
    de_NE[shape.places :] = 0
    de_PE, upto = de_NE[: shape.places], shape.rotated * head_width
    de_PE[:, :upto] = dqk_BTHK.view(shape.places, -1)
    de_PE[:, upto:] = _from_heads(dv_JTK, shape).reshape(shape.places, -1)
    return de_NE
