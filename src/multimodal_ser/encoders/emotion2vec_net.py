"""Waveforms → frames: the network of emotion2vec (Ma et al., 2023, arXiv:2312.15185).

A batch is packed, not padded: its recordings follow one another on a single time axis, so that
convolutions, norms and matrix products work on real frames only and need no mask. Frames are rows
[time, channels] throughout, and a convolution is a plain matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
# Samples from one frame to the next, the product of STRIDES; and samples that a frame depends on.
STRIDE, FIELD = 320, 400
# Frames per pass of the convolutions. On a CPU, their intermediate results then fit the caches; a
# GPU needs many rows to be busy, and the results of a minute of sound take 1 GB there.
_CHUNK = {"cpu": 100, "cuda": 3_000}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network, as the tensors of a checkpoint show them.

    Attributes:
        dim: width of a frame.
        heads: number of attention heads.
        depth: number of transformer blocks, those of the context encoder first.
        hidden: width of the hidden layer of a block's MLP.
        channels: of the seven convolutions.
        extra: learnt tokens in front of every recording.
        positions: number of grouped convolutions that encode relative positions.
        reach: their kernel, in frames.
        groups: their number of groups.
        classes: outputs of the head; 0 without one.
    """

    dim: int = 768
    heads: int = 12
    depth: int = 12
    hidden: int = 3072
    channels: int = 512
    extra: int = 10
    positions: int = 5
    reach: int = 19
    groups: int = 16
    classes: int = 0


def frame_count(samples: int) -> int:
    """Number of frames of a recording with so many samples.

    >>> frame_count(400), frame_count(16_000)
    (1, 49)
    """
    return (samples - FIELD) // STRIDE + 1


def alibi_slopes(heads: int) -> Tensor:
    """Slope of the bias of each head (ALiBi; Press et al., 2022), shape [heads].

    A geometric series for a power of two; for other numbers of heads, the authors' code fills up
    with every other slope of the next power of two.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    between = [2 ** (-4 * i / below) for i in range(1, 2 * below + 1, 2)]
    return torch.tensor(slopes + between[: heads - below])


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copies to a device; to a GPU asynchronously, without waiting for the queued computations.

    Such a copy reads memory that the operating system may not move ("pinned").
    """
    if device.type == "cuda" and not values.is_cuda:
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class Conv(nn.Module):
    """A convolution without bias over rows [batch, time, channels], layer norm and GELU.

    The weight is [out, kernel × in]: with rows [time, channels] the input of a frame is contiguous
    in memory, so that nothing is copied for the matrix product.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(channels, kernel * channels_in))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, time, in] to [batch, (time - kernel) // stride + 1, out]."""
        b, t, c = x.shape
        s, n = self.stride, (t - self.kernel) // self.stride + 1
        if c == 1:  # the waveform: overlapping windows as a view
            y = F.linear(x[..., 0].unfold(1, self.kernel, s), self.weight)
        else:
            # Non-overlapping groups of `stride` rows, a plain reshape …
            y = F.linear(x[:, : n * s].reshape(b * n, s * c), self.weight[:, : s * c])
            if self.kernel > s:  # … plus the one row by which the kernel exceeds the stride
                rest = x[:, s::s][:, :n].reshape(b * n, c)
                y = torch.addmm(y, rest, self.weight[:, s * c :].t())
        return F.gelu(self.norm(y.view(b, n, -1)))


class Positions(nn.Module):
    """Relative positions: grouped convolutions, each with GELU and a layer norm without scale."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gap = sizes.reach // 2
        self.convs = nn.ModuleList(
            nn.Conv1d(sizes.dim, sizes.dim, sizes.reach, padding=self.gap, groups=sizes.groups)
            for _ in range(sizes.positions)
        )

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        """Maps [batch, time, dim] to the same shape; rows where `real` [time, 1] is 0 stay 0."""
        # Gaps are set to zero after every convolution: its bias and norm make them non-zero, and
        # the next convolution would carry that into the recordings.
        for conv in self.convs:
            y = conv(x.transpose(1, 2)).transpose(1, 2)
            x = F.gelu(F.layer_norm(y, y.shape[-1:]))
            if real is not None:
                x = x * real
        return x

    def packed(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Maps rows [frames, dim] of recordings with `counts` frames each.

        Gaps of zeros, as wide as a kernel reaches, separate neighbouring recordings; they act as
        the zero padding that a recording has when it is encoded alone.
        """
        if len(counts) == 1:
            return self(x[None], None)[0]
        starts = _starts([count + self.gap for count in counts])
        places = to_device(
            torch.cat([torch.arange(a, a + n) for a, n in zip(starts, counts, strict=False)]),
            x.device,
        )
        real = x.new_zeros(starts[-1], 1)
        real[places] = 1
        spread = x.new_zeros(starts[-1], x.shape[1])
        spread[places] = x
        return self(spread[None], real)[0, places]


def masked_attention(qkv: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Attention with an additive mask: [batch, tokens, 3 × dim] → [batch, tokens, dim]."""
    b, t, _ = qkv.shape
    q, k, v = qkv.view(b, t, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # (b, h, t, d)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return y.transpose(1, 2).reshape(b, t, -1)


class AlibiAttention:
    """Attention within each recording of a pack, with the bias that all layers share.

    Args:
        counts: tokens of each recording, including the extra ones.
        bias: shape [heads, tokens, tokens] for the longest recording; shorter ones use its corner,
            since ALiBi depends only on distances.
        padded: True pads recordings of unequal lengths and makes one call, which suits GPUs; False
            makes one call for each length without copying, which suits CPUs.
    """

    def __init__(self, counts: Sequence[int], bias: Tensor, padded: bool = False) -> None:
        self.heads, self.bias = len(bias), bias
        self.runs = [(n, len(list(same))) for n, same in groupby(counts)]  # (tokens, recordings)
        self.padded = padded and len(self.runs) > 1
        if self.padded:
            lengths, place = torch.tensor(counts)[:, None], torch.arange(bias.shape[-1])
            real, starts = place < lengths, lengths.cumsum(0) - lengths
            # Padding repeats a recording's last row, and the mask keeps it from being attended to.
            # Rows are selected by indices made here, because a mask's rows would have to be counted
            # on the device, and a GPU's queue would be waited for.
            self.source = to_device(starts + place.minimum(lengths - 1), bias.device)  # (b, t)
            self.kept = to_device(real.flatten().nonzero()[:, 0], bias.device)
            padding = ~to_device(real, bias.device)[:, None, None]
            self.mask = bias.masked_fill(padding, -torch.inf)  # (b, h, t, t)

    def __call__(self, qkv: Tensor) -> Tensor:
        """Maps rows [tokens, 3 × dim] of all recordings to rows [tokens, dim]."""
        if self.padded:
            spread = qkv.index_select(0, self.source.flatten()).view(*self.source.shape, -1)
            y = masked_attention(spread, self.heads, self.mask)
            return y.flatten(0, 1).index_select(0, self.kept)
        parts, start = [], 0
        for n, many in self.runs:
            rows = qkv[start : start + n * many].view(many, n, -1)
            y = masked_attention(rows, self.heads, self.bias[None, :, :n, :n])
            parts.append(y.reshape(many * n, -1))
            start += n * many
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Block(nn.Module):
    """One transformer block over rows [tokens, dim], with layer norms after the residual sums."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """Attention within each recording, then the MLP on each row."""
        x = self.norm1(x + self.out(attend(self.qkv(x))))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Emotion2VecNet(nn.Module):
    """The whole network: convolutions, positions, extra tokens, blocks, and possibly a head."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = [1] + [sizes.channels] * len(KERNELS)
        self.convs = nn.ModuleList(
            Conv(i, o, k, s)
            for (i, o), k, s in zip(pairwise(widths), KERNELS, STRIDES, strict=True)
        )
        self.feature_norm = nn.LayerNorm(sizes.channels)
        self.feature_proj = nn.Linear(sizes.channels, sizes.dim)
        self.positions = Positions(sizes)
        self.extra_tokens = nn.Parameter(torch.empty(1, sizes.extra, sizes.dim))
        self.alibi_scale = nn.Parameter(torch.ones(sizes.heads))
        self.norm = nn.LayerNorm(sizes.dim)
        self.blocks = nn.ModuleList(_Block(sizes.dim, sizes.hidden) for _ in range(sizes.depth))
        self.head = nn.Linear(sizes.dim, sizes.classes) if sizes.classes else None

    def features(self, waves: Tensor) -> Tensor:
        """Maps waves [batch, samples] to frames [batch, frames, dim]; each sees 400 samples."""
        x = waves[..., None]
        for conv in self.convs:
            x = conv(x)
        return self.feature_proj(self.feature_norm(x))

    def bias(self, frames: int) -> Tensor:
        """ALiBi: −slope · scale · distance, of shape [heads, tokens, tokens].

        The scale is learnt and clamped at 0; to and from the extra tokens the bias is 0.
        """
        scale = self.alibi_scale.float().clamp(min=0)
        place = torch.arange(frames, device=scale.device, dtype=torch.float32)
        steep = to_device(alibi_slopes(self.sizes.heads), scale.device) * scale
        extra = self.sizes.extra
        distance = F.pad((place[:, None] - place).abs(), (extra, 0, extra, 0))
        # Large, so it is made once and shared by all blocks.
        return (distance * -steep[:, None, None]).to(self.feature_proj.weight.dtype)

    def forward(self, waves: Sequence[Tensor], layers: Sequence[int]) -> list[Tensor]:
        """Encodes recordings, packed: [frames of all recordings, dim] for each of `layers`.

        Args:
            waves: normalised recordings, each [samples] with at least 400 of them, on any device.
            layers: blocks to return, counted from 1.
        """
        counts = [frame_count(len(wave)) for wave in waves]
        x = self._packed_features(waves, counts)
        x = x + self.positions.packed(x, counts)
        extra = self.extra_tokens[0]
        tokens = [part for frames in x.split_with_sizes(counts) for part in (extra, frames)]
        attend = AlibiAttention([n + len(extra) for n in counts], self.bias(max(counts)), x.is_cuda)
        y = self.norm(torch.cat(tokens))
        outputs = {}
        for place, block in enumerate(self.blocks[: max(layers)], start=1):
            y = block(y, attend)
            if place in layers:
                outputs[place] = y
        # The extra tokens are dropped again: every other piece is a recording's frames.
        sizes = [size for n in counts for size in (len(extra), n)]
        return [torch.cat(outputs[layer].split_with_sizes(sizes)[1::2]) for layer in layers]

    def _packed_features(self, waves: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
        """Convolutions over the pack; recordings start at whole strides, so no frame is of two."""
        starts = _starts([-(-len(wave) // STRIDE) for wave in waves])
        pack = waves[0].new_zeros(starts[-1] * STRIDE + FIELD - STRIDE)
        for start, wave in zip(starts, waves, strict=False):
            pack[start * STRIDE : start * STRIDE + len(wave)] = wave
        weight = self.feature_proj.weight
        pack = to_device(pack, weight.device).to(weight.dtype)
        chunk = _CHUNK.get(pack.device.type, _CHUNK["cpu"])
        chunks = [
            self.features(pack[None, start * STRIDE : stop * STRIDE + FIELD - STRIDE])[0]
            for start, stop in pairwise([*range(0, starts[-1], chunk), starts[-1]])
        ]
        x = torch.cat(chunks)
        return torch.cat([x[a : a + n] for a, n in zip(starts, counts, strict=False)])


def _starts(lengths: Sequence[int]) -> list[int]:
    """The starts of consecutive pieces of these lengths, and the end of the last one."""
    return list(accumulate(lengths, initial=0))
