"""The parts that the networks are built of: tokens in, hidden tokens, one vector, logits.

Masks are True where a token is real.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config import ModelConfig


class Output(NamedTuple):
    """Logits [batch, classes] and the vector that they are read from [batch, dim]."""

    logits: Tensor
    embedding: Tensor


class SideInput(NamedTuple):
    """One side as the networks read it: tokens [B, T, D], mask [B, T], their pooled mean [B, D]."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class Standardize(nn.Module):
    """Standardises tokens and their mean by the training part, then scales each to unit power.

    Tokens and their means over an utterance have deviations of their own, since a mean of many
    tokens varies far less than a token.
    """

    mean: Tensor
    scale: Tensor
    pooled_scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, value in (("mean", 0.0), ("scale", 1.0), ("pooled_scale", 1.0)):
            self.register_buffer(name, torch.full((dim,), value))

    @torch.no_grad()
    def fit(self, x: Tensor, mask: Tensor) -> None:
        """Takes the statistics of the real tokens of x [N, T, D], mask [N, T]."""
        if not mask.any():
            return
        weight = mask[..., None].float()
        count = weight.sum()
        pooled = masked_mean(x, mask)[mask.any(1)]
        self.mean.copy_((x * weight).sum((0, 1)) / count)
        deviation = (((x - self.mean) * weight).square().sum((0, 1)) / count).sqrt()
        self.scale.copy_(inverse(deviation, self.mean))
        deviation = (pooled - self.mean).square().mean(0).sqrt()
        self.pooled_scale.copy_(inverse(deviation, self.mean))

    def forward(self, x: Tensor, mask: Tensor) -> SideInput:
        """Tokens x [B, T, D], mask [B, T] → the side's input, zero where masked."""
        pooled = (masked_mean(x, mask) - self.mean) * self.pooled_scale * mask.any(1, keepdim=True)
        tokens = (x - self.mean) * self.scale * mask[..., None]
        return SideInput(unit_power(tokens), mask, unit_power(pooled))


def inverse(deviation: Tensor, mean: Tensor) -> Tensor:
    """1 / deviation [D]; 0 for a feature that is constant but for rounding.

    Training learns nothing from such a feature, and another value of it later would outweigh
    all others.
    """
    varies = deviation > 1e-5 * (1 + mean.abs())
    return torch.where(varies, 1 / deviation, 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens: x [B, T, D], mask [B, T] → [B, D]; zeros where there are none."""
    weight = mask.to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def unit_power(x: Tensor) -> Tensor:
    """Scales vectors to a mean square of 1 over their last dimension; zeros stay zeros.

    How strongly an utterance departs from the mean says more of the speaker and the microphone
    than of the emotion; in which direction is what generalises to new speakers.
    """
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class Project(nn.Module):
    """One side's way into a network: hide features, project to the common width."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.drop = nn.Dropout1d(config.input_dropout)
        self.linear = nn.Linear(dim, config.hidden_dim)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, side: SideInput) -> tuple[Tensor, Tensor]:
        """A side's input → hidden [B, T, H] and the pooled input [B, D] without what is hidden."""
        # One draw a feature and item: what is hidden is hidden in every token.
        keep = self.drop(torch.ones_like(side.pooled)[..., None])[..., 0]
        return self.norm(self.linear(side.tokens * keep[:, None])), side.pooled * keep


class Attend(nn.Module):
    """Pre-norm attention and feed-forward (Vaswani et al., 2017).

    The keys begin with a learnt one, so that a side without any real token still has something
    to attend to, and so that attention to a single pooled vector is a gate instead of nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.heads = config.num_heads
        self.norm_query, self.norm_key, self.norm_ff = (nn.LayerNorm(dim) for _ in range(3))
        self.empty = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # softmax ignores what all keys share
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.ff = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """Queries x [B, Q, H], keys [B, K, H], key_mask [B, K] → [B, Q, H]."""
        b, q, h = x.shape
        keys = torch.cat([self.empty.expand(b, 1, h), self.norm_key(keys)], 1)
        mask = F.pad(key_mask, (1, 0), value=True)[:, None, None]
        width = h // self.heads
        query = self.query(self.norm_query(x)).view(b, q, self.heads, width).transpose(1, 2)
        key = self.key(keys).view(b, -1, self.heads, width).transpose(1, 2)
        value = self.value(keys).view(b, -1, self.heads, width).transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask
        )  # (B, heads, Q, H / heads)
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(b, q, h)))
        mixed: Tensor = x + self.drop(self.ff(self.norm_ff(x)))
        return mixed


class AttentivePool(nn.Module):
    """Softmax-weighted mean over real tokens: [B, T, H] → [B, H]; zeros where there are none."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # softmax ignores a shift

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [B, T, H], mask [B, T] → [B, H]."""
        score: Tensor = self.score(x)[..., 0].masked_fill(~mask, -1e4)
        return ((score.softmax(1) * mask)[..., None] * x).sum(1)


class Classifier(nn.Module):
    """Concatenated sides → MLP → logits, beside the linear path from the pooled inputs."""

    def __init__(self, sides: int, pooled_dim: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.mlp = nn.Sequential(
            nn.LayerNorm(sides * dim),
            nn.Dropout(config.dropout),
            nn.Linear(sides * dim, dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.out = nn.Linear(dim, classes)
        self.linear = nn.Linear(pooled_dim, classes) if config.linear_path else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(self, sides: list[Tensor], pooled: list[Tensor]) -> Output:
        """Sides [B, H] each and pooled inputs [B, D] each → logits and embedding."""
        embedding = self.mlp(torch.cat(sides, 1))
        logits = self.out(embedding)
        if self.linear is not None:
            logits = logits + self.linear(torch.cat(pooled, 1))
        return Output(logits, embedding)
