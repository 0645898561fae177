"""Decoding: the logits of each row's next token, first after the context (prefill), then after each token.

For a Llama this module has its own forward pass, in float32 even if the weights have another type. It repacks
the matrices once, allocates each KV cache once for the whole reply, and shares work buffers between the
tokens of a reply. Other networks use the forward pass and the cache of transformers.

The contexts of a batch are padded on the left, so all rows end at the same column of the cache. The
newest tokens of all rows are therefore one slice of the cache, and all earlier tokens are another slice.

The suffix of a tensor's name gives its shape: B batch, T tokens, P positions of the cache, D width, H query
heads, G groups of query heads (each with one head of keys and values), J batch times groups, M heads of a
group, K width of a head (half of it if the numbers are complex), E queries, keys and values side by side, F
inner width of the feed-forward part, V vocabulary, N batch times tokens.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from models.network.llama import cpu_block
from models.text.tokenizer import PAD, START

NextLogits = Callable[[Sequence[int]], Tensor]
"""A function that takes the last token of each row and returns the logits_BV of the next tokens."""


class Decoder(Protocol):
    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, NextLogits]:
        """Return logits_BV after the contexts, and a function for the logits after one more token per row.

        The function may be called at most `steps` times. The caller may change the returned logits in place;
        the next call may overwrite them.
        """


def decoder_of(model: PreTrainedModel) -> Decoder:
    # Apple's GPUs support few operations on complex numbers, which LlamaDecoder needs.
    is_llama = cpu_block.is_standard_llama(model) and model.device.type != "mps"
    return LlamaDecoder(model) if is_llama else ForwardDecoder(model)


class Block(NamedTuple):
    w_DE: Tensor
    w_out: Tensor
    w_DF: Tensor
    w_down: Tensor


class LlamaDecoder:
    """A decoder with its own copy of all weights of a LlamaForCausalLM except the input embedding.

    After a training step the copy is out of date, so a new decoder is needed.
    """

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel) -> None:
        network: Any = model
        config: Any = model.config
        self.embed = network.model.embed_tokens
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.head_width = config.head_dim
        self.blocks = [_repack(layer, config) for layer in network.model.layers]
        # The weight of each norm, including the last norm, is multiplied into the next matrix.
        head_VD = network.lm_head.weight.float() * network.model.norm.weight * config.hidden_size**0.5
        self.head_DV = head_VD.T.contiguous()
        self.min_length = torch.tensor((config.rms_norm_eps * config.hidden_size) ** 0.5, device=model.device)
        self.freqs_cis_P1K = cpu_block.rope_table(
            config.max_position_embeddings, config.head_dim, config.rope_parameters["rope_theta"]
        ).to(model.device)

    def split(self, e: Tensor) -> tuple[Tensor, ...]:
        """Split e into queries, keys and values along its second dimension, the dimension of heads."""
        return torch.split(e, [self.heads, self.groups, self.groups], dim=1)

    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, NextLogits]:
        state = _DecodeState(self, contexts, steps)
        return state.prefill(contexts), state.decode_step


def _repack(layer: Any, config: Any) -> Block:
    """The matrices of a block, transposed to (input, output).

    A matmul with a single row then reads the matrices in memory order, which halves its time. The norms
    in this module divide by the vector's Euclidean norm instead of its root mean square, so the square root
    of the width is multiplied into the matrices.
    """
    if layer.input_layernorm.weight.dtype != torch.float32:
        layer = copy.deepcopy(layer).float()
    w_ED, w_out, w_FD, w_down = cpu_block.matrices(layer, config.head_dim, torch.float32)
    root = config.hidden_size**0.5
    return Block(*(w.T.contiguous() for w in (w_ED * root, w_out, w_FD * root, w_down)))


class _DecodeState:
    """The state of one batch of replies during decoding: its KV caches and its work buffers."""

    def __init__(self, decoder: LlamaDecoder, contexts: Sequence[Sequence[int]], steps: int) -> None:
        self.decoder = decoder
        head_DV, block = decoder.head_DV, decoder.blocks[0]
        rows, longest = len(contexts), max(len(context) for context in contexts)
        heads, groups, head_width = decoder.heads, decoder.groups, decoder.head_width
        self.column = longest  # the cache column of the next token
        positions = longest + steps
        pads_B = torch.tensor([longest - len(context) for context in contexts], device=head_DV.device)
        self.is_pad_BP = torch.arange(positions, device=head_DV.device) < pads_B[:, None]
        # Position of each row's next token, not counting padding. Rows whose reply has ended are still
        # decoded with the others, so the position is clamped to the model's last position.
        self.positions_B = (longest - pads_B).clamp_(max=len(decoder.freqs_cis_P1K) - 1)
        mask_BP = torch.zeros_like(self.is_pad_BP, dtype=torch.float32).masked_fill_(
            self.is_pad_BP, -math.inf
        )
        self.mask_J1P = mask_BP[:, None].repeat_interleave(groups, dim=0)
        self.caches = [_KVCache(head_DV, rows, groups, positions, head_width) for _ in decoder.blocks]

        self.length_B1 = head_DV.new_empty(rows, 1)
        self.n_BD = head_DV.new_empty(rows, head_DV.shape[0])
        self.e_BE = head_DV.new_empty(rows, block.w_DE.shape[1])
        e_BHK = self.e_BE.view(rows, -1, head_width)
        queries, keys, self.v_BGK = decoder.split(e_BHK)
        self.queries_BHK, self.keys_BGK = _as_complex(queries), _as_complex(keys)
        q_BHK = head_DV.new_empty(rows, heads, head_width)
        self.rotated_BHK, self.q_JMK = _as_complex(q_BHK), q_BHK.view(rows * groups, -1, head_width)
        self.scores = head_DV.new_empty(rows * heads * positions)
        self.attended_JMK = torch.empty_like(self.q_JMK)
        self.attended_BE = self.attended_JMK.view(rows, -1)
        self.gate_up_BF = head_DV.new_empty(rows, block.w_DF.shape[1])
        self.gate_BF, self.up_BF = self.gate_up_BF.chunk(2, dim=1)
        self.logits_BV = head_DV.new_empty(rows, head_DV.shape[1])

    def prefill(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """logits_BV after the contexts, in one forward pass."""
        decoder, rows, longest = self.decoder, len(contexts), self.column
        device = self.logits_BV.device
        ids_BT = torch.tensor([[PAD] * (longest - len(c)) + list(c) for c in contexts], device=device)
        is_pad_BT = self.is_pad_BP[:, :longest]
        freqs_cis_BT1K = decoder.freqs_cis_P1K[((~is_pad_BT).cumsum(1) - 1).clamp_(min=0)]
        # Padding attends to itself, because a kernel may return NaN for a position that attends to nothing.
        causal_TT = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        itself_TT = torch.eye(longest, dtype=torch.bool, device=device)
        mask_B1TT = ((causal_TT & ~is_pad_BT[:, None]) | itself_TT)[:, None]
        x_ND = decoder.embed(ids_BT).float().flatten(0, 1)
        for block, cache in zip(decoder.blocks, self.caches, strict=True):
            e_BTHK = torch.mm(self._normed(x_ND), block.w_DE).view(rows, longest, -1, decoder.head_width)
            _as_complex(e_BTHK[:, :, : decoder.heads + decoder.groups]).mul_(freqs_cis_BT1K)
            q_BHTK, k_BGTK, v_BGTK = decoder.split(e_BTHK.transpose(1, 2))
            cache.k_BGPK[:, :, :longest], cache.v_BGPK[:, :, :longest] = k_BGTK, v_BGTK
            # The scale of the attention scores is already multiplied into the queries' matrix.
            y_BHTK = F.scaled_dot_product_attention(
                q_BHTK, k_BGTK, v_BGTK, attn_mask=mask_B1TT, scale=1.0, enable_gqa=True
            )
            x_ND.addmm_(y_BHTK.transpose(1, 2).reshape(rows * longest, -1), block.w_out)
            gate_NF, up_NF = torch.mm(self._normed(x_ND), block.w_DF).chunk(2, dim=1)
            x_ND.addmm_(F.silu(gate_NF).mul_(up_NF), block.w_down)
        last_BD = x_ND.view(rows, longest, -1)[:, -1]
        return torch.mm(self._normed(last_BD), decoder.head_DV, out=self.logits_BV)

    def decode_step(self, tokens: Sequence[int]) -> Tensor:
        """The logits_BV after one more token in each row."""
        decoder, column, end = self.decoder, self.column, self.column + 1
        x_BD = decoder.embed(torch.tensor(tokens, device=self.logits_BV.device)[:, None])[:, 0].float()
        freqs_cis_B1K = decoder.freqs_cis_P1K.index_select(0, self.positions_B)
        self.positions_B.add_(1).clamp_(max=len(decoder.freqs_cis_P1K) - 1)
        self.column = end
        mask_J1P = self.mask_J1P[:, :, :end]
        num_jobs, heads_of_group = self.q_JMK.shape[:2]
        scores_JMP = self.scores[: num_jobs * heads_of_group * end].view(num_jobs, heads_of_group, end)
        for block, cache in zip(decoder.blocks, self.caches, strict=True):
            torch.mm(self._normed_row(x_BD), block.w_DE, out=self.e_BE)
            torch.mul(self.queries_BHK, freqs_cis_B1K, out=self.rotated_BHK)
            torch.mul(self.keys_BGK, freqs_cis_B1K, out=cache.pairs_BGPK.select(2, column))
            cache.v_BGPK.select(2, column).copy_(self.v_BGK)
            torch.baddbmm(mask_J1P, self.q_JMK, cache.k_JKP.narrow(2, 0, end), out=scores_JMP)
            torch.softmax(scores_JMP, dim=-1, out=scores_JMP)
            torch.bmm(scores_JMP, cache.v_JPK.narrow(1, 0, end), out=self.attended_JMK)
            x_BD.addmm_(self.attended_BE, block.w_out)
            torch.mm(self._normed_row(x_BD), block.w_DF, out=self.gate_up_BF)
            F.silu(self.gate_BF, inplace=True).mul_(self.up_BF)
            x_BD.addmm_(self.gate_BF, block.w_down)
        return torch.mm(self._normed_row(x_BD), decoder.head_DV, out=self.logits_BV)

    def _normed(self, x_ND: Tensor) -> Tensor:
        """Each row of x divided by its Euclidean norm, in which RMSNorm's epsilon is included."""
        length_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
        return x_ND / torch.hypot(length_N1, self.decoder.min_length)

    def _normed_row(self, x_BD: Tensor) -> Tensor:
        """The same as `_normed`, but written to a work buffer."""
        torch.linalg.vector_norm(x_BD, dim=1, keepdim=True, out=self.length_B1)
        torch.hypot(self.length_B1, self.decoder.min_length, out=self.length_B1)
        return torch.div(x_BD, self.length_B1, out=self.n_BD)


class _KVCache:
    """The keys and values of one block, with views of them for the matmuls and for the rotation."""

    def __init__(self, like: Tensor, rows: int, groups: int, positions: int, head_width: int) -> None:
        self.k_BGPK = like.new_empty(rows, groups, positions, head_width)
        self.v_BGPK = torch.empty_like(self.k_BGPK)
        self.pairs_BGPK = _as_complex(self.k_BGPK)
        self.k_JKP = self.k_BGPK.flatten(0, 1).mT
        self.v_JPK = self.v_BGPK.flatten(0, 1)


def _as_complex(x: Tensor) -> Tensor:
    """View neighbouring pairs along the last dimension as complex numbers, without copying."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


class ForwardDecoder:
    """Decodes with a network's own forward pass; any transformers network is supported."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model  # the arguments of `forward` depend on the family
        self.has_encoder = bool(model.config.is_encoder_decoder)

    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, NextLogits]:
        """Implements `Decoder.begin`; `steps` is not used, because the cache of transformers grows."""
        longest = max(len(context) for context in contexts)
        pads = [
            [PAD] * (longest - len(context)) for context in contexts
        ]  # PAD is 0, so these lists also pad the mask
        pairs = [(list(context), pad) for context, pad in zip(contexts, pads, strict=True)]
        device = self.model.device
        if self.has_encoder:
            # The padding is on the right, so that the encoder's positions are correct.
            ids_BT = torch.tensor([c + pad for c, pad in pairs], device=device)
            mask_BT = torch.tensor([[1] * len(c) + pad for c, pad in pairs], device=device)
            encoded = self.model.get_encoder()(input_ids=ids_BT, attention_mask=mask_BT)
            state = {"encoder_outputs": (encoded.last_hidden_state,), "attention_mask": mask_BT}
            ids_BT = torch.full((len(contexts), 1), START, device=device)
        else:
            # The padding is on the left, so that each row's next token follows its last token.
            ids_BT = torch.tensor([pad + c for c, pad in pairs], device=device)
            mask_BT = torch.tensor([pad + [1] * len(c) for c, pad in pairs], device=device)
            state = {"attention_mask": mask_BT, "position_ids": (mask_BT.cumsum(1) - 1).clamp(min=0)}
        return self._forward(ids_BT, state), lambda tokens: self._decode_step(tokens, state)

    def _decode_step(self, tokens: Sequence[int], state: dict[str, Any]) -> Tensor:
        ids_B1 = torch.tensor(tokens, device=self.model.device)[:, None]
        if not self.has_encoder:
            mask_BT = state["attention_mask"]
            state["attention_mask"] = torch.cat([mask_BT, mask_BT.new_ones(len(tokens), 1)], dim=1)
            # Rows whose reply has ended are still decoded with the others, so the position is clamped.
            positions_B1 = state["position_ids"][:, -1:] + 1
            state["position_ids"] = positions_B1.clamp(max=self.model.config.max_position_embeddings - 1)
        return self._forward(ids_B1, state)

    def _forward(self, ids_BT: Tensor, state: dict[str, Any]) -> Tensor:
        """The logits_BV of the last position; the cache of keys and values is stored in `state`."""
        if self.has_encoder:
            out = self.model(decoder_input_ids=ids_BT, use_cache=True, **state)
        else:
            out = self.model(input_ids=ids_BT, use_cache=True, logits_to_keep=1, **state)
        state["past_key_values"] = out.past_key_values
        return out.logits[:, -1].float().clone()  # type: ignore[no-any-return]
