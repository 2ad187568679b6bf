"""Memory and time of `ser predict` for very many recordings.

    python benchmarks/many.py --audio recording.wav [--counts 1000 10000] [--engine ray]

Makes many links to one short recording, in folders of 100, and predicts them with `ser predict
--format csv --out`. Prints the peak memory of the command (with Ray, of the process that writes;
workers have their own) and the time per recording.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine


def main() -> None:
    """Prints one line for each number of recordings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--engine", default="local")
    given = parser.parse_args()
    print(machine(), flush=True)
    for count in sorted(given.counts):  # the peak is over all commands so far
        with tempfile.TemporaryDirectory(dir=given.audio.parent) as name:
            seconds = predicted(given.audio, Path(name), count, given.engine)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"{count} recordings, {given.engine}: at most {peak:.0f} MB, "
            f"{1000 * seconds / count:.1f} ms each",
            flush=True,
        )


def predicted(audio: Path, folder: Path, count: int, engine: str) -> float:
    """Predicts a recording under many names; returns the seconds."""
    for number in range(count):
        place = folder / "in" / f"{number // 100:04d}" / f"{number % 100:02d}{audio.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(audio.resolve())
    command = [sys.executable, "-m", "multimodal_ser", "predict", str(folder / "in")]
    began = time.monotonic()
    out = folder / "out.csv"
    subprocess.run([*command, "--engine", engine, "--format", "csv", "--out", out], check=True)
    rows = sum(1 for _ in out.open()) - 1
    if rows != count:
        raise SystemExit(f"{rows} rows for {count} recordings")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
