"""A target without labels → what a training of a network is drawn towards."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal_ser.config.settings import AdaptConfig
from multimodal_ser.dataset.examples import Examples, Unlabelled
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.models.adapters import ADAPTERS, recolouring
from multimodal_ser.models.fusion import Ensemble, fit_statistics
from multimodal_ser.models.layers import Output, Standardize, masked_mean


@dataclass(frozen=True)
class Adaptation:
    """What to align a network with while it learns, and how."""

    config: AdaptConfig
    target: Unlabelled


class Alignment:
    """The target's part of a training: its batches, its input statistics and the adapters.

    Every member of the ensemble has an adapter of its own.

    Attributes:
        aligns: whether there is a loss at all.
        source: how the source's inputs are standardised while the model learns.
        standardize: how the target's inputs are standardised, then and afterwards.
        adapters: one a member.
    """

    def __init__(
        self,
        model: Ensemble,
        adaptation: Adaptation,
        train: Examples | Unlabelled,
        batch_size: int,
        seed: int,
    ) -> None:
        config, target = adaptation.config, adaptation.target
        if config.method not in ADAPTERS:
            raise SerError(one_of("adaptation", config.method, ADAPTERS))
        kind = ADAPTERS[config.method]
        self.model = model
        self.aligns = kind.aligns
        self.weight = kind.weight if config.weight is None else config.weight
        self.device = model.temperature.device
        self.source = model.standardize
        self.standardize = copy.deepcopy(self.source)
        if kind.standardizes or (kind.aligns and config.standardize):
            fit_statistics(self.standardize, target)
            if kind.recolours:
                self.source = recoloured(self.source, train, self.standardize, target)
        self.batches = target.stream(batch_size, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            width = aligned(self.target()).shape[2]
        self.adapters = nn.ModuleList(kind(width) for _ in model.members).to(self.device)

    def target(self) -> Output:
        """What every member makes of the target's next batch."""
        text, text_mask, audio, audio_mask = (part.to(self.device) for part in next(self.batches))
        return self.model.each(text, text_mask, audio, audio_mask, self.standardize)

    def loss(self, source: Output, progress: float) -> Tensor:
        """The members' weighted losses, summed.

        Args:
            source: what every member made of the source's batch.
            progress: share of the training that is done.
        """
        if not self.aligns or source.logits.shape[1] < 2:  # one row has no covariance
            return source.logits.new_zeros(())
        pairs = zip(self.adapters, aligned(source), aligned(self.target()), strict=True)
        losses = [adapter(mine, other, progress) for adapter, mine, other in pairs]
        return self.weight * torch.stack(losses).sum()


def aligned(output: Output) -> Tensor:
    """What is drawn together: the embedding beside the logits, [members, B, D + C].

    The linear path reaches the logits past the embedding: aligned alone, the embedding would
    leave that path's shift as it is.
    """
    return torch.cat([output.embedding, output.logits], 2)


class Recoloured(Standardize):
    """Standardises one corpus and gives it another's covariance."""

    colour: Tensor

    def __init__(self, own: Standardize, colour: Tensor) -> None:
        super().__init__(len(colour))
        self.load_state_dict(own.state_dict())
        self.register_buffer("colour", colour)

    def between(self, means: Tensor) -> Tensor:
        """Utterances' means [B, D] → standardised and re-coloured [B, D]."""
        return super().between(means) @ self.colour


def recoloured(
    mine: nn.ModuleDict,
    source: Examples | Unlabelled,
    other: nn.ModuleDict,
    target: Examples | Unlabelled,
) -> nn.ModuleDict:
    """The source's statistics, and on top of them the target's covariance: CORAL in closed form.

    Each modality by itself; what a modality's means are to its tokens stays.

    Args:
        mine: the source's statistics.
        source: its utterances.
        other: the target's statistics.
        target: its utterances.
    """

    def means(standardize: nn.ModuleDict, name: str, examples: Examples | Unlabelled) -> Tensor:
        modality = getattr(examples, name)
        statistics: Standardize = standardize[name]  # type: ignore[assignment]
        return statistics.between(masked_mean(modality.tokens, modality.mask)[modality.mask.any(1)])

    made = nn.ModuleDict()
    for name, own in mine.items():
        colour = recolouring(means(mine, name, source), means(other, name, target))
        made[name] = Recoloured(own, colour)  # type: ignore[arg-type]
    return made
