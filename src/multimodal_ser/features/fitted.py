"""imported features → whether they were standardised, or transformed by PCA, over all utterances.

What was fitted to all utterances was fitted to those of every test set, too, which no split can
undo. It shows: each feature has the mean 0, or the median 0 and quartiles 1 apart, or runs from 0
or −1 to 1, over all utterances at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from multimodal_ser.common.arrays import Array, Floats, Ints
from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.features.store import FeatureStore

_NONE = 1e-3  # of a standard deviation: a mean of 0, also after float16 has rounded the features
_END = 1e-6  # how near 0 and 1 are met by a scaling in float32
_LEAST = 3  # features that vary: so many have these means or ends by chance in no corpus
_FEW = 10  # utterances: fewer tell nothing


def fitted_note(
    name: str, arrays: Mapping[str, Array] | FeatureStore, utterances: Sequence[Utterance]
) -> str:
    """A sentence for results on features that were fitted to all utterances; empty if none shows.

    Args:
        name: of the features.
        arrays: id → tokens [T, D].
        utterances: of the manifest, whose speakers are known.
    """
    rows = [row for row in utterances if row.id in arrays]
    if len(rows) < _FEW:
        return ""
    tokens = (arrays[row.id] for row in rows)
    pairs = [(len(one), one.mean(0, dtype=np.float64)) for one in tokens]
    counts, means = np.array([count for count, _ in pairs]), np.stack([mean for _, mean in pairs])
    means = means[:, np.ptp(means, 0) > 0]  # [N, D]
    if means.shape[1] < _LEAST:
        return ""
    if _is_of_speakers(means, counts, rows):
        return (
            f"features {name!r} were standardised by speaker before they were imported, in the "
            "test set too: predicting so needs several unlabelled recordings of each speaker"
        )
    centred = _is_centred(means, counts, means.std(0)) or _has_unit_quartiles(means)
    if centred or _is_scaled(means):
        return (
            f"features {name!r} were standardised, or transformed by PCA, over all utterances "
            "before they were imported: those of the test set have a part in it, and no "
            "adaptation can be told from it"
        )
    return ""


def _is_centred(means: Floats, counts: Ints, spread: Floats) -> bool:
    """Whether the mean over utterances, or over all their tokens, is 0 in every feature."""
    over_all = (means.mean(0), np.average(means, axis=0, weights=counts))
    return any(bool((np.abs(mean) <= _NONE * spread).all()) for mean in over_all)


def _is_of_speakers(means: Floats, counts: Ints, rows: Sequence[Utterance]) -> bool:
    places = defaultdict(list)
    for place, row in enumerate(rows):
        places[alike(row.speaker) if row.speaker else None].append(place)
    if None in places or len(places) < 2:
        return False
    spread = means.std(0)
    return all(_is_centred(means[own], counts[own], spread) for own in places.values())


def _has_unit_quartiles(means: Floats) -> bool:
    """Whether each feature has the median 0 and quartiles 1 apart, as robust scaling gives it."""
    low, middle, high = np.percentile(means, (25, 50, 75), axis=0)
    return bool((np.abs(middle) <= _NONE).all() and (np.abs(high - low - 1) <= _NONE).all())


def _is_scaled(means: Floats) -> bool:
    """Whether each feature runs from 0 or −1 to 1 without having these values alone.

    Probabilities of classes, which may reach 0 and 1 too, are no scaling: they add up to 1.
    """
    low, high = means.min(0), means.max(0)
    ends = np.abs(high - 1).max() <= _END and (
        np.abs(low).max() <= _END or np.abs(low + 1).max() <= _END
    )
    inside = ((means > low + _END) & (means < high - _END)).any(0)
    return bool(ends and inside.all() and np.abs(means.sum(1) - 1).max() > _NONE)
