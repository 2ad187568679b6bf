"""a run + its test rows → the modalities, moments and features that its predictions depend on.

An input is removed or replaced, and what the true class loses is measured in nats: the mean of
log p(true class) before, minus after. To check that such a measure depends on what the network has
learnt, it is repeated with a network whose weights were shuffled (Adebayo et al., 2018, "Sanity
Checks for Saliency Maps").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_ser.common.arrays import Floats
from multimodal_ser.corpora.labels import ClassSet, class_set
from multimodal_ser.dataset.examples import MODALITIES, Examples, Modality
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.attention import MOMENTS, Maps, attention_maps, moments_of
from multimodal_ser.experiments.loading import load_described
from multimodal_ser.models.fusion import reads_dialogue
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import CONFIG, MODEL, PREDICTIONS
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.runs.predictions import read_predictions
from multimodal_ser.training.loop import predict

_PARTS = 16  # groups of neighbouring features, where there are too many to list each
_ONE_BY_ONE = 128  # up to so many features, each is listed by itself
_Loss = float | None
_Losses = dict[str, _Loss]


@dataclass(frozen=True)
class Explanation:
    """What the predictions of a run depend on; losses are in nats of log p(true class).

    A loss is None if the network gives no finite outputs without what is removed, as one of a
    user's own may that needs both modalities.

    Attributes:
        utterances: number of utterances that the losses are means over.
        modalities: modality → loss if it is hidden, and if it is taken from another utterance.
        moments: modality → losses if a fifth of the utterance is hidden, from the first to the
            last; empty for pooled features.
        features: modality → feature, or range of features → loss if it is taken from another
            utterance (permutation importance; Breiman, 2001), the largest first.
        likeness: correlation of all these losses with those of the shuffled network; near 0 if the
            losses depend on what the network has learnt.
        attention: what `attention_maps` returns; empty without attention over several tokens.
        attention_likeness: correlation of these maps with those of the shuffled network.
    """

    utterances: int
    modalities: Mapping[str, Mapping[str, _Loss]]
    moments: Mapping[str, Sequence[_Loss]]
    features: Mapping[str, Mapping[str, _Loss]]
    likeness: float
    attention: Maps
    attention_likeness: float


def explain(
    folder: Path, features: Path, labels: ClassSet | None = None, seed: int = 0
) -> Explanation:
    """Explains a run over features on its own test rows.

    Args:
        folder: the run.
        features: the corpus's features that it was trained on.
        labels: the class set; default: the run's own.
        seed: of the random permutations.

    Raises:
        SerError: the run has no model over features, or these are not its features.
    """
    if not (folder / CONFIG).is_file():
        raise SerError(f"{folder}: no run folder; give one that `ser train` made")
    config = read_record(folder / CONFIG).config
    if config.train.tune is not None:
        raise SerError(f"{folder}: a fine-tuned encoder is not explained; give a run over features")
    if reads_dialogue(config.model):
        raise SerError(f"{folder}: a network over dialogues is not explained; give another run")
    task = config.labels.task
    if config.labels.values:
        raise SerError(f"{folder}: predicts attributes, but a class is explained; give another run")
    labels = labels or class_set(config.labels.name)
    material = load_described(features, labels, config.features, task)
    _check_same(folder, config.features, material)
    rows = read_predictions(folder / PREDICTIONS, config.labels.classes, "test", task)
    # votes without agreement have no class that could lose anything
    ids = [key for key, label in zip(rows.ids, rows.truth, strict=True) if label >= 0]
    examples = material.examples.of(ids)
    model = load_model(folder / MODEL)
    other = shuffled(model, seed)
    own = measured(model, examples, seed)
    maps = attention_maps(model, examples)
    return Explanation(
        len(ids),
        *own,
        likeness=_likeness(_flat(own), _flat(measured(other, examples, seed))),
        attention=maps,
        attention_likeness=_likeness(_numbers(maps), _numbers(attention_maps(other, examples))),
    )


def _check_same(folder: Path, wanted: Mapping[str, object], material: Material) -> None:
    for modality in material.features:
        expected, found = wanted.get(modality), material.features[modality]
        if getattr(expected, "content", None) != getattr(found, "content", None):
            raise SerError(f"{folder}: was trained on other {modality} features; give those")


_Measured = tuple[dict[str, _Losses], dict[str, list[_Loss]], dict[str, _Losses]]


def measured(model: nn.Module, examples: Examples, seed: int = 0) -> _Measured:
    """The losses of `Explanation`: by modality, by moment, by feature."""
    # One permutation for all measures: "another utterance" is the same one everywhere.
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(examples.ids)))  # [N]
    truth = examples.label[:, None]  # [N, 1]

    def log_likelihood(given: Examples) -> float:
        return float(predict(model, given).log_softmax(1).gather(1, truth).mean())

    def loss(modality: str, changed: Modality) -> _Loss:
        own = modality == "audio"
        given = replace(examples, audio=changed) if own else replace(examples, text=changed)
        lost = before - log_likelihood(given)
        return lost if math.isfinite(lost) else None

    before = log_likelihood(examples)
    modalities: dict[str, _Losses] = {}
    moments: dict[str, list[_Loss]] = {}
    features: dict[str, _Losses] = {}
    for modality, given in (("audio", examples.audio), ("text", examples.text)):
        if not given.dim or modality not in getattr(model, "modalities", MODALITIES):
            continue
        modalities[modality] = {
            "hidden": loss(modality, _hidden(given, given.mask)),
            "another's": loss(modality, Modality(given.tokens[order], given.mask[order])),
        }
        if given.mask.shape[1] > 1:
            moments[modality] = [
                loss(modality, _hidden(given, moments_of(given.mask)[..., part]))
                for part in range(MOMENTS)
            ]
        features[modality] = _by_feature(given, order, partial(loss, modality))
    return modalities, moments, features


def _hidden(modality: Modality, where: Tensor) -> Modality:
    """The modality without the tokens at `where` [N, T]: masked, and zero like padding."""
    return Modality(modality.tokens * ~where[..., None], modality.mask & ~where)


def _by_feature(modality: Modality, order: Tensor, loss: Callable[[Modality], _Loss]) -> _Losses:
    width = 1 if modality.dim <= _ONE_BY_ONE else -(-modality.dim // _PARTS)
    means = modality.tokens.sum(1) / modality.mask.sum(1, keepdim=True).clamp(min=1)
    found = {}
    for first in range(0, modality.dim, width):
        columns = slice(first, min(first + width, modality.dim))
        tokens = modality.tokens.clone()
        # Only the mean over the utterance is exchanged. Its number of tokens, and how they vary
        # around the mean, stay those of the utterance itself. One without tokens has no mean.
        both = (modality.mask & modality.mask[order].any(1, keepdim=True))[..., None]
        moved = (means[order] - means)[:, None, columns] * both
        tokens[..., columns] += moved
        name = f"{columns.start}" if width == 1 else f"{columns.start}-{columns.stop - 1}"
        found[name] = loss(Modality(tokens, modality.mask))
    return dict(sorted(found.items(), key=lambda item: -math.inf if item[1] is None else -item[1]))


def shuffled(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of the model in which the entries of every matrix are permuted.

    The distribution of the weights stays, so that outputs stay in a usual range; what was learnt is
    lost. Input statistics are kept.
    """
    made = deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*made.named_parameters(), *made.named_buffers()]:
            # Matrices only: biases and norms are small, and the standardisation must keep its
            # meaning.
            if value.is_floating_point() and value.ndim > 1 and "standard" not in name:
                flat = value.flatten()
                value.copy_(flat[torch.randperm(len(flat), generator=draw)].view_as(value))
    return made


def _likeness(first: Floats, second: Floats) -> float:
    """The correlation of two lists of numbers, where both are known; 0 if one is constant."""
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < 2 or not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _numbers(maps: Maps) -> Floats:
    return np.array([x for name in sorted(maps) for row in maps[name] for x in row], np.float64)


def _flat(found: _Measured) -> Floats:
    modalities, moments, features = found
    # Sorted: features are listed by their loss, so in another order for another network.
    named = [sorted(one[name].items()) for one in (modalities, features) for name in sorted(one)]
    parts = [loss for losses in named for _, loss in losses]
    parts += [loss for name in sorted(moments) for loss in moments[name]]
    return np.array(parts, np.float64)
