"""audio and text → frames: every encoder by name, loaded when it is asked for.

Importing this imports neither torch nor transformers. To add an encoder: one module with
``load(source, device, **options) -> Encoder``, its weights' homes in `weights.HOMES`, what it was
trained on in `exposure.EXPOSURE`, and one line in ENCODERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from multimodal_ser.devices import check_device
from multimodal_ser.encoders.base import Encoder, EncoderInfo, Exposure
from multimodal_ser.encoders.exposure import EXPOSURE
from multimodal_ser.encoders.weights import HOMES
from multimodal_ser.errors import EncoderError, one_of

__all__ = ["ENCODERS", "Encoder", "EncoderInfo", "EncoderSpec", "Exposure", "load_encoder"]


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of an encoder before it is loaded.

    Attributes:
        modality: ``audio`` or ``text``.
        load: ``load(source, device, **options)`` gives the encoder.
        hub: the hub id to pass as source; None where there is nothing to fetch.
        options: names of the further options that `load` takes.
        exposure: corpus name → what the training saw of it; absent means unknown.
        about: one line for people.
    """

    modality: Literal["audio", "text"]
    load: Callable[..., Encoder]
    hub: str | None
    options: tuple[str, ...]
    exposure: Mapping[str, Exposure]
    about: str


def _spec(
    name: str,
    module: str,
    modality: Literal["audio", "text"],
    about: str,
    *options: str,
    **fixed: str,
) -> EncoderSpec:
    def load(source: str | Path | None = None, device: str = "cpu", **given: Any) -> Encoder:
        loader = import_module(f"{__name__}.{module}").load
        encoder: Encoder = loader(source, device, **fixed, **given)
        return encoder

    home = HOMES.get(name)
    return EncoderSpec(modality, load, home.hub if home else None, options, EXPOSURE[name], about)


def _whisper(name: str, about: str) -> EncoderSpec:
    return _spec(name, "whisper", "audio", about, "layers", "revision", known_as=name)


def _emotion2vec(variant: str, about: str) -> EncoderSpec:
    options = "layers", "revision", "dtype"
    return _spec(variant, "emotion2vec", "audio", about, *options, variant=variant)


ENCODERS: dict[str, EncoderSpec] = {
    "whisper-tiny": _whisper(
        "whisper-tiny",
        "Whisper's smallest English encoder, layers side by side; 50 frames a second, 1152 wide",
    ),
    "whisper-base": _whisper(
        "whisper-base",
        "Whisper's encoder for many languages, layers 2 to 4; 50 frames a second, 1536 wide",
    ),
    "whisper-small": _whisper(
        "whisper-small", "Whisper's small encoder, many languages; 50 frames a second, 2304 wide"
    ),
    "whisper-medium": _whisper(
        "whisper-medium", "Whisper's medium encoder, many languages; 50 frames a second, 3072 wide"
    ),
    "whisper-large": _whisper(
        "whisper-large", "Whisper large-v3's encoder; 50 frames a second, 3840 wide"
    ),
    "wav2vec2": _spec(
        "wav2vec2",
        "wav2vec2",
        "audio",
        "wav2vec 2.0 base, self-supervised on LibriSpeech; 50 frames a second, 768 wide",
        "layers",
        "revision",
    ),
    "egemaps": _spec(
        "egemaps",
        "egemaps",
        "audio",
        "eGeMAPS v02 functionals of openSMILE; one frame a recording, 88 wide; research licence",
    ),
    "emotion2vec-base": _emotion2vec(
        "emotion2vec-base",
        "emotion2vec, self-supervised on emotional speech; 50 frames a second, 768 wide",
    ),
    "emotion2vec-plus-seed": _emotion2vec(
        "emotion2vec-plus-seed",
        "emotion2vec+ seed, fine-tuned on EmoBox's corpora; 50 frames a second, 768 wide",
    ),
    "emotion2vec-plus-base": _emotion2vec(
        "emotion2vec-plus-base",
        "emotion2vec+ base, fine-tuned on pseudo-labels; 50 frames a second, 768 wide",
    ),
    "emotion2vec-plus-large": _emotion2vec(
        "emotion2vec-plus-large",
        "emotion2vec+ large, as the original; 50 frames a second, 1024 wide",
    ),
    "minilm": _spec(
        "minilm",
        "minilm",
        "text",
        "all-MiniLM-L6-v2, a small sentence encoder; one frame a word piece, 384 wide",
        "revision",
    ),
    "bert": _spec(
        "bert",
        "bert",
        "text",
        "BERT base uncased; one frame a word piece, the first is [CLS], 768 wide",
        "revision",
    ),
}


def load_encoder(
    name: str, source: str | Path | None = None, *, device: str = "cpu", **options: Any
) -> Encoder:
    """Loads an encoder by its name.

    Args:
        name: key in ENCODERS.
        source: local folder, hub id, or None for the installed offline package.
        device: where torch computes, such as ``"cpu"`` or ``"cuda"``.
        options: what the encoder's spec lists, such as ``layers=(2, 3, 4)`` or ``revision="main"``.

    Raises:
        EncoderError: the name or an option is unknown, or the weights cannot be had.
        SerError: there is no such device here.
    """
    if name not in ENCODERS:
        raise EncoderError(one_of("encoder", name, ENCODERS))
    spec = ENCODERS[name]
    for option in options:
        if option not in spec.options:
            allowed = ", ".join(spec.options) or "none"
            raise EncoderError(f"{name}: unknown option {option!r}; it takes: {allowed}")
    return spec.load(source, check_device(device), **options)
