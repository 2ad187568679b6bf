"""audio → frames: any speech encoder of transformers, 50 frames per second.

wav2vec 2.0, XLS-R and MMS, HuBERT, WavLM, data2vec-audio, UniSpeech and w2v-BERT 2.0, from a folder
with the hub's layout. Padding must not change a result. If a network would let it through (by a
norm over the whole time axis, or a convolution that sees beyond the end), only recordings of the
same length share a batch. Recordings longer than 30 s are normalised as a whole, and go through
the network in windows of at most 30 s, of which 5 s at either inner end serve only as context.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.base import (
    EncoderInfo,
    Piece,
    between_passes,
    check_finite,
    checked_waves,
    chosen_layers,
    pieces,
    torch_dtype,
)
from multimodal_ser.encoders.exposure import info_of
from multimodal_ser.encoders.pretrained import SPEECH, Sendable, pretrained
from multimodal_ser.encoders.weights import Weights, resolve
from multimodal_ser.errors import EncoderError

WHOLE, CONTEXT = 30 * 50, 5 * 50  # frames per pass at most; frames of context at an inner end
_GROUP = 16  # windows that are encoded at a time
_MASKED = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert")  # whose mask excludes padding entirely
_log = logging.getLogger(__name__)


class SpeechNetwork(nn.Module):
    """A speech network of transformers that returns every layer and knows what it can batch.

    Attributes:
        model: the network of transformers.
        pads: whether inputs of unequal lengths may share a batch.
        stride: input rows (samples, or filter banks) from one frame to the next.
        field: input rows that one frame depends on.
        blocks: the transformer's blocks, in order.
        width: of a layer.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.model, self.width = model, config.hidden_size
        # In training mode the model would mask stretches with numpy's global generator and skip
        # whole blocks, although their outputs are needed.
        config.apply_spec_augment, config.layerdrop = False, 0.0
        # An adapter for a decoder comes after the last block, and its norm, and is not used.
        model.adapter = model.intermediate_ffn = None
        config.add_adapter = config.use_intermediate_ffn_before_adapter = False
        self.kind: str = config.model_type
        self.prepared = self.kind == "wav2vec2-bert"  # reads filter banks, not samples
        # A group norm in the feature extractor averages over time, and so over padding.
        norm = getattr(config, "feat_extract_norm", "layer")
        self.pads = (
            self.kind in _MASKED
            and norm != "group"
            and not getattr(config, "conv_pos_batch_norm", False)
        )
        kernels, strides = (
            ((1,), (1,)) if self.prepared else (config.conv_kernel, config.conv_stride)
        )
        # From the last convolution back to the first: f input rows of a layer with kernel k and
        # stride s need (f − 1) s + k rows of the layer below.
        self.stride, self.field = int(np.prod(strides)), 1
        for kernel, stride in zip(kernels[::-1], strides[::-1], strict=True):
            self.field = (self.field - 1) * stride + kernel

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, in order."""
        return self.model.encoder.layers

    def frames(self, rows: int) -> int:
        """Number of frames of an input with so many rows."""
        return (rows - self.field) // self.stride + 1

    def forward(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Encodes inputs [rows] or [rows, banks] together.

        Returns:
            The input of the first block and the output of every block, each [B, T, width]; and the
            number of real frames of each input [B]. Frames beyond it are undefined.
        """
        lengths = torch.tensor([len(x) for x in inputs], device=inputs[0].device)
        if not self.pads and len(set(lengths.tolist())) > 1:
            raise ValueError("this network takes inputs of one length at a time")
        batch = nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)
        mask = None
        if len(set(lengths.tolist())) > 1:
            steps = torch.arange(batch.shape[1], device=batch.device)
            mask = (steps < lengths[:, None]).long()
        if mask is not None and self.kind == "wavlm":
            # WavLM's position bias is a float mask and its padding mask a boolean one. torch
            # accepts the two together but warns at every call.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
        return self.states(batch, mask), (lengths - self.field) // self.stride + 1

    def states(self, batch: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Padded inputs [B, rows, …] and their mask [B, rows] → the layers, each [B, T, width]."""
        outputs = self.model(batch, attention_mask=mask, output_hidden_states=True)
        # Some versions of transformers leave the final norm out of the last hidden state.
        return [*outputs.hidden_states[:-1], outputs.last_hidden_state]


class PretrainedSpeech(Sendable):
    """A speech encoder of transformers with the interface of `Encoder`: waveforms → frames."""

    def __init__(
        self,
        network: SpeechNetwork,
        extractor: Any,
        info: EncoderInfo,
        layers: Sequence[int],
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.network = network.to(device=device, dtype=dtype)
        self.extractor, self.info, self.layers = extractor, info, tuple(layers)
        self.dtype, self.whole = dtype, WHOLE
        # A filter bank needs 400 samples, and a frame two filter banks, 160 samples apart.
        self.least = 560 if network.prepared else network.field

    @torch.inference_mode()
    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes 16 kHz waveforms into arrays [frames, dim]."""
        inputs = self.inputs(items)
        counts = [self.network.frames(len(x)) for x in inputs]
        encoded = [np.empty((count, self.info.dim), np.float32) for count in counts]
        for place, group in enumerate(self._groups(inputs)):
            if place:
                between_passes.get()()
            cut = [inputs[p.item][p.cut].to(self.device, self.dtype) for p in group]
            states, _ = self.network(cut)
            frames = torch.cat([states[layer] for layer in self.layers], dim=-1).float().cpu()
            for row, piece in zip(frames, group, strict=True):
                kept = row[piece.keep]
                check_finite(self.info.name, kept.isfinite().all(), self.dtype)
                encoded[piece.item][piece.start : piece.start + len(kept)] = kept.numpy()
        return encoded

    def states(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Frames [T, dim] of each input, with gradients if the network is being fine-tuned."""
        together = self.network.pads or len({len(x) for x in inputs}) == 1
        frames = []
        for batch in [inputs] if together else [[x] for x in inputs]:
            states, counts = self.network(batch)
            joined = torch.cat([states[layer] for layer in self.layers], dim=-1)
            frames += [row[:count] for row, count in zip(joined, counts.tolist(), strict=True)]
        return frames

    def inputs(self, items: Sequence[object]) -> list[Tensor]:
        """The network's input for each waveform: normalised samples, or filter banks."""
        waves = checked_waves(self.info.name, items, self.least)
        return [self._prepared(wave) for wave in waves]

    def _prepared(self, wave: np.ndarray) -> Tensor:
        extracted = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        if not self.network.prepared:
            return extracted["input_values"][0]
        banks: Tensor = extracted["input_features"][0]
        # The extractor pads an odd last bank to a pair; the mask shows what is real.
        return banks[extracted["attention_mask"][0].bool()]

    def _groups(self, inputs: Sequence[Tensor]) -> Iterator[list[Piece]]:
        """Groups of pieces that may share a batch: of any length, or of equal lengths only."""
        network = self.network
        windows = pieces(
            [len(x) for x in inputs], self.whole, CONTEXT, network.stride, network.field
        )

        def length(piece: Piece) -> int:
            return int(piece.cut.stop - piece.cut.start)

        order = sorted(windows, key=length)
        for _, same in groupby(order, key=lambda piece: 0 if network.pads else length(piece)):
            group = list(same)
            for start in range(0, len(group), _GROUP):
                yield group[start : start + _GROUP]


def load_speech_encoder(
    source: str | Path | None = None,
    device: str = "cpu",
    layers: Sequence[int] | Literal["all"] | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    *,
    known_as: str = "wav2vec2",
) -> PretrainedSpeech:
    """Loads a speech encoder of transformers.

    The options are those of `load_encoder`; no package carries weights.

    Raises:
        EncoderError: the weights are missing, damaged or of an unknown architecture, or a layer or
            type is not allowed.
    """
    name, computed = known_as, torch_dtype(known_as, dtype, device)
    weights = resolve(name, source, revision)
    network = SpeechNetwork(pretrained(name, weights, SPEECH))
    depth = len(network.blocks)
    chosen = chosen_layers(name, (depth,) if layers is None else layers, depth, 0)
    rate = 50.0 if network.prepared else SAMPLE_RATE / network.stride
    info = info_of(name, "audio", weights, chosen, width=network.width, rate=rate)
    extractor = _extractor(name, weights, network.prepared)
    return PretrainedSpeech(network, extractor, info, chosen, device, computed)


def _extractor(name: str, weights: Weights, banks: bool) -> Any:
    """Loads the feature extractor, whose own file says whether samples are normalised.

    It cannot be derived from the architecture: WavLM base takes samples unchanged, WavLM large
    normalised ones.
    """
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

    kind: Any = SeamlessM4TFeatureExtractor if banks else Wav2Vec2FeatureExtractor
    file = weights.folder / "preprocessor_config.json"
    if not file.is_file():
        _log.warning(
            "%s: %s has no preprocessor_config.json, so its input is normalised over the "
            "recording, as is usual for such networks; copy the file from the hub",
            name, weights.folder,
        )  # fmt: skip
        return kind()
    try:
        extractor = kind.from_pretrained(weights.folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{name}: {file} cannot be read ({error}); fetch it again") from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise EncoderError(
            f"{name}: {file} needs sound at {extractor.sampling_rate} Hz; allowed: {SAMPLE_RATE}"
        )
    return extractor
