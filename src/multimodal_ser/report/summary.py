"""The contents of a report as plain records: every number and sentence, before any layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Bools, Floats
from multimodal_ser.evaluation.metrics import Reliability
from multimodal_ser.report.naming import Share


@dataclass(frozen=True)
class Score:
    """A score over seeds and its interval over the test sample, as shares between 0 and 1.

    Attributes:
        values: one per seed and draw.
        mean: over seeds and draws; NaN where the score is not defined.
        sd: over seeds and draws (n - 1 in the denominator); None for one.
        low: lower end of the 95 % interval; None if it cannot be estimated.
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
        name: the system, with the settings that distinguish it if its name occurs twice.
        model: the model alone.
        kind: the system without its share of the target corpus's labels.
        share: how much of the target's labels it was trained on, where that was varied.
        parameters: trained parameters, the largest number if folds differ; None if unknown.
        seeds: the seeds it was trained with.
        draws: the random draws of the few labelled utterances; (0,) if nothing was drawn.
        scores: UA, WA, WF1, macro-F1 and ECE (without interval, as it is no function of counts),
            for votes also their distances; for attributes CCC, r and RMSE.
        recalls: one per class; empty for attributes.
        confusion: mean counts over seeds, truth × prediction, [C, C].
        reliability: over all seeds together.
        notes: the letters of the notes that belong to this row.
        settings: its configuration, flattened.
    """

    name: str
    model: str
    kind: str
    share: Share | None
    parameters: int | None
    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    scores: Mapping[str, Score]
    recalls: tuple[Score, ...]
    confusion: Floats
    reliability: Reliability
    notes: tuple[str, ...]
    settings: Mapping[str, str]

    def score(self, name: str) -> Score:
        """Returns a score by name; NaN for a score that an older record does not contain."""
        return self.scores.get(name, Score((), math.nan, None))

    @property
    def baseline(self) -> bool:
        """Whether it is a baseline: it has neither a network nor a fine-tuned encoder."""
        # runs record only the settings that apply to them, so a baseline has neither of these
        kinds = ("train.network.", "train.probe_epochs")
        return not any(name.startswith(kinds) for name in self.settings)


@dataclass(frozen=True)
class Note:
    """A leak or a contamination mark, and the letter that rows refer to it by."""

    letter: str
    text: str
    leak: bool


@dataclass(frozen=True)
class Versus:
    """One system compared with another over the same utterances, by one score.

    Attributes:
        family: the kind of comparison; p values are corrected (Holm) within it.
        name: the system.
        against: the other.
        role: what the other is, such as ``the best baseline``; empty if its name says it.
        difference: the score of the system minus that of the other.
        low: lower end of the 95 % interval over speakers and seeds; None where it cannot be known.
        high: upper end.
        p: of the test over speakers and seeds, corrected.
        mcnemar: McNemar's p value for the predictions averaged over seeds, corrected.
        unknown: why the difference cannot be tested; empty if it can.
        score: that is compared; empty for the table's headline.
        better: whether the ``higher`` or the ``lower`` score is the better one.
    """

    family: str
    name: str
    against: str
    role: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    mcnemar: float | None
    unknown: str = ""
    score: str = ""
    better: Literal["higher", "lower"] = "higher"

    @property
    def wins(self) -> bool:
        """Whether the system is significantly better: both interval and p value agree."""
        return self._sign == (1 if self.better == "higher" else -1)

    @property
    def loses(self) -> bool:
        """Whether the system is significantly worse: both interval and p value agree."""
        return self._sign == (-1 if self.better == "higher" else 1)

    @property
    def _sign(self) -> int:
        """1 or -1 for a significant difference above or below 0; 0 for one that may be chance."""
        if self.low is None or self.high is None or self.p is None or self.p >= 0.05:
            return 0
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True)
class Group:
    """One system's score on some of the test utterances, such as those of women.

    Attributes:
        by: what the groups are: ``corpus``, ``sex``, ``age``.
        name: of the group.
        system: whose score it is.
        utterances: their number.
        clusters: the number of their speakers.
        scores: as a row's.
        difference: UA of this group minus UA of all others; None if it cannot be tested.
        p: of that difference, corrected (Holm) over the groups.
        note: why something is missing; empty otherwise.
    """

    by: str
    name: str
    system: str
    utterances: int
    clusters: int
    scores: Mapping[str, Score]
    difference: Score | None
    p: float | None
    note: str


@dataclass(frozen=True, eq=False)
class Cloud:
    """One run's embeddings of both corpora, on a plane.

    Attributes:
        name: of the system.
        points: source rows, then target rows, [N, 2].
        target: which rows are the target's, [N].
        labels: class names, [N].
        told_apart: balanced accuracy of a linear classifier that predicts the corpus from the whole
            embedding, cross-validated; 0.5 is chance.
    """

    name: str
    points: Floats
    target: Bools
    labels: NDArray[np.str_]
    told_apart: float


@dataclass(frozen=True, eq=False)
class Summary:
    """The whole contents of a report.

    Attributes:
        name: of the experiment's folder.
        protocol: the kind of experiment.
        source: the corpora the models were trained on, if not those they are tested on.
        command: that made the runs, if known.
        part: which rows were scored, ``test`` or ``validation``.
        classes: class names in their order.
        labels: the class set's name.
        corpora: the corpora's names.
        split: the split's name.
        split_hash: the split's hash.
        folds: folds that the table covers.
        utterances: distinct test utterances.
        clusters: number of clusters that intervals are over.
        effective: number of clusters of equal weight in UA that would be as informative.
        by: what a cluster is, ``speaker`` or ``utterance``.
        method: sentences on how intervals and p values were computed.
        rows: one per system, the best UA first; where shares of labels were varied, grouped by
            share.
        versus: the protocol's comparisons.
        groups: scores of groups of utterances: by corpus, sex, age.
        notes: leaks and marks, lettered.
        missing: sentences on runs that are missing.
        cautions: sentences on how to read the intervals.
        settings: what all systems share, flattened.
        versions: of the software.
        validation: an ablation's second table, over the validation rows.
        task: what is predicted, one of `settings.TASKS`.
        ceiling: sentences on how well the raters agree, if their votes are used.
        headline: the score that systems are compared by.
    """

    name: str
    protocol: str
    source: tuple[str, ...]
    command: str | None
    part: str
    classes: tuple[str, ...]
    labels: str
    corpora: tuple[str, ...]
    split: str
    split_hash: str
    folds: tuple[str, ...]
    utterances: int
    clusters: int
    effective: float
    by: str
    method: tuple[str, ...]
    rows: tuple[Row, ...]
    versus: tuple[Versus, ...]
    groups: tuple[Group, ...]
    notes: tuple[Note, ...]
    missing: tuple[str, ...]
    cautions: tuple[str, ...]
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    validation: Summary | None = None
    task: str = "classes"
    ceiling: tuple[str, ...] = ()
    headline: str = "UA"

    @property
    def best(self) -> Row:
        """The row with the highest headline score."""
        return max(self.rows, key=lambda row: row.scores[self.headline].mean)

    @property
    def baseline(self) -> Row | None:
        """The best baseline; None if none was run."""
        baselines = (row for row in self.rows if row.baseline)
        return max(baselines, key=lambda row: row.scores[self.headline].mean, default=None)

    @property
    def families(self) -> tuple[str, ...]:
        """The families of comparisons, in order."""
        return tuple(dict.fromkeys(one.family for one in self.versus))

    @property
    def shares(self) -> list[Share]:
        """The shares of the target's labels that systems were trained on, ascending."""
        found = {row.share for row in self.rows if row.share is not None}
        return sorted(found, key=lambda share: (share.unit, share.amount))

    @property
    def draws(self) -> tuple[int, ...]:
        """All draws of the table's systems; (0,) if nothing was drawn."""
        return tuple(sorted({draw for row in self.rows for draw in row.draws}))
