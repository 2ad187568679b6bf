"""Frozen encoders with a plain linear probe, leaving each corpus out: the starter's baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from train_starter import LABELS, collect, network

from multimodal_ser.corpora import Utterance
from multimodal_ser.evaluation.metrics import confusion, ua
from multimodal_ser.training.tune.probe import Vectors, side_by_side

LEARN = ("cremad", "emodb")
STRICT = 0.003  # inverse regularisation strength, for standardised features


def frozen(
    read: Mapping[str, Mapping[str, Vectors]],
    rows: Mapping[str, Sequence[Utterance]],
    beside: Sequence[str],
    out: Path,
    layers: Sequence[int],
    common: Sequence[str],
    precision: str,
) -> dict[str, dict[str, float]]:
    """Trains plain probes on published encoders; encoder → corpus left out → UA.

    Args:
        read: encoder → corpus → layer means that exist already.
        rows: corpus → its recordings, for the encoders of `beside`.
        beside: names of further encoders.
        out: folder for the layer means.
        layers: layers whose means are concatenated.
        common: the classes that are tested; a prediction of another class is wrong.
        precision: number type of products.
    """
    data = dict(read)
    for name in beside:
        encoder = network(None, name)[0]
        data[name] = {
            corpus: collect(out / name, encoder, some, "all", precision)
            for corpus, some in rows.items()
        }
    classes = [LABELS.classes.index(name) for name in common]
    return {name: _left_out(one, layers, classes) for name, one in data.items()}


def _left_out(
    data: Mapping[str, Vectors], layers: Sequence[int], classes: Sequence[int]
) -> dict[str, float]:
    """Corpus → UA of a logistic regression trained on the other training corpora."""
    found = {}
    for name, mine in data.items():
        others = Vectors.joined([data[one] for one in LEARN if one != name])
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=STRICT, class_weight="balanced", max_iter=200)
        )
        probe.fit(side_by_side(others, layers), others.label)
        kept = mine.where(np.isin(mine.label, classes))
        predicted = probe.predict(side_by_side(kept, layers))
        found[name] = float(ua(confusion(kept.label, predicted, len(LABELS.classes))))
    return found
