"""Speech → vectors of voices → turns of speakers: a diarisation that needs no hub.

A voice is described by the statistics of the cepstra of its loud frames over two seconds, projected
to directions in which speakers differ most and one speaker, whatever the emotion, differs least
(linear discriminant analysis). `scripts/train_voices.py` finds these directions. Windows are
clustered, and a Viterbi path makes turns of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load
from scipy.fft import dct
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.encoders.mel import HOP, N_FFT, mel_filters
from multimodal_ser.predict import Channel
from multimodal_ser.timeline.speakers import Turn
from multimodal_ser.timeline.stream import Stream

WINDOW, STEP = 2.0, 0.5  # seconds
CEPSTRA, JOINT = 40, 24  # cepstral coefficients; how many of them enter the covariances
_LOUD = 3.0  # log10 of power, 30 dB: frames further below a window's loudest are not used
_LEAST = 20  # loud frames of a usable window
_MOST = 3_000  # windows that are clustered (quadratic cost); others join the nearest cluster
FEWEST, NEAR = 12, 0.03  # windows of a third speaker at least; difference of equal silhouettes
MANY, ALONE = 8, 0.25  # largest number of speakers; lowest silhouette of two speakers
SURE, STAY = 15.0, 4.0  # weight of a window's cosine; cost of a change of speaker (Viterbi)
_AROUND = 0.6  # seconds around a change within which its quietest moment is used
_ENERGY = SAMPLE_RATE // 50

_Vectors = NDArray[np.float32]


def cepstral_statistics(wave: Samples) -> _Vectors | None:
    """Statistics of the cepstra of a window: mean, deviation, covariances, change, percentiles.

    They do not depend on the level of the window.

    Args:
        wave: [time] at 16 kHz.

    Returns:
        [524]; None if fewer than `_LEAST` frames are loud.
    """
    if len(wave) < N_FFT:
        return None
    filters, window = _filters()
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(wave)), N_FFT, HOP, window=window, return_complex=True
    )
    mel = (filters @ spectrum.abs().square()).clamp(min=1e-10).log10().T.numpy()
    loud = np.log10((10.0**mel).sum(1))
    mine = loud > loud.max() - _LOUD
    if mine.sum() < _LEAST:
        return None
    # Coefficient 0 is the level, and is left out.
    every = dct(mel, norm="ortho", axis=1)[:, 1 : CEPSTRA + 1]
    kept = every[mine]
    # Covariances of a window describe a voice beyond its mean spectrum; the upper half suffices.
    joint = np.cov(kept[:, :JOINT].T)[np.triu_indices(JOINT)]
    change = np.diff(every[:, :JOINT], axis=0).std(0)
    spread = np.percentile(kept, [10, 50, 90], axis=0).ravel()
    parts = [kept.mean(0), kept.std(0), joint, change, spread]
    return np.concatenate(parts).astype(np.float32)


@cache
def _filters() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(mel_filters().T).float(), torch.hann_window(N_FFT)


class Voices:
    """Distinguishes speakers by their voices; a `Diariser`.

    Args:
        vad: how speech is found.
        alone: lowest silhouette (0 to 1) of two clusters that count as two speakers, if the number
            of speakers is not known.
        weights: ``mean`` and ``scale`` [524] and ``axes`` [524, A]; by default the package's own.
    """

    def __init__(
        self, vad: Vad = "auto", *, alone: float = ALONE, weights: dict[str, Any] | None = None
    ) -> None:
        self.vad, self.alone = vad, alone
        stored = files("multimodal_ser.timeline") / "voices.safetensors"
        self._weights = load(stored.read_bytes()) if weights is None else weights

    def __call__(self, blocks: Iterator[Samples], count: int | None = None) -> list[Turn]:
        """Finds the turns of a recording; see `Diariser`."""
        heard, quiet = _Heard(), list[Samples]()
        stream = Stream(heard, window=WINDOW, hop=STEP, smoothing=0, vad=self.vad)
        for block in blocks:
            stream.push(block)
            quiet.append(_energies(block))
        timeline = stream.finish()
        spans = [(point.start, point.end) for point in timeline.track]
        if not spans:
            return []
        rows = [k for k, row in enumerate(heard.rows) if row is not None]
        if not rows:
            return [_turn(start, end, 0) for start, end in timeline.speech]
        vectors = self.vectors(np.array([heard.rows[k] for k in rows]))
        centres = np.array([sum(spans[k]) / 2 for k in rows])
        found = clusters(_smoothed(vectors, centres), count, self.alone)
        labels = _path(vectors, found)
        nearest = np.searchsorted(rows, np.arange(len(spans))).clip(max=len(rows) - 1)
        return _turns(spans, labels[nearest], timeline.speech, np.concatenate(quiet))

    def vectors(self, statistics: _Vectors) -> _Vectors:
        """Statistics [N, 524] → unit vectors [N, A], centred on the recording's mean.

        Centring removes what all speakers of a recording have in common, such as its channel.
        """
        weights = self._weights
        seen = ((statistics - weights["mean"]) * weights["scale"]) @ weights["axes"]
        seen = seen - seen.mean(0) if len(seen) > 1 else seen
        return np.asarray(seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-9))


def clusters(vectors: _Vectors, count: int | None, alone: float = ALONE) -> NDArray[np.int64]:
    """The speaker of each window [N], by agglomerative clustering with Ward's criterion.

    Args:
        vectors: of unit length [N, A].
        count: number of speakers; None for the smallest one, up to `MANY`, whose silhouette
            (Rousseeuw, 1987) is about the best.
        alone: silhouette below which two clusters are one speaker.
    """
    one = np.zeros(len(vectors), np.int64)
    if count == 1 or len(vectors) <= max(count or 2, 2):
        return one
    drawn = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST)).astype(int)]
    made = {
        k: AgglomerativeClustering(k, linkage="ward").fit_predict(drawn)
        for k in ([count] if count else range(2, min(MANY, len(drawn) - 1) + 1))
    }
    if count is None:
        clear = {
            k: silhouette_score(drawn, labels, metric="cosine")
            for k, labels in made.items()
            if k == 2 or np.bincount(labels).min() * len(vectors) >= FEWEST * len(drawn)
        }
        count = min(k for k in clear if clear[k] >= max(clear.values()) - NEAR)
        if clear[count] < alone:
            return one
    labels = made[count]
    # Unit-length centres: the nearest one by cosine, also for windows that were not clustered.
    centres = np.array([_centre(drawn[labels == k]) for k in np.unique(labels)])
    return np.asarray((vectors @ centres.T).argmax(1))


def _smoothed(vectors: _Vectors, centres: NDArray[np.float64]) -> _Vectors:
    """Sums of each vector and its neighbours in time, mostly of one speaker, at unit length."""
    padded = np.pad(vectors, ((1, 1), (0, 0)))
    near = (np.diff(centres) <= 1.01 * STEP)[:, None]
    before = np.concatenate([np.zeros((1, 1), bool), near])
    after = np.concatenate([near, np.zeros((1, 1), bool)])
    whole = vectors + np.where(before, padded[:-2], 0) + np.where(after, padded[2:], 0)
    return np.asarray(whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-9))


def _centre(vectors: _Vectors) -> _Vectors:
    mean = vectors.mean(0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))


def _path(vectors: _Vectors, labels: NDArray[np.int64], rounds: int = 3) -> NDArray[np.int64]:
    """The best sequence of speakers [N] with a cost for changes (Viterbi), iterated."""
    for _ in range(rounds):
        # As in k-means: centres from the labels, then labels from the centres, with the cost of
        # changes.
        names = np.unique(labels)
        centres = np.array([_centre(vectors[labels == name]) for name in names])
        score = SURE * vectors @ centres.T
        best, back = score[0], np.zeros(score.shape, int)
        for k in range(1, len(score)):
            # A change costs the same whoever speaks next: the best other speaker is the only
            # candidate.
            change = best.max() - STAY
            back[k] = np.where(best >= change, np.arange(len(names)), best.argmax())
            best = np.maximum(best, change) + score[k]
        path = [int(best.argmax())]
        for k in range(len(score) - 1, 0, -1):
            path.append(int(back[k, path[-1]]))
        labels = names[path[::-1]]
    return np.asarray(labels)


def _turns(
    spans: Sequence[tuple[float, float]], labels: NDArray[np.int64],
    speech: Sequence[tuple[float, float]], energies: Samples,
) -> list[Turn]:  # fmt: skip
    """Labelled windows → turns; a change is placed at the quietest moment between two windows."""
    centres = np.array([(start + end) / 2 for start, end in spans])
    made: list[Turn] = []
    for start, end in speech:
        mine = np.flatnonzero((centres >= start) & (centres <= end))
        begun = start
        for one, other in pairwise(mine):
            if labels[one] != labels[other]:
                change = _quietest(energies, float(centres[one] + centres[other]) / 2, begun, end)
                made.append(_turn(begun, change, labels[one]))
                begun = change
        made.append(_turn(begun, end, labels[mine[-1]]))
    return made


def _quietest(energies: Samples, at: float, least: float, most: float) -> float:
    first = round(max(at - _AROUND, least + 0.1) * SAMPLE_RATE / _ENERGY)
    last = round(min(at + _AROUND, most - 0.1) * SAMPLE_RATE / _ENERGY)
    if last <= first:
        return min(max(at, least), most)
    return float((first + energies[first:last].argmin() + 0.5) * _ENERGY / SAMPLE_RATE)


def _turn(start: float, end: float, who: int | np.int64) -> Turn:
    return Turn(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE), int(who))


def _energies(block: Samples) -> Samples:
    """The power of every 20 ms."""
    whole = np.pad(block, (0, -len(block) % _ENERGY))
    return np.asarray(np.square(whole.reshape(-1, _ENERGY)).mean(1))


class _Heard:
    """Takes the place of a model and keeps the statistics of the waveforms it is given."""

    name, threshold = "voices", 0.0
    labels: tuple[str, ...] = ("speech",)
    channel: Channel | None = None

    def __init__(self) -> None:
        self.rows: list[_Vectors | None] = []

    def waves(self, waves: Sequence[Samples], /, *, speech: bool = False) -> list[Any]:
        """Keeps the statistics of each waveform."""
        self.rows += [cepstral_statistics(wave) for wave in waves]
        return [SimpleNamespace(probabilities=np.ones(1), distance=None) for _ in waves]
