"""a network + utterances → attention maps: which moments its attention and its pooling weigh.

A map holds the mean attention relative to uniform attention: 2 is twice as much. Attention is not
yet an explanation (Jain and Wallace, 2019, "Attention is not Explanation"): `explain` also measures
what is lost if a moment is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.dataset.examples import Examples
from multimodal_ser.models.fusion import Fusion
from multimodal_ser.models.layers import AttentionBlock, AttentivePool
from multimodal_ser.training.loop import predict

MOMENTS = 5  # equal parts of an utterance

Maps = Mapping[str, list[list[float]]]


def moments_of(mask: Tensor) -> Tensor:
    """The mask [B, T] of real tokens, split into equal parts of the utterance: [B, T, MOMENTS]."""
    # cumsum − 1 numbers the real tokens from 0, whatever the padding.
    place = (mask.cumsum(1) - 1) * MOMENTS // mask.sum(1, keepdim=True).clamp(min=1)
    return mask[..., None] & (place[..., None] == torch.arange(MOMENTS, device=mask.device))


def attention_maps(model: nn.Module, examples: Examples) -> Maps:
    """The attention of the model's networks, averaged over its members, heads and utterances.

    Args:
        model: what `predict` takes; parts that are not networks of MODELS are passed over.
        examples: with more than one token per utterance; modalities with one are left out.

    Returns:
        Name, such as ``text to audio, block 1`` → rows, one for each part of the utterance in the
        attending modality; columns, one for each part in the modality attended to and one for the
        learnt key. ``audio, pooled`` → one row of the parts' weights.
    """
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    with ExitStack() as watched:
        for network in model.modules():
            if isinstance(network, Fusion):
                for handle in _Watcher(network, sums).register():
                    watched.callback(handle.remove)
        predict(model, examples)
    # A part without any token (words may have fewer tokens than there are parts) counts as 1.
    return {
        name: torch.where(even > 0, got / even.clamp(min=1e-9), 1.0).tolist()
        for name, (got, even) in sums.items()
    }


class _Watcher:
    """Sums the attention of a network's blocks while it predicts.

    Attributes:
        sums: name → the attention that was given, and a uniform one, by parts of the utterance.
        masks: modality → the mask of its real tokens in the present batch [B, T].
    """

    def __init__(self, network: Fusion, sums: dict[str, tuple[Tensor, Tensor]]) -> None:
        self.network, self.sums = network, sums
        self.masks: dict[str, Tensor] = {}

    def register(self) -> list[Any]:
        """Registers hooks on the network and its blocks; returns their handles."""
        handles: list[Any] = [self.network.register_forward_pre_hook(self._remember_masks)]
        for path, block in self.network.named_modules():
            role, _, number = path.partition(".")
            if isinstance(block, AttentionBlock) and "_from_" in role:
                queries, _, keys = role.partition("_from_")
                name = f"{queries} to {keys}, block {int(number) + 1}"
                hook: Any = partial(self._add_attention, name, queries, keys)
            elif isinstance(block, AttentionBlock) and role == "own":
                own = self.network.modalities[int(number)]
                hook = partial(self._add_attention, f"{own} to itself", own, own)
            elif isinstance(block, AttentivePool) and role == "pool":
                own = self.network.modalities[int(number)]
                hook = partial(self._add_pooling, f"{own}, pooled")
            else:
                continue
            handles.append(block.register_forward_hook(hook))
        return handles

    def _remember_masks(self, _: nn.Module, batch: tuple[Tensor, ...]) -> None:
        self.masks.update(text=batch[1], audio=batch[3])

    def _add_attention(
        self, name: str, queries: str, keys: str, block: Any, given: tuple[Tensor, ...], _: Tensor
    ) -> None:
        """Adds the attention of one modality's tokens to another's, computed again with weights."""
        if self.masks[keys].shape[1] < 2:
            return
        x, tokens, mask = given
        tokens = block.norm_key(tokens)
        _, weights = block.attention(
            block.norm_query(x), tokens, tokens, key_padding_mask=~mask, need_weights=True
        )
        real = F.pad(moments_of(mask), (0, 1))  # [B, K, parts + 1]
        learnt = real.new_zeros(len(real), 1, real.shape[2])  # the learnt key is its own column
        learnt[..., -1] = True
        self._add(name, moments_of(self.masks[queries]), weights, torch.cat([real, learnt], 1))

    def _add_pooling(self, name: str, block: Any, given: tuple[Tensor, ...], _: Tensor) -> None:
        """Adds the weights of a modality's tokens in its pooling."""
        x, mask = given
        if mask.shape[1] > 1:
            weights = block.score(x)[..., 0].masked_fill(~mask, -1e4).softmax(1) * mask
            rows = mask.any(1)[:, None, None]
            self._add(name, rows, weights[:, None], moments_of(mask))

    def _add(self, name: str, queries: Tensor, weights: Tensor, keys: Tensor) -> None:
        """Queries [B, Q, R], weights [B, Q, K] and keys [B, K, C] → sums [R, C]."""
        real = keys.any(2).float()[:, None]  # [B, 1, K]
        even = (real / real.sum(2, keepdim=True).clamp(min=1)).expand_as(weights)
        before = self.sums.get(name, (0.0, 0.0))
        given, evenly = (
            torch.einsum("bqr,bqk,bkc->rc", queries.float(), one, keys.float()).double().cpu()
            for one in (weights, even)
        )
        self.sums[name] = (before[0] + given, before[1] + evenly)
