"""Speech → voice embeddings → speaker turns: diarisation without a hub.

`voice_network` computes a voice embedding of each window of 1.5 s. Embeddings of neighbouring
windows, which mostly belong to one speaker, are averaged and clustered (Ward's method). A Viterbi
path through the clusters then gives the speaker turns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage

from multimodal_ser.common.arrays import Floats, Ints, Samples, Singles
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.timeline.lanes import Listener
from multimodal_ser.timeline.speakers import Turn
from multimodal_ser.timeline.stream import Stream
from multimodal_ser.timeline.voice_network import SIZE, voice_vectors, voice_weights

_STEP = 0.5  # seconds from one window to the next
NEAR = 1.0  # seconds between windows that are averaged
_MOST = 3_000  # windows that are clustered (quadratic cost); others join the nearest cluster
# Viterbi: weight of the cosine of a window and a speaker; cost of a change of speaker
SURE, STAY = 25.0, 4.0
MANY, FEWEST = 8, 6  # largest number of speakers tried; mean number of windows that each needs
ALIKE = 0.015  # silhouettes that differ by less count as equal
LATER = 5.0  # seconds: a silhouette compares only windows further apart
APART = 0.4  # smallest cosine distance between the mean vectors of two speakers
_AROUND = 0.6  # seconds around a change of speaker in which the quietest moment is looked for
_ENERGY = SAMPLE_RATE // 50  # samples, 20 ms

_Vectors = Singles
_Labels = Ints


class Voices:
    """Separates speakers by their voices; a `Diariser`.

    Args:
        vad: how speech is found.

    Raises:
        SerError: the weights are not installed.
    """

    def __init__(self, vad: Vad = "auto") -> None:
        self.vad = vad
        voice_weights()

    def __call__(self, blocks: Iterator[Samples], count: int | None = None) -> list[Turn]:
        """Finds the turns of a recording; see `Diariser`."""
        return self.hear(blocks).turns(count)

    def hear(self, blocks: Iterator[Samples]) -> Voiced:
        """Computes the voices of a recording, mono blocks [time] at 16 kHz."""
        voices, quiet = _VoiceVectors(), list[Samples]()
        # `Stream` finds the speech and cuts the windows; `_VoiceVectors` stands in for the model
        stream = Stream(voices, window=SIZE / SAMPLE_RATE, hop=_STEP, smoothing=0, vad=self.vad)
        rest = np.zeros(0, np.float32)  # of the last 20 ms, which may go on in the next block
        for block in blocks:
            stream.push(block)
            sound = np.concatenate([rest, block])
            whole = len(sound) // _ENERGY * _ENERGY
            quiet.append(_energies(sound[:whole]))
            rest = sound[whole:]
        quiet.append(_energies(rest))
        timeline = stream.finish()
        spans = [(point.start, point.end) for point in timeline.track]
        speech = [(*span, sure) for span, sure in zip(timeline.speech, stream.sure, strict=True)]
        return Voiced(spans, voices.vectors, speech, quiet)


class Voiced(NamedTuple):
    """The voices of a recording.

    Attributes:
        spans: start and end of each window in seconds.
        vectors: voice embeddings of the windows, in parts [windows, D].
        speech: start and end of each stretch of speech in seconds, and how certain it is speech.
        energies: mean power of each 20 ms, in parts.
    """

    spans: Sequence[tuple[float, float]]
    vectors: Sequence[_Vectors]
    speech: Sequence[tuple[float, float, float]]
    energies: Sequence[Samples]

    def turns(self, count: int | None = None) -> list[Turn]:
        """Returns the speaker turns; see `speakers_of`."""
        if not self.spans:
            return []
        middles = np.mean(self.spans, axis=1)
        labels = speakers_of(np.concatenate(self.vectors), middles, count)
        return _turns(self.spans, labels, self.speech, np.concatenate(self.energies))


def speakers_of(vectors: _Vectors, centres: Floats, count: int | None) -> _Labels:
    """Assigns a speaker to each window, [N].

    Args:
        vectors: voice embeddings, [N, D].
        centres: middles of the windows in seconds, increasing, [N].
        count: number of speakers; of more than windows, each window is one's. If it is None, it is
            estimated: the smallest number up to `MANY` whose silhouette is within `ALIKE` of the
            best. It is 1 if the mean vectors of two clusters are less than `APART` from each other.
    """
    count = count and min(count, len(vectors))
    most = count or min(MANY, len(vectors) // FEWEST)
    if most < 2:
        return np.zeros(len(vectors), np.int64)
    own = _unit(vectors - vectors.mean(0))  # the common part does not distinguish
    near = _averaged(own, centres)
    drawn = near[np.linspace(0, len(near) - 1, min(len(near), _MOST)).astype(int)]
    tree = linkage(drawn, "ward")
    numbers, made = [count] if count else [*range(2, most + 1)], {}
    # fcluster of older SciPy gives too few clusters of a few windows
    for number, labels in zip(numbers, cut_tree(tree, numbers).T, strict=True):
        made[number] = _path(own, (near @ _centres(drawn, labels).T).argmax(1))
    return made[count] if count else _clearest(made, near, _unit(vectors), centres)


def _clearest(
    made: Mapping[int, _Labels], near: _Vectors, vectors: _Vectors, centres: Floats
) -> _Labels:
    """Returns the labels for the most likely number of speakers."""
    two = _centres(vectors, made[2])
    if len(two) < 2 or two[0] @ two[1] > 1 - APART:
        return np.zeros(len(near), np.int64)
    part = slice(None, None, math.ceil(len(near) / _MOST))  # evenly spaced, _MOST at most
    clear = {
        number: _silhouette(near[part], centres[part], labels[part])
        for number, labels in made.items()
    }
    return made[min(number for number in clear if clear[number] >= max(clear.values()) - ALIKE)]


def _silhouette(vectors: _Vectors, centres: Floats, labels: _Labels) -> float:
    """Mean silhouette of the clusters, −1 to 1 (Rousseeuw, 1987), between distant windows only.

    Neighbouring windows resemble each other whoever speaks. If they were compared, every turn would
    look like a separate speaker.
    """
    other = np.abs(centres[:, None] - centres) > LATER  # [N, N]
    members = labels[:, None] == np.unique(labels)
    counts = other.astype(np.float32) @ members
    # Mean cosine distance of each window to each cluster [N, clusters]; infinite where a cluster
    # has no distant window.
    far = np.where(counts > 0, (other * (1 - vectors @ vectors.T)) @ members, np.inf)
    far = far / np.maximum(counts, 1)
    inside = far[members]
    outside = np.where(members, np.inf, far).min(1)
    known = np.isfinite(inside) & np.isfinite(outside)
    gain = (outside - inside)[known] / np.maximum(np.maximum(outside, inside)[known], 1e-9)
    return float(gain.sum() / len(labels))


def _averaged(vectors: _Vectors, centres: Floats) -> _Vectors:
    """Averages each vector with those of neighbouring windows, to unit length."""
    first = np.searchsorted(centres, centres - NEAR - 1e-6)
    last = np.searchsorted(centres, centres + NEAR + 1e-6)
    # Differences of cumulative sums give all local sums at once.
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, 0, dtype=float)])
    return _unit(sums[last] - sums[first])


def _centres(vectors: _Vectors, labels: _Labels) -> _Vectors:
    """Mean direction of the vectors of each label, [labels, D]."""
    return _unit(np.array([vectors[labels == name].mean(0) for name in np.unique(labels)]))


def _unit(vectors: NDArray[Any]) -> _Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def _path(vectors: _Vectors, labels: _Labels) -> _Labels:
    """Most probable sequence of speakers [N], if changes are rare (Viterbi algorithm).

    The mean vectors of the speakers depend on the sequence, and the sequence on them: both are
    updated in turn for a few rounds.
    """
    for _ in range(3):
        names = np.unique(labels)
        score = SURE * vectors @ _centres(vectors, labels).T
        # best: score of the best path to each speaker; back: the speaker before on that path
        best, back = score[0], np.zeros(score.shape, int)
        for k in range(1, len(score)):
            change = best.max() - STAY
            back[k] = np.where(best >= change, np.arange(len(names)), best.argmax())
            best = np.maximum(best, change) + score[k]
        path = [int(best.argmax())]
        for k in range(len(score) - 1, 0, -1):
            path.append(int(back[k, path[-1]]))
        labels = names[path[::-1]]
    return np.asarray(labels)


def _turns(
    spans: Sequence[tuple[float, float]], labels: Ints,
    speech: Sequence[tuple[float, float, float]], energies: Samples,
) -> list[Turn]:  # fmt: skip
    """Windows of stretches of speech → turns; speakers change at the quietest moment."""
    centres = np.array([(start + end) / 2 for start, end in spans])
    made: list[Turn] = []
    for start, end, sure in speech:
        frames = np.flatnonzero((centres >= start) & (centres <= end))
        begun = start
        for one, other in pairwise(frames):
            if labels[one] != labels[other]:
                change = _quietest(energies, float(centres[one] + centres[other]) / 2, begun, end)
                made.append(_turn(begun, change, labels[one], sure))
                begun = change
        made.append(_turn(begun, end, labels[frames[-1]], sure))
    return made


def _quietest(energies: Samples, at: float, least: float, most: float) -> float:
    first = round(max(at - _AROUND, least + 0.1) * SAMPLE_RATE / _ENERGY)
    last = round(min(at + _AROUND, most - 0.1) * SAMPLE_RATE / _ENERGY)
    if last <= first:
        return min(max(at, least), most)
    return float((first + energies[first:last].argmin() + 0.5) * _ENERGY / SAMPLE_RATE)


def _turn(start: float, end: float, who: int | np.int64, sure: float) -> Turn:
    return Turn(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE), int(who), sure)


def _energies(sound: Samples) -> Samples:
    """Mean power of each 20 ms; the last ones are filled up with silence."""
    whole = np.pad(sound, (0, -len(sound) % _ENERGY))
    return np.asarray(np.square(whole.reshape(-1, _ENERGY)).mean(1))


class _VoiceVectors(Listener):
    """Takes the place of a model and keeps the voice embedding of each window that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors: list[_Vectors] = []

    def keep(self, waves: Sequence[Samples]) -> None:
        """Keeps the embedding of each waveform: of its middle, or repeated if it is short."""
        parts = [wave[max(0, len(wave) - SIZE) // 2 :][:SIZE] for wave in waves]
        if parts:
            self.vectors.append(voice_vectors(np.stack([np.resize(part, SIZE) for part in parts])))
