"""text [B,T,Dt], audio [B,A,Da], masks → logits [B,C], embedding [B,D].

Every network standardises its inputs by the training
part's statistics, so a saved model needs nothing beside itself. MODELS is the registry.
"""

from __future__ import annotations

import math
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
)


class Dims(NamedTuple):
    """Input widths of the two sides (0: absent) and the number of classes."""

    text: int
    audio: int
    classes: int


class Fusion(nn.Module):
    """What all networks share: inputs by side, hiding of a side, statistics of the inputs."""

    sides: tuple[str, ...] = ("text", "audio")

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__()
        self.modality_dropout = config.modality_dropout if len(self.sides) == 2 else 0.0
        self.project = nn.ModuleDict(
            {side: Project(getattr(dims, side), config) for side in self.sides}
        )
        pooled_dim = sum(getattr(dims, side) for side in self.sides)
        self.classify = Classifier(len(self.sides), pooled_dim, dims.classes, config)

    def forward(self, inputs: dict[str, SideInput]) -> Output:
        """Inputs by side → logits [B, C], embedding [B, H]."""
        if self.training and self.modality_dropout:
            inputs = self._hide(inputs)
        hidden, pooled = zip(
            *(self.project[name](inputs[name]) for name in self.sides), strict=True
        )
        masks = [inputs[name].mask for name in self.sides]
        output: Output = self.classify(self.mix(list(hidden), masks), list(pooled))
        return output

    def _hide(self, inputs: dict[str, SideInput]) -> dict[str, SideInput]:
        """Hides one side of some items; never the only one that an item has."""
        draw = torch.rand(len(inputs["text"].mask), 1, device=inputs["text"].mask.device)
        has = {name: side.mask.any(1, keepdim=True) for name, side in inputs.items()}
        half = self.modality_dropout / 2
        keep = {"text": (draw >= half) | ~has["audio"], "audio": (draw < 1 - half) | ~has["text"]}
        return {
            name: SideInput(side.tokens, side.mask & keep[name], side.pooled * keep[name])
            for name, side in inputs.items()
        }

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] a side → one vector [B, H] a side."""
        raise NotImplementedError


class Concat(Fusion):
    """Simple fusion: each side pooled by itself, side by side."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.pool = nn.ModuleList(AttentivePool(config.hidden_dim) for _ in self.sides)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] a side → one vector [B, H] a side."""
        return [pool(x, mask) for pool, x, mask in zip(self.pool, hidden, masks, strict=True)]


class SelfAttention(Fusion):
    """Each side attends to itself, then is pooled."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.own = nn.ModuleList(Attend(config) for _ in self.sides)
        self.pool = nn.ModuleList(AttentivePool(config.hidden_dim) for _ in self.sides)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] a side → one vector [B, H] a side."""
        hidden = [own(x, x, mask) for own, x, mask in zip(self.own, hidden, masks, strict=True)]
        hidden = self.cross(hidden, masks)
        return [pool(x, mask) for pool, x, mask in zip(self.pool, hidden, masks, strict=True)]

    def cross(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Nothing passes between the sides."""
        return hidden


class Text(SelfAttention):
    """The words alone."""

    sides = ("text",)


class Audio(SelfAttention):
    """The sound alone."""

    sides = ("audio",)


class CrossAttention(SelfAttention):
    """Each side attends to itself, then to the other, `num_layers` times, both ways at once."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.text_from_audio = nn.ModuleList(Attend(config) for _ in range(config.num_layers))
        self.audio_from_text = nn.ModuleList(Attend(config) for _ in range(config.num_layers))

    def cross(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Bidirectional: both sides are updated from the other's state before the block."""
        text, audio = hidden
        for to_text, to_audio in zip(self.text_from_audio, self.audio_from_text, strict=True):
            text, audio = to_text(text, audio, masks[1]), to_audio(audio, text, masks[0])
        return [text, audio]


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
        self.members = nn.ModuleList(kind(dims, config) for _ in range(config.members))

    def fit_inputs(self, **sides: tuple[Tensor, Tensor]) -> None:
        """Takes the input statistics from the training part: tokens [N, T, D], mask [N, T]."""
        for name, standardize in self.standardize.items():
            standardize.fit(*sides[name])  # type: ignore[operator]

    def outputs(
        self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor
    ) -> list[Output]:
        """What every member says: text [B, T, Dt], audio [B, A, Da] and their masks."""
        given = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        inputs = {name: self.standardize[name](*given[name]) for name in self.sides}
        return [member(inputs) for member in self.members]

    def each(self, *batch: Tensor) -> Tensor:
        """Logits of every member: [members, B, C]."""
        return torch.stack([output.logits for output in self.outputs(*batch)])

    def forward(self, *batch: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, M·H].

        The logits are the logarithm of the members' mean probability, times the temperature that
        the validation part set.
        """
        outputs = self.outputs(*batch)
        logs = torch.stack([output.logits.log_softmax(1) for output in outputs])
        mean = logs.logsumexp(0) - math.log(len(outputs))
        return Output(
            mean * self.temperature, torch.cat([output.embedding for output in outputs], 1)
        )


MODELS: dict[str, type[Fusion]] = {
    "text": Text,
    "audio": Audio,
    "concat": Concat,
    "cross_attention": CrossAttention,
}
