"""The networks rewritten for ONNX export: no loops over items, no branches on values."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.encoders.emotion2vec import Emotion2Vec
from multimodal_ser.encoders.emotion2vec_net import FIELD, STRIDE
from multimodal_ser.encoders.emotion2vec_onnx import EqualLengths
from multimodal_ser.encoders.mel import HOP, N_FFT, mel_filters
from multimodal_ser.encoders.pretrained_speech import PretrainedSpeech
from multimodal_ser.encoders.pretrained_text import PretrainedText
from multimodal_ser.encoders.whisper import Whisper, WhisperEncoder, block_outputs
from multimodal_ser.models.layers import Output, masked_mean
from multimodal_ser.training.tune.numpy_probe import LOUDEST
from multimodal_ser.training.tune.tuned import Tuned

_LOWEST = -1e9  # below every log power


class LogMel(nn.Module):
    """Computes log-mel from padded waveforms like `whisper.log_mel_tensor`, the FFT as products.

    Attributes:
        level: bring each recording's loudest bin to this value, as fine-tuned models want it;
            None leaves loudness as it is.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, mels: int, level: float | None) -> None:
        super().__init__()
        self.level = level
        # the discrete Fourier transform as a convolution: one filter per cosine and sine of each
        # frequency, times the Hann window; complex numbers and torch.stft do not export
        time, freq = np.arange(N_FFT), np.arange(N_FFT // 2 + 1)[:, None]
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / N_FFT)
        # modulo N_FFT before the multiplication: cosines of large angles lose digits
        angle = 2 * np.pi * (freq * time % N_FFT) / N_FFT
        rows = np.concatenate([np.cos(angle), np.sin(angle)]) * window
        self.register_buffer("basis", torch.from_numpy(rows).float()[:, None])
        self.register_buffer("filters", torch.from_numpy(mel_filters(mels)).float())

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waves [B, S], lengths [B] in samples → log-mel [B, mels, S // 160], lengths in frames."""
        parts = F.conv1d(self._reflected(waves, lengths)[:, None], self.basis, stride=HOP)
        # Whisper drops the last frame, which is centred at the very end
        cosine, sine = parts[..., :-1].chunk(2, 1)
        power = self.filters.T @ (cosine.square() + sine.square())
        frames = lengths // HOP
        real = (torch.arange(power.shape[2], device=waves.device) < frames[:, None])[:, None]
        # Whisper's scaling: at most 80 dB (8 in log10) below the loudest bin, then (x + 4) / 4
        power = power.clamp(min=1e-10).log10()
        loudest = power.masked_fill(~real, _LOWEST).amax((1, 2), keepdim=True)
        mel = (torch.maximum(power, loudest - 8.0) + 4.0) / 4.0
        if self.level is not None:
            # subtracts the scaled value of the loudest bin, so that it ends at `level`
            mel = mel - (loudest + 4.0) / 4.0 + self.level
        return mel * real, frames

    def _reflected(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Reflects each item by half a window at its own two ends: [B, S + 400]."""
        half, last = N_FFT // 2, lengths[:, None] - 1
        place = torch.arange(waves.shape[1] + N_FFT, device=waves.device) - half
        place = place.abs()[None].expand(waves.shape[0], -1)  # len() would fix the batch
        # every item ends elsewhere in the padded batch, so torch's reflect padding cannot be used
        place = torch.where(place > last, 2 * last - place, place).clamp(min=0)
        return waves.gather(1, place)


class Masked(nn.Module):
    """Whisper's encoder with a mask that is always computed, since a graph cannot leave it out."""

    positions: Tensor

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__()
        copied = copy.deepcopy(encoder)
        self.conv1, self.conv2 = copied.conv1, copied.conv2
        self.blocks, self.norm = copied.blocks, copied.norm
        self.register_buffer("positions", copied.positions)

    def forward(self, mel: Tensor, lengths: Tensor) -> list[Tensor]:
        """As `WhisperEncoder.forward`."""
        steps = torch.arange(mel.shape[-1], device=mel.device)
        x = F.gelu(self.conv1(mel)) * (steps < lengths[:, None])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        count = x.shape[1]
        x = x + self.positions[:count]
        # the second convolution has stride 2, so half as many steps are real, rounded up
        mask = (steps[:count] < ((lengths + 1) // 2)[:, None])[:, None, None]
        return block_outputs(self.blocks, self.norm, x, mask)


class WholeTuned(nn.Module):
    """A fine-tuned model from waveforms to logits."""

    def __init__(self, model: Tuned) -> None:
        super().__init__()
        self.log_mel = LogMel(model.encoder.conv1.in_channels, LOUDEST)
        self.model = copy.deepcopy(model)
        self.model.encoder = Masked(model.encoder)  # type: ignore[assignment]

    def forward(
        self, waves: Tensor, lengths: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Waves [B, S], lengths [B], shift [V] → logits [B, C], embedding [B, H], vectors [B, V].

        The vectors are the head's input before `shift` (the channel) is subtracted.
        """
        vectors = self.model.pooled(*self.log_mel(waves, lengths))
        # an input instead of a constant, so that an exported model can be adapted to a channel
        output = self.model.predict_from(vectors - shift)
        return output.logits, output.embedding, vectors


class WhisperFrames(nn.Module):
    """Whisper's encoder with its layers, from waveforms on."""

    def __init__(self, encoder: Whisper) -> None:
        super().__init__()
        self.log_mel = LogMel(encoder.network.conv1.in_channels, None)
        self.network, self.layers = Masked(encoder.network), encoder.layers

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waves [B, S], lengths [B] → frames [B, T, D], number of real ones [B]."""
        mel, frames = self.log_mel(waves, lengths)
        outputs = self.network(mel, frames)
        return torch.cat([outputs[layer - 1] for layer in self.layers], 2), (frames + 1) // 2


class SpeechFrames(nn.Module):
    """An encoder of transformers that reads samples; all lengths must be equal."""

    def __init__(self, encoder: PretrainedSpeech) -> None:
        super().__init__()
        self.network, self.layers = copy.deepcopy(encoder.network), encoder.layers
        self.normalises = bool(encoder.extractor.do_normalize)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waves [B, S], lengths [B] → frames [B, T, D], number of real ones [B]."""
        if self.normalises:  # as Wav2Vec2FeatureExtractor does it
            waves = waves - waves.mean(1, keepdim=True)
            waves = waves / (waves.square().mean(1, keepdim=True) + 1e-7).sqrt()
        states, network = self.network.states(waves), self.network
        joined = torch.cat([states[layer] for layer in self.layers], 2)
        return joined, (lengths - network.field) // network.stride + 1


class Emotion2VecFrames(nn.Module):
    """emotion2vec with its layers; all lengths must be equal."""

    def __init__(self, encoder: Emotion2Vec) -> None:
        super().__init__()
        self.outputs, self.layers = EqualLengths(copy.deepcopy(encoder.network)), encoder.layers

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waves [B, S], lengths [B] → frames [B, T, D], number of real ones [B]."""
        outputs = self.outputs(waves)
        joined = torch.cat([outputs[layer - 1] for layer in self.layers], 2)
        return joined, (lengths - FIELD) // STRIDE + 1


class TextFrames(nn.Module):
    """A text encoder of transformers with its layers, from word pieces on."""

    def __init__(self, encoder: PretrainedText) -> None:
        super().__init__()
        self.network, self.layers = copy.deepcopy(encoder.network), encoder.layers

    def forward(self, ids: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Word pieces [B, P] and their numbers [B] → frames [B, P, D], number of real ones [B]."""
        # attention over no piece gives NaN: of an item without words, the network reads one piece,
        # and the mask tells the head that there is none
        real = torch.arange(ids.shape[1], device=ids.device) < pieces.clamp(min=1)[:, None]
        return self.network.chosen(self.layers, input_ids=ids, attention_mask=real.long()), pieces


class Tokens(nn.Module):
    """An encoder and what extraction does with its frames.

    Attributes:
        frames: its input [B, …], lengths [B] → frames [B, T, D], number of real ones [B].
    """

    def __init__(self, frames: nn.Module, described: FeatureSpec, modality: str) -> None:
        super().__init__()
        self.frames = frames
        self.tokens = described.pooled_from or described.tokens
        self.pooled, self.rounds = bool(described.pooled_from), described.dtype == "float16"
        # as `keep_tokens` does: words and [CLS] are the first frames, all else is averaged
        words = self.tokens > 1 and modality == "text"
        self.cuts = words or (self.tokens == 1 and described.pool == "first")

    def forward(self, given: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Input [B, …], lengths [B] → tokens [B, T, D], mask [B, T]."""
        joined, steps = self.frames(given, lengths)
        # averaging frames into tokens as a matrix product, because `pool_frames` loops over items
        share = token_shares(joined.shape[1], steps, self.tokens, self.cuts)
        tokens = share @ joined
        if self.rounds:
            tokens = tokens.half().float()  # the features of the training were stored so
        mask = share.any(2)
        if self.pooled:
            tokens, mask = masked_mean(tokens, mask)[:, None], mask.any(1, keepdim=True)
        return tokens, mask


class WholeRun(nn.Module):
    """A run from waveforms, word pieces or both to logits."""

    def __init__(self, encoders: Sequence[Tokens], head: nn.Module) -> None:
        super().__init__()
        self.encoders, self.head = nn.ModuleList(encoders), head

    def forward(
        self, first: Tensor, count: Tensor, second: Tensor | None = None, many: Tensor | None = None
    ) -> Output:
        """Input [B, …] and lengths [B] of each encoder → logits [B, C], embedding [B, H]."""
        tokens = [*self.encoders[0](first, count)]
        if second is not None:
            tokens += self.encoders[1](second, many)
        return self.head(*tokens)


def token_shares(frames: int, steps: Tensor, tokens: int, cuts: bool = False) -> Tensor:
    """Returns `keep_tokens` as a matrix [B, tokens, frames]: the share of each frame in each token.

    Args:
        frames: of the padded batch.
        steps: real frames of each item [B].
        tokens: maximum number of tokens.
        cuts: whether the first frames are the tokens, instead of means over all.
    """
    count = steps.clamp(max=tokens)[:, None]
    number = torch.arange(tokens, device=steps.device)
    # integer division gives the same bounds as `pool_frames`; items with fewer frames than tokens
    # get one token per frame
    spread = count if cuts else steps[:, None]
    divisor = count.clamp(min=1)  # an item can have no words
    first, last = number * spread // divisor, (number + 1) * spread // divisor
    place = torch.arange(frames, device=steps.device)
    inside = (place >= first[..., None]) & (place < last[..., None])
    inside = inside & (number < count)[..., None]
    return inside.float() / (last - first).clamp(min=1)[..., None]


class OneModality(nn.Module):
    """A run's model on one modality's tokens; the other is missing."""

    def __init__(self, model: nn.Module, modality: str, other_dim: int) -> None:
        super().__init__()
        self.model, self.modality, self.other_dim = copy.deepcopy(model), modality, other_dim

    def forward(self, tokens: Tensor, mask: Tensor) -> Output:
        """Tokens [B, T, D], mask [B, T] → logits [B, C], embedding [B, H]."""
        # a missing modality is a single masked token of zeros
        none = tokens.new_zeros(tokens.shape[0], 1, self.other_dim)
        missing = mask.new_zeros(mask.shape[0], 1)
        given, other = (tokens, mask), (none, missing)
        batch = (*given, *other) if self.modality == "text" else (*other, *given)
        return self.model(*batch)


class BothModalities(nn.Module):
    """A run's model on the tokens of both modalities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, H]."""
        return self.model(text, text_mask, audio, audio_mask)
