"""text [B,T,Dt], audio [B,A,Da], masks → logits [B,C], embedding [B,D].

Every network standardises its inputs by the training
part's statistics, so a saved model needs nothing beside itself. MODELS is the registry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multimodal_ser.config import ModelConfig
from multimodal_ser.layers import (
    Attend,
    AttentivePool,
    Classifier,
    Output,
    Project,
    SideInput,
    Standardize,
    uniform,
)


class Dims(NamedTuple):
    """Input widths of the two sides (0: absent) and the number of classes."""

    text: int
    audio: int
    classes: int


class Fusion(nn.Module):
    """M networks of one kind: inputs by side and hiding of a side; kinds differ in `mix`."""

    sides: tuple[str, ...] = ("text", "audio")

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__()
        self.count = config.members
        self.modality_dropout = config.modality_dropout if len(self.sides) == 2 else 0.0
        self.project = nn.ModuleDict(
            {side: Project(self.count, getattr(dims, side), config) for side in self.sides}
        )
        pooled_dim = sum(getattr(dims, side) for side in self.sides)
        self.classify = Classifier(self.count, len(self.sides), pooled_dim, dims.classes, config)

    def forward(self, inputs: dict[str, SideInput]) -> Output:
        """R batches by side, R a divisor of M → logits [M, B, C], embedding [M, B, H].

        The first M / R networks read the first batch, and so on.
        """
        given = [inputs[name] for name in self.sides]
        masks = [side.mask.repeat_interleave(self.count // len(side.mask), 0) for side in given]
        shown: Sequence[Tensor | None] = [None] * len(given)
        if self.training and self.modality_dropout:
            shown = self._shown(masks)
            masks = [mask & own for mask, own in zip(masks, shown, strict=True)]
        parts = zip(self.sides, given, strict=True)
        hidden, pooled = zip(*(self.project[name](side) for name, side in parts), strict=True)
        output: Output = self.classify(self.mix(list(hidden), masks), list(pooled), shown)
        return output

    def _shown(self, masks: list[Tensor]) -> list[Tensor]:
        """Hides one side of some items, [M, B, 1] each; never the only one that an item has."""
        draw = uniform((*masks[0].shape[:2], 1), masks[0].device)
        text, audio = (mask.any(2, keepdim=True) for mask in masks)
        half = self.modality_dropout / 2
        return [(draw >= half) | ~audio, (draw < 1 - half) | ~text]

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [M, B, T, H] a side → one vector [M, B, H] a side."""
        raise NotImplementedError


class Concat(Fusion):
    """Simple fusion: each side pooled by itself, side by side."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.pool = nn.ModuleList(AttentivePool(self.count, config.hidden_dim) for _ in self.sides)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [M, B, T, H] a side → one vector [M, B, H] a side."""
        return [pool(x, mask) for pool, x, mask in zip(self.pool, hidden, masks, strict=True)]


class SelfAttention(Concat):
    """Each side attends to itself, then is pooled."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.own = nn.ModuleList(Attend(self.count, config) for _ in self.sides)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [M, B, T, H] a side → one vector [M, B, H] a side."""
        own = zip(self.own, hidden, masks, strict=True)
        return super().mix([attend(x, x, mask) for attend, x, mask in own], masks)


class Text(SelfAttention):
    """The words alone."""

    sides = ("text",)


class Audio(SelfAttention):
    """The sound alone."""

    sides = ("audio",)


class CrossAttention(Concat):
    """Each side attends to the other, `num_layers` times, both ways at once, then is pooled.

    A side's tokens have attended to each other in its encoder already.
    """

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        blocks = range(config.num_layers)
        self.text_from_audio = nn.ModuleList(Attend(self.count, config) for _ in blocks)
        self.audio_from_text = nn.ModuleList(Attend(self.count, config) for _ in blocks)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Bidirectional: both sides are updated from the other's state before the block."""
        text, audio = hidden
        for to_text, to_audio in zip(self.text_from_audio, self.audio_from_text, strict=True):
            text, audio = to_text(text, audio, masks[1]), to_audio(audio, text, masks[0])
        return super().mix([text, audio], masks)


class Ensemble(nn.Module):
    """Small networks of one kind side by side, each trained by itself; their mean answers.

    On a few hundred to a few thousand utterances most of a network's error is variance: four
    small networks generalise better than one of four times the size.
    """

    temperature: Tensor

    def __init__(self, kind: type[Fusion], dims: Dims, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(1.0))
        self.classes = dims.classes
        self.sides = kind.sides
        self.standardize = nn.ModuleDict(
            {name: Standardize(getattr(dims, name)) for name in self.sides}
        )
        self.network = kind(dims, config)

    def fit_inputs(self, **sides: tuple[Tensor, Tensor]) -> None:
        """Takes the input statistics from the training part: tokens [N, T, D], mask [N, T]."""
        for name, standardize in self.standardize.items():
            standardize.fit(*sides[name])  # type: ignore[operator]

    def each(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Output:
        """What every member says: logits [members, B, C], embedding [members, B, H].

        Args:
            text: [B, T, Dt].
            text_mask: [B, T].
            audio: [B, A, Da].
            audio_mask: [B, A].
        """
        given = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        output: Output = self.network(standardized(self.standardize, given))
        return output

    def forward(self, *batch: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, M·H].

        The logits are the logarithm of the members' mean probability, times the temperature that
        the validation part set.
        """
        each = self.each(*batch)
        logs = each.logits.log_softmax(2).logsumexp(0) - math.log(len(each.logits))
        return Output(logs * self.temperature, each.embedding.transpose(0, 1).flatten(1))


def standardized(
    parts: nn.ModuleDict, given: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, SideInput]:
    """Tokens [B, T, D] and mask [B, T] by side → what all members of a network read."""
    return {name: part(*given[name]) for name, part in parts.items()}


MODELS: dict[str, type[Fusion]] = {
    "text": Text,
    "audio": Audio,
    "concat": Concat,
    "cross_attention": CrossAttention,
}
