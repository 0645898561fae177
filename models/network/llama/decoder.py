"""Decoding: the logits of each row's next token, once for the contexts and then token by token.

A network of the Llama shape is read by operations of our own, in float32 whatever its weights are:
matrices repacked once, keys and values in one block of memory, work buffers that the tokens of a
reply share. Any other goes through its own forward.

The rows of a batch end at the same column of the cache, the pads on the left: a token is then
written, and the tokens before it are read, by one slice for all rows.

Name suffixes are shapes: B batch, T tokens, P places of the cache, D width, H heads of the queries,
G groups of them, each with one head of keys and values, J batch times groups, M heads of a group,
K width of a head (half of it where the numbers are complex), E queries, keys and values side by
side, F inner width of the feed-forward part, V vocabulary, N batch times tokens.
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

Advance = Callable[[Sequence[int]], Tensor]
"""The token that each row was given -> logits_BV of the next."""


class Decoder(Protocol):
    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, Advance]:
        """logits_BV behind the contexts, and what gives those of the next `steps` tokens at most.

        The logits are the caller's to change; the next ones may be written over them.
        """


def decoder_of(model: PreTrainedModel) -> Decoder:
    # Apple's GPUs know few operations on complex numbers.
    is_ours = cpu_block.is_plain(model) and model.device.type != "mps"
    return LlamaDecoder(model) if is_ours else ForwardDecoder(model)


class Block(NamedTuple):
    w_DE: Tensor
    w_out: Tensor
    w_DF: Tensor
    w_down: Tensor


class LlamaDecoder:
    """A LlamaForCausalLM as it is now: weights that change later are not seen, the token table's apart."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel) -> None:
        network: Any = model
        config: Any = model.config
        self.embed = network.model.embed_tokens
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.head_width = config.head_dim
        self.blocks = [_repacked(layer, config) for layer in network.model.layers]
        # The last norm's weight, like the others, goes into the matrix behind it.
        head_VD = network.lm_head.weight.float() * network.model.norm.weight * config.hidden_size**0.5
        self.head_DV = head_VD.T.contiguous()
        self.floor = torch.tensor((config.rms_norm_eps * config.hidden_size) ** 0.5, device=model.device)
        self.turns_P1K = cpu_block.turns(
            config.max_position_embeddings, config.head_dim, config.rope_parameters["rope_theta"]
        ).to(model.device)

    def split(self, e: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, whose heads are the second dimension."""
        return torch.split(e, [self.heads, self.groups, self.groups], dim=1)

    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, Advance]:
        reading = _Reading(self, contexts, steps)
        return reading.contexts(contexts), reading.token


def _repacked(layer: Any, config: Any) -> Block:
    """The matrices of a block as a row of activations meets them: input by output.

    A product with one row reads them in the order of memory then, in half the time. What a norm
    divides by is the length and not the mean square; the width's root goes into the matrix, too.
    """
    if layer.input_layernorm.weight.dtype != torch.float32:
        layer = copy.deepcopy(layer).float()
    w_ED, w_out, w_FD, w_down = cpu_block.matrices(layer, config.head_dim, torch.float32)
    root = config.hidden_size**0.5
    return Block(*(w.T.contiguous() for w in (w_ED * root, w_out, w_FD * root, w_down)))


class _Reading:
    """One batch of replies under way: its keys and values, and its work buffers."""

    def __init__(self, decoder: LlamaDecoder, contexts: Sequence[Sequence[int]], steps: int) -> None:
        self.decoder = decoder
        head_DV, block = decoder.head_DV, decoder.blocks[0]
        rows, longest = len(contexts), max(len(context) for context in contexts)
        heads, groups, head_width = decoder.heads, decoder.groups, decoder.head_width
        self.column = longest  # of the next token
        places = longest + steps
        pads_B = torch.tensor([longest - len(context) for context in contexts], device=head_DV.device)
        self.is_pad_BP = torch.arange(places, device=head_DV.device) < pads_B[:, None]
        # Of the next token, less the pads. A row that has ended goes on in step with the others, and
        # stays within the positions.
        self.places_B = (longest - pads_B).clamp_(max=len(decoder.turns_P1K) - 1)
        mask_BP = torch.zeros_like(self.is_pad_BP, dtype=torch.float32).masked_fill_(
            self.is_pad_BP, -math.inf
        )
        self.mask_J1P = mask_BP[:, None].repeat_interleave(groups, dim=0)
        self.caches = [_Cache(head_DV, rows, groups, places, head_width) for _ in decoder.blocks]

        self.length_B1 = head_DV.new_empty(rows, 1)
        self.n_BD = head_DV.new_empty(rows, head_DV.shape[0])
        self.e_BE = head_DV.new_empty(rows, block.w_DE.shape[1])
        e_BHK = self.e_BE.view(rows, -1, head_width)
        queries, keys, self.v_BGK = decoder.split(e_BHK)
        self.queries_BHK, self.keys_BGK = _pairs(queries), _pairs(keys)
        q_BHK = head_DV.new_empty(rows, heads, head_width)
        self.turned_BHK, self.q_JMK = _pairs(q_BHK), q_BHK.view(rows * groups, -1, head_width)
        self.scores = head_DV.new_empty(rows * heads * places)
        self.seen_JMK = torch.empty_like(self.q_JMK)
        self.seen_BE = self.seen_JMK.view(rows, -1)
        self.both_BF = head_DV.new_empty(rows, block.w_DF.shape[1])
        self.gate_BF, self.up_BF = self.both_BF.chunk(2, dim=1)
        self.logits_BV = head_DV.new_empty(rows, head_DV.shape[1])

    def contexts(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """logits_BV behind the contexts, which are read in one pass."""
        decoder, rows, longest = self.decoder, len(contexts), self.column
        device = self.logits_BV.device
        ids_BT = torch.tensor([[PAD] * (longest - len(c)) + list(c) for c in contexts], device=device)
        is_pad_BT = self.is_pad_BP[:, :longest]
        turns_BT1K = decoder.turns_P1K[((~is_pad_BT).cumsum(1) - 1).clamp_(min=0)]
        # A pad sees itself alone: of nothing to see, a kernel may make NaN, which spreads.
        seen_TT = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        itself_TT = torch.eye(longest, dtype=torch.bool, device=device)
        seen_B1TT = ((seen_TT & ~is_pad_BT[:, None]) | itself_TT)[:, None]
        x_ND = decoder.embed(ids_BT).float().flatten(0, 1)
        for block, cache in zip(decoder.blocks, self.caches, strict=True):
            e_BTHK = torch.mm(self._normed(x_ND), block.w_DE).view(rows, longest, -1, decoder.head_width)
            _pairs(e_BTHK[:, :, : decoder.heads + decoder.groups]).mul_(turns_BT1K)
            q_BHTK, k_BGTK, v_BGTK = decoder.split(e_BTHK.transpose(1, 2))
            cache.k_BGPK[:, :, :longest], cache.v_BGPK[:, :, :longest] = k_BGTK, v_BGTK
            # The scale of the scores is in the queries' matrix.
            y_BHTK = F.scaled_dot_product_attention(
                q_BHTK, k_BGTK, v_BGTK, attn_mask=seen_B1TT, scale=1.0, enable_gqa=True
            )
            x_ND.addmm_(y_BHTK.transpose(1, 2).reshape(rows * longest, -1), block.w_out)
            gate_NF, up_NF = torch.mm(self._normed(x_ND), block.w_DF).chunk(2, dim=1)
            x_ND.addmm_(F.silu(gate_NF).mul_(up_NF), block.w_down)
        last_BD = x_ND.view(rows, longest, -1)[:, -1]
        return torch.mm(self._normed(last_BD), decoder.head_DV, out=self.logits_BV)

    def token(self, tokens: Sequence[int]) -> Tensor:
        """logits_BV behind one more token a row."""
        decoder, column, upto = self.decoder, self.column, self.column + 1
        x_BD = decoder.embed(torch.tensor(tokens, device=self.logits_BV.device)[:, None])[:, 0].float()
        turns_B1K = decoder.turns_P1K.index_select(0, self.places_B)
        self.places_B.add_(1).clamp_(max=len(decoder.turns_P1K) - 1)
        self.column = upto
        mask_J1P = self.mask_J1P[:, :, :upto]
        jobs, heads_of_group = self.q_JMK.shape[:2]
        scores_JMP = self.scores[: jobs * heads_of_group * upto].view(jobs, heads_of_group, upto)
        for block, cache in zip(decoder.blocks, self.caches, strict=True):
            torch.mm(self._normed_row(x_BD), block.w_DE, out=self.e_BE)
            torch.mul(self.queries_BHK, turns_B1K, out=self.turned_BHK)
            torch.mul(self.keys_BGK, turns_B1K, out=cache.pairs_BGPK.select(2, column))
            cache.v_BGPK.select(2, column).copy_(self.v_BGK)
            torch.baddbmm(mask_J1P, self.q_JMK, cache.k_JKP.narrow(2, 0, upto), out=scores_JMP)
            torch.softmax(scores_JMP, dim=-1, out=scores_JMP)
            torch.bmm(scores_JMP, cache.v_JPK.narrow(1, 0, upto), out=self.seen_JMK)
            x_BD.addmm_(self.seen_BE, block.w_out)
            torch.mm(self._normed_row(x_BD), block.w_DF, out=self.both_BF)
            F.silu(self.gate_BF, inplace=True).mul_(self.up_BF)
            x_BD.addmm_(self.gate_BF, block.w_down)
        return torch.mm(self._normed_row(x_BD), decoder.head_DV, out=self.logits_BV)

    def _normed(self, x_ND: Tensor) -> Tensor:
        """x over its length, or over the root of epsilon where it is shorter, as in RMSNorm."""
        length_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
        return x_ND / torch.hypot(length_N1, self.decoder.floor)

    def _normed_row(self, x_BD: Tensor) -> Tensor:
        """The same in the buffers."""
        torch.linalg.vector_norm(x_BD, dim=1, keepdim=True, out=self.length_B1)
        torch.hypot(self.length_B1, self.decoder.floor, out=self.length_B1)
        return torch.div(x_BD, self.length_B1, out=self.n_BD)


class _Cache:
    """Keys and values of one block, and the same memory as the products and the rotation want it."""

    def __init__(self, like: Tensor, rows: int, groups: int, places: int, head_width: int) -> None:
        self.k_BGPK = like.new_empty(rows, groups, places, head_width)
        self.v_BGPK = torch.empty_like(self.k_BGPK)
        self.pairs_BGPK = _pairs(self.k_BGPK)
        self.k_JKP = self.k_BGPK.flatten(0, 1).mT
        self.v_JPK = self.v_BGPK.flatten(0, 1)


def _pairs(x: Tensor) -> Tensor:
    """The pairs that a rotation turns, as complex numbers in the same memory."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


class ForwardDecoder:
    """Any decoder, and an encoder with a decoder, through transformers' own forward and cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model  # its forward takes what its family takes
        self.has_encoder = bool(model.config.is_encoder_decoder)

    def begin(self, contexts: Sequence[Sequence[int]], steps: int) -> tuple[Tensor, Advance]:
        longest = max(len(context) for context in contexts)
        pads = [[PAD] * (longest - len(context)) for context in contexts]  # <pad> is 0, as a mask wants it
        pairs = [(list(context), own) for context, own in zip(contexts, pads, strict=True)]
        device = self.model.device
        if self.has_encoder:
            # The pads stand on the right: the encoder's own positions are right.
            ids_BT = torch.tensor([c + own for c, own in pairs], device=device)
            mask_BT = torch.tensor([[1] * len(c) + own for c, own in pairs], device=device)
            encoded = self.model.get_encoder()(input_ids=ids_BT, attention_mask=mask_BT)
            state = {"encoder_outputs": (encoded.last_hidden_state,), "attention_mask": mask_BT}
            ids_BT = torch.full((len(contexts), 1), START, device=device)
        else:
            # The pads stand on the left, so that each row's next token follows its last one.
            ids_BT = torch.tensor([own + c for c, own in pairs], device=device)
            mask_BT = torch.tensor([own + [1] * len(c) for c, own in pairs], device=device)
            state = {"attention_mask": mask_BT, "position_ids": (mask_BT.cumsum(1) - 1).clamp(min=0)}
        return self._forward(ids_BT, state), lambda tokens: self._advance(tokens, state)

    def _advance(self, tokens: Sequence[int], state: dict[str, Any]) -> Tensor:
        ids_B1 = torch.tensor(tokens, device=self.model.device)[:, None]
        if not self.has_encoder:
            mask_BT = state["attention_mask"]
            state["attention_mask"] = torch.cat([mask_BT, mask_BT.new_ones(len(tokens), 1)], dim=1)
            # A row that has ended goes on in step with the others, and stays within the positions.
            places_B1 = state["position_ids"][:, -1:] + 1
            state["position_ids"] = places_B1.clamp(max=self.model.config.max_position_embeddings - 1)
        return self._forward(ids_B1, state)

    def _forward(self, ids_BT: Tensor, state: dict[str, Any]) -> Tensor:
        """The last position's logits; the keys and values of all before are kept in `state`."""
        if self.has_encoder:
            out = self.model(decoder_input_ids=ids_BT, use_cache=True, **state)
        else:
            out = self.model(input_ids=ids_BT, use_cache=True, logits_to_keep=1, **state)
        state["past_key_values"] = out.past_key_values
        return out.logits[:, -1].float().clone()  # type: ignore[no-any-return]
