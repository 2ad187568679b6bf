"""Tests an installation without torch: the starter predicts, and no training library is imported.

CI runs it on every Python version, and on the wheel before a release:

    python scripts/try_install.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import soundfile

HEAVY = {"torch", "transformers", "scipy", "sklearn"}


def main() -> int:
    """Predicts a made-up recording, by the command and in this process; prints seconds and MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", help="the version that must be installed")
    asked = parser.parse_args()
    version = metadata.version("multimodal-ser")
    if asked.version not in (None, version):
        print(f"installed is {version}, not {asked.version}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sound.wav"
        soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "multimodal_ser", "predict", str(file), "--format", "json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        from multimodal_ser import load

        predictor = load()
        predictor.vad = "none"
        answer = predictor(file)
    print(f"{version} on Python {sys.version.split()[0]}: first prediction after {seconds:.2f} s")
    print(f"{len(done.stdout)} characters printed; prediction: {answer.best}")
    print(f"{size()} MB in {Path(np.__file__).parents[1]}")
    brought = HEAVY & set(sys.modules)
    print(f"imported needlessly: {sorted(brought)}" if brought else "no training library imported")
    return 1 if brought else 0


def size() -> int:
    """Returns the size in MB of the folder that packages are installed in."""
    files = Path(np.__file__).parents[1].rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) // 1_000_000


if __name__ == "__main__":
    raise SystemExit(main())
