"""Networks of one shape → one network that computes all of them by the same products."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multimodal_ser.layers import Output, SideInput
from multimodal_ser.models import Fusion


class Stack:
    """R runs' networks side by side, M members in all.

    The runs' parameters become views of the stack's: what is done to either is done to both, so
    each run keeps an optimiser of its own. `release` parts them again.

    Attributes:
        network: what computes them all.
    """

    def __init__(self, networks: Sequence[Fusion]) -> None:
        self.networks = networks
        self.members = networks[0].count
        self.network = copy.deepcopy(networks[0])
        self.network.count = self.members * len(networks)
        own = [network.parameters() for network in networks]
        self.pairs = list(zip(self.network.parameters(), zip(*own, strict=True), strict=True))
        for whole, parts in self.pairs:
            whole.data = torch.cat([part.data for part in parts])
            for part, view in zip(parts, torch.split(whole.data, self.members), strict=True):
                part.data = view

    def __call__(self, inputs: Sequence[Mapping[str, SideInput]]) -> list[Output]:
        """Each run's batch by side → what its members make of it."""
        joined = {name: _joined([run[name] for run in inputs]) for name in inputs[0]}
        output: Output = self.network(joined)
        parts = (torch.split(vectors, self.members) for vectors in output)
        return [Output(*own) for own in zip(*parts, strict=True)]

    def backward(self, loss: Tensor) -> None:
        """Gives every run's parameters their gradients."""
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for whole, parts in self.pairs:
            if whole.grad is not None:
                for part, view in zip(parts, torch.split(whole.grad, self.members), strict=True):
                    part.grad = view

    def release(self) -> None:
        """Gives the runs' parameters memory of their own again."""
        for _, parts in self.pairs:
            for part in parts:
                part.data, part.grad = part.data.clone(), None


def _joined(sides: Sequence[SideInput]) -> SideInput:
    tokens, mask = (torch.cat(parts) for parts in list(zip(*sides, strict=True))[:2])
    pooled = [side.pooled for side in sides if side.pooled is not None]
    return SideInput(tokens, mask, torch.cat(pooled) if pooled else None)
