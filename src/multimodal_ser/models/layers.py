"""The parts that the networks are built of: tokens in, hidden tokens, one vector a modality.

Masks are True where a token is real.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.settings import ModelConfig


class Output(NamedTuple):
    """Logits [batch, classes] and the vector that they are read from [batch, dim]."""

    logits: Tensor
    embedding: Tensor


class Standardize(nn.Module):
    """Standardises tokens by the training part.

    An utterance's mean and its tokens' departures from that mean are standardised apart, each by
    its own deviation: a mean of many tokens varies far less than a token. The mean of the tokens
    that come out is therefore a standardised vector too.
    """

    mean: Tensor
    scale: Tensor
    within_scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, value in (("mean", 0.0), ("scale", 1.0), ("within_scale", 1.0)):
            self.register_buffer(name, torch.full((dim,), value))

    @torch.no_grad()
    def fit(self, x: Tensor, mask: Tensor) -> None:
        """Takes the statistics of the real tokens of x [N, T, D], mask [N, T]."""
        if not mask.any():
            return
        means = masked_mean(x, mask)
        within = ((x - means[:, None]) * mask[..., None]).square().sum((0, 1)) / mask.sum()
        means = means[mask.any(1)]
        self.mean.copy_(means.mean(0))
        self.scale.copy_(inverse(means.std(0, correction=0), self.mean))
        self.within_scale.copy_(inverse(within.sqrt(), self.mean))

    def between(self, means: Tensor) -> Tensor:
        """Utterances' means [B, D] → standardised [B, D]."""
        return (means - self.mean) * self.scale

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [B, T, D], mask [B, T] → the same shape, zero where masked."""
        means = masked_mean(x, mask)
        between = self.between(means)
        within = (x - means[:, None]) * self.within_scale
        return (within + between[:, None]) * mask[..., None]


class LayerSum(nn.Module):
    """Layers of an encoder side by side → their weighted sum, as SUPERB has it (Yang et al., 2021).

    The weights are positive and sum to one: the softmax of one learnt number a layer, equal at
    first. The layers come in standardised, so that the weights are of things of one size.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    @property
    def weights(self) -> Tensor:
        """One a layer [L]."""
        return self.logits.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, L · D] → [B, T, D]."""
        b, t, _ = x.shape
        return torch.einsum("btld,l->btd", x.reshape(b, t, len(self.logits), -1), self.weights)


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
    """Scales vectors to a mean square of 1 over their last dimension; zeros stay zeros."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class Hide(nn.Module):
    """While training, hides input features and whole modalities from items.

    Attributes:
        features: share of the features that are hidden from an item, in all its tokens, where
            there are far more features than utterances to learn from; see `share`.
        modality: chance that one of an item's two modalities is hidden, never the only one.
        rows: utterances to learn from, once `Ensemble.fit_inputs` has seen them.
    """

    def __init__(self, features: float, modality: float) -> None:
        super().__init__()
        self.features, self.modality = features, modality
        self.rows = 0

    def share(self, width: int) -> float:
        """The share of so many features that is hidden: ``features / (1 + rows / 3 width)``.

        Hiding keeps a network from leaning on single features where utterances are too few to
        tell which of them matter; where utterances abound, it only takes away what they could
        have taught.
        """
        return self.features / (1 + self.rows / (3 * max(1, width)))

    def forward(
        self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → the same shapes."""
        if self.training and self.features:
            text, audio = (
                x * F.dropout(x.new_ones(len(x), 1, x.shape[2]), self.share(x.shape[2]))
                for x in (text, audio)
            )
        if self.training and self.modality:
            draw = torch.rand(len(text), 1, device=text.device)
            has_text, has_audio = (mask.any(1, keepdim=True) for mask in (text_mask, audio_mask))
            text_mask = text_mask & ((draw >= self.modality / 2) | ~has_audio)
            audio_mask = audio_mask & ((draw < 1 - self.modality / 2) | ~has_text)
            text, audio = text * text_mask[..., None], audio * audio_mask[..., None]
        return text, text_mask, audio, audio_mask


class Attend(nn.Module):
    """Pre-norm attention and feed-forward (Vaswani et al., 2017).

    The keys end with a learnt one (`add_bias_kv`), so that a modality without any real token
    still has something to attend to, and so that attention to a single pooled vector is a gate
    instead of nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.norm_query, self.norm_key, self.norm_ff = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = nn.MultiheadAttention(
            dim, config.num_heads, add_bias_kv=True, batch_first=True
        )
        self.ff = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """Queries x [B, Q, H], keys [B, K, H], key_mask [B, K] → [B, Q, H]."""
        keys = self.norm_key(keys)
        # torch's mask is True where a key is not to be seen
        attended, _ = self.attention(
            self.norm_query(x), keys, keys, key_padding_mask=~key_mask, need_weights=False
        )
        x = x + self.drop(attended)
        mixed: Tensor = x + self.drop(self.ff(self.norm_ff(x)))
        return mixed


class AttentivePool(nn.Module):
    """Softmax-weighted mean over real tokens: [B, T, H] → [B, H]; zeros without any."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # softmax ignores a shift

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [B, T, H], mask [B, T] → [B, H]."""
        score: Tensor = self.score(x)[..., 0].masked_fill(~mask, -1e4)
        return ((score.softmax(1) * mask)[..., None] * x).sum(1)


class Classifier(nn.Module):
    """One vector a modality → MLP → logits, beside the linear path from the pooled inputs."""

    def __init__(self, modalities: int, pooled_dim: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.mlp = nn.Sequential(
            nn.LayerNorm(modalities * dim),
            nn.Dropout(config.dropout),
            nn.Linear(modalities * dim, dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.out = nn.Linear(dim, classes)
        self.linear = nn.Linear(pooled_dim, classes, bias=False) if config.linear_path else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor, pooled: Tensor) -> Output:
        """Vectors [B, modalities · H] and pooled inputs [B, D] → logits and embedding [B, H]."""
        embedding = self.mlp(vectors)
        logits = self.out(embedding)
        if self.linear is not None:
            logits = logits + self.linear(pooled)
        return Output(logits, embedding)
