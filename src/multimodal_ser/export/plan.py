"""Plans an export: a predictor's network, example inputs and the file's description."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from multimodal_ser.config.record import as_json
from multimodal_ser.encoders import Encoder
from multimodal_ser.encoders.base import computed_in
from multimodal_ser.encoders.emotion2vec import Emotion2Vec
from multimodal_ser.encoders.emotion2vec_net import STRIDE
from multimodal_ser.encoders.mel import LEAST_SAMPLES
from multimodal_ser.encoders.pretrained import WAVES
from multimodal_ser.encoders.pretrained_speech import PretrainedSpeech
from multimodal_ser.encoders.pretrained_text import PretrainedText
from multimodal_ser.encoders.whisper import Whisper
from multimodal_ser.errors import SerError
from multimodal_ser.export import graphs
from multimodal_ser.predict import Predictor
from multimodal_ser.predict.numpy_backend import NumpyBackend
from multimodal_ser.predict.onnx_backend import HEAD_INPUTS, FileFacts
from multimodal_ser.predict.run_backend import RunBackend
from multimodal_ser.predict.tuned_backend import TunedBackend

Part: TypeAlias = Literal["whole", "head"]
_EXPORTED = tuple(kind for kind in WAVES if kind != "wav2vec2-conformer")
_MOST_BYTES = 2_000_000_000  # protobuf, and so one ONNX file, ends at 2 GiB
_WHOLE = (
    "a file with the encoders can be written if sound is encoded by Whisper, emotion2vec or "
    f"{', '.join(_EXPORTED)}, and words by an encoder with a fast tokenizer, all computed in "
    "float32 and of less than 2 GB together; of other models, --part head writes the network on "
    "features, unless an encoder was fine-tuned"
)


@dataclass(frozen=True)
class Graph:
    """A network to export.

    Attributes:
        part: ``whole`` takes waveforms, ``head`` takes features.
        module: gives logits [B, C] and embedding [B, H].
        inputs: examples by name, in the module's order.
        facts: the file's description, stored in its metadata.
        defaults: inputs that may be omitted, with their default values.
    """

    part: Part
    module: nn.Module
    inputs: Mapping[str, Tensor]
    facts: FileFacts
    defaults: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        """Names in the module's order."""
        return ["logits", "embedding", *(["vectors"] if "shift" in self.defaults else [])]

    @property
    def dynamic(self) -> tuple[dict[int, Any], ...]:
        """Which sizes are variable: the batch, and samples or tokens."""
        batch = torch.export.Dim("batch")
        shapes: list[dict[int, Any]] = []
        for name, example in self.inputs.items():
            if name in self.defaults:
                shapes.append({})
                continue
            free = {0: batch}
            if example.ndim > 1:
                modality = name.removesuffix("_mask")
                least = LEAST_SAMPLES if name == "waves" else 1
                free[1] = torch.export.Dim(f"{modality}_count", min=least)
            shapes.append(free)
        return tuple(shapes)


def graph_of(predictor: Predictor, part: Part | None) -> Graph:
    """Returns the graph of a fine-tuned model or a run.

    Raises:
        SerError: the model has no such part, or is not on the CPU.
    """
    backend = predictor.backend
    if isinstance(backend, NumpyBackend):
        backend = TunedBackend(backend.file, backend.name)
    if not isinstance(backend, TunedBackend | RunBackend):
        raise SerError(
            f"{predictor.name} cannot be exported; allowed: fine-tuned models, runs, emotion2vec+"
        )
    if backend.device != "cpu":
        raise SerError("ONNX export is from the CPU: load the model with device='cpu'")
    also = predictor.also
    facts = FileFacts(
        labels=",".join(predictor.labels),
        name=predictor.name,
        threshold=repr(predictor.threshold),
        sides=",".join(predictor.modalities),
        card=predictor.card,
        scale=",".join(map(repr, predictor.scale or (also.scale if also else ()))),
        attributes=",".join(also.labels) if also else "",
    )
    if isinstance(backend, TunedBackend):
        return _of_tuned(backend, part, vars(facts))
    return _of_run(backend, part, vars(facts))


def _of_tuned(backend: TunedBackend, part: Part | None, facts: dict[str, Any]) -> Graph:
    if part == "head":
        raise SerError(f"{backend.name} is one piece of encoder and head; leave --part out")
    references = backend.model.references.float()
    more = {
        "longest": str(backend.most),
        # `repr` keeps all digits of a float
        "temperature": repr(float(backend.model.temperature)),
        "canonical": "1" if backend.canonical else "",
        "shortest": str(backend.shortest),
        # little endian, whatever this machine's order: the file may be read on another one
        "references": b64encode(references.numpy().astype("<f4").tobytes()).decode(),
        "width": str(references.shape[1]),
        "shares": "" if backend.shares is None else ",".join(map(repr, backend.shares.tolist())),
    }
    shift = {"shift": torch.zeros(references.shape[1])}
    described = FileFacts(**facts | more)
    return Graph("whole", graphs.WholeTuned(backend.model), _sound() | shift, described, shift)


def _of_run(backend: RunBackend, part: Part | None, facts: dict[str, Any]) -> Graph:
    facts = facts | {"temperature": repr(float(getattr(backend.model, "temperature", 1.0)))}
    if part != "head" and (whole := _whole(backend, facts)):
        return whole
    if part == "whole":
        raise SerError(f"{backend.name} reads {' and '.join(backend.modalities)}: {_WHOLE}")
    if backend.tuned:
        raise SerError(
            f"{backend.name}: its encoder was fine-tuned, and the head alone would be used with "
            f"features of the pretrained one; {_WHOLE}. `ser predict` and `ser serve` take the run "
            "folder itself"
        )
    spec = json.dumps(as_json(backend.record.config.features))
    return Graph("head", _head(backend), _tokens(backend), FileFacts(**facts | {"features": spec}))


def _whole(backend: RunBackend, facts: dict[str, Any]) -> Graph | None:
    """The graph of a run with its encoders; None if one of them cannot be in the file."""
    encoders: list[graphs.Tokens] = []
    inputs: dict[str, Tensor] = {}
    for modality in backend.modalities:
        features = backend.features[modality]
        graph = _frames(features.encoder)
        if graph is None:
            return None
        frames, more = graph
        encoders.append(graphs.Tokens(frames, features.described, modality))
        if modality == "text":
            inputs["ids"] = torch.ones(3, 7, dtype=torch.int64)
            inputs["pieces"] = torch.tensor([7, 3, 0])
        else:
            inputs |= _sound(equal=bool(more["alone"]))
        facts = facts | more
    module = graphs.WholeRun(encoders, _head(backend))
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    return Graph("whole", module, inputs, FileFacts(**facts)) if size < _MOST_BYTES else None


def _frames(encoder: Encoder | None) -> tuple[nn.Module, dict[str, str]] | None:
    """Returns an encoder's graph and fields of `FileFacts` about its input; None if it has none."""
    if encoder is None or computed_in(encoder) != "float32":
        return None
    if isinstance(encoder, PretrainedText):
        if not encoder.tokenizer.is_fast:  # its pieces could not be made without transformers
            return None
        tokenizer = encoder.tokenizer.backend_tokenizer.to_str()
        facts = {
            "tokenizer": tokenizer,
            "pieces": str(encoder.most_pieces),
            "prefix": encoder.prefix,
        }
        return graphs.TextFrames(encoder), facts
    if isinstance(encoder, Whisper):
        return graphs.WhisperFrames(encoder), {"longest": str(encoder.most), "alone": ""}
    if isinstance(encoder, Emotion2Vec):
        frames: nn.Module = graphs.Emotion2VecFrames(encoder)
        longest = encoder.whole * STRIDE
    elif isinstance(encoder, PretrainedSpeech) and encoder.network.kind in _EXPORTED:
        frames, longest = graphs.SpeechFrames(encoder), encoder.whole * encoder.network.stride
    else:
        return None
    return frames, {"longest": str(longest), "alone": "1"}  # alone: recordings of equal lengths


def _head(backend: RunBackend) -> nn.Module:
    if len(backend.modalities) == 2:
        return graphs.BothModalities(backend.model)
    modality = backend.modalities[0]
    other = "audio" if modality == "text" else "text"
    return graphs.OneModality(backend.model, modality, backend.features[other].described.dim)


def _sound(equal: bool = False) -> dict[str, Tensor]:
    """Example inputs of sound; `equal` for networks that need equal lengths."""
    lengths = torch.tensor([16_000] * 3 if equal else [16_000, 9_999, 12_345])
    return {"waves": 0.1 * torch.randn(3, 16_000), "lengths": lengths}


def _tokens(backend: RunBackend) -> dict[str, Tensor]:
    """Example inputs of a head."""
    inputs: dict[str, Tensor] = {}
    for modality in backend.modalities:
        dim = backend.features[modality].described.dim
        tokens = torch.randn(3, 5 if modality == "text" else 7, dim)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        inputs |= {modality: tokens, f"{modality}_mask": mask}
    return {name: inputs[name] for name in HEAD_INPUTS if name in inputs}
