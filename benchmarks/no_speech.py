"""What is said of sound without speech, and how often real speech is not heard.

    python benchmarks/no_speech.py --speech FOLDER … [--model starter] [--each 10] [--clips 100]

The first table asks a model about made-up sound (`without_speech.py`), as it is and with 2 s of
silence on both sides: what shares are `no speech` and `uncertain`, and the greatest confidence. The
limits of the speech finder were chosen on the first kinds; the last were kept aside. The second
asks about recordings of people, changed as lines, codecs and rooms change them: how many are `no
speech`, how many are doubtful (certainty of speech below one half), and how many answers differ
from those for the recording as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray
from without_speech import ASIDE, KINDS, sounds

from multimodal_ser.audio import SAMPLE_RATE, read_audio
from multimodal_ser.augment import coded, noisy, telephone
from multimodal_ser.predict import NO_SPEECH, UNCERTAIN, Prediction, Predictor, load
from multimodal_ser.predict.sources import find_recordings
from multimodal_ser.speech import find_speech

Wave = NDArray[np.float32]
LONGEST = 8 * SAMPLE_RATE
QUIET = np.zeros(2 * SAMPLE_RATE, np.float32)


def main() -> None:
    given = _arguments()
    print(machine())
    predictor = load(given.model)
    print(f"model {predictor.name}, threshold {predictor.threshold:.2f}\n")
    print(
        "| without speech | sounds | no speech | uncertain | another label | greatest confidence |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for title, kinds in (("chosen on", KINDS), ("kept aside", ASIDE)):
        made = list(sounds(kinds, given.each))
        for where, add in (("", _same), (", in silence", _in_silence)):
            said = predictor.waves([add(wave) for _, wave in made])
            print(_row(f"all {title}{where}", said))
            for kind in kinds:
                of_kind = [one for (name, _), one in zip(made, said, strict=True) if name == kind]
                if any(one.label != NO_SPEECH for one in of_kind):
                    print(_row(f"… {kind}{where}", of_kind))
    print("\n| speech | clips | no speech | doubtful | answers changed |")
    print("|---|---:|---:|---:|---:|")
    for folder in given.speech:
        _speech(predictor, folder, given.clips)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, nargs="+", default=[], help="folders of recordings")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--each", type=int, default=10, help="sounds of each kind")
    parser.add_argument("--clips", type=int, default=100, help="recordings of each folder")
    return parser.parse_args()


def _row(name: str, said: Sequence[Prediction]) -> str:
    labels = [one.label for one in said]
    shares = [labels.count(label) / len(labels) for label in (NO_SPEECH, UNCERTAIN)]
    told = " | ".join(f"{100 * share:.1f} %" for share in (*shares, 1 - sum(shares)))
    return f"| {name} | {len(said)} | {told} | {max(one.confidence for one in said):.2f} |"


def _speech(predictor: Predictor, folder: Path, count: int) -> None:
    files = find_recordings([str(folder)])
    chosen = np.random.default_rng(0).permutation(len(files))[:count]
    waves = [read_audio(files[place])[:LONGEST] for place in sorted(chosen)]
    first: list[str] = []
    for name, change in CHANGES.items():
        heard = [change(wave, np.random.default_rng(n)) for n, wave in enumerate(waves)]
        labels = [one.label for one in predictor.waves(heard)]
        first = first or labels
        changed = np.mean([a != b for a, b in zip(first, labels, strict=True)])
        doubtful = np.mean([find_speech(wave).sure < 0.5 for wave in heard])
        print(
            f"| {folder.parent.name}/{folder.name}, {name} | {len(waves)} "
            f"| {100 * labels.count(NO_SPEECH) / len(waves):.1f} % "
            f"| {100 * doubtful:.1f} % | {100 * changed:.1f} % |",
            flush=True,
        )


def _same(wave: Wave) -> Wave:
    return wave


def _in_silence(wave: Wave) -> Wave:
    return np.concatenate([QUIET, wave, QUIET])


def _level(factor: float) -> Callable[[Wave, np.random.Generator], Wave]:
    """Quieter, in steps of 16 bits."""
    return lambda wave, rng: (np.round(factor * wave * 32_768) / 32_768).astype(np.float32)


CHANGES: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "as it is": lambda wave, rng: wave,
    "2 s of silence around": lambda wave, rng: _in_silence(wave),
    "level 0.1": _level(0.1),
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
