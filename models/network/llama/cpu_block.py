"""The forward and backward pass of a LlamaForCausalLM on the CPU, with fewer operations than transformers.

On a CPU, matmuls take about half of the time of a small network's training step. The other half goes into
passes over activations (casts, norms, rotations, masks), which transformers and autograd run as many small
operations. In this module a block is a single autograd function with its own backward pass. Its results
differ from those of transformers only by rounding.

The suffix of a tensor's name gives its shape: P positions (batch times tokens), N positions plus the rows of
zeros that follow them (see row_padding.py), B batch, T tokens, D width, E queries, keys and values side by
side, H heads, J batch times groups of heads, K width of a head (half of it in freqs_cis), F inner width of
the feed-forward part. A leading d marks a gradient.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from models.network.llama import row_padding
from models.network.lora import effective_weight

_softmax_backward = torch.ops.aten._softmax_backward_data
_silu_backward = torch.ops.aten.silu_backward


class Shape(NamedTuple):
    batch: int
    tokens: int
    rows: int  # rows of the matmuls: the positions and the rows of zeros after them
    heads: int  # query heads
    groups: int  # groups of query heads, each with one head of keys and values
    eps: float

    @property
    def positions(self) -> int:
        return self.batch * self.tokens

    @property
    def rotated(self) -> int:
        """The number of heads to which the rotary embedding is applied: all query heads and all key heads."""
        return self.heads + self.groups


def is_standard_llama(model: PreTrainedModel) -> bool:
    """Whether the model is a Llama without biases, with SiLU and with the original rotary embedding."""
    if not isinstance(model, LlamaForCausalLM):
        return False
    config: Any = model.config
    is_standard = config.hidden_act == "silu" and config.rope_parameters["rope_type"] == "default"
    return is_standard and not (config.attention_bias or config.mlp_bias)


def supports_cpu_path(model: PreTrainedModel) -> bool:
    """Whether `hidden_states` can replace this model's own forward pass, that is, has the same results."""
    config: Any = model.config
    return (
        is_standard_llama(model)
        and model.device.type == "cpu"
        and not (model.training and config.attention_dropout)
    )


def hidden_states(model: LlamaForCausalLM, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """hidden_BTD, the output of the last norm, in float32; matmuls are computed in `dtype`."""
    base: Any = model.model
    config: Any = model.config
    batch, tokens = ids_BT.shape
    rows = row_padding.padded_rows(batch * tokens, dtype, ids_BT.device)
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    shape = Shape(batch, tokens, rows, heads, groups, config.rms_norm_eps)
    with torch.autocast("cpu", enabled=False):
        x_ND = row_padding.pad_rows(base.embed_tokens(ids_BT).flatten(0, 1), shape.rows)
        freqs_cis_T1K = rope_table(tokens, config.head_dim, config.rope_parameters["rope_theta"])
        mask_TT = torch.full((tokens,) * 2, -math.inf, dtype=dtype).triu_(1)
        mask_TT = mask_TT.repeat(shape.heads // shape.groups, 1)
        for layer in base.layers:
            weights = matrices(layer, config.head_dim, dtype)
            x_ND = _Block.apply(x_ND, *weights, freqs_cis_T1K, mask_TT, shape)  # type: ignore[no-untyped-call]
        x_ND = x_ND[: shape.positions]
        x_ND = F.rms_norm(x_ND, x_ND.shape[-1:], base.norm.weight, config.rms_norm_eps)
    return x_ND.view(batch, tokens, -1)


def rope_table(tokens: int, head_width: int, theta: float) -> Tensor:
    """freqs_cis_T1K, the rotation of each pair of dimensions at each position, as complex numbers.

    The rotary embedding (RoPE) is defined in section 3.2 of https://arxiv.org/abs/2104.09864.
    """
    rates_K = theta ** -(torch.arange(0, head_width, 2) / head_width)
    angles_TK = torch.arange(tokens)[:, None] * rates_K
    return torch.polar(torch.ones_like(angles_TK), angles_TK)[:, None]


def matrices(layer: Any, head_width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The matrices (w_ED, w_out, w_FD, w_down) of a block.

    Each norm's weight is multiplied into the next matrix, and the scale of the attention scores into the
    query matrix. Multiplying the activations instead would take longer, because they are much larger. In
    transformers, the two dimensions that RoPE rotates together are half a head apart; here they are moved
    next to each other.
    """
    attention, mlp = layer.self_attn, layer.mlp

    def pair_up(w: Tensor) -> Tensor:
        return w.view(-1, 2, head_width // 2, w.shape[1]).transpose(1, 2).flatten(0, 2)

    queries = pair_up(effective_weight(attention.q_proj)) * head_width**-0.5
    w_ED = torch.cat(
        [queries, pair_up(effective_weight(attention.k_proj)), effective_weight(attention.v_proj)]
    )
    w_FD = torch.cat([effective_weight(mlp.gate_proj), effective_weight(mlp.up_proj)])
    return (
        (w_ED * layer.input_layernorm.weight).to(dtype),
        effective_weight(attention.o_proj).to(dtype),
        (w_FD * layer.post_attention_layernorm.weight).to(dtype),
        effective_weight(mlp.down_proj).to(dtype),
    )


class _Block(torch.autograd.Function):
    """A whole block: y = x + attention(normed(x)), and the result is y + feed_forward(normed(y))."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        w_ED: Tensor,
        w_out: Tensor,
        w_FD: Tensor,
        w_down: Tensor,
        freqs_cis_T1K: Tensor,
        mask_TT: Tensor,
        shape: Shape,
    ) -> Tensor:
        n_ND, rate_N1 = _rms_normed(x_ND, shape.eps, w_ED.dtype)
        q_JTK, k_JTK, v_JTK = _to_heads(torch.mm(n_ND, w_ED.T), freqs_cis_T1K, shape)
        scores_JTT = torch.baddbmm(mask_TT, q_JTK, k_JTK.mT)
        # The softmax is in float32: its forward and backward pass take 2 to 12 times as long in bfloat16.
        p_JTT = torch.softmax(scores_JTT, dim=-1, dtype=torch.float32).to(w_ED.dtype)
        attended_NE = _concat_heads(torch.bmm(p_JTT, v_JTK), shape)
        x_ND = x_ND + torch.mm(attended_NE, w_out.T)

        m_ND, mid_rate_N1 = _rms_normed(x_ND, shape.eps, w_FD.dtype)
        gate_up_NF = torch.mm(m_ND, w_FD.T)
        gate_NF, up_NF = gate_up_NF.chunk(2, dim=-1)
        silu_NF = F.silu(gate_NF)
        inner_NF = silu_NF * up_NF
        ctx.shape = shape
        ctx.save_for_backward(
            *(w_ED, w_out, w_FD, w_down, freqs_cis_T1K),
            *(n_ND, rate_N1, q_JTK, k_JTK, v_JTK, p_JTT, attended_NE),
            *(m_ND, mid_rate_N1, gate_up_NF, silu_NF, inner_NF),
        )
        return x_ND.add_(torch.mm(inner_NF, w_down.T))

    @staticmethod
    def backward(ctx: Any, dx_ND: Tensor) -> tuple[Tensor | None, ...]:
        w_ED, w_out, w_FD, w_down, freqs_cis_T1K, *saved = ctx.saved_tensors
        n_ND, rate_N1, q_JTK, k_JTK, v_JTK, p_JTT, attended_NE, *saved = saved
        m_ND, mid_rate_N1, gate_up_NF, silu_NF, inner_NF = saved
        shape, dtype = ctx.shape, w_ED.dtype
        dx_ND = dx_ND.clone()

        dy_ND = dx_ND.to(dtype)
        dw_down = torch.mm(dy_ND.T, inner_NF)
        dgate_up_NF = _backward_gate(torch.mm(dy_ND, w_down), gate_up_NF, silu_NF)
        dw_FD = torch.mm(dgate_up_NF.T, m_ND)
        _add_backward_norm(dx_ND, torch.mm(dgate_up_NF, w_FD), m_ND, mid_rate_N1)

        dy_ND = dx_ND.to(dtype)
        dw_out = torch.mm(dy_ND.T, attended_NE)
        dattended_JTK = _by_heads(torch.mm(dy_ND, w_out)[: shape.positions], shape, shape.heads)
        dv_JTK = torch.bmm(p_JTT.mT, dattended_JTK)
        dp_JTT = torch.bmm(dattended_JTK, v_JTK.mT).float()
        dscores_JTT = _softmax_backward(dp_JTT, p_JTT.float(), -1, torch.float32).to(dtype)
        dq_JTK, dk_JTK = torch.bmm(dscores_JTT, k_JTK), torch.bmm(dscores_JTT.mT, q_JTK)
        de_NE = _backward_to_heads(dq_JTK, dk_JTK, dv_JTK, freqs_cis_T1K, shape)
        dw_ED = torch.mm(de_NE.T, n_ND)
        _add_backward_norm(dx_ND, torch.mm(de_NE, w_ED), n_ND, rate_N1)
        return dx_ND, dw_ED, dw_out, dw_FD, dw_down, None, None, None


def _rms_normed(x_ND: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the rows scaled to a root mean square of 1, in `dtype`, and rate_N1, the factor of each row."""
    length_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
    rate_N1 = length_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
    return (x_ND * rate_N1).to(dtype), rate_N1


def _add_backward_norm(dx_ND: Tensor, dn_ND: Tensor, n_ND: Tensor, rate_N1: Tensor) -> None:
    """Add the gradient through a norm to dx; this gradient has no component along the norm's output n."""
    dn_ND, n_ND = dn_ND.float(), n_ND.float()
    along_N1 = torch.linalg.vecdot(dn_ND, n_ND)[:, None].div_(-n_ND.shape[-1])
    dx_ND.addcmul_(dn_ND.addcmul_(n_ND, along_N1), rate_N1)


def _backward_gate(dinner_NF: Tensor, gate_up_NF: Tensor, silu_NF: Tensor) -> Tensor:
    """Overwrite the pair (gate, up) with its gradient and return it; allocating memory would be slower."""
    gate_NF, up_NF = gate_up_NF.chunk(2, dim=-1)
    torch.mul(dinner_NF, up_NF, out=up_NF)
    _silu_backward.grad_input(up_NF, gate_NF, grad_input=gate_NF)
    torch.mul(dinner_NF, silu_NF, out=up_NF)
    return gate_up_NF


def _by_heads(y_PE: Tensor, shape: Shape, heads: int) -> Tensor:
    """y_JTK, one matrix per group of heads: rows for all tokens of its first head, then of the next, etc."""
    y_BHTK = y_PE.view(shape.batch, shape.tokens, heads, -1).transpose(1, 2)
    return y_BHTK.reshape(shape.batch * shape.groups, -1, y_BHTK.shape[-1])


def _from_heads(y_JTK: Tensor, shape: Shape) -> Tensor:
    """y_BTHK, as a view of y_JTK's memory."""
    return y_JTK.view(shape.batch, -1, shape.tokens, y_JTK.shape[-1]).transpose(1, 2)


def _concat_heads(y_JTK: Tensor, shape: Shape) -> Tensor:
    """y_NE, the outputs of all heads side by side."""
    y_BTHK = _from_heads(y_JTK, shape)
    y_NE = y_JTK.new_empty(shape.rows, shape.heads * y_JTK.shape[-1])
    y_NE[: shape.positions].view(y_BTHK.shape).copy_(y_BTHK)
    y_NE[shape.positions :] = 0
    return y_NE


def _to_heads(e_NE: Tensor, freqs_cis_T1K: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Split e_NE into (q_JTK, k_JTK, v_JTK), and apply RoPE to the queries and keys."""
    head_width = 2 * freqs_cis_T1K.shape[-1]
    qk_width = shape.rotated * head_width
    e_PE = e_NE[: shape.positions]
    pairs = e_PE[:, :qk_width].float().view(shape.batch, shape.tokens, shape.rotated, -1, 2)
    rotated = torch.view_as_complex(pairs) * freqs_cis_T1K
    qk_BTHK = torch.view_as_real(rotated).flatten(3).to(e_PE.dtype)
    queries, keys = qk_BTHK[:, :, : shape.heads], qk_BTHK[:, :, shape.heads :]
    return (
        _by_heads(queries, shape, shape.heads),
        _by_heads(keys, shape, shape.groups),
        _by_heads(e_PE[:, qk_width:], shape, shape.groups),
    )


def _backward_to_heads(
    dq_JTK: Tensor, dk_JTK: Tensor, dv_JTK: Tensor, freqs_cis_T1K: Tensor, shape: Shape
) -> Tensor:
    """de_NE, the gradient of the input of `_to_heads`."""
    head_width = dq_JTK.shape[-1]
    dqk_BTHK = dq_JTK.new_empty(shape.batch, shape.tokens, shape.rotated, head_width, dtype=torch.float32)
    dqk_BTHK[:, :, : shape.heads] = _from_heads(dq_JTK, shape)
    dqk_BTHK[:, :, shape.heads :] = _from_heads(dk_JTK, shape)
    torch.view_as_complex(dqk_BTHK.view(*dqk_BTHK.shape[:3], -1, 2)).mul_(freqs_cis_T1K.conj())
    de_NE = dq_JTK.new_empty(shape.rows, (shape.rotated + shape.groups) * head_width)
    de_NE[shape.positions :] = 0
    de_PE, qk_width = de_NE[: shape.positions], shape.rotated * head_width
    de_PE[:, :qk_width] = dqk_BTHK.view(shape.positions, -1)
    de_PE[:, qk_width:] = _from_heads(dv_JTK, shape).reshape(shape.positions, -1)
    return de_NE
