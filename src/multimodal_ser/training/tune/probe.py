"""Vectors of several corpora → a linear probe of what the corpora have in common.

Logistic regression on the axes of a linear discriminant analysis (Fisher, 1936; regularised after
Friedman, 1989). Each corpus is centred by itself, so that differences between corpora are not
learnt as differences between classes. Directions in which corpora differ, or in which altered
copies of a recording differ from it, count as noise: a weight in a noisy direction costs the
regression more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from multimodal_ser.common.arrays import Bools, Floats, Ints, Samples, Singles
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.errors import SerError
from multimodal_ser.training.tune.numpy_probe import NEAREST
from multimodal_ser.training.tune.tuned import Tuned, log_mels, real_frames


@dataclass(frozen=True)
class Vectors:
    """Layer means with everything that a probe learns from.

    Attributes:
        mean: [N, layers, dim] float32.
        label: class ids [N].
        corpus: names [N].
        speaker: names [N], unique over corpora.
        change: how each recording was altered, ``none`` if it was not, [N].
    """

    mean: Singles
    label: Ints
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    change: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, keep: Bools) -> Vectors:
        """The rows where `keep` is True."""
        return Vectors(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Sequence[Vectors]) -> Vectors:
        """Concatenates parts."""
        names = Vectors.__dataclass_fields__
        return Vectors(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def layer_means(network: WhisperEncoder, waves: Sequence[Samples]) -> Tensor:
    """The means over time of every layer, [N, layers, dim], for canonical waveforms."""
    device = network.positions.device
    mel, lengths = (part.to(device) for part in log_mels(waves, network.conv1.in_channels))
    outputs = network(mel, lengths)
    mask = real_frames(outputs[0], lengths).float()
    return torch.stack([(x.float() * mask).sum(1) / mask.sum(1) for x in outputs], 1).cpu()


@dataclass(frozen=True)
class ProbeConfig:
    """The settings of a probe.

    Attributes:
        layers: layers of the encoder, counted from 1, whose means are concatenated.
        axes: number of principal axes that are kept; the variance of the others is mostly noise.
        shrinkage: share of the mean variance that is added in every direction.
        channel: weight of the differences between corpora in the noise.
        weight: a corpus counts by its number of recordings to this power: 0 gives all corpora the
            same weight; with 1 a small one hardly counts.
        trust: inverse of the penalty on the regression's weights (C), where the recordings together
            weigh 1.
        odds: assumed relative frequencies of the classes where the probe is used; empty for equal
            ones.
    """

    layers: tuple[int, ...] = (2, 3, 4)
    axes: int = 300
    shrinkage: float = 1.0
    channel: float = 1.0
    weight: float = 0.5
    trust: float = 1.0
    odds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Probe:
    """A linear probe, which also measures how far a recording is from its training data.

    Attributes:
        white: from layer means to axes, [A, D]: the noise is equal in all directions there, and the
            training data has a mean square of 1.
        middle: offset of these axes, [A].
        span: from these axes to the embedding, [H, A].
        origin: offset of the embedding, [H].
        weight: from the embedding to the logits, [C, H].
        bias: of the logits, [C].
        references: centre of each class on the axes, [C, A]; the nearest is the prediction.
        shares: assumed frequencies of the classes, [C], which sum to 1.
    """

    white: Floats
    middle: Floats
    span: Floats
    origin: Floats
    weight: Floats
    bias: Floats
    references: Floats
    shares: Floats

    def vectors(self, means: NDArray[np.floating]) -> Floats:
        """Concatenated layer means [N, D] → vectors on the axes [N, A], which a channel shifts."""
        return means @ self.white.T + self.middle

    def embed(self, vectors: NDArray[np.floating]) -> Floats:
        """Vectors [N, A] → embeddings [N, H]."""
        return vectors @ self.span.T + self.origin

    def distance(self, vectors: NDArray[np.floating]) -> Floats:
        """Distance of vectors [N, A] from the training data: their mean square, 1 in training."""
        return np.square(vectors).mean(1)

    def logits(self, vectors: NDArray[np.floating], temperature: float = 1.0) -> Floats:
        """Vectors [N, A] → logits [N, C].

        The scores of the regression are divided by the distance. A recording that is unlike the
        training data varies more on all axes, and so, to the same extent, on those that tell its
        class. The log frequencies of the classes are added afterwards (Bayes' rule), so they count
        the more, the farther a recording is from the training data.
        """
        raw = self.embed(vectors) @ self.weight.T + self.bias
        factor = temperature / np.maximum(self.distance(vectors), NEAREST)
        return raw * factor[:, None] + np.log(self.shares)


def fit_probe(data: Vectors, config: ProbeConfig, classes: int) -> Probe:
    """Fits a probe, without randomness.

    Each kind of altered copies of a corpus is a part of its own, beside the unchanged recordings.
    What an alteration does to all of them then counts as noise, and the regression also learns from
    the copies.

    Args:
        data: of one or several corpora, with all altered copies that are to be learnt from.
        config: the settings.
        classes: number of classes; every part needs recordings of each.

    Raises:
        SerError: a part lacks a class, or there are not as many odds as classes.
    """
    odds = np.asarray(config.odds or np.ones(classes))
    if len(odds) != classes or not (odds > 0).all():
        raise SerError(f"odds: {config.odds}; allowed: {classes} numbers above zero, one per class")
    names = list(dict.fromkeys(zip(data.corpus.tolist(), data.change.tolist(), strict=True)))
    means = side_by_side(data, config.layers)
    parts = [_Part.of(means, data, name, classes) for name in names]
    share = _shares(data, names, config.weight)
    # Every corpus has the same weight in the common centre, however large it is.
    middle = np.mean([part.middle for part in parts if part.unchanged], axis=0)
    white = _axes(parts, share, middle, config, classes)
    # Copies are centred on the unchanged recordings of their corpus, not on their own mean: how an
    # alteration shifts them must stay visible to the regression.
    centre = {part.corpus: part.middle for part in parts if part.unchanged}
    inputs = [(part.x + part.middle - centre[part.corpus]) @ white.T for part in parts]
    weights, bias = _regression(inputs, [part.label for part in parts], share, config.trust)
    centres = _weighted_sum(share, [part.class_means(classes) for part in parts]) @ white.T
    references = _references(weights, bias, centres)
    # The logits differ only within the C − 1 dimensions that the class weights span; the embedding
    # is their coordinates, with the mean reference as its origin.
    origin, span = references.mean(0), np.linalg.svd(weights)[2][: classes - 1]
    return Probe(
        white=white,
        middle=-white @ middle,
        span=span,
        origin=-span @ origin,
        weight=weights @ span.T,
        bias=bias + weights @ origin,
        references=references,
        shares=odds / odds.sum(),
    )


def _axes(
    parts: Sequence[_Part], share: Floats, middle: Floats, config: ProbeConfig, classes: int
) -> Floats:
    """The projection [A, D] to axes on which the noise is equal in all directions."""
    # Features are standardised first: principal axes would otherwise follow the largest of them.
    scale = 1 / (np.sqrt(_weighted_sum(share, [part.x.var(0) for part in parts])) + 1e-6)
    covariance = _weighted_sum(share, [np.cov((part.x * scale).T) for part in parts])
    axes = scale[:, None] * np.linalg.eigh(covariance)[1][:, -config.axes :]
    # Noise: scatter within classes, differences between corpora, and an equal amount everywhere.
    noise = _weighted_sum(share, [np.cov((part.residual(classes) @ axes).T) for part in parts])
    level = float(np.diag(noise).mean())
    apart = np.stack([part.middle - middle for part in parts]) @ axes
    noise = noise + config.channel * apart.T @ apart / len(parts)
    # Dividing by the root of the noise's eigenvalues makes it the same in all directions.
    variances, directions = np.linalg.eigh(noise + config.shrinkage * level * np.eye(len(noise)))
    white = (axes @ (directions / np.sqrt(variances))).T
    # The training data gets a mean square of 1, the unit of `Probe.distance`.
    squares = [np.square((part.x + part.middle - middle) @ white.T).mean() for part in parts]
    white = white / np.sqrt(float(_weighted_sum(share, squares)))
    # Rounded to the 16 bits of a model's file here, before the offset is computed from it: rounding
    # it later would shift what the offset has to cancel.
    return np.asarray(white.astype(np.float16), np.float64)


def _references(weights: Floats, bias: Floats, centres: Floats) -> Floats:
    """The points [C, A] for which the nearest one is the regression's prediction.

    They are in the directions of its weights, as far from each other as the means of the classes.
    Minus half the squared distance to a point is the logit of its class, up to the scale and to
    what all classes have in common.
    """
    # −½ ‖x − r‖² = x·r − ½ ‖r‖² − ½ ‖x‖². With r = scale · w plus a common offset, x·r is the
    # scaled logit, and the offset is solved for such that −½ ‖r‖² gives the biases.
    apart = (centres - centres.mean(0)) @ weights.T
    scale = float(np.trace(apart) / np.square(weights).sum())
    wanted = bias + scale * np.square(weights).sum(1) / 2
    offset = np.linalg.pinv(weights) @ (wanted.mean() - wanted)
    return offset + scale * weights


def _regression(
    inputs: Sequence[Floats], label: Sequence[Ints], share: Floats, trust: float
) -> tuple[Floats, Floats]:
    """Weights [C, A] and biases [C], with mean 0 over the classes; parts count by their share."""
    sizes = [len(x) for x in inputs]
    weight = np.repeat(share / sizes, sizes)
    regression = LogisticRegression(C=trust, max_iter=200, tol=1e-5)
    regression.fit(np.concatenate(inputs), np.concatenate(label), weight)
    weights, bias = regression.coef_, regression.intercept_
    # For two classes scikit-learn keeps only the weights of the second.
    if len(weights) == 1:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights - weights.mean(0), bias - bias.mean()


def _rows(data: Vectors, name: tuple[str, str]) -> Bools:
    """Which rows belong to a part: a corpus, and how its recordings were altered."""
    return (data.corpus == name[0]) & (data.change == name[1])


def _shares(data: Vectors, names: Sequence[tuple[str, str]], power: float) -> Floats:
    """The weight of each part: its share of its corpus, times the weight of the corpus."""
    weights = []
    for corpus, change in names:
        unchanged = _rows(data, (corpus, "none")).sum()
        share = _rows(data, (corpus, change)).sum() / (data.corpus == corpus).sum()
        weights.append(share * unchanged**power)
    return np.array(weights) / sum(weights)


def side_by_side(data: Vectors, layers: Sequence[int]) -> Floats:
    """The concatenated means of some layers, [N, layers · dim] in double precision."""
    chosen = data.mean[:, [layer - 1 for layer in layers]].astype(np.float64)
    return chosen.reshape(len(chosen), -1)


@dataclass(frozen=True)
class _Part:
    """The recordings of a corpus that were altered in the same way.

    Attributes:
        corpus: its name.
        unchanged: whether they are the unaltered recordings.
        x: layer means minus `middle`, [N, D].
        label: class ids [N].
        middle: the mean of the class means [D].
    """

    corpus: str
    unchanged: bool
    x: Floats
    label: Ints
    middle: Floats

    @classmethod
    def of(cls, means: Floats, data: Vectors, name: tuple[str, str], classes: int) -> _Part:
        corpus, change = name
        rows = _rows(data, name)
        x, label = means[rows], data.label[rows]
        if lacking := sorted(set(range(classes)) - set(label.tolist())):
            raise SerError(
                f"{corpus} has no recording of class {lacking[0]}; a probe needs every class in "
                "every corpus: leave the corpus out, or choose other classes"
            )
        middle = np.mean([x[label == k].mean(0) for k in range(classes)], axis=0)
        return cls(corpus, change == "none", x - middle, label, middle)

    def class_means(self, classes: int) -> Floats:
        return np.stack([self.x[self.label == k].mean(0) for k in range(classes)])

    def residual(self, classes: int) -> Floats:
        return self.x - self.class_means(classes)[self.label]


def _weighted_sum(share: Floats, parts: Sequence[Any]) -> Floats:
    return np.asarray(sum(weight * part for weight, part in zip(share, parts, strict=True)))


def model_of(
    probe: Probe,
    encoder: WhisperEncoder,
    classes: Sequence[str],
    temperature: float = 1.0,
    threshold: float = 0.0,
    *,
    about: dict[str, Any] | None = None,
) -> Tuned:
    """Joins a probe to its encoder, whose last three blocks it reads.

    Args:
        probe: fitted on the means of these blocks.
        encoder: cut after the last of them.
        classes: class names in the probe's order.
        temperature: factor of the logits.
        threshold: confidence below which a prediction is ``uncertain``.
        about: what else its file says, see `Tuned`.
    """
    model = Tuned(encoder, classes, len(probe.origin), about=about, axes=len(probe.middle))
    numbers = {
        "head.weight": probe.white,
        "head.bias": probe.middle,
        "span.weight": probe.span,
        "span.bias": probe.origin,
        "centres": probe.references,
        "shares": probe.shares,
        "out.weight": probe.weight,
        "out.bias": probe.bias,
        "temperature": np.asarray(temperature),
        "least_confidence": np.asarray(threshold),
    }
    fitted = {key: torch.from_numpy(number) for key, number in numbers.items()}
    model.load_state_dict(model.state_dict() | fitted)
    return model.eval()
