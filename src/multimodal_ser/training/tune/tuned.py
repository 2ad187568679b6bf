"""log-mel [B, mels, T] → logits [B, C], embedding [B, H]: encoder and head, in one file.

The head is a network that was fine-tuned with the encoder, or a linear probe of a frozen one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal_ser.common.arrays import Singles
from multimodal_ser.common.files import tensors_header, write_file
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.encoders.base import window_shares, windows
from multimodal_ser.encoders.mel import HOP, LEAST_SAMPLES, LONGEST_SAMPLES, N_FFT, mel_filters
from multimodal_ser.encoders.whisper import WhisperEncoder, log_mel_tensor, padded_mels
from multimodal_ser.errors import SerError
from multimodal_ser.models.layers import Output
from multimodal_ser.training.tune.numpy_probe import LAYERS, LOUDEST, NEAREST, SHORTEST

_WINDOWS = 32  # of long recordings, per pass


class Tuned(nn.Module):
    """An encoder and its head: log-mel in, logits out.

    Attributes:
        classes: class names in order.
        card: the model card, in Markdown.
        about: what else its file says, such as the name of the encoder and the epoch that was kept
            (-1: only the head was fitted, and the encoder is unchanged).
    """

    frozen: frozenset[str] = frozenset()  # checkpoints hold all of its weights
    temperature: Tensor
    least_confidence: Tensor
    mean: Tensor
    scale: Tensor
    centres: Tensor
    shares: Tensor

    def __init__(
        self,
        encoder: WhisperEncoder,
        classes: Sequence[str],
        hidden_dim: int = 256,
        dropout: float = 0.0,
        card: str = "",
        about: dict[str, Any] | None = None,
        axes: int = 0,
    ) -> None:
        """Makes a model whose head is not fitted yet.

        Args:
            encoder: cut after the last block that is read.
            classes: class names in order.
            hidden_dim: width of the embedding.
            dropout: of the head during training; a linear head has none.
            card: the model card.
            about: what else its file says.
            axes: for a linear probe of layer means, which reads canonical waveforms, its number of
                axes (see `tune.probe.Probe`); 0 for a head that is fine-tuned with the encoder.
        """
        super().__init__()
        self.classes, self.card, self.about = tuple(classes), card, about or {}
        self.encoder = encoder
        self.linear = axes > 0
        width = min(LAYERS, len(encoder.blocks)) * encoder.positions.shape[1]
        if self.linear:
            self.head: nn.Module = nn.Linear(width, axes)
            self.span = nn.Linear(axes, hidden_dim)
            self.register_buffer("centres", torch.zeros(len(self.classes), axes))
            count = len(self.classes)
            self.register_buffer("shares", torch.full((count,), 1 / count))
        else:
            self.register_buffer("mean", torch.zeros(2 * width))
            self.register_buffer("scale", torch.ones(2 * width))
            self.head = nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(2 * width, hidden_dim),
                nn.GELU(),
                nn.Dropout(dropout),
            )
        self.out = nn.Linear(hidden_dim, len(self.classes))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("least_confidence", torch.tensor(0.0))

    @property
    def threshold(self) -> float:
        """Confidence below which a prediction is ``uncertain``."""
        return float(self.least_confidence)

    def learn(self, config: TuneConfig, rows: int) -> list[dict[str, Any]]:
        """Freezes the first `frozen_blocks` blocks and the convolutions; returns AdamW's groups."""
        encoder = self.encoder
        encoder.positions.requires_grad_(False)  # they are fixed in every Whisper
        if config.frozen_blocks:
            first = list(encoder.blocks)[: config.frozen_blocks]
            for module in (encoder.conv1, encoder.conv2, *first):
                module.requires_grad_(False)
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def inputs(
        self, items: Mapping[str, Sequence[Any]], draw: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Waveforms → log-mel [B, mels, T], masked where there is a generator, and lengths [B]."""
        mel, lengths = log_mels(items["audio"], self.encoder.conv1.in_channels)
        return (mel if draw is None else _masked(mel, lengths, draw)), lengths

    def logits(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """The result of `inputs` → logits [B, C], with gradients."""
        mel, lengths = (part.to(self.temperature.device) for part in inputs)
        output: Output = self(mel, lengths)
        return output.logits

    def predict(self, items: Mapping[str, Sequence[Any]]) -> Tensor:
        """Waveforms → logits [B, C] on the CPU; of a long recording, of its windows' mean."""
        waves = items["audio"]
        cuts = [
            (row, cut)
            for row, wave in enumerate(waves)
            for cut in windows(len(wave), self.most, 2 * HOP)
        ]
        # In parts: the windows of an hour-long recording would not fit into memory at once.
        parts = [cuts[start : start + _WINDOWS] for start in range(0, len(cuts), _WINDOWS)]
        pieces = ([waves[row][cut] for row, cut in part] for part in parts)
        logits = torch.cat([self.logits(self.inputs({"audio": one})).cpu() for one in pieces])
        if len(cuts) == len(waves):
            return logits
        shares = torch.from_numpy(window_shares([len(wave) for wave in waves], cuts))
        return (shares @ logits.softmax(1)).log()

    def forward(self, mel: Tensor, lengths: Tensor) -> Output:
        """Log-mel [B, mels, T] and its lengths [B] → logits [B, C], embedding [B, H]."""
        return self.predict_from(self.pooled(mel, lengths))

    def pooled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """The input of the head, which is also what a channel shifts, [B, V].

        For a fine-tuned model, statistics pooling (Snyder et al., 2018): mean and deviation over
        the real frames of the last layers, V = 2 · layers · dim. For a linear probe, the means on
        its axes, V = A.
        """
        frames = torch.cat(self.encoder(mel, lengths)[-LAYERS:], 2)
        mask = real_frames(frames, lengths).to(frames.dtype)
        count = mask.sum(1)
        mean = (frames * mask).sum(1) / count
        if self.linear:
            return self.head(mean)
        variance = ((frames - mean[:, None]).square() * mask).sum(1) / count
        # The epsilon keeps the root's gradient finite where nothing varies.
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)

    def predict_from(self, pooled: Tensor) -> Output:
        """The head: its input [B, V] → logits and embedding.

        A fine-tuned head reads vectors that are standardised by the statistics of the pretrained
        encoder. A few of Whisper's features are hundreds of times larger than the rest, and a layer
        norm alone would leave them so.
        """
        if self.linear:
            embedding = self.span(pooled)
            # Logits are divided by the distance of the recording from the training data, see
            # `Probe.logits`.
            factor = self.temperature / self.distance(pooled).clamp(min=NEAREST)[:, None]
            return Output(self.out(embedding) * factor + self.shares.log(), embedding)
        standard = (pooled - self.mean) * self.scale
        # To a mean square of 1; the epsilon keeps a vector of zeros as it is.
        embedding = self.head(F.rms_norm(standard, standard.shape[-1:], eps=1e-5))
        return Output(self.out(embedding) * self.temperature, embedding)

    def distance(self, pooled: Tensor) -> Tensor:
        """Distance of a probe's inputs [B, V] from its training data: [B], 1 in training."""
        return pooled.square().mean(1)

    @property
    def references(self) -> Tensor:
        """Mean inputs of the head in training, [N, V]: of each class, or over all classes.

        `predict.channel.channel_shift` compares the recordings of a channel with them.
        """
        return self.centres if self.linear else self.mean[None]

    @property
    def most(self) -> int:
        """Samples that the encoder reads at a time."""
        # The second convolution halves the frames: one position stands for two hops of 10 ms.
        return min(LONGEST_SAMPLES, 2 * HOP * len(self.encoder.positions))

    @property
    def shortest(self) -> int:
        """Samples up to which shorter recordings are repeated, see `speech.lengthened`."""
        return SHORTEST if self.linear else 0


def real_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """The mask [B, T, 1] of frames [B, T, D] that stand for real sound, of log-mel lengths [B]."""
    # The encoder's second convolution halves the number of mel frames, rounding up.
    steps = torch.arange(frames.shape[1], device=frames.device)
    return (steps < ((lengths + 1) // 2)[:, None])[..., None]


def log_mels(waves: Sequence[Singles], mels: int = 80) -> tuple[Tensor, Tensor]:
    """Waveforms [samples] at 16 kHz → padded log-mel [B, mels, T] and its lengths [B].

    The loudest bin of every recording is set to the same level, so that the distance between
    speaker and microphone changes nothing.

    Raises:
        SerError: a recording shorter than one spectrum (25 ms) or longer than 30 s.
    """
    # Levelling is a subtraction, since log-mel is logarithmic.
    filters = torch.from_numpy(mel_filters(mels)).float()
    window = torch.hann_window(N_FFT)
    if wrong := [len(wave) for wave in waves if not LEAST_SAMPLES <= len(wave) <= LONGEST_SAMPLES]:
        raise SerError(
            f"a recording of {wrong[0]} samples; allowed: {LEAST_SAMPLES} to {LONGEST_SAMPLES} "
            "(25 ms to 30 s at 16 kHz); cut it into windows"
        )
    items = [log_mel_tensor(torch.from_numpy(wave), filters, window) for wave in waves]
    return padded_mels([item - item.max() + LOUDEST for item in items])


def _masked(mel: Tensor, lengths: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment (Park et al., 2019): masks two bands and two time spans of each item."""
    for item, length in zip(mel, lengths.tolist(), strict=True):
        mean = item[:, :length].mean()
        for _ in range(2):
            # A band of up to 10 of the 80 or 128 mel bins, and up to a tenth of the time.
            start, width = rng.integers(0, len(item) - 10), rng.integers(0, 11)
            item[start : start + width, :length] = mean
            width = rng.integers(0, max(2, length // 10))
            start = rng.integers(0, length - width + 1)
            item[:, start : start + width] = mean
    return mel


def save_tuned(model: Tuned, path: Path, *, half: bool = True) -> None:
    """Writes encoder and head as one safetensors file, matrices in half precision if `half`.

    The header holds classes, sizes, card and `about`.
    """
    header = {
        "classes": list(model.classes),
        "hidden_dim": model.out.in_features,
        "heads": model.encoder.blocks[0].heads,
        "axes": model.head.out_features if isinstance(model.head, nn.Linear) else 0,
        "card": model.card,
        "about": model.about,
    }
    state = {
        key: (value.half() if half and value.ndim > 1 else value).contiguous()
        for key, value in model.state_dict().items()
    }
    write_file(path, save(state, {"tuned": json.dumps(header)}))


def load_tuned(path: Path) -> Tuned:
    """Reads what `save_tuned` wrote, as a float32 model that is ready to predict.

    Raises:
        SerError: the file is not of that kind.
    """
    try:
        header = tensors_header(path, "tuned")
        state = {key: value.float() for key, value in load_file(path).items()}
        dim, mels, _ = state["encoder.conv1.weight"].shape
        names = [key.split(".") for key in state if key.startswith("encoder.blocks.")]
        steps = len(state["encoder.positions"])
        encoder = WhisperEncoder(dim, header["heads"], len({n[2] for n in names}), mels, steps)
        # An encoder that was cut before its last block has no final norm.
        if "encoder.norm.weight" not in state:
            encoder.norm = nn.Identity()
        model = Tuned(
            encoder,
            header["classes"],
            header["hidden_dim"],
            card=header["card"],
            about=header["about"],
            axes=header.get("axes", 0),
        )
        model.load_state_dict(state)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SerError(f"{path}: not a fine-tuned model of this project ({error!r})") from error
    return model.eval()
