"""Reads checkpoints of emotion2vec: its tensors, sizes and labels; converts them to safetensors.

``model.pt``, as published by FunASR, the hub and ModelScope, is read by torch's weights-only
reader, which admits tensors and plain containers and runs no code; a file with anything else in it
is refused. Entries that only training needs (decoder, moving average, losses) are left out; any
other unknown entry is an error.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import torch
from torch import Tensor

from multimodal_ser.common.files import parse_json, write_file
from multimodal_ser.encoders.emotion2vec_net import KERNELS, Emotion2VecNet, Sizes
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.encoders.weights import Weights, resolve
from multimodal_ser.errors import EncoderError, one_of, some_of

_TOKENS = "tokens.txt"
UNUSED = "unuse"  # how the reference marks classes that its head has but that were not trained
_LABELS = (
    "angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown",
)  # fmt: skip

_AUDIO = r"^modality_encoders\.AUDIO\."
_NAMES = (
    (_AUDIO + r"local_encoder\.conv_layers\.(\d+)\.0\.", r"convs.\1."),
    (_AUDIO + r"local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"convs.\1.norm."),
    (_AUDIO + r"project_features\.1\.", "feature_norm."),
    (_AUDIO + r"project_features\.2\.", "feature_proj."),
    (_AUDIO + r"context_encoder\.norm\.", "norm."),
    (_AUDIO + r"context_encoder\.blocks\.", "first."),
    (_AUDIO + r"(extra_tokens|alibi_scale)$", r"\1"),
    (r"^((?:first|blocks)\.\d+)\.attn\.qkv\.", r"\1.qkv."),
    (r"^((?:first|blocks)\.\d+)\.attn\.proj\.", r"\1.out."),
    (r"^((?:first|blocks)\.\d+)\.mlp\.fc1\.", r"\1.up."),
    (r"^((?:first|blocks)\.\d+)\.mlp\.fc2\.", r"\1.down."),
    (r"^proj\.", "head."),
)
_POSITION = re.compile(_AUDIO + r"relative_positional_encoder\.(\d+)\.0\.")
_TRAINING = re.compile(
    r"(^|\.)_?(ema|teacher|decoder|shared_decoder|recon_proj|regression_head|criterion|"
    r"discriminator|mask_emb|mask_token)(\.|$)"
)
_UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError)


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        tensors: the tensors that are needed, by the checkpoint's own keys, float32.
        labels: classes of the head in order, None without a head; ``unuse…`` were not trained.
    """

    tensors: dict[str, Tensor]
    labels: tuple[str, ...] | None


def read_checkpoint(name: str, weights: Weights) -> Checkpoint:
    """Reads the tensors that the network needs, and the labels of its head.

    Args:
        name: the encoder, for messages.
        weights: what `resolve` found.

    Raises:
        EncoderError: the file is damaged, or holds code or unknown entries.
    """
    if weights.file.suffix == ".safetensors":
        state, labels = _from_safetensors(name, weights.file)
    else:
        state, labels = _from_pickle(name, weights.file), None
    # torch's DistributedDataParallel puts "module." in front of every name.
    state = {re.sub(r"^module\.", "", key): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not _TRAINING.search(key)}
    if odd := sorted(key for key, value in state.items() if not _fits(key, value)):
        raise EncoderError(
            f"{name}: {weights.file} holds {len(odd)} entries that emotion2vec does not have "
            f"({some_of(odd)}); it is another network or of an unknown version"
        )
    classes = len(state.get("proj.bias", ()))
    labels = _labels(name, weights.folder, classes, labels)
    return Checkpoint({key: value.float() for key, value in state.items()}, labels)


def network_from(name: str, file: Path, tensors: Mapping[str, Tensor]) -> Emotion2VecNet:
    """Builds the network with the tensors of a checkpoint, in float32 and evaluation mode.

    Args:
        name: the encoder, for messages.
        file: the checkpoint, for messages.
        tensors: by the checkpoint's keys.

    Raises:
        EncoderError: tensors are missing, or their shapes do not fit together.
    """
    state = {_renamed(key): value for key, value in tensors.items()}
    first = len({key.split(".")[1] for key in state if key.startswith("first.")})
    state = {_numbered(key, first): value for key, value in state.items()}
    try:
        # On the meta device the network has no memory of its own, and `assign` then puts the
        # tensors in place: large weights are never in memory twice.
        with torch.device("meta"):
            network = Emotion2VecNet(_sizes(state))
        if missing := sorted(network.state_dict().keys() - state.keys()):
            raise ValueError(f"it lacks {len(missing)} tensors: {some_of(missing)}")
        network.load_state_dict(_arranged(state), assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: {file} does not hold a whole emotion2vec ({error}); fetch it again"
        ) from error
    return network.eval().requires_grad_(False)


def convert_weights(
    source: str | Path,
    out: str | Path,
    *,
    name: str = "emotion2vec-plus-large",
    revision: str | None = None,
) -> Path:
    """Writes a checkpoint as ``model.safetensors`` with only the network's tensors and labels.

    Args:
        source: folder or hub id with ``model.pt``.
        out: folder to write into.
        name: which emotion2vec it is, key in ENCODERS.
        revision: branch, tag or commit on the hub.

    Returns:
        The file; its folder can be given as a source.

    Raises:
        EncoderError: the source cannot be read, or is not a complete emotion2vec.
    """
    from safetensors.torch import save

    known = [key for key in WEIGHT_SOURCES if key.startswith("emotion2vec")]
    if name not in known:
        raise EncoderError(one_of("emotion2vec", name, known))
    weights = resolve(name, source, revision)
    tensors, labels = read_checkpoint(name, weights)
    network_from(name, weights.file, tensors)
    file = Path(out) / "model.safetensors"
    about = {"format": "pt", "source_sha256": weights.sha256}
    if labels:
        about["labels"] = json.dumps(labels)
    write_file(file, save({key: value.contiguous() for key, value in tensors.items()}, about))
    return file


def _from_safetensors(name: str, file: Path) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            about = tensors.metadata() or {}
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
        labels = tuple(map(str, parse_json(about["labels"]))) if "labels" in about else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _damaged(name, file, error) from error
    return state, labels


def _from_pickle(name: str, file: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # torch warns of unusual pickles, which are then read or refused all the same.
            warnings.simplefilter("ignore")
            # A zip archive can be memory-mapped: tensors that are left out below are never read.
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{name}: {file} holds pickled code, which is never executed, or is no checkpoint at "
            f"all ({str(error).strip().splitlines()[0]}); allowed: tensors in plain dicts; get it "
            "from its authors, or as safetensors"
        ) from error
    except _UNREADABLE as error:
        raise _damaged(name, file, error) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise EncoderError(
            f"{name}: {file} holds a {type(state).__name__}; allowed: a state dict (tensors by "
            'name), bare or under "model"'
        )
    return state


def _damaged(name: str, file: Path, error: Exception) -> EncoderError:
    return EncoderError(
        f"{name}: {file} cannot be read ({type(error).__name__}: {error}); it is damaged or no "
        "checkpoint; fetch it again"
    )


def _fits(key: str, value: object) -> bool:
    known = _POSITION.match(key) or _renamed(key) != key or key.startswith("blocks.")
    return bool(known) and isinstance(value, Tensor) and value.is_floating_point()


def _renamed(key: str) -> str:
    if match := _POSITION.match(key):  # numbered from 1: module 0 there only transposes
        return f"positions.convs.{int(match[1]) - 1}.{key[match.end() :]}"
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _numbered(key: str, first: int) -> str:
    """Numbers the blocks of the context encoder and the later ones as one sequence of blocks."""
    if key.startswith("first."):
        return "blocks." + key.removeprefix("first.")
    if key.startswith("blocks."):
        _, place, rest = key.split(".", 2)
        return f"blocks.{int(place) + first}.{rest}"
    return key


def _sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Derives the sizes of the network from the shapes of its tensors.

    Raises:
        KeyError: a tensor is missing.
        ValueError: the shapes are not those of an emotion2vec.
    """
    kernels = tuple(state[f"convs.{i}.weight"].shape[-1] for i in range(len(KERNELS)))
    dim, part, reach = state["positions.convs.0.weight"].shape
    heads, classes = state["alibi_scale"].numel(), len(state.get("head.bias", ()))
    if kernels != KERNELS or reach % 2 == 0 or dim % part or dim % heads:
        raise ValueError(
            f"kernels {kernels} of its convolutions, {reach} of its positions, {heads} heads, "
            f"{dim} wide"
        )
    return Sizes(
        dim=dim,
        heads=heads,
        depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        hidden=len(state["blocks.0.up.weight"]),
        channels=len(state["convs.0.weight"]),
        extra=state["extra_tokens"].shape[1],
        positions=len({key.split(".")[2] for key in state if key.startswith("positions.")}),
        reach=reach,
        groups=dim // part,
        classes=classes,
    )


def _arranged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reshapes convolutions to [out, kernel × in], as `Conv` needs it, and the scale to [heads]."""
    arranged = dict(state)
    for i in range(len(KERNELS)):
        arranged[f"convs.{i}.weight"] = state[f"convs.{i}.weight"].transpose(1, 2).flatten(1)
    arranged["alibi_scale"] = state["alibi_scale"].flatten()
    return arranged


def _labels(
    name: str, folder: Path, classes: int, stored: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Classes of the head: from the file, from ``tokens.txt`` beside it, or the usual nine."""
    if not classes:
        return None
    if stored is None and (folder / _TOKENS).is_file():
        lines = (folder / _TOKENS).read_text(encoding="utf-8").split("\n")
        stored = tuple(_label(line.strip()) for line in lines if line.strip())
    labels = stored or _LABELS
    if len(labels) != classes or len(set(labels)) < classes:
        raise EncoderError(
            f"{name}: the head in {folder} has {classes} classes, but its labels are {labels}; put "
            f"a {_TOKENS} beside the weights, one label a line"
        )
    return labels


def _label(line: str) -> str:
    """The English half of a line such as ``生气/angry``.

    >>> _label("生气/angry"), _label("<unk>"), _label("unuse_0")
    ('angry', 'unknown', 'unuse_0')
    """
    return "unknown" if line == "<unk>" else line.split("/")[-1]
