"""Vectors of several corpora → how a probe does on corpora that it never heard.

Every corpus is left out in turn and asked about by a probe of the others: recording by recording,
and with the channel taken out by some of its recordings without their labels. Corpora that are for
evaluation alone are asked about, and never learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multimodal_ser import metrics
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.material import Material
from multimodal_ser.predict.adaptation import channel_shift
from multimodal_ser.statistics import clustered_interval
from multimodal_ser.train import likeliest_temperature
from multimodal_ser.tune.probe import Probe, ProbeConfig, fit_probe, side_by_side
from multimodal_ser.tune.vectors import Vectors

RIGHT = 0.78  # of the answers above the threshold; at 0.8 a threshold leaves next to none
SIZES = (10, 50, 200, 500)
MAIN = 0.8  # of a skewed set is one class
DRAWS = 10
LEAST_SPEAKERS = 10  # for an interval


@dataclass(frozen=True)
class LeftOut:
    """A corpus as a probe of the others hears it.

    Attributes:
        corpus: its name.
        probe: which never heard it.
        vectors: [N, A], of recordings as they are.
        label: class ids [N].
        speaker: names [N].
    """

    corpus: str
    probe: Probe
    vectors: NDArray[np.float64]
    label: NDArray[np.int64]
    speaker: NDArray[np.str_]

    def logits(self, shift: NDArray[np.floating] | float = 0.0) -> NDArray[np.float64]:
        """Of all recordings [N, C], a channel's shift taken away."""
        return self.probe.logits(self.vectors - shift)


def leave_one_out(
    data: Vectors, learn: Sequence[str], config: ProbeConfig, classes: int
) -> list[LeftOut]:
    """Fits one probe a corpus, from the others that may be learnt from.

    Args:
        data: all corpora; changed copies are learnt from alone.
        learn: names of the corpora that may be learnt from, two or more; the others are for
            evaluation.
        config: of the probes.
        classes: number of classes; a corpus may lack some where it is only asked about.

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
        if sources not in fitted:
            part = data.where(np.isin(data.corpus, sources))
            fitted[sources] = fit_probe(part, config, classes)
        mine = data.where((data.corpus == name) & (data.change == "none"))
        points = fitted[sources].vectors(side_by_side(mine, config.layers))
        found.append(LeftOut(name, fitted[sources], points, mine.label, mine.speaker))
    return found


@dataclass(frozen=True)
class Caution:
    """What keeps a probe honest on corpora that it never heard.

    Attributes:
        temperature: factor of the logits.
        threshold: the confidence below which it does not commit itself.
    """

    temperature: float
    threshold: float


def caution(heard: Sequence[LeftOut], right: float = RIGHT) -> Caution:
    """The temperature and the threshold that fit the corpora left out, each as weighty.

    Args:
        heard: of corpora that may be learnt from.
        right: share of the answers above the threshold that are right, in the mean over them.
    """
    most = max(len(one.label) for one in heard)
    rows = [np.resize(np.arange(len(one.label)), most) for one in heard]
    logits = np.concatenate([one.logits()[row] for one, row in zip(heard, rows, strict=True)])
    label = np.concatenate([one.label[row] for one, row in zip(heard, rows, strict=True)])
    temperature = likeliest_temperature(torch.from_numpy(logits), torch.from_numpy(label))
    shares = [softmax(temperature * one.logits()) for one in heard]

    def accuracy(threshold: float) -> float:
        found = []
        for one, said in zip(heard, shares, strict=True):
            above = said.max(1) >= threshold
            found.append(np.mean((said.argmax(1) == one.label)[above]) if above.any() else 1.0)
        return float(np.mean(found))

    fitting = (threshold for threshold in np.arange(0, 1, 0.01) if accuracy(threshold) >= right)
    return Caution(temperature, round(float(next(fitting, 0.99)), 2))


def scores(
    one: LeftOut, careful: Caution, shift: NDArray[np.floating] | float = 0.0
) -> dict[str, Any]:
    """UA with its interval over speakers, ECE, confidence, and what stands above the threshold.

    UA is over the classes that the corpus has; an answer of another class is wrong.
    """
    shares = softmax(careful.temperature * one.logits(shift))
    found = judged(shares, one.label, one.speaker, careful.threshold)
    return {**found, "distance": float(one.probe.distance(one.vectors - shift).mean())}


def judged(
    shares: NDArray[np.floating],
    label: NDArray[np.int64],
    speaker: NDArray[np.str_],
    threshold: float,
) -> dict[str, Any]:
    """What `scores` says, of probabilities [N, C]."""
    group = np.unique(speaker, return_inverse=True)[1]
    count = int(group.max()) + 1
    sums = metrics.grouped_confusion(
        label, shares.argmax(1), group, classes=shares.shape[1], groups_total=count
    )
    right = shares.argmax(1) == label
    above = shares.max(1) >= threshold
    said: dict[str, Any] = {
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
    if count >= LEAST_SPEAKERS:
        interval = clustered_interval(sums[:, None], metrics.ua)
        said |= {"low": interval.low, "high": interval.high}
    return said


@dataclass(frozen=True)
class Adapted:
    """UA after the channel was taken out by a set of unlabelled recordings.

    Attributes:
        before: UA of the other recordings as they are, mean over the draws.
        mixed: number of recordings → UA of the others, of sets with the corpus's own shares.
        skewed: number of recordings → main class → the same, of sets that are mostly that class.
    """

    before: float
    mixed: Mapping[int, float] = field(default_factory=dict)
    skewed: Mapping[int, Mapping[int, float]] = field(default_factory=dict)


def adapted(
    one: LeftOut, *, sizes: Sequence[int] = SIZES, draws: int = DRAWS, seed: int = 0
) -> Adapted:
    """Takes the channel out by drawn sets, and asks about the recordings that are not in them.

    Sizes of more than half of the corpus are left out; so are skewed sets that a class is too
    small for.
    """
    rng = np.random.default_rng(seed)
    base = one.logits()
    mixed: dict[int, float] = {}
    skewed: dict[int, dict[int, float]] = {}
    for size in (size for size in sizes if 2 * size <= len(one.label)):
        mixed[size] = _after(one, lambda n=size: rng.permutation(len(one.label))[:n], draws)  # type: ignore[misc]
        for main in sorted(set(one.label.tolist())):
            of_it = np.flatnonzero(one.label == main)
            rest = np.flatnonzero(one.label != main)
            most = round(MAIN * size)
            if 2 * most > len(of_it):
                continue

            def draw(
                of_it: NDArray[np.int64] = of_it,
                rest: NDArray[np.int64] = rest,
                most: int = most,
                size: int = size,
            ) -> NDArray[np.int64]:
                few = rng.choice(rest, size - most, replace=False)
                return np.concatenate([rng.choice(of_it, most, replace=False), few])

            skewed.setdefault(size, {})[main] = _after(one, draw, draws)
    return Adapted(_ua(one.label, base.argmax(1)), mixed, skewed)


def _after(one: LeftOut, draw: Callable[[], NDArray[np.int64]], draws: int) -> float:
    """Mean UA over draws, of the recordings outside the set."""
    found = []
    for _ in range(draws):
        chosen = draw()
        shift = channel_shift(one.vectors[chosen], one.probe.references)
        left = np.ones(len(one.label), dtype=bool)
        left[chosen] = False
        found.append(_ua(one.label[left], one.logits(shift)[left].argmax(1)))
    return float(np.mean(found))


def _ua(label: NDArray[np.int64], said: NDArray[np.int64]) -> float:
    return float(np.mean([np.mean(said[label == k] == k) for k in np.unique(label)]))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logits [N, C] → probabilities [N, C]."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def protocol(
    data: Vectors,
    learn: Sequence[str],
    config: ProbeConfig,
    classes: int,
    *,
    sizes: Sequence[int] = SIZES,
) -> dict[str, Any]:
    """The whole protocol: every corpus left out, cautious, and adapted; see `leave_one_out`.

    Temperature and threshold are set by the corpora that may be learnt from, each left out.

    Returns:
        ``caution``, and corpus → ``single`` (see `scores`) and ``adapted`` (see `adapted`).
    """
    heard = leave_one_out(data, learn, config, classes)
    careful = caution([one for one in heard if one.corpus in learn])
    found = {
        one.corpus: {"single": scores(one, careful), "adapted": asdict(adapted(one, sizes=sizes))}
        for one in heard
    }
    return {"caution": asdict(careful), "corpora": found}


def text_table(found: Mapping[str, Any], sizes: Sequence[int] = SIZES) -> str:
    """The protocol's results as one Markdown table, in per cent."""
    titles = ["corpus left out", "n", "UA", "ECE", "confidence", "coverage", "right above"]
    titles += [f"UA after {size}" for size in sizes]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for corpus, said in found["corpora"].items():
        one, after = said["single"], said["adapted"]["mixed"]
        interval = f" [{_percent(one['low'])}, {_percent(one['high'])}]" if "low" in one else ""
        cells = [corpus, str(one["n"]), _percent(one["ua"]) + interval]
        cells += [_percent(one[k]) for k in ("ece", "confidence", "coverage", "accuracy_above")]
        cells += [_percent(after.get(size)) for size in sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


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
        np.array([f"{row.corpus}/{row.speaker}" for row in rows]),
        np.full(len(rows), "none"),
    )
