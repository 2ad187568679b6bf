"""How many changed copies of recordings the acoustic fingerprint finds, and how often it is wrong.

    python benchmarks/copies.py --audio EMODB/wav

For every tenth recording, one copy of each kind is made. All recordings and the copies of one kind
are compared with each other. A pair counts as false if it is reported but is not a copy.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from multimodal_ser.audio import read_audio
from multimodal_ser.audio.fingerprints import copies, fingerprint
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora.base import SOUND

Wave = NDArray[np.float32]


def through(wave: Wave, rate: int, **how: object) -> Wave:
    """Writes a recording at another sample rate and reads it back."""
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(wave, SAMPLE_RATE, rate), rate, **how)
    return read_audio(file.getvalue())


def noisy(wave: Wave) -> Wave:
    """Adds white noise 20 dB below the recording's level."""
    draw = np.random.default_rng(0)
    return (wave + draw.normal(0, 0.1 * wave.std(), len(wave))).astype(np.float32)


MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.95}
OPUS = {"format": "OGG", "subtype": "OPUS", "compression_level": 0.95}
CHANGES: dict[str, Callable[[Wave], Wave]] = {
    "a fifth of the level": lambda wave: 0.2 * wave,
    "0.24 s less before, 0.16 s after": lambda wave: wave[3777:-2500],
    "44.1 kHz, 16 bits": lambda wave: through(wave, 44_100, format="WAV"),
    "8 kHz, mu-law": lambda wave: through(wave, 8_000, format="WAV", subtype="ULAW"),
    "Vorbis": lambda wave: through(wave, SAMPLE_RATE, format="OGG", subtype="VORBIS"),
    "Opus, strongest compression": lambda wave: through(wave, SAMPLE_RATE, **OPUS),
    "mp3, strongest compression": lambda wave: through(wave, SAMPLE_RATE, **MP3),
    "white noise, 20 dB": noisy,
    "trimmed, quieter, mp3 at 22.05 kHz": lambda wave: through(
        0.4 * wave[5333:-3000], 22_050, **MP3
    ),
    "3 % slower": lambda wave: soxr.resample(wave, 15_500, SAMPLE_RATE),
}


def main() -> None:
    """Prints the time taken, the false pairs and how many copies of each kind are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings")
    folder = parser.parse_args().audio
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND)
    waves = {path.name: read_audio(path) for path in paths}
    begin = time.process_time()
    prints = {name: fingerprint(wave) for name, wave in waves.items()}
    made = time.process_time()
    false = copies(prints)
    compared = time.process_time()
    pairs = len(prints) * (len(prints) - 1) // 2
    print(f"{len(prints)} recordings, {sum(not text for text in prints.values())} without a print")
    print(f"{1000 * (made - begin) / len(prints):.2f} ms of CPU a recording")
    print(f"{len(false)} of {pairs:,} pairs called copies, in {compared - made:.1f} s: {false[:5]}")
    for kind, change in CHANGES.items():
        changed = {f"{name} changed": fingerprint(change(waves[name])) for name in [*waves][::10]}
        wanted = {(name.removesuffix(" changed"), name) for name in changed}
        found = set(copies(prints | changed)) - set(false)
        print(f"{kind:36} {len(found & wanted):4} of {len(wanted)}, {len(found - wanted)} false")


if __name__ == "__main__":
    main()
