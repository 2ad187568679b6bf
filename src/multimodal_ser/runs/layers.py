"""The weights of an encoder's layers in models with a learnt sum of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from torch import nn

from multimodal_ser.config.record import FeatureSpec, LayerWeights
from multimodal_ser.models.fusion import Ensemble
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import CONFIG


def layers_of(described: FeatureSpec | None) -> tuple[str, ...]:
    """The layers of an encoder that features consist of; empty for imported features."""
    return tuple(described.layers.split(",")) if described and described.weights else ()


def learnt_layers(model: nn.Module, features: Mapping[str, FeatureSpec | None]) -> LayerWeights:
    """Modality → layer of its encoder → the weight that a model has learnt for it."""
    found = {}
    for module in model.modules():
        if isinstance(module, Ensemble):
            for name, weights in module.layer_weights().items():
                found[name] = dict(zip(layers_of(features[name]), weights, strict=True))
    return found


def layer_lines(runs: Sequence[Path]) -> list[str]:
    """Mean weights of the layers over runs with a learnt sum, as one line per modality."""
    found: dict[str, dict[str, list[float]]] = {}
    for folder in runs:
        for modality, weights in read_record(folder / CONFIG).layer_weights.items():
            for layer, weight in weights.items():
                found.setdefault(modality, {}).setdefault(layer, []).append(weight)
    return [
        f"learnt weights of the {modality} layers: "
        + ", ".join(f"{layer}: {mean(values):.3f}" for layer, values in layers.items())
        for modality, layers in found.items()
    ]
