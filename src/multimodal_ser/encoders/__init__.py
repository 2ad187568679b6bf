"""audio and text → frames: the registry of encoders, each loaded when it is needed.

Importing this imports neither torch nor transformers. Speech and text encoders of transformers need
no entry: a folder or a hub id is enough. Another kind of encoder needs a module with
``load(source, device, **options) -> Encoder``, the places of its weights in WEIGHT_SOURCES, what it
was trained on in ``exposure.json``, and one line in `_LOADERS` and `_FAMILIES` each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.common.devices import CPU, check_device
from multimodal_ser.common.plugins import code_of
from multimodal_ser.encoders.base import Encoder, EncoderInfo, Exposure, computed_in
from multimodal_ser.encoders.weight_sources import CLAIMS
from multimodal_ser.errors import EncoderError, one_of

if TYPE_CHECKING:
    from multimodal_ser.config.record import Encoding

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderInfo",
    "EncoderSpec",
    "Exposure",
    "file_name",
    "load_encoder",
    "load_for",
]
_LOADERS = {  # module → its loader; imported when called, so that listing encoders imports no torch
    "egemaps": "load_egemaps",
    "emotion2vec": "load_emotion2vec",
    "pretrained_speech": "load_speech_encoder",
    "pretrained_text": "load_text_encoder",
    "whisper": "load_whisper",
}
_log = logging.getLogger(__name__)
_ANY = ("layers", "revision", "dtype")  # options of every encoder of transformers
_OF_WORDS = (*_ANY, "prefix")


@dataclass(frozen=True)
class EncoderSpec:
    """What is known about an encoder before it is loaded.

    Attributes:
        modality: ``audio`` or ``text``.
        load: ``load(source, device, **options)`` returns the encoder.
        hub: the hub id to give as source; None if there is nothing to fetch.
        options: names of the further options of `load`.
        about: a description in one line.
    """

    modality: Literal["audio", "text"]
    load: Callable[..., Encoder]
    hub: str | None = None
    options: tuple[str, ...] = ()
    about: str = ""


def _loaded(
    module: str, source: str | Path | None = None, device: str = "cpu", **options: Any
) -> Encoder:
    load = getattr(import_module(f"{__name__}.{module}"), _LOADERS[module])
    return load(source, device, **options)


# By the first word of an encoder's name: what it reads, its module, and its options.
_FAMILIES: dict[str, tuple[Literal["audio", "text"], str, tuple[str, ...]]] = {
    "whisper": ("audio", "whisper", ("layers", "revision")),
    "wav2vec2": ("audio", "pretrained_speech", _ANY),
    "egemaps": ("audio", "egemaps", ()),
    "emotion2vec": ("audio", "emotion2vec", _ANY),
    "minilm": ("text", "pretrained_text", _OF_WORDS),
    "bert": ("text", "pretrained_text", _OF_WORDS),
}


def _spec(name: str, hub: str, about: str) -> EncoderSpec:
    modality, module, options = _FAMILIES[name.split("-")[0]]
    own: dict[str, str] = {} if module == "egemaps" else {"known_as": name}
    if name == "bert":  # its first word piece, [CLS], stands for a sentence that is one frame
        own["pool"] = "first"
    return EncoderSpec(modality, partial(_loaded, module, **own), hub or None, options, about)


ENCODERS: dict[str, EncoderSpec] = {
    one["name"]: _spec(one["name"], one["hub"], one["about"]) for one in CLAIMS if one["name"]
}


def file_name(name: str) -> str:
    """The name of an encoder's feature files: its key in ENCODERS, or made from its id or folder.

    >>> file_name("bert"), file_name("microsoft/wavlm-large"), file_name("facebook/wav2vec2-base")
    ('bert', 'microsoft--wavlm-large', 'wav2vec2')
    """
    if name in ENCODERS:
        return name
    if not Path(name).is_dir():
        known = next((key for key, spec in ENCODERS.items() if spec.hub == name), None)
        return known or name.replace("/", "--")
    # A folder must not have the name of an encoder in ENCODERS, whose training data is known.
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).resolve().name).strip("-._") or "encoder"
    return f"my-{own}" if own in ENCODERS else own


def load_encoder(
    name: str, source: str | Path | None = None, *, device: str = "cpu", **options: Any
) -> Encoder:
    """Loads an encoder by its name, its folder or its hub id.

    Args:
        name: key in ENCODERS; or the folder or hub id of any speech or text encoder of
            transformers; or, with `source`, the name to give to such an encoder.
        source: local folder, hub id, or None for the installed offline package.
        device: where torch computes, such as ``"cpu"`` or ``"cuda"``.
        options: those that the encoder's spec lists. ``layers`` are blocks, counted from 1 (0 is
            the input of the first), whose outputs are concatenated, such as (2, 3, 4), or
            ``"all"``; ``revision`` a branch, tag or commit on the hub; ``dtype`` the number type:
            ``float32``, ``bfloat16``, on a GPU ``float16``, or for emotion2vec on a CPU ``int8``,
            products of the blocks in 8 bits and the rest in bfloat16 where the processor has
            instructions for it; ``prefix`` text before each sentence that the network was trained
            with, as E5's "query: ".

    Raises:
        EncoderError: the name or an option is unknown, or the weights are missing.
        SerError: there is no such device here.
    """
    if name not in ENCODERS and source is None:
        _check_place(name)
        source, name = name, file_name(name)
    spec = ENCODERS.get(name)
    allowed = spec.options if spec else _OF_WORDS
    for option in options:
        if option not in allowed:
            raise EncoderError(
                f"{name}: unknown option {option!r}; it takes: {', '.join(allowed) or 'none'}"
            )
    if spec is None:
        return _load_any(name, str(source), check_device(device), **options)
    encoder = spec.load(source, check_device(device), **options)
    if code := code_of(encoder):
        encoder.info = replace(encoder.info, code=code)
    return encoder


def load_for(described: Encoding, source: str | Path | None, device: str) -> Encoder:
    """Loads the encoder that made a feature file, with the same layers, prefix and number format.

    A format that this device lacks is replaced by the nearest that it has, which is logged.

    Raises:
        EncoderError: the weights are missing.
    """
    name = described.encoder
    allowed = ENCODERS[name].options if name in ENCODERS else _OF_WORDS
    options: dict[str, Any] = {}
    if "layers" in allowed:
        options["layers"] = tuple(int(layer) for layer in described.layers.split(","))
    if described.prefix:
        options["prefix"] = described.prefix
    dtype = _format_here(described.compute_dtype, device)
    # Not for float32, the default: a Whisper of another name is not known yet, and takes no dtype.
    if "dtype" in allowed and dtype != "float32":
        options["dtype"] = dtype
    encoder = load_encoder(name, source, device=device, **options)
    if (computes := computed_in(encoder)) != described.compute_dtype:
        formats = f"were computed in {described.compute_dtype}, and it computes in {computes}"
        effect = "predictions may differ a little from those of the training"
        _log.warning("%s: its features %s on %s here: %s", name, formats, device, effect)
    return encoder


def _format_here(computed: str, device: str) -> str:
    """The format to load an encoder in on a device, for one that features were computed in.

    >>> _format_here("int8 beside bfloat16", "cpu"), _format_here("int8 beside bfloat16", "cuda")
    ('int8', 'bfloat16')
    >>> _format_here("float16", "cpu")  # which is for GPUs alone
    'float32'
    """
    products, _, beside = computed.partition(" beside ")
    if device == CPU:
        return "float32" if products == "float16" else products
    return beside or products


def _check_place(name: str) -> None:
    """Raises EncoderError unless a name is a folder or has the form of a hub id."""
    from multimodal_ser.encoders.weights import HUB_ID

    if not (Path(name).is_dir() or HUB_ID.fullmatch(name)):
        raise EncoderError(
            one_of("encoder", name, ENCODERS)
            + "; or give a folder or hub id of a speech or text encoder, such as "
            "microsoft/wavlm-large"
        )


def _load_any(name: str, source: str, device: str, **options: Any) -> Encoder:
    """Loads an encoder of transformers according to the architecture in its configuration."""
    from multimodal_ser.encoders import pretrained, weights

    folder = weights.folder_of(name, source, options.get("revision"))
    kind = pretrained.kind_of(name, folder)
    if kind == pretrained.WHISPER:
        module = "whisper"
    elif kind in pretrained.SPEECH:
        module = "pretrained_speech"
    elif kind in pretrained.TEXT:
        module = "pretrained_text"
    else:
        known = (*pretrained.SPEECH, pretrained.WHISPER, *pretrained.TEXT)
        raise EncoderError(
            f"{name}: {folder / 'config.json'} says " + one_of("model_type", kind, known)
        )
    if module != "pretrained_text" and "prefix" in options:
        raise EncoderError(f"{name}: a prefix is for encoders of words; this one reads sound")
    if module == "whisper" and options.pop("dtype", "float32") != "float32":
        raise EncoderError(f"{name}: Whisper's encoder computes in float32 only; leave dtype out")
    return _loaded(module, source, device, known_as=name, **options)
