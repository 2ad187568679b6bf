"""Finds the directions in which voices differ, for `multimodal_ser.timeline.voices.Voices`.

    python scripts/train_voices.py --manifest cremad.jsonl emodb.jsonl --held-out held.txt \
        --out src/multimodal_ser/timeline/voices.safetensors

Linear discriminant analysis of the cepstral statistics of one cut of 1.2 to 2.4 s from each
recording, a class for each speaker, so that emotions count as differences within a voice. Speakers
named in --held-out, a line each, are left out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora import Utterance, read_manifest
from multimodal_ser.timeline.voices import cepstral_statistics

SECONDS = (1.2, 2.4)
SHRINKAGE, AXES = 0.3, 40


def learnt(rows: Sequence[Utterance], most: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Mean, scale and axes from at most so many recordings of each speaker."""
    draw = np.random.default_rng(seed)
    by_speaker = defaultdict(list)
    for row in rows:
        by_speaker[f"{row.corpus}/{row.speaker}"].append(row)
    found, names = [], []
    for name, mine in sorted(by_speaker.items()):
        for k in draw.permutation(len(mine))[:most]:
            statistics = cepstral_statistics(cut(read_audio(str(mine[k].audio)), draw))
            if statistics is not None:
                found.append(statistics)
                names.append(name)
    return fitted(np.array(found), names)


def fitted(statistics: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The weights of `Voices` from statistics [N, 524] and their speakers."""
    mean, deviation = statistics.mean(0), statistics.std(0) + 1e-6
    axes = min(AXES, len(set(names)) - 1)
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE, n_components=axes)
    analysis.fit((statistics - mean) / deviation, names)
    kept = analysis.scalings_[:, :axes]
    found = {"mean": mean, "scale": 1 / deviation, "axes": kept}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def cut(wave: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A part of a recording's sound, anywhere in it."""
    loud = np.flatnonzero(np.abs(wave) > 10 ** (-30 / 20) * np.abs(wave).max())
    wave = wave[loud[0] : loud[-1] + 1] if len(loud) else wave
    count = int(draw.uniform(*SECONDS) * SAMPLE_RATE)
    first = int(draw.integers(max(1, len(wave) - count + 1)))
    return wave[first : first + count]


def main() -> None:
    """Learns and writes the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, help="speakers to leave out, a line each")
    parser.add_argument("--most", type=int, default=80, help="recordings of a speaker")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    held = set(given.held_out.read_text().split()) if given.held_out else set()
    rows = [row for file in given.manifest for row in read_manifest(file)]
    rows = [row for row in rows if str(row.speaker) not in held]
    weights = learnt(rows, given.most)
    save_file(weights, given.out)
    speakers = {(row.corpus, row.speaker) for row in rows}
    print(f"{given.out}: learnt from {len(rows)} recordings of {len(speakers)} speakers")


if __name__ == "__main__":
    main()
