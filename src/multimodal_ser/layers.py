"""The parts that the networks are built of: tokens in, hidden tokens, one vector, logits.

Masks are True where a token is real. M networks of one shape are computed at once: their
parameters and what they make of a batch have M in front, so that many small products become few
large ones. They share nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config import ModelConfig


class Output(NamedTuple):
    """Logits [..., batch, classes] and the vector that they are read from [..., batch, dim]."""

    logits: Tensor
    embedding: Tensor


class SideInput(NamedTuple):
    """One side as the networks read it, R batches side by side: each is read by M / R networks.

    Tokens [R, B, T, D], mask [R, B, T], their pooled mean [R, B, D]; no mean where there is but
    one token, which is the same.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None


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
        if x.shape[1] > 1:
            deviation = (pooled - self.mean).square().mean(0).sqrt()
        self.pooled_scale.copy_(inverse(deviation, self.mean))

    def forward(self, x: Tensor, mask: Tensor) -> SideInput:
        """Tokens x [B, T, D], mask [B, T] → the side's input with R = 1, zero where masked."""
        tokens = unit_power((x - self.mean) * self.scale * mask[..., None])[None]
        if x.shape[1] == 1 and self.scale.equal(self.pooled_scale):
            return SideInput(tokens, mask[None], None)
        pooled = (masked_mean(x, mask) - self.mean) * self.pooled_scale * mask.any(1, keepdim=True)
        return SideInput(tokens, mask[None], unit_power(pooled)[None])


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


_generators: ContextVar[Sequence[torch.Generator | None]] = ContextVar("gens", default=(None,))


@contextmanager
def drawing(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Inside, R runs that are trained as one draw at random each from a generator of its own.

    So a run's dropout is the same whichever others it is trained beside.
    """
    token = _generators.set(generators)
    try:
        yield
    finally:
        _generators.reset(token)


def keep(shape: tuple[int, ...], share: float, device: torch.device) -> Tensor:
    """Dropout's factors: 0 for about `share` of the entries, else what keeps their mean at 1.

    Eight entries come of one draw: torch draws each by itself, which is a third of a small
    network's training. The share is rounded to a 256th.
    """
    runs = _generators.get()
    count = math.prod(shape) // len(runs)
    bits = torch.empty(len(runs), -(-count // 8), dtype=torch.int64, device=device)
    for own, generator in zip(bits, runs, strict=True):
        own.random_(-(2**63), None, generator=generator)
    dropped = min(255, round(256 * share))
    drawn = bits.view(torch.uint8)[:, :count].reshape(shape)
    # straight into floats: by way of booleans it takes four times as long
    kept = torch.ge(drawn, dropped, out=torch.empty(shape, device=device))
    return kept.mul_(256 / (256 - dropped))


def uniform(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers from 0 to 1, drawn as `keep` draws."""
    runs = _generators.get()
    drawn = torch.empty(len(runs), math.prod(shape) // len(runs), device=device)
    for own, generator in zip(drawn, runs, strict=True):
        own.uniform_(generator=generator)
    return drawn.view(shape)


class Dropout(nn.Module):
    """`nn.Dropout` by `keep`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or not self.share:
            return x
        return x * keep(x.shape, self.share, x.device)


class Linear(nn.Module):
    """M linear layers side by side: x [M, ..., in] → [M, ..., out]; begins as torch's does."""

    def __init__(self, count: int, dim: int, out: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(dim, 1))
        self.weight = nn.Parameter(torch.empty(count, dim, out).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(count, 1, out).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Each network's own product."""
        flat = x.flatten(1, -2)
        if self.bias is None:
            product = torch.bmm(flat, self.weight)
        else:
            product = torch.baddbmm(self.bias, flat, self.weight)
        return product.view(*x.shape[:-1], product.shape[-1])


class LayerNorm(nn.Module):
    """M layer norms side by side: x [M, ..., H] → the same shape."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, dim))
        self.bias = nn.Parameter(torch.zeros(count, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension."""
        shape = (len(self.weight), *(1,) * (x.ndim - 2), x.shape[-1])
        scaled = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias.view(shape), scaled, self.weight.view(shape))


class Project(nn.Module):
    """One side's way into the networks: hide features, project to the common width."""

    def __init__(self, count: int, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.hidden_share = config.input_dropout
        self.linear = Linear(count, dim, config.hidden_dim)
        self.norm = LayerNorm(count, config.hidden_dim)

    def forward(self, side: SideInput) -> tuple[Tensor, Tensor]:
        """A side's R batches → hidden [M, B, T, H], pooled input [M, B, D] without what is hidden.

        Where there is no pooled input, the only token is it.
        """
        count, (runs, items, *_, dim) = len(self.linear.weight), side.tokens.shape
        read = [x[:, None] for x in (side.tokens, side.pooled) if x is not None]
        if self.training and self.hidden_share:
            # One draw a feature, item and network: what is hidden is hidden in every token.
            kept = keep((count, items, dim), self.hidden_share, side.tokens.device)
            kept = kept.view(runs, -1, items, dim)
            read = [own * x for own, x in zip((kept[..., None, :], kept), read, strict=False)]
        else:
            read = [x.expand(-1, count // runs, *x.shape[2:]) for x in read]
        tokens, *pooled = (x.flatten(0, 1) for x in read)
        return self.norm(self.linear(tokens)), pooled[0] if pooled else tokens[:, :, 0]


class Attend(nn.Module):
    """Pre-norm attention and feed-forward (Vaswani et al., 2017).

    The keys begin with a learnt one, so that a side without any real token still has something
    to attend to, and so that attention to a single pooled vector is a gate instead of nothing.
    """

    def __init__(self, count: int, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.heads = config.num_heads
        self.norm_query, self.norm_key, self.norm_ff = (LayerNorm(count, dim) for _ in range(3))
        self.empty = nn.Parameter(torch.randn(count, 1, 1, dim) * 0.02)
        self.query = Linear(count, dim, dim)
        self.key = Linear(count, dim, dim, bias=False)  # softmax ignores what all keys share
        self.value = Linear(count, dim, dim)
        self.out = Linear(count, dim, dim)
        self.ff = nn.Sequential(Linear(count, dim, 2 * dim), nn.GELU(), Linear(count, 2 * dim, dim))
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """Queries x [M, B, Q, H], keys [M, B, K, H], key_mask [M, B, K] → [M, B, Q, H]."""
        keys = self.norm_key(keys)
        attended = self.attended(
            self.query(self.norm_query(x)),
            (self.key(self.empty), self.value(self.empty)),
            (self.key(keys), self.value(keys)),
            key_mask,
        )
        x = x + self.drop(self.out(attended))
        mixed: Tensor = x + self.drop(self.ff(self.norm_ff(x)))
        return mixed

    def attended(
        self,
        query: Tensor,
        empty: tuple[Tensor, Tensor],
        real: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """Softmax attention of queries [M, B, Q, H] to the empty key and K real ones, in heads.

        Args:
            query: [M, B, Q, H].
            empty: key and value [M, 1, 1, H].
            real: keys and values [M, B, K, H].
            mask: True for real keys [M, B, K].
        """
        m, b, q, h = query.shape
        k = mask.shape[2]
        if k == 1:
            return self.gated(query, empty, real, mask)

        def split(vectors: Tensor, steps: int) -> Tensor:
            return vectors.view(m * b, steps, self.heads, h // self.heads).transpose(1, 2)

        keys, values = (
            torch.cat([first.expand(m, b, 1, h), rest], 2)
            for first, rest in zip(empty, real, strict=True)
        )
        attended = F.scaled_dot_product_attention(
            split(query, q),
            split(keys, k + 1),
            split(values, k + 1),
            attn_mask=F.pad(mask, (1, 0), value=True).view(m * b, 1, 1, k + 1),
        )  # (M·B, heads, Q, H / heads)
        return attended.transpose(1, 2).reshape(m, b, q, h)

    def gated(
        self,
        query: Tensor,
        empty: tuple[Tensor, Tensor],
        real: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """`attended` to one real key: a softmax over two is the sigmoid of their difference."""
        dim = query.shape[-1] // self.heads

        def split(vectors: Tensor) -> Tensor:
            return vectors.view(*vectors.shape[:-1], self.heads, dim)

        score = split(query * (real[0] - empty[0])).sum(-1) / math.sqrt(dim)
        share = score.sigmoid() * mask[..., None]  # (M, B, Q, heads)
        difference = split(real[1] - empty[1])
        return empty[1] + (share[..., None] * difference).flatten(-2)


class AttentivePool(nn.Module):
    """Softmax-weighted mean over real tokens: [M, B, T, H] → [M, B, H]; zeros without any."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.score = Linear(count, dim, 1, bias=False)  # softmax ignores a shift

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens x [M, B, T, H], mask [M, B, T] → [M, B, H]."""
        score: Tensor = self.score(x)[..., 0].masked_fill(~mask, -1e4)
        return ((score.softmax(2) * mask)[..., None] * x).sum(2)


class Classifier(nn.Module):
    """Concatenated sides → MLP → logits, beside the linear path from the pooled inputs."""

    def __init__(
        self, count: int, sides: int, pooled_dim: int, classes: int, config: ModelConfig
    ) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.mlp = nn.Sequential(
            LayerNorm(count, sides * dim),
            Dropout(config.dropout),
            Linear(count, sides * dim, dim),
            nn.GELU(),
            Dropout(config.dropout),
        )
        self.out = Linear(count, dim, classes)
        self.linear = Linear(count, pooled_dim, classes) if config.linear_path else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(
        self, sides: list[Tensor], pooled: list[Tensor], shown: Sequence[Tensor | None]
    ) -> Output:
        """Sides and pooled inputs → logits and embedding.

        Args:
            sides: [M, B, H] each.
            pooled: [M, B, D] each.
            shown: 0 for items whose whole side is hidden [M, B, 1] each.
        """
        embedding = self.mlp(torch.cat(sides, 2))
        logits = self.out(embedding)
        if self.linear is not None:
            weights = torch.split(self.linear.weight, [vectors.shape[2] for vectors in pooled], 1)
            logits = logits + self.linear.bias
            for vectors, weight, own in zip(pooled, weights, shown, strict=True):
                product = torch.bmm(vectors, weight)
                logits = logits + (product if own is None else product * own)
        return Output(logits, embedding)
