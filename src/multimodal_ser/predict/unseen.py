"""Vectors of several corpora → the scores of a linear probe on corpora that it was not trained on.

Every corpus is left out in turn and predicted by a probe of the others: recording by recording, and
after its channel was estimated from some of its recordings, without their labels, and removed.
Corpora for evaluation alone are predicted but never learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from multimodal_ser.common.arrays import Floats, Ints
from multimodal_ser.common.spelling import alike
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.statistics import LEAST_CLUSTERS, LEAST_EFFECTIVE, clustered_interval
from multimodal_ser.predict.channel import channel_shift
from multimodal_ser.training.schedule import TEMPERATURES
from multimodal_ser.training.tune.probe import Probe, ProbeConfig, Vectors, fit_probe, side_by_side

RIGHT = 0.8  # share of the predictions above the threshold that must be right
_SIZES = (10, 50, 200, 500)  # recordings from which a channel is estimated
_MAIN = 0.8  # share of a skewed set that is of one class
_DRAWS = 10  # random sets per size


@dataclass(frozen=True)
class LeftOut:
    """A corpus and the probe of the others that predicts it.

    Attributes:
        corpus: its name.
        probe: trained without it.
        vectors: of the unchanged recordings, [N, A].
        label: class ids [N].
        speaker: names [N].
    """

    corpus: str
    probe: Probe
    vectors: Floats
    label: Ints
    speaker: NDArray[np.str_]

    def logits(self, temperature: float, shift: NDArray[np.floating] | float = 0.0) -> Floats:
        """Logits of all recordings [N, C], after a channel's shift was subtracted."""
        return self.probe.logits(self.vectors - shift, temperature)

    def of(self, classes: Sequence[int]) -> LeftOut:
        """The same with only the recordings of some classes."""
        keep = np.isin(self.label, classes)
        rows = (self.vectors[keep], self.label[keep], self.speaker[keep])
        return LeftOut(self.corpus, self.probe, *rows)


def leave_one_out(
    data: Vectors,
    learn: Sequence[str],
    config: ProbeConfig,
    classes: int,
    test_classes: Sequence[int] = (),
) -> list[LeftOut]:
    """Fits one probe for each corpus, on the other corpora that may be learnt from.

    Args:
        data: all corpora; changed copies of recordings are only learnt from, never predicted.
        learn: names of two or more corpora that may be learnt from; the others are for evaluation.
        config: of the probes.
        classes: number of classes; a corpus for evaluation may lack some of them.
        test_classes: only recordings of these classes are predicted, so that corpora compare;
            empty for all. The prediction can be any class.

    Raises:
        SerError: a name is unknown, or fewer than two corpora may be learnt from.
    """
    names = list(dict.fromkeys(data.corpus.tolist()))
    if strange := [name for name in learn if name not in names]:
        raise SerError(one_of("corpus", strange[0], names))
    if len(set(learn)) < 2:
        raise SerError(f"corpora to learn from: {list(learn)}; allowed: two or more")
    found, fitted = [], {}
    for name in names:
        sources = tuple(one for one in learn if one != name)
        if sources not in fitted:  # all corpora for evaluation share one probe
            part = data.where(np.isin(data.corpus, sources))
            fitted[sources] = fit_probe(part, config, classes)
        own = data.where((data.corpus == name) & (data.change == "none"))
        points = fitted[sources].vectors(side_by_side(own, config.layers))
        whole = LeftOut(name, fitted[sources], points, own.label, own.speaker)
        found.append(whole.of(test_classes) if test_classes else whole)
    return found


@dataclass(frozen=True)
class Calibration:
    """Calibration of a probe for corpora that it was not trained on.

    Attributes:
        temperature: factor of the logits.
        threshold: confidence below which a prediction is ``uncertain``.
    """

    temperature: float
    threshold: float


def calibrate_on(left_out: Sequence[LeftOut], right: float = RIGHT) -> Calibration:
    """Chooses the temperature and the threshold on the left-out corpora, each with equal weight.

    Args:
        left_out: the left-out corpora that may be learnt from.
        right: share of the predictions above the threshold that must be right, averaged over the
            corpora.
    """

    def loss(temperature: float) -> float:
        logs = [log_softmax(one.logits(temperature), axis=1) for one in left_out]
        own = [row[np.arange(len(row)), one.label] for one, row in zip(left_out, logs, strict=True)]
        return float(np.mean([-part.mean() for part in own]))

    # The temperature first, since the threshold is a confidence after calibration.
    temperature = float(min(TEMPERATURES, key=loss))
    shares = [softmax(one.logits(temperature), axis=1) for one in left_out]

    def accuracy(threshold: float) -> float:
        found = []
        for one, predicted in zip(left_out, shares, strict=True):
            above = predicted.max(1) >= threshold
            found.append(np.mean((predicted.argmax(1) == one.label)[above]) if above.any() else 1.0)
        return float(np.mean(found))

    fitting = (threshold for threshold in np.arange(0, 1, 0.01) if accuracy(threshold) >= right)
    return Calibration(temperature, round(float(next(fitting, 0.99)), 2))


def scores(
    one: LeftOut, calibration: Calibration, shift: NDArray[np.floating] | float = 0.0
) -> dict[str, Any]:
    """UA with its interval over speakers, ECE, confidence, and accuracy above the threshold.

    UA is over the classes that the corpus has; a prediction of another class is wrong.
    """
    shares = softmax(one.logits(calibration.temperature, shift), axis=1)
    found = judged(shares, one.label, one.speaker, calibration.threshold)
    return {**found, "distance": float(one.probe.distance(one.vectors - shift).mean())}


def judged(
    shares: NDArray[np.floating],
    label: Ints,
    speaker: NDArray[np.str_],
    threshold: float,
) -> dict[str, Any]:
    """The scores of `scores`, computed from probabilities [N, C]."""
    group = np.unique(speaker, return_inverse=True)[1]
    count = int(group.max()) + 1
    sums = metrics.grouped_confusion(
        label, shares.argmax(1), group, classes=shares.shape[1], groups_total=count
    )
    right = shares.argmax(1) == label
    above = shares.max(1) >= threshold
    scores_found: dict[str, Any] = {
        "n": len(label),
        "speakers": count,
        "classes": len(set(label.tolist())),
        "ua": float(metrics.ua(sums.sum(0))),
        "ece": float(metrics.ece(shares, label)),
        "confidence": float(shares.max(1).mean()),
        "threshold": threshold,
        "coverage": float(above.mean()),
        "accuracy_above": float(right[above].mean()) if above.any() else None,
    }
    if count >= LEAST_CLUSTERS:
        interval = clustered_interval(sums[:, None], metrics.ua)
        known = interval.effective >= LEAST_EFFECTIVE
        scores_found |= {"low": interval.low, "high": interval.high} if known else {}
    return scores_found


@dataclass(frozen=True)
class Adapted:
    """UA after the channel was estimated from a set of unlabelled recordings and removed.

    Attributes:
        before: UA of all recordings without adaptation.
        mixed: number of recordings → UA with sets that have the class frequencies of the corpus.
        skewed: number of recordings → main class → UA with sets that are mostly that class.
    """

    before: float
    mixed: Mapping[int, float] = field(default_factory=dict)
    skewed: Mapping[int, Mapping[int, float]] = field(default_factory=dict)


def adapted(
    one: LeftOut, temperature: float, *, sizes: Sequence[int] = _SIZES, draws: int = _DRAWS
) -> Adapted:
    """Estimates the channel from random sets and predicts the recordings that are not in them.

    Sizes of more than half of the corpus are skipped, and so are skewed sets for which a class has
    too few recordings.
    """
    rng = np.random.default_rng(0)
    base = one.logits(temperature)
    mixed: dict[int, float] = {}
    skewed: dict[int, dict[int, float]] = {}
    for size in (size for size in sizes if 2 * size <= len(one.label)):
        drawn = [rng.permutation(len(one.label))[:size] for _ in range(draws)]
        mixed[size] = _after(one, temperature, drawn)
        for main in sorted(set(one.label.tolist())):
            of_it = np.flatnonzero(one.label == main)
            rest = np.flatnonzero(one.label != main)
            most = round(_MAIN * size)
            if 2 * most > len(of_it):
                continue
            drawn = [
                np.concatenate(
                    [rng.permutation(of_it)[:most], rng.permutation(rest)[: size - most]]
                )
                for _ in range(draws)
            ]
            skewed.setdefault(size, {})[main] = _after(one, temperature, drawn)
    return Adapted(_ua(one.label, base.argmax(1)), mixed, skewed)


def _after(one: LeftOut, temperature: float, drawn: Sequence[Ints]) -> float:
    """UA of all recordings plus the mean gain of those outside each drawn set.

    The gain is measured on the same recordings before and after. Adding it to the UA of all makes
    numbers comparable between sizes, whose remaining recordings differ.
    """
    before, found = one.logits(temperature).argmax(1), []
    for chosen in drawn:
        shift = channel_shift(one.vectors[chosen], one.probe.references, one.probe.shares)
        left = np.ones(len(one.label), dtype=bool)
        left[chosen] = False
        after = one.logits(temperature, shift).argmax(1)
        found.append(_ua(one.label[left], after[left]) - _ua(one.label[left], before[left]))
    return _ua(one.label, before) + float(np.mean(found))


def _ua(label: Ints, predicted: Ints) -> float:
    return float(np.mean([np.mean(predicted[label == k] == k) for k in np.unique(label)]))


def protocol(
    data: Vectors,
    learn: Sequence[str],
    config: ProbeConfig,
    classes: Sequence[str],
    *,
    sizes: Sequence[int] = _SIZES,
    test_classes: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole protocol: every corpus left out, scored, and adapted; see `leave_one_out`.

    Temperature and threshold are chosen on the corpora that may be learnt from, each left out. For
    one of these, they are chosen on the others alone, as if it were not there, if those are two or
    more: see `calibrated_apart`.

    Returns ``calibration``, and corpus → ``single`` (see `scores`) and ``adapted`` (see `Adapted`).
    """
    tested = [classes.index(one) for one in test_classes]
    left_out = leave_one_out(data, learn, config, len(classes), tested)
    calibration = calibrate_on([one for one in left_out if one.corpus in learn])
    found = {}
    for one in left_out:
        own, others = calibration, [name for name in learn if name != one.corpus]
        if one.corpus in learn and calibrated_apart(learn):
            part = data.where(np.isin(data.corpus, others))
            own = calibrate_on(leave_one_out(part, others, config, len(classes), tested))
        after = asdict(adapted(one, own.temperature, sizes=sizes))
        skewed = after["skewed"].items()
        after["skewed"] = {size: {classes[k]: ua for k, ua in by.items()} for size, by in skewed}
        found[one.corpus] = {"single": scores(one, own), "adapted": after}
    return {"calibration": asdict(calibration), "corpora": found}


def calibrated_apart(learn: Sequence[str]) -> bool:
    """Whether no corpus's own labels choose its temperature and threshold.

    Without one of two corpora, none is left that a probe of the other could be calibrated on.
    """
    return len(set(learn)) > 2


def of_material(material: Material) -> Vectors:
    """The pooled audio features of a material, as one layer.

    Raises:
        SerError: it has none.
    """
    if material.features["audio"] is None:
        raise SerError("a probe reads audio features, and these have none; extract with --audio")
    rows = material.utterances
    return Vectors(
        material.examples.audio.pooled()[:, None],
        material.examples.label.numpy(),
        np.array([row.corpus for row in rows]),
        np.array([f"{row.corpus}/{alike(row.speaker or '')}" for row in rows]),
        np.full(len(rows), "none"),
    )
