"""What a report says, as plain records: every number and sentence, before any layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.metrics import Reliability
from multimodal_ser.report.align import BASELINES

RESAMPLES = 2000  # of every bootstrap in a report


@dataclass(frozen=True)
class Score:
    """A score over seeds and its interval over the test sample, as shares between 0 and 1.

    Attributes:
        values: one per seed.
        mean: over seeds; NaN where the score is not defined.
        sd: over seeds (n - 1 in the denominator); None for one seed.
        low: lower end of the 95 % interval; None where none can be estimated.
        high: upper end.
    """

    values: tuple[float, ...]
    mean: float
    sd: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One system's line in the table.

    Attributes:
        name: the model, with what sets it apart where it stands twice.
        model: the model alone.
        parameters: trained parameters, the most where folds differ; None where unknown.
        seeds: the seeds behind it.
        scores: UA, WA, WF1, macro-F1 and ECE (ECE without an interval: resampling inflates it).
        recalls: one per class.
        confusion: mean counts over seeds, truth × prediction, [C, C].
        reliability: all seeds together.
        notes: the letters of the notes that belong to this row.
        settings: its configuration, flattened.
    """

    name: str
    model: str
    parameters: int | None
    seeds: tuple[int, ...]
    scores: Mapping[str, Score]
    recalls: tuple[Score, ...]
    confusion: NDArray[np.float64]
    reliability: Reliability
    notes: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Note:
    """A leak or a contamination mark, and the letter that rows refer to it by."""

    letter: str
    text: str
    leak: bool


@dataclass(frozen=True)
class Versus:
    """A model against the best baseline, in UA; `p` is Holm-corrected; None: no interval."""

    name: str
    baseline: str
    difference: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def wins(self) -> bool:
        """Whether the model is better by more than chance."""
        return self.low is not None and self.low > 0 and self.p is not None and self.p < 0.05


@dataclass(frozen=True, eq=False)
class Summary:
    """Everything a report says.

    Attributes:
        name: of the experiment's folder.
        part: which rows were scored, ``test`` or ``validation``.
        classes: class names in their order.
        labels: the class set's name.
        corpora: the corpora's names.
        split: the split's name.
        split_hash: and hash.
        folds: folds that the table covers.
        utterances: distinct test utterances.
        clusters: what was drawn in the bootstrap, how many.
        by: what a cluster is, ``speaker`` or ``utterance``.
        rows: one per system, the best UA first.
        versus: each network against the best baseline.
        notes: leaks and marks, lettered.
        missing: sentences on runs that are missing.
        cautions: sentences on how to read the intervals.
        settings: what all systems share, flattened.
        versions: of the software.
    """

    name: str
    part: str
    classes: tuple[str, ...]
    labels: str
    corpora: tuple[str, ...]
    split: str
    split_hash: str
    folds: tuple[str, ...]
    utterances: int
    clusters: int
    by: str
    rows: tuple[Row, ...]
    versus: tuple[Versus, ...]
    notes: tuple[Note, ...]
    missing: tuple[str, ...]
    cautions: tuple[str, ...]
    settings: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def best(self) -> Row:
        """The row with the highest UA."""
        return self.rows[0]

    @property
    def baseline(self) -> Row | None:
        """The best of `linear` and `svm`; None where neither has been run."""
        return next((row for row in self.rows if row.model in BASELINES), None)
