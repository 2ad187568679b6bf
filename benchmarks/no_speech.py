"""How often sound without speech is taken for speech, and how often real speech is missed.

    python benchmarks/no_speech.py [--speech FOLDER …] [--each 20] [--clips 100]

The first table is about made-up sound without speech (`without_speech.py`), unchanged and with 2 s
of silence on both sides. The thresholds of the speech detector were chosen on the first group of
sounds; the second group was kept aside. The second table is about recordings of people, changed in
the ways in which telephone lines, codecs and rooms change them. If speech is doubtful (certainty
below one half), a model's probabilities are moved towards equal shares, so that no class gets a
probability much above one half.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray
from without_speech import ASIDE, KINDS, sounds

from multimodal_ser.audio import read_audio
from multimodal_ser.audio.augment import coded, noisy, telephone
from multimodal_ser.audio.speech import Speech, find_speech
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict.sources import find_recordings

Wave = NDArray[np.float32]
LONGEST = 6 * SAMPLE_RATE
QUIET = np.zeros(2 * SAMPLE_RATE, np.float32)


def main() -> None:
    given = _arguments()
    print(machine(packages=("multimodal-ser", "silero-vad", "numpy")) + "\n")
    print("| sound without speech | recordings | no speech | doubtful | speech |")
    print("|---|---:|---:|---:|---:|")
    for title, kinds in (("used to choose thresholds", KINDS), ("kept aside", ASIDE)):
        made = list(sounds(kinds, given.each))
        for where, add in (("", _same), (", in silence", _in_silence)):
            found = [(kind, find_speech(add(wave[:LONGEST]))) for kind, wave in made]
            _tell(f"all kinds {title}{where}", [one for _, one in found])
            for kind in kinds:
                of_kind = [one for name, one in found if name == kind]
                if any(one.reason is None for one in of_kind):
                    _tell(f"… {kind}{where}", of_kind)
    print("\n| speech | recordings | no speech | doubtful | speech |")
    print("|---|---:|---:|---:|---:|")
    for folder in given.speech:
        files = find_recordings([str(folder)])
        chosen = np.random.default_rng(0).permutation(len(files))[: given.clips]
        waves = [read_audio(files[place])[:LONGEST] for place in sorted(chosen)]
        for name, change in CHANGES.items():
            heard = [change(wave, np.random.default_rng(n)) for n, wave in enumerate(waves)]
            _tell(f"{folder.parent.name}/{folder.name}, {name}", list(map(find_speech, heard)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, nargs="+", default=[], help="folders of recordings")
    parser.add_argument("--each", type=int, default=20, help="sounds of each kind")
    parser.add_argument("--clips", type=int, default=100, help="recordings of each folder")
    return parser.parse_args()


def _tell(name: str, found: Sequence[Speech]) -> None:
    none = sum(one.reason is not None for one in found)
    doubtful = sum(one.reason is None and one.sure < 0.5 for one in found)
    counts = (none, doubtful, len(found) - none - doubtful)
    told = " | ".join(f"{100 * count / len(found):.1f} %" for count in counts)
    print(f"| {name} | {len(found)} | {told} |", flush=True)


def _same(wave: Wave) -> Wave:
    return wave


def _in_silence(wave: Wave) -> Wave:
    return np.concatenate([QUIET, wave, QUIET])


def _level(factor: float) -> Callable[[Wave, np.random.Generator], Wave]:
    """Makes a recording quieter and rounds it to 16 bits."""
    return lambda wave, rng: (np.round(factor * wave * 32_768) / 32_768).astype(np.float32)


CHANGES: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "as it is": lambda wave, rng: wave,
    "2 s of silence around": lambda wave, rng: _in_silence(wave),
    "level 0.03": _level(0.03),
    "level 0.003": _level(0.003),
    "noise at 20 dB": lambda wave, rng: noisy(wave, 20, rng),
    "noise at 10 dB": lambda wave, rng: noisy(wave, 10, rng),
    "telephone": lambda wave, rng: telephone(wave),
    "MP3, 32 kbit/s": lambda wave, rng: coded(wave, "mp3", 32_000),
    "Opus, 16 kbit/s": lambda wave, rng: coded(wave, "opus", 16_000),
}


if __name__ == "__main__":
    main()
