"""A fitted model ↔ model.safetensors, whose header has everything that loading needs.

Of a model with a learnt sum of layers, its run's record has the weights of the layers, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from multimodal_ser.common.files import tensors_header
from multimodal_ser.common.plugins import code_of
from multimodal_ser.config.record import FeatureSpec, LayerWeights, RunConfig, Training, as_json
from multimodal_ser.config.settings import ModelConfig, TuneConfig
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.models.adapters import ADAPTERS
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import CONFIG
from multimodal_ser.training.baselines import BASELINES, Linear, Svm
from multimodal_ser.training.losses import functions_of
from multimodal_ser.training.regressors import REGRESSORS, Ridge, Svr
from multimodal_ser.training.stacking import STACKED, Stacked, build_stacked
from multimodal_ser.training.tune.changes import save_changes
from multimodal_ser.training.tune.encoders import TunedEncoders
from multimodal_ser.training.tune.tuned import Tuned, save_tuned

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material


def save_model(model: nn.Module, path: Path, config: RunConfig, dims: Dims) -> None:
    """Writes the tensors of a model, and everything that loading needs into the file's header.

    A fine-tuned encoder is written by `tuned.save_tuned`, and read like the starter model.
    """
    if isinstance(model, Tuned):
        save_tuned(model, path, half=False)
        return
    name, network = config.model, config.train.network
    if isinstance(model, TunedEncoders):
        # Encoders keep their published weights; only what changed is stored with the run.
        for modality, encoder in model.networks.items():
            saw = {"tuned on": list(config.corpora), "labels": config.labels.name}
            how = config.train.tune or TuneConfig()
            save_changes(encoder, how, {**model.about, **saw}, changes_of(path.parent, modality))
        name, network, model = model.kind, model.network, model.head
    header = {
        "model": name,
        "classes": list(config.labels.classes),
        "dims": dims._asdict(),
        "network": as_json(network),
        "features": as_json(config.features),
    }
    # One metadata entry: the library writes several in no fixed order, and equal runs should be
    # equal byte by byte.
    if values := getattr(model, "values", 0):
        header["values"] = values
    # clones: safetensors refuses tensors that share memory, such as tied weights
    tensors = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
    path.write_bytes(save(tensors, {"run": json.dumps(header)}))


def changes_of(folder: Path, modality: str) -> Path:
    """The file with the changes of a run's fine-tuned encoder; it only exists if there are any."""
    return folder / f"encoder-{modality}.safetensors"


def load_model(path: Path) -> nn.Module:
    """Reads a run's model over features, ready to predict; `tuned.load_tuned` reads encoders.

    Raises:
        SerError: the file is not a model of this project.
    """
    try:
        header, state = tensors_header(path, "run"), load_file(path)
        dims, name = Dims(**header["dims"]), header["model"]
        network = header["network"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise SerError(
            f"{path}: not a model of a run folder, or damaged ({error!r}); delete the folder "
            f"{path.parent} and rerun the command that made it, which makes only that run"
        ) from error
    config = ModelConfig(**network) if network else ModelConfig()
    values = header.get("values", 0)
    values = dims.classes if values is True else values  # an earlier version wrote that all are
    model = build_model(name, dims, config, state, values=values)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise SerError(f"{path}: made by another version of this project; train again") from error
    return model.eval()


def build_model(
    name: str,
    dims: Dims,
    config: ModelConfig,
    state: Mapping[str, Tensor] | None = None,
    *,
    values: int = 0,
) -> Ensemble | Linear | Svm | Stacked | Ridge | Svr:
    """Makes an untrained model by name; the sizes of a fitted svm or stack come from its state.

    The last `values` outputs of a network are attributes.
    """
    if name in REGRESSORS:
        supports = state["dual"].shape[1] if name == "svr" and state else 0
        return REGRESSORS[name](dims, vectors=supports)
    if name == "svm":
        pairs, vectors = state["dual"].shape if state else (0, 0)
        return Svm(dims, vectors=vectors, pairs=pairs)
    if name == STACKED:
        return build_stacked(dims, config, state or {})
    if name in BASELINES:
        return BASELINES[name](dims)
    if name not in MODELS:
        raise SerError(
            f"{one_of('model', name, (*MODELS, STACKED, *BASELINES))}; docs/models.md: add one"
        )
    return Ensemble(MODELS[name], dims, config, values)


def own_code(model: str, train: Training) -> str:
    """The hash of the code of a user's model, adaptation and loss; empty if none is a user's."""
    adapter = train.adaptation and ADAPTERS.get(train.adaptation.method)
    return code_of(MODELS.get(model), adapter, *functions_of(train.schedule.loss))


def layers_of(described: FeatureSpec | None) -> tuple[str, ...]:
    """The layers of an encoder that features consist of; empty for imported features."""
    return tuple(described.layers.split(",")) if described and described.weights else ()


def dims_of(material: Material) -> Dims:
    """The sizes of a network for a material."""
    examples, classes = material.examples, len(material.labels.classes)
    layers = (max(1, len(layers_of(material.features[name]))) for name in ("text", "audio"))
    return Dims(examples.text.dim, examples.audio.dim, classes, *layers)


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
