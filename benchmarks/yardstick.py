"""Runs of the original's network on a corpus's folds: their time and their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from made_up import Domain
from numpy.typing import NDArray
from original_network import EPOCHS, Settings, Trained, ask, train_original
from torch.utils.data import TensorDataset

from multimodal_ser.evaluation import metrics
from multimodal_ser.report.align import Sample
from multimodal_ser.splits.folds import Fold

Cells = dict[tuple[str, str], int]  # fold and id → class id


@dataclass(frozen=True)
class Yardstick:
    """Time and predictions of runs of the original's network.

    Attributes:
        runs: one per fold.
        seconds: of all runs together, as measured.
        run: seconds of one run of the original's number of epochs.
        answers: predicted class ids, by fold and id of the test rows.
        truth: true class ids, likewise.
        classes: number of classes.
    """

    runs: tuple[Trained, ...]
    seconds: float
    run: float
    answers: Cells
    truth: Cells
    classes: int

    def scores(self, ids: set[str] | None = None) -> NDArray[np.float64]:
        """Computes the UA [1] of these ids, or of all."""
        keys = [key for key in self.truth if ids is None or key[1] in ids]
        truth, answers = ([cells[key] for key in keys] for cells in (self.truth, self.answers))
        return np.atleast_1d(metrics.ua(metrics.confusion(truth, answers, self.classes)))

    def counts(self, sample: Sample) -> NDArray[np.int64]:
        """Counts confusions [S, 1, C, C] on a table's rows."""
        answers = [self.answers[key] for key in sample.keys]
        return metrics.grouped_confusion(
            sample.truth, answers, sample.groups, classes=self.classes, groups_total=sample.clusters
        )[:, None]


def train_on_folds(
    domain: Domain, folds: Sequence[Fold], settings: Settings, seed: int
) -> Yardstick:
    """Trains the original's network once per fold."""
    classes = len(domain.material.labels.classes)
    runs: list[Trained] = []
    answers: Cells = {}
    truth: Cells = {}
    for fold in folds:
        parts = (fold.train, fold.validation, fold.test)
        train, validation, test = (rows_of(domain, part) for part in parts)
        runs.append(train_original(train, validation, classes, settings, seed))
        keys = [(fold.name, key) for key in fold.test]
        answers |= dict(zip(keys, ask(runs[-1].model, test).tolist(), strict=True))
        truth |= dict(zip(keys, test.tensors[2].tolist(), strict=True))
    seconds = sum(run.seconds for run in runs)
    whole = seconds / len(runs) * EPOCHS / settings.epochs
    return Yardstick(tuple(runs), seconds, whole, answers, truth, classes)


def rows_of(domain: Domain, keys: Sequence[str]) -> TensorDataset:
    """Returns text, audio and label of these ids."""
    examples = domain.material.examples
    place = {key: row for row, key in enumerate(examples.ids)}
    some = examples.take([place[key] for key in keys])
    return TensorDataset(some.text.tokens, some.audio.tokens, some.label)
