"""The layers that the networks are built of: tokens → hidden tokens → one vector per modality.

Masks are True where a token is real and False where it is padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.common.arrays import LEAST_SPREAD
from multimodal_ser.config.settings import ModelConfig
from multimodal_ser.dataset.examples import Examples, Unlabelled


class Output(NamedTuple):
    """Logits [batch, classes] and the embedding that they are computed from [batch, dim]."""

    logits: Tensor
    embedding: Tensor


class Standardize(nn.Module):
    """Standardises tokens with the mean and standard deviation of the training part.

    The mean of an utterance and the deviations of its tokens from that mean are divided by
    standard deviations of their own, since a mean over many tokens varies far less than a single
    token. The mean of the standardised tokens is therefore a standardised vector too.

    Attributes:
        apart: whether every token is an utterance of its own, and has no others to differ from.
    """

    mean: Tensor
    scale: Tensor
    within_scale: Tensor

    def __init__(self, dim: int, apart: bool = False) -> None:
        super().__init__()
        self.apart = apart
        for name, value in (("mean", 0.0), ("scale", 1.0), ("within_scale", 1.0)):
            self.register_buffer(name, torch.full((dim,), value))

    @torch.no_grad()
    def fit(self, x: Tensor, mask: Tensor) -> None:
        """Computes the statistics of the real tokens of x [N, T, D], mask [N, T]."""
        if not mask.any():
            return
        if self.apart:
            x, mask = x.flatten(0, 1)[:, None], mask.flatten()[:, None]
        means = masked_mean(x, mask)  # [N, D]
        # Deviations within utterances need all rows; the mean over utterances must leave out
        # those without a token, whose masked mean is zero instead of an observation.
        # One variance for all tokens together, not per utterance: many utterances have few tokens.
        within = ((x - means[:, None]) * mask[..., None]).square().sum((0, 1)) / mask.sum()
        means = means[mask.any(1)]
        self.mean.copy_(means.mean(0))
        self.scale.copy_(inverse(means.std(0, correction=0), self.mean))
        self.within_scale.copy_(inverse(within.sqrt(), self.mean))

    def between(self, means: Tensor) -> Tensor:
        """Means of utterances [B, D] → standardised means [B, D]."""
        return (means - self.mean) * self.scale

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [B, T, D], mask [B, T] → the same shape, zero where masked."""
        if self.apart:
            return self.between(x) * mask[..., None]
        means = masked_mean(x, mask)
        between = self.between(means)
        within = (x - means[:, None]) * self.within_scale
        # Padding went through the shift by the mean: it is set to zero again.
        return (within + between[:, None]) * mask[..., None]


def fit_statistics(standardize: nn.ModuleDict, examples: Examples | Unlabelled) -> None:
    """Computes the statistics of every modality in `standardize` from these utterances."""
    for name, statistics in standardize.items():
        modality = getattr(examples, name)
        fit: Callable[[Tensor, Tensor], None] = statistics.fit  # type: ignore[assignment]
        fit(modality.tokens, modality.mask)


class LayerSum(nn.Module):
    """Learns a weighted sum of an encoder's layers, as in SUPERB (Yang et al., 2021).

    The weights are the softmax of one learnt number per layer, so they are positive, sum to one
    and begin equal. The layers are standardised before, so that their weights can be compared.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    @property
    def weights(self) -> Tensor:
        """The weight of each layer [L]."""
        return self.logits.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, L · D] → [B, T, D]."""
        b, t, _ = x.shape
        # [B, T, L · D] holds the features of the first layer, then those of the second, …
        return torch.einsum("btld,l->btd", x.reshape(b, t, len(self.logits), -1), self.weights)


def inverse(deviation: Tensor, mean: Tensor) -> Tensor:
    """1 / deviation [D]; 0 for a feature that is constant up to rounding errors.

    Nothing can be learnt from such a feature, and if it took another value later, that value
    divided by a tiny deviation would outweigh all other features.
    """
    of_mean, least = LEAST_SPREAD
    varies = deviation > (of_mean * mean.abs()).clamp(min=least)
    return torch.where(varies, 1 / deviation, 0.0)


def read_out(logits: Tensor, values: int) -> Tensor:
    """Outputs [N, C] → probabilities of the classes; the last `values` stay as they are."""
    cut = logits.shape[1] - values
    if not values:
        return logits.softmax(1)
    return torch.cat([logits[:, :cut].softmax(1), logits[:, cut:]], 1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens: x [B, T, D], mask [B, T] → [B, D]; zeros where no token is real."""
    weight = mask.to(x.dtype)[..., None]  # [B, T, 1]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)  # at least 1: no division by zero


class InputDropout(nn.Module):
    """Dropout of input features and of whole modalities; it acts in training only.

    Attributes:
        features: largest share of the features that is set to zero in all tokens of an utterance,
            reached where there are far more features than training utterances; see `share`.
        modality: probability that one of an utterance's two modalities is hidden; an utterance's
            only modality never is.
        rows: number of training utterances, set by `Ensemble.fit_inputs`.
    """

    def __init__(self, features: float, modality: float) -> None:
        super().__init__()
        self.features, self.modality = features, modality
        self.rows = 0

    def share(self, width: int) -> float:
        """The share of `width` features that is hidden: ``features / (1 + rows / (3 · width))``.

        Hiding features keeps a network from relying on single ones while the training utterances
        are too few to show which of them matter. With many utterances it only removes information.
        """
        return self.features / (1 + self.rows / (3 * max(1, width)))

    def forward(
        self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → the same shapes."""
        if self.training and self.features:
            # One draw per utterance and feature, shared by its tokens. Otherwise attention and
            # pooling would recover the feature from the neighbouring tokens.
            text, audio = (
                x * F.dropout(x.new_ones(len(x), 1, x.shape[2]), self.share(x.shape[2]))
                for x in (text, audio)
            )
        if self.training and self.modality:
            # A single draw decides for both modalities, so that they are never hidden together.
            draw = torch.rand(len(text), 1, device=text.device)
            has_text, has_audio = (mask.any(1, keepdim=True) for mask in (text_mask, audio_mask))
            # Below modality / 2 the text is hidden, above 1 − modality / 2 the audio; the only
            # modality of an utterance stays.
            text_mask = text_mask & ((draw >= self.modality / 2) | ~has_audio)
            audio_mask = audio_mask & ((draw < 1 - self.modality / 2) | ~has_text)
            text, audio = text * text_mask[..., None], audio * audio_mask[..., None]
        return text, text_mask, audio, audio_mask


class AttentionBlock(nn.Module):
    """An attention block with layer norms in front (Vaswani et al., 2017; Xiong et al., 2020).

    One learnt key is appended to the keys (`add_bias_kv`). With it, the attention to a modality
    without any real token is finite. It also makes attention to a single pooled vector
    meaningful: the softmax over one key is always 1 and passes no gradient, whereas with the
    learnt key beside it the attention is a gate.
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
        # Norms are applied before attention and feed-forward, and the residual path stays free of
        # them: such networks train stably without a long warm-up (Xiong et al., 2020).
        keys = self.norm_key(keys)
        # torch's mask is the other way round: True where a key must be ignored
        attended, _ = self.attention(
            self.norm_query(x), keys, keys, key_padding_mask=~key_mask, need_weights=False
        )
        x = x + self.drop(attended)
        return x + self.drop(self.ff(self.norm_ff(x)))


class DialogueAttention(nn.Module):
    """An utterance attends to those around it in its dialogue: [B, T, H] → [B, H].

    The first token is the utterance itself. The place of every other tells how far away it is and
    whether the same person speaks, and has a learnt vector.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        places = 1 + 2 * (config.before + config.after)
        # As large as what it is added to, which has passed a layer norm: a place that is small at
        # first is found late.
        self.place = nn.Parameter(torch.randn(places, config.hidden_dim))
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Utterances x [B, T, H], mask [B, T] → the first, knowing the others [B, H]."""
        place = torch.arange(x.shape[1], device=x.device).clamp(max=len(self.place) - 1)
        own = masked_mean(x[:, :1], mask[:, :1])[:, None]
        for attend in self.blocks:
            own = attend(own, x + self.place[place], mask)
        return own[:, 0]


class AttentivePool(nn.Module):
    """Mean over real tokens, weighted by a learnt softmax: [B, T, H] → [B, H]; zeros without any.

    Without a bias: the softmax does not change where the same number is added to every score.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [B, T, H], mask [B, T] → [B, H]."""
        # Finite instead of -inf: where no token is real, a softmax over -inf alone would be nan.
        score: Tensor = self.score(x)[..., 0].masked_fill(~mask, -1e4)
        # [B, H]; the mask makes it 0 without tokens
        return ((score.softmax(1) * mask)[..., None] * x).sum(1)


class Classifier(nn.Module):
    """One vector per modality → multilayer perceptron → logits, plus a linear path.

    The linear path leads from the pooled inputs straight to the logits (`ModelConfig.linear_path`).
    """

    def __init__(self, modalities: int, pooled_dim: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.mlp = nn.Sequential(
            # Vectors of different modalities have different scales; the norm makes them comparable.
            nn.LayerNorm(modalities * dim),
            nn.Dropout(config.dropout),
            nn.Linear(modalities * dim, dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.out = nn.Linear(dim, classes)
        self.linear = nn.Linear(pooled_dim, classes, bias=False) if config.linear_path else None
        if self.linear is not None:
            # From zero, as logistic regression is fitted: wide inputs would begin with large logits
            nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor, pooled: Tensor) -> Output:
        """Vectors [B, modalities · H] and pooled inputs [B, D] → logits and embedding [B, H]."""
        embedding = self.mlp(vectors)
        logits = self.out(embedding)
        if self.linear is not None:
            logits = logits + self.linear(pooled)
        return Output(logits, embedding)
