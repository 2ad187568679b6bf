"""a network + utterances → attention maps: which moments its attention and its pooling weigh.

A map holds the mean attention relative to an even one, which weighs all tokens alike: 2 is twice as
much. Attention is not yet an explanation (Jain and Wallace, 2019, "Attention is not Explanation"):
`explain` measures beside it what is lost if a moment is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
                for handle in _watch(network, sums):
                    watched.callback(handle.remove)
        predict(model, examples)
    # A part without any token, as in words of fewer tokens than parts, counts as even.
    return {
        name: torch.where(even > 0, got / even.clamp(min=1e-9), 1.0).tolist()
        for name, (got, even) in sums.items()
    }


def _watch(network: Fusion, sums: dict[str, tuple[Tensor, Tensor]]) -> list[Any]:
    masks: dict[str, Tensor] = {}

    def add(name: str, queries: Tensor, weights: Tensor, keys: Tensor) -> None:
        """Queries [B, Q, R], weights [B, Q, K] and keys [B, K, C] → sums [R, C]."""
        real = keys.any(2).float()[:, None]  # [B, 1, K]
        even = (real / real.sum(2, keepdim=True).clamp(min=1)).expand_as(weights)
        pair = [
            torch.einsum("bqr,bqk,bkc->rc", queries.float(), one, keys.float()).double().cpu()
            for one in (weights, even)
        ]
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + pair[0], before[1] + pair[1])

    def remember(_: nn.Module, batch: tuple[Tensor, ...]) -> None:
        masks.update(text=batch[1], audio=batch[3])

    def attend(name: str, asking: str, asked: str) -> Callable[..., None]:
        def note(block: Any, given: tuple[Tensor, Tensor, Tensor], _: Tensor) -> None:
            if masks[asked].shape[1] < 2:
                return
            x, keys, mask = given
            keys = block.norm_key(keys)
            _, weights = block.attention(
                block.norm_query(x), keys, keys, key_padding_mask=~mask, need_weights=True
            )
            own = F.pad(moments_of(mask), (0, 1))  # [B, K, parts + 1]
            learnt = own.new_zeros(len(own), 1, own.shape[2])
            learnt[..., -1] = True
            add(name, moments_of(masks[asking]), weights, torch.cat([own, learnt], 1))

        return note

    def pool(name: str) -> Callable[..., None]:
        def note(block: Any, given: tuple[Tensor, Tensor], _: Tensor) -> None:
            x, mask = given
            if mask.shape[1] > 1:
                weights = block.score(x)[..., 0].masked_fill(~mask, -1e4).softmax(1) * mask
                rows = mask.any(1)[:, None, None]
                add(name, rows, weights[:, None], moments_of(mask))

        return note

    handles: list[Any] = [network.register_forward_pre_hook(remember)]
    for path, block in network.named_modules():
        role, _, number = path.partition(".")
        if isinstance(block, AttentionBlock) and "_from_" in role:
            asking, _, asked = role.partition("_from_")
            name = f"{asking} to {asked}, block {int(number) + 1}"
            handles.append(block.register_forward_hook(attend(name, asking, asked)))
        elif isinstance(block, AttentionBlock) and role == "own":
            one = network.modalities[int(number)]
            handles.append(block.register_forward_hook(attend(f"{one} to itself", one, one)))
        elif isinstance(block, AttentivePool) and role == "pool":
            name = f"{network.modalities[int(number)]}, pooled"
            handles.append(block.register_forward_hook(pool(name)))
    return handles
