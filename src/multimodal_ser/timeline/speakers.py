"""Sound → speaker turns (diarisation): by voices, by pyannote.audio, or from an RTTM file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from multimodal_ser.audio.speech import CONTEXT
from multimodal_ser.audio.speech import Stretch as Found
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.encoders.mel import LEAST_SAMPLES
from multimodal_ser.errors import SerError, counted, import_extra


class Turn(NamedTuple):
    """A stretch of speech of one speaker; turns of different speakers may overlap.

    Attributes:
        start: its first sample at 16 kHz.
        end: its last sample + 1.
        speaker: a name, which the timeline keeps unless another one is given, or a number; equal
            in all turns of one speaker.
        sure: how certain it is that this is speech, from 0 to 1.
    """

    start: int
    end: int
    speaker: str | int
    sure: float = 1.0


Diariser: TypeAlias = Callable[[Iterator[Samples], "int | None"], Iterable[Turn]]
"""Mono blocks [time] at 16 kHz, and the number of speakers if known → turns, in any order."""


def pyannote(
    model: str = "pyannote/speaker-diarization-community-1", *, token: str | None = None,
    device: str = "cpu",
) -> Diariser:  # fmt: skip
    """Speaker diarisation by pyannote.audio (extra ``pyannote``), whose models need a hub.

    Args:
        model: hub id or folder of a pipeline.
        token: for the hub, if the model needs one.
        device: where torch computes.

    Raises:
        SerError: the extra is not installed, or the pipeline cannot be loaded.
    """
    import torch

    library = import_extra("pyannote.audio", "this diarisation needs an extra", "pyannote")
    pipeline = library.Pipeline.from_pretrained(model, token=token)
    if pipeline is None:
        raise SerError(f"{model}: accept its conditions on the hub, and set HF_TOKEN")
    pipeline.to(torch.device(device))

    def diarise(blocks: Iterator[Samples], count: int | None) -> list[Turn]:
        wave = torch.from_numpy(np.concatenate(list(blocks)))[None]
        found = pipeline({"waveform": wave, "sample_rate": SAMPLE_RATE}, num_speakers=count)
        found = getattr(found, "exclusive_speaker_diarization", found)
        return [
            Turn(round(part.start * SAMPLE_RATE), round(part.end * SAMPLE_RATE), who)
            for part, _, who in found.itertracks(yield_label=True)
        ]

    return diarise


def read_rttm(file: str | Path) -> Diariser:
    """Reads the turns that another program wrote as NIST's Rich Transcription Time Marks.

    Raises:
        SerError: the file cannot be read, or is about several recordings.
    """
    turns, names = [], set()
    try:
        for line in Path(file).read_text("utf-8-sig").splitlines():
            if (part := line.split()) and part[0] == "SPEAKER":
                start, long = float(part[3]), float(part[4])
                turns.append(
                    Turn(round(start * SAMPLE_RATE), round((start + long) * SAMPLE_RATE), part[7])
                )
                names.add(part[1])
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise SerError(f"{file}: not an RTTM file ({error})") from error
    if len(names) != 1:
        raise SerError(
            f"{file}: is about {counted(len(names), 'recording')} by its lines SPEAKER; give a "
            "file with the lines of one"
        )
    return lambda blocks, count: turns


def turns_by_speaker(turns: Iterable[Turn]) -> dict[str | int, tuple[Found, ...]]:
    """Speaker → the turns of that speaker, sorted by who speaks first.

    The result has no overlaps: while several speak, it is the turn of the one who began last.

    Raises:
        SerError: a turn begins before the recording.
    """
    ordered = sorted((turn for turn in turns if turn.end > turn.start), key=lambda turn: turn[:2])
    if ordered and ordered[0].start < 0:
        first = ordered[0]
        raise SerError(
            f"a turn of {first.speaker} begins at {first.start / SAMPLE_RATE:.3f} s; allowed: from "
            "0 s on, counted from the beginning of the recording"
        )
    # Between two consecutive edges the set of speakers does not change: each such piece is decided
    # once.
    edges = sorted({edge for turn in ordered for edge in turn[:2]})
    found: dict[str | int, list[Found]] = {}
    going: list[Turn] = []
    before, next_ = None, 0
    for start, end in pairwise(edges):
        while next_ < len(ordered) and ordered[next_].start <= start:
            going.append(ordered[next_])
            next_ += 1
        going = [turn for turn in going if turn.end > start]
        one = going[-1] if going else None
        if one is not None:
            parts = found.setdefault(one.speaker, [])
            if one is before:
                parts[-1] = parts[-1]._replace(end=end)
            else:
                parts.append(Found(start, end, one.sure))
        before = one
    return {speaker: tuple(parts) for speaker, parts in found.items()}


class Known:
    """Reports known stretches of speech to a `Stream`, in place of a `SpeechFinder`.

    Those that are too short to be predicted are left out.
    """

    def __init__(self, turns: Sequence[Found]) -> None:
        self._turns = _long_enough(turns)
        self._at = 0

    @property
    def undecided(self) -> int:
        """The sample before which no speech can begin any more."""
        return min(self._turns[0].start, self._at) if self._turns else self._at

    @property
    def current(self) -> tuple[int, int] | None:
        """The turn that has begun but not ended: its start, and how far it has been pushed."""
        if not self._turns or self._turns[0].start >= self._at:
            return None
        return self._turns[0].start, min(self._turns[0].end, self._at)

    def push(self, samples: Samples) -> list[Found]:
        """Takes samples [time]; returns the ended turns, once their context is there too."""
        self._at += len(samples)
        return self._ended(self._at - CONTEXT)

    def finish(self) -> list[Found]:
        """Ends the recording; turns beyond its end are cut off."""
        cut = [turn for turn in self._turns if turn.start < self._at]
        self._turns = _long_enough([turn._replace(end=min(turn.end, self._at)) for turn in cut])
        return self._ended(self._at)

    def _ended(self, until: int) -> list[Found]:
        count = 0
        while count < len(self._turns) and self._turns[count].end <= until:
            count += 1
        ended, self._turns = self._turns[:count], self._turns[count:]
        return ended


def _long_enough(turns: Sequence[Found]) -> list[Found]:
    return [turn for turn in turns if turn.end - turn.start >= LEAST_SAMPLES]


def is_rttm(speakers: str) -> bool:
    """Whether `speakers` of `analyze` names a file of turns."""
    return speakers.lower().endswith(".rttm")


def diariser_of(
    speakers: str, vad: Vad = "auto", device: str = "cpu"
) -> tuple[Diariser | None, int | None]:
    """The diariser for ``off``, ``auto``, a number, ``pyannote``, ``pyannote:2`` or an .rttm file.

    Raises:
        SerError: it is none of these.
    """
    if speakers == "off":
        return None, None
    if is_rttm(speakers):
        return read_rttm(speakers), None
    engine, _, number = speakers.rpartition(":")
    engine, number = ("pyannote", "auto") if number == "pyannote" else (engine, number)
    count = int(number) if number.isdecimal() else None
    if engine not in ("", "pyannote") or not (number == "auto" or count):
        raise SerError(
            f"speakers={speakers!r}; allowed: off, auto, their number, an .rttm file, pyannote, or "
            "pyannote:2"
        )
    if engine == "pyannote":
        return pyannote(token=os.environ.get("HF_TOKEN"), device=device), count
    from multimodal_ser.timeline.voices import Voices

    return Voices(vad), count
