"""Single utterances of a corpus → conversations whose speakers, times and emotions are known.

Speakers take turns of one to three utterances, with pauses of 0.2 to 1.2 s; one turn in eight
begins before the previous one has ended. Levels differ by up to 6 dB; faint noise is added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora import Utterance

OVERLAPS, PAUSES, BREAK = 1 / 8, (0.2, 1.2), (0.05, 0.4)  # share, seconds
TOGETHER = (0.4, 1.2)  # seconds of an overlap
FLOOR = 10 ** (-60 / 20)
FRAME = 320  # samples
QUIET, NOISE = 30.0, 6.0  # dB below a clip's loudest frame, and above its quietest tenth


@dataclass(frozen=True)
class Said:
    """An utterance in a conversation: its times in seconds, speaker and emotion."""

    start: float
    end: float
    speaker: str
    emotion: str


@dataclass(frozen=True)
class Conversation:
    """Audio [time, speakers], one channel per speaker, with its utterances."""

    sound: np.ndarray
    speakers: tuple[str, ...]
    said: tuple[Said, ...]

    @property
    def mono(self) -> np.ndarray:
        """Mixes all speakers into one channel, [time]."""
        return np.asarray(self.sound.sum(1))


def conversations(
    rows: Sequence[Utterance], speakers: int, seconds: float, count: int, seed: int = 0
) -> list[Conversation]:
    """Makes a number of conversations, with different speakers as long as there are enough."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_speaker[str(row.speaker)].append(row)
    draw = np.random.default_rng(seed)
    order = [str(name) for name in draw.permutation(sorted(by_speaker))]
    chosen = [
        [order[(speakers * number + k) % len(order)] for k in range(speakers)]
        for number in range(count)
    ]
    return [_conversation({name: by_speaker[name] for name in names}, seconds, draw)
            for names in chosen]  # fmt: skip


def _conversation(
    clips: dict[str, list[Utterance]], seconds: float, draw: np.random.Generator
) -> Conversation:
    names = list(clips)
    gains = dict(zip(names, 10 ** (draw.uniform(-6, 0, len(names)) / 20), strict=True))
    whole = FLOOR * draw.standard_normal((round(seconds * SAMPLE_RATE), len(names)))
    said: list[Said] = []
    at, before = 0.5, ""
    while True:
        who = str(draw.choice([name for name in names if name != before] or names))
        if said and draw.random() < OVERLAPS:
            at = max(said[-1].start + 0.3, said[-1].end - draw.uniform(*TOGETHER))
        for _ in range(int(draw.integers(1, 4))):
            row = clips[who][int(draw.integers(len(clips[who])))]
            wave = spoken(read_audio(row.audio or ""))
            end = at + len(wave) / SAMPLE_RATE
            if end > seconds - 0.5:
                return Conversation(
                    whole.astype(np.float32), tuple(names), tuple(sorted(said, key=_begin))
                )
            first = round(at * SAMPLE_RATE)
            level = 0.3 * gains[who] / max(float(np.abs(wave).max()), 1e-4)
            whole[first : first + len(wave), names.index(who)] += level * wave
            said.append(Said(at, end, who, str(row.emotion)))
            at = end + draw.uniform(*BREAK)
        at, before = end + draw.uniform(*PAUSES), who


def _begin(said: Said) -> float:
    return said.start


def spoken(wave: np.ndarray) -> np.ndarray:
    """Cuts off the quiet ends of a clip, which are not speech: see `QUIET` and `NOISE`."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.square(frames, dtype=float).mean(1) + 1e-10)
    loud = level > max(level.max() - QUIET, np.percentile(level, 10) + NOISE)
    places = np.flatnonzero(np.convolve(loud, np.ones(3), "same") > 1)
    return wave[places[0] * FRAME : (places[-1] + 1) * FRAME] if len(places) else wave
