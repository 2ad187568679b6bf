"""A target corpus without labels → the alignment loss of a training (domain adaptation)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal_ser.config.settings import AdaptConfig
from multimodal_ser.dataset.examples import Examples, Unlabelled
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.models.adapters import ADAPTERS, recolouring
from multimodal_ser.models.fusion import Ensemble
from multimodal_ser.models.layers import Output, Standardize, fit_statistics, masked_mean


@dataclass(frozen=True)
class AlignmentTarget:
    """The unlabelled target that a network is aligned with while it is trained, and how."""

    config: AdaptConfig
    target: Unlabelled


class Alignment:
    """The target's share of a training: its batches, its input statistics and the adapters.

    Every member of the ensemble has an adapter of its own.

    Attributes:
        aligns: whether the method has a loss at all.
        source: how the source's inputs are standardised during training.
        standardize: how the target's inputs are standardised during training and for predictions.
        adapters: one per member.
    """

    def __init__(
        self,
        model: Ensemble,
        adaptation: AlignmentTarget,
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
        # The width of an embedding is the network's own business: one batch shows it.
        with torch.no_grad():
            width = aligned(self.target()).shape[2]
        # One adapter per member, since each member has an embedding space of its own.
        self.adapters = nn.ModuleList(kind(width) for _ in model.members).to(self.device)

    def target(self) -> Output:
        """Outputs of every member for the target's next batch."""
        text, text_mask, audio, audio_mask = (part.to(self.device) for part in next(self.batches))
        return self.model.each(text, text_mask, audio, audio_mask, self.standardize)

    def loss(self, source: Output, progress: float) -> Tensor:
        """The weighted alignment losses, summed over the members.

        Args:
            source: outputs of every member for the source's batch.
            progress: share of the training that is done, from 0 to 1.
        """
        if not self.aligns or source.logits.shape[1] < 2:  # one row has no covariance
            return source.logits.new_zeros(())
        pairs = zip(self.adapters, aligned(source), aligned(self.target()), strict=True)
        # [B, D + C] of the source and of the target for each member.
        losses = [adapter(own, other, progress) for adapter, own, other in pairs]
        return self.weight * torch.stack(losses).sum()


def aligned(output: Output) -> Tensor:
    """What is aligned: the embedding and the logits, concatenated to [members, B, D + C].

    The linear path leads to the logits without passing the embedding, so aligning the embedding
    alone would leave the shift between the corpora on that path as it is.
    """
    return torch.cat([output.embedding, output.logits], 2)


class Recoloured(Standardize):
    """Standardises one corpus and gives it the covariance of another."""

    colour: Tensor

    def __init__(self, own: Standardize, colour: Tensor) -> None:
        super().__init__(len(colour))
        self.to(colour.device)
        self.load_state_dict(own.state_dict())
        self.register_buffer("colour", colour)

    def between(self, means: Tensor) -> Tensor:
        """Means of utterances [B, D] → standardised and recoloured means [B, D]."""
        return super().between(means) @ self.colour


def recoloured(
    of_source: nn.ModuleDict,
    source: Examples | Unlabelled,
    of_target: nn.ModuleDict,
    target: Examples | Unlabelled,
) -> nn.ModuleDict:
    """Standardisation of the source that also gives it the target's covariance: closed-form CORAL.

    Each modality is treated by itself. Only the means of utterances are recoloured; the deviations
    of tokens from their mean stay as they are.

    Args:
        of_source: statistics of the source, by modality.
        source: its utterances.
        of_target: statistics of the target, by modality.
        target: its utterances.
    """

    def means(standardize: nn.ModuleDict, name: str, examples: Examples | Unlabelled) -> Tensor:
        modality = getattr(examples, name)
        statistics: Standardize = standardize[name]  # type: ignore[assignment]
        return statistics.between(masked_mean(modality.tokens, modality.mask)[modality.mask.any(1)])

    made = nn.ModuleDict()
    for name, own in of_source.items():
        colour = recolouring(means(of_source, name, source), means(of_target, name, target))
        made[name] = Recoloured(own, colour)  # type: ignore[arg-type]
    return made
