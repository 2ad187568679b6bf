"""Delay of one recording, warm and cold: the model as loaded compared with ONNX, interleaved.

    python benchmarks/latency.py --audio recording.wav [--model starter] [--threads 2]

Warm: one recording of --seconds, cut or repeated, from waveform to probabilities, in one process;
every repeat times all models one after the other, so that a busy machine slows all of them alike.
With --busy, other programs keep that many cores busy meanwhile.
Cold: the command `ser predict FILE` from start to end in its own process, and where the time goes.
The ONNX files are exported from the model into a temporary folder. Needs the extra onnx.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from machine import machine

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.export import export
from multimodal_ser.predict import Predictor, load
from multimodal_ser.predict.onnx_backend import OnnxBackend, open_session

# Prints the seconds of: importing the runtime; importing the rest and loading; answering once.
PARTS = """
import importlib, sys, time
runtime, model, file = sys.argv[1:]
marks = [time.perf_counter()]
importlib.import_module(runtime)
marks.append(time.perf_counter())
from multimodal_ser import load
predictor = load(model)
marks.append(time.perf_counter())
predictor(file)
marks.append(time.perf_counter())
print(*(late - early for early, late in zip(marks, marks[1:])))
"""
COLD = ("whole command", "Python starts", "import runtime", "load model", "first answer")


OWN = "as loaded"  # the model itself: the starter in numpy, a run in torch


def main() -> None:
    """Prints both tables in Markdown."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    wave = np.resize(read_audio(given.audio), round(given.seconds * SAMPLE_RATE))
    print(f"{machine()}; onnxruntime {version('onnxruntime')}; model {given.model}\n")
    with tempfile.TemporaryDirectory() as folder:
        models = _models(given.model, Path(folder))
        with busy_processors(given.busy):
            _report_warm(_warm(models, wave, given), given)
        _report_cold(_cold(models, given), given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True, help="a recording of speech")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the recording")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200, help="warm predictions of each model")
    parser.add_argument("--busy", type=int, default=0, help="other programs that keep cores busy")
    parser.add_argument("--cold", type=int, default=7, help="cold commands of each model")
    return parser.parse_args()


@contextmanager
def busy_processors(count: int) -> Iterator[None]:
    """Runs programs that compute all the time, as others do on a machine that is shared."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.kill()


def _models(name: str, folder: Path) -> dict[str, str]:
    """Returns what is compared: name → argument of `load`."""
    predictor = load(name)
    plain = export(predictor, folder / "float32.onnx", part="whole").file
    small = export(predictor, folder / "int8.onnx", part="whole", int8=True).file
    return {OWN: name, "ONNX float32": str(plain), "ONNX int8": str(small)}


def _warm(
    models: dict[str, str], wave: np.ndarray, given: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """Measures elapsed time and CPU time in seconds, for every model and repeat."""
    predictors = {way: _limited(load(model), given.threads) for way, model in models.items()}
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in models}
    for repeat in range(given.repeats + 10):
        for way, predictor in predictors.items():
            began, used = time.perf_counter(), time.process_time()
            predictor.waves([wave])
            if repeat >= 10:  # the first ones warm up
                times[way].append((time.perf_counter() - began, time.process_time() - used))
    return times


def _limited(predictor: Predictor, threads: int) -> Predictor:
    """Opens an ONNX session with this number of threads; torch's number is set for the process."""
    if isinstance(predictor.backend, OnnxBackend):
        predictor.backend.session = open_session(predictor.backend.file, threads)
    return predictor


def _cold(models: dict[str, str], given: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Measures the seconds of every part of COLD, per model and repeat; the first fills caches."""
    times: dict[str, list[list[float]]] = {way: [] for way in models}
    for repeat in range(given.cold + 1):
        for way, model in models.items():
            runtime = "numpy" if way == OWN else "onnxruntime"
            audio = str(given.audio)
            command = ["-m", "multimodal_ser", "predict", "--model", model, audio]
            whole, _ = _process(command, given.threads)
            start, _ = _process(["-c", ""], given.threads)
            _, told = _process(["-c", PARTS, runtime, model, audio], given.threads)
            if repeat:
                times[way].append([whole, start, *map(float, told.split())])
    return times


def _process(arguments: list[str], threads: int) -> tuple[float, str]:
    """Runs a Python process; returns its seconds and its output."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "ORT_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return took, done.stdout


def _report_warm(times: dict[str, list[tuple[float, float]]], given: argparse.Namespace) -> None:
    print(
        f"Warm, one recording of {given.seconds:g} s, {given.repeats} times, {given.busy} busy:\n"
    )
    print("| way | p50 ms | p95 ms | processors' ms | p50 as loaded ÷ its |")
    print("|---|---:|---:|---:|---:|")
    base = np.array(times[OWN])[:, 0]
    for way, rows in times.items():
        seconds, used = np.array(rows).T
        middle, late = 1000 * np.percentile(seconds, [50, 95])
        ratio, cpu = np.median(base / seconds), 1000 * np.median(used)
        print(f"| {way} | {middle:.1f} | {late:.1f} | {cpu:.1f} | {ratio:.2f} |")


def _report_cold(times: dict[str, list[list[float]]], given: argparse.Namespace) -> None:
    print(f"\nCold `ser predict {given.audio.name}`, median of {given.cold} in ms:\n")
    print(f"| way | {' | '.join(COLD)} |\n|---|{'---:|' * len(COLD)}")
    for way, rows in times.items():
        middles = 1000 * np.median(rows, axis=0)
        print(f"| {way} | {' | '.join(f'{value:.0f}' for value in middles)} |")


if __name__ == "__main__":
    main()
