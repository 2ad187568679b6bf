"""An hour of audio → its timeline: seconds, times real time, and memory added to the model's.

    python benchmarks/timeline.py --audio ../shared/data/emodb/wav [--minutes 60] [--model starter]

The recording is made from a corpus's recordings in a row, with pauses of 0.3 to 1.5 s of faint
noise, in a temporary folder. The model predicts once before the clock starts, so that its weights
and buffers count as the model's memory. Decoding, speech detection, prediction and smoothing are
timed together; writing all formats is timed separately.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile
import torch
from machine import machine

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.predict import load
from multimodal_ser.timeline import HOP, WINDOW, Recogniser, Timeline, analyze
from multimodal_ser.timeline.writers import WRITERS, write_files


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        recording = made_recording(given.audio, given.minutes, Path(folder))
        vad: Vad = "silero" if given.vad == "auto" else given.vad
        print(machine(given.device))
        print(f"{recording.name}: {given.minutes:g} min, {recording.stat().st_size / 1e6:.0f} MB")
        print(f"model {given.model}, speech by {vad}, window {WINDOW:g} s, hop {given.hop:g} s")
        predictor = load(given.model, device=given.device)
        words = Recogniser() if given.words else None
        warm, _ = soundfile.read(recording, 100 * SAMPLE_RATE, dtype="float32")
        predictor.waves([warm[at : at + 3 * SAMPLE_RATE] for at in range(0, 64 * 9_600, 9_600)])
        before = resident("VmRSS")
        begin, used = time.perf_counter(), time.process_time()
        timeline = analyze(recording, predictor, vad=vad, hop=given.hop, words=words)
        took, used = time.perf_counter() - begin, time.process_time() - used
        report(timeline, took, used, before)
        begin = time.perf_counter()
        write_files(timeline, recording, Path(folder) / "out", list(WRITERS))
        print(f"writing {', '.join(WRITERS)}: {time.perf_counter() - begin:.1f} s")
        print(f"peak with writing: {resident('VmHWM') - before:.0f} MB beyond the model")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--vad", choices=("auto", "silero", "energy", "none"), default="auto")
    parser.add_argument("--hop", type=float, default=HOP)
    parser.add_argument("--words", action="store_true", help="recognise the words too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def made_recording(folder: Path, minutes: float, out: Path) -> Path:
    """Joins the corpus's recordings in random order, repeatedly, until it is long enough."""
    draw = np.random.default_rng(0)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav", ".ogg"))
    left, path = round(60 * minutes * SAMPLE_RATE), out / "long.flac"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for place in cycle(draw.permutation(len(files))):
            pause = 0.001 * draw.standard_normal(round(draw.uniform(0.3, 1.5) * SAMPLE_RATE))
            for part in (pause.astype(np.float32), read_audio(files[place])):
                file.write(part[:left])
                left -= min(left, len(part))
            if not left:
                return path
    raise AssertionError("cycle ended")


def report(timeline: Timeline, took: float, used: float, before: float) -> None:
    spoken = sum(end - start for start, end in timeline.speech)
    print(
        f"{timeline.duration:.0f} s of sound, {spoken:.0f} s of speech in "
        f"{len(timeline.speech)} stretches, {len(timeline.track)} windows, "
        f"{len(timeline.segments)} segments"
    )
    print(f"{took:.1f} s, {timeline.duration / took:.0f} × real time; {used:.1f} s of processor")
    print(f"peak memory: {resident('VmHWM') - before:.0f} MB beyond the model ({before:.0f} MB)")


def resident(kind: str) -> float:
    """Returns this process's resident memory in MB, now (VmRSS) or its peak (VmHWM); Linux only."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split(f"{kind}:")[1].split()[0]) / 1e3


if __name__ == "__main__":
    main()
