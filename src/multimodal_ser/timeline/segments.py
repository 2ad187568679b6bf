"""16 kHz sound, piece by piece → stretches of speech.

A gate scores every frame of 32 ms; two thresholds, a hangover and a least length make stretches of
the scores. Both gates look at most one second ahead and cut their frames from the recording's
beginning on, so the pieces' sizes change nothing.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from multimodal_ser.errors import SerError, one_of
from multimodal_ser.predict.runtime import onnxruntime

Samples: TypeAlias = NDArray[np.float32]
Scores: TypeAlias = NDArray[np.float64]
Vad: TypeAlias = Literal["auto", "silero", "energy", "none"]

FRAME = 512  # samples, 32 ms: what silero-vad was trained on
LEAST = 8  # frames of speech that make a stretch, 0.256 s: clicks and coughs are shorter
HANGOVER = 16  # frames below the lower threshold that end a stretch, 0.512 s
CONTEXT = 13 * FRAME  # samples beside a stretch that a model hears with it, 416 ms
PAD = 3 * FRAME  # samples added at both ends, 96 ms: soft beginnings and ends lie below the gate


class Gate(Protocol):
    """Sound → one score a frame, with the thresholds that the scores are for.

    Attributes:
        enter: the score from which a frame begins speech.
        stay: the score from which a frame goes on with it.
        least: frames of speech that make a stretch.
    """

    enter: float
    stay: float
    least: int

    def push(self, frames: Samples) -> Scores:
        """Frames [n, 512] → the scores that are known now, those of the oldest frames first."""
        ...

    def finish(self) -> Scores:
        """The scores that are still owed."""
        ...


class EnergyGate:
    """How far a frame's level stands above the noise floor, in dB.

    The level is the frame's standard deviation in dB of full scale. The floor is the least level,
    in means of five frames, from 10 s before to 1 s after the frame (minimum statistics, Martin
    2001); digital silence says nothing about it. Speech begins 10 dB and goes on 6 dB above the
    floor. The floor is taken to be -75 dB at least and -35 dB at most, so in noise that is louder
    than -29 dB everything may count as speech. Below -65 dB nothing does.
    """

    enter, stay, least = 10.0, 6.0, LEAST
    _BEFORE, _AFTER, _MEAN = 312, 31, 2  # frames
    _SILENT, _LOWEST, _FLOORS = -80.0, -65.0, (-75.0, -35.0)  # dB

    def __init__(self) -> None:
        self._power: Scores = np.zeros(0)  # of frames that are still needed
        self._kept = 0  # of these, how many have had their score

    def push(self, frames: Samples) -> Scores:
        """See `Gate`; the scores come one second late."""
        power = frames.astype(np.float64).var(axis=1)
        self._power = np.concatenate([self._power, power])
        return self._scores(len(self._power) - self._AFTER - self._MEAN)

    def finish(self) -> Scores:
        """See `Gate`."""
        return self._scores(len(self._power))

    def _scores(self, stop: int) -> Scores:
        if stop <= self._kept:
            return np.zeros(0)
        level = 10 * np.log10(np.maximum(self._power, 1e-12))
        over = level - self._floor()
        over[level < self._LOWEST] = -math.inf
        scores = over[self._kept : stop]
        drop = max(0, stop - self._BEFORE - self._MEAN)
        self._power, self._kept = self._power[drop:], stop - drop
        return scores

    def _floor(self) -> Scores:
        """The noise floor at every frame that is held, in dB."""
        heard = np.where(self._power > 10 ** (self._SILENT / 10), self._power, np.nan)
        wide = np.pad(heard, self._MEAN, constant_values=np.nan)
        mean = sum(wide[at : at + len(heard)] for at in range(2 * self._MEAN + 1))
        mean = np.nan_to_num(np.asarray(mean) / (2 * self._MEAN + 1), nan=np.inf)
        size = self._BEFORE + self._AFTER + 1
        shift = self._BEFORE - size // 2  # scipy's window begins size // 2 before a frame
        least = minimum_filter1d(mean, size, mode="constant", cval=np.inf, origin=shift)
        return np.asarray(np.clip(10 * np.log10(least), *self._FLOORS))


class SileroGate:
    """Silero's probability that a frame holds speech; its network comes inside the package.

    The package itself is not imported: doing so sets torch to one thread.
    """

    enter, stay, least = 0.5, 0.35, LEAST  # silero's own thresholds

    def __init__(self) -> None:
        try:
            runtime = onnxruntime()
        except ImportError as error:
            raise _no_silero() from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = runtime.InferenceSession(
            str(_silero_file()), options, providers=["CPUExecutionProvider"]
        )
        self._hidden = self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(64, np.float32)

    def push(self, frames: Samples) -> Scores:
        """See `Gate`; the scores come at once."""
        if not len(frames):
            return np.zeros(0)
        ends = np.vstack([self._context, frames[:-1, -64:]])
        self._context = frames[-1, -64:].copy()
        given = {"input": np.hstack([ends, frames]), "h": self._hidden, "c": self._cell}
        scores, self._hidden, self._cell = self._session.run(["speech_probs", "hn", "cn"], given)
        return np.asarray(scores, np.float64).reshape(-1)

    def finish(self) -> Scores:
        """See `Gate`."""
        return np.zeros(0)


class OpenGate:
    """Everything is speech."""

    enter, stay, least = 0.0, 0.0, 1

    def push(self, frames: Samples) -> Scores:
        """See `Gate`; the scores come at once."""
        return np.zeros(len(frames))

    def finish(self) -> Scores:
        """See `Gate`."""
        return np.zeros(0)


class SpeechFinder:
    """Scores → stretches (first sample, last sample + 1), as early as they are certain."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._rest: Samples = np.zeros(0, np.float32)
        self._samples = 0
        self._frame = 0  # the next one to be scored
        self._first: int | None = None
        self._last = self._count = self._barrier = 0

    @property
    def undecided(self) -> int:
        """The sample before which no speech can begin any more."""
        first = self._frame if self._first is None else self._first
        return max(self._barrier, first * FRAME - PAD)

    @property
    def current(self) -> tuple[int, int] | None:
        """The stretch that is under way: its beginning, and how far it certainly reaches."""
        if self._first is None or self._count < self._gate.least:
            return None
        return self.undecided, (self._last + 1) * FRAME

    def push(self, samples: Samples) -> list[tuple[int, int]]:
        """Takes samples [time]; returns the stretches that end."""
        self._samples += len(samples)
        held = np.concatenate([self._rest, samples])
        whole = len(held) // FRAME * FRAME
        self._rest = held[whole:]
        return self._follow(self._gate.push(held[:whole].reshape(-1, FRAME)))

    def finish(self) -> list[tuple[int, int]]:
        """Ends the recording; returns the stretches that end with it."""
        ended = []
        if len(self._rest):
            last = np.zeros((1, FRAME), np.float32)
            last[0, : len(self._rest)] = self._rest
            ended += self._follow(self._gate.push(last))
        ended += self._follow(self._gate.finish())
        return [*ended, *self._close()]

    def _follow(self, scores: Scores) -> list[tuple[int, int]]:
        ended: list[tuple[int, int]] = []
        for score in scores.tolist():
            if score >= (self._gate.enter if self._first is None else self._gate.stay):
                if self._first is None:
                    self._first, self._count = self._frame, 0
                self._last = self._frame
                self._count += 1
            elif self._first is not None and self._frame - self._last >= HANGOVER:
                ended += self._close()
            self._frame += 1
        return ended

    def _close(self) -> list[tuple[int, int]]:
        stretch = self.current
        self._first = None
        if stretch is None:
            return []
        end = min(stretch[1] + PAD, self._samples)
        self._barrier = end
        return [(stretch[0], end)]


def make_gate(vad: Vad = "auto") -> Gate:
    """The gate by its name; ``auto`` is silero where its extra is installed, else energy.

    Raises:
        SerError: the name is unknown, or silero-vad is asked for and not installed.
    """
    if vad not in get_args(Vad):
        raise SerError(one_of("speech detector", vad, get_args(Vad)))
    kinds: dict[str, Callable[[], Gate]] = {
        "silero": SileroGate,
        "energy": EnergyGate,
        "none": OpenGate,
        "auto": SileroGate if has_silero() else EnergyGate,
    }
    return kinds[vad]()


def has_silero() -> bool:
    """Whether silero-vad and onnxruntime are installed."""
    return all(importlib.util.find_spec(name) for name in ("silero_vad", "onnxruntime"))


def _silero_file() -> Path:
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "data" / "silero_vad_16k_sequence.onnx"
        if file.is_file():
            return file
    raise _no_silero()


def _no_silero() -> SerError:
    return SerError(
        "speech detector silero is not installed, or is older than 6.2.3; "
        "`pip install 'multimodal-ser[vad]'`, or choose energy or none"
    )
