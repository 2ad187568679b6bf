"""The file of a linear probe → a backend for `Predictor` in numpy: the starter without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from multimodal_ser.audio.speech import lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.devices import numpy_threads
from multimodal_ser.encoders.mel import HOP
from multimodal_ser.predict.backend import (
    LEARNT,
    Backend,
    BatchPrediction,
    Vector,
    copied_model,
    predict_windows,
    softmax,
)
from multimodal_ser.training.tune.numpy_probe import SHORTEST, NumpyProbe

_REMEMBERED = 1024  # vectors, 6 MB


class NumpyBackend(Backend):
    """A frozen encoder and its linear probe; it reads only sound and runs on the CPU."""

    canonical = True
    device = "cpu"

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        self.model = NumpyProbe(file)
        self.labels, self.card = self.model.classes, self.model.card
        self.threshold = self.model.threshold
        self.references, self.shares = self.model.references, self.model.shares
        self.most = min(LEARNT, 2 * HOP * self.model.steps)
        self._vectors: dict[bytes, Vector] = {}

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch; recordings that are too long get the mean over their windows."""

        def ask(pieces: Sequence[Samples]) -> BatchPrediction:
            given = [lengthened(one, SHORTEST) for one in pieces]
            read = np.stack(self._remembered(given) if shift is None else self._recalled(given))
            logits, embeddings = self.model.predict_from(read if shift is None else read - shift)
            return BatchPrediction(softmax(logits), embeddings, read)

        return predict_windows(waves, self.most, 2 * HOP, ask)

    def _remembered(self, waves: Sequence[Samples]) -> list[Vector]:
        """Reads waveforms and caches their vectors.

        The recordings that a channel is estimated from are usually predicted right after. No other
        vectors are cached: a recording that is predicted again is computed again.
        """
        vectors = self._read(waves)
        if len(self._vectors) + len(waves) > _REMEMBERED:
            self._vectors.clear()  # in one step, since other threads may predict meanwhile
        self._vectors.update(zip(map(_key, waves), vectors, strict=True))
        return vectors

    def _recalled(self, waves: Sequence[Samples]) -> list[Vector]:
        """Returns the vectors that were cached for a channel, and computes the others."""
        known = [self._vectors.get(_key(wave)) for wave in waves]
        new = iter(self._read([w for w, v in zip(waves, known, strict=True) if v is None]))
        return [next(new) if vector is None else vector for vector in known]

    def _read(self, waves: Sequence[Samples]) -> list[Vector]:
        """The inputs of the head, computed on all cores that numpy uses.

        Several waveforms are divided among the cores, and so is the network for a single one.
        Numpy's own threads divide each matrix product, but they wait for each other by spinning: if
        other programs keep the cores busy, they take ten times as long.
        """
        blas, threads = numpy_threads()
        if threads == 1 or not waves:
            return [self.model.pooled(wave) for wave in waves]
        with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
            if len(waves) == 1:
                return [self.model.pooled(waves[0], partial(_shared, pool, threads))]
            return list(pool.map(self.model.pooled, waves))

    def save(self, folder: Path) -> dict[str, object]:
        """Copies the model file."""
        return copied_model(self.file, folder)


def _key(wave: Samples) -> bytes:
    return hashlib.sha256(wave.tobytes()).digest()


def _shared(
    pool: ThreadPoolExecutor, parts: int, step: Callable[[slice], Vector], size: int
) -> Vector:
    """A sum over `size` heads or features, computed in parts at the same time; see `Shared`."""
    cuts = [size * part // parts for part in range(parts + 1)]
    slices = [slice(start, end) for start, end in pairwise(cuts) if end > start]
    first, *others = pool.map(step, slices)
    for other in others:
        first += other
    return first
