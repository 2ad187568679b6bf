"""What runs that are trained together need: the peak of a process beside our estimate.

    python benchmarks/training_memory.py [--together 1 4]

The estimate (`experiments/memory.py`) decides how many runs one computation may hold, so it has to
lie above the peak. Each row is one process that trains so many networks of a shape for two steps on
made-up features; what it held before is taken off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from machine import machine

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.data import Examples, Side
from multimodal_ser.experiments import one_thread
from multimodal_ser.experiments.memory import bytes_of_training
from multimodal_ser.models import MODELS, Dims, Ensemble
from multimodal_ser.train import Task, fit_all

MIB = 2**20
BATCH, CLASSES = 64, 4
# model, tokens and widths of words and sound, network
SHAPES = [
    ("cross_attention", (1, 1), (768, 1024), ModelConfig()),
    ("cross_attention", (64, 32), (384, 1152), ModelConfig()),
    ("audio", (0, 32), (0, 1152), ModelConfig()),
    ("concat", (64, 32), (768, 1152), ModelConfig(members=4, hidden_dim=128)),
    ("cross_attention", (64, 32), (384, 1152), ModelConfig(4, 384, num_layers=2)),
    ("cross_attention", (1, 1), (768, 1024), ModelConfig(8, 384, num_layers=4)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--together", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--shape", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.shape is not None:
        print(peak_of(given.shape, given.together[0]))
        return
    print(f"{machine()}\n")
    print("| model | tokens | members × width × blocks | together | peak MiB a run | estimate |")
    print("|---|---|---|---:|---:|---:|")
    for number, (model, tokens, widths, network) in enumerate(SHAPES):
        estimate = bytes_of_training(model, Dims(*widths, CLASSES), tokens, network, BATCH)
        size = f"{network.members} × {network.hidden_dim} × {network.num_layers}"
        for runs in given.together:
            command = [sys.executable, __file__, "--shape", str(number), "--together", str(runs)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = float(done.stdout) / runs
            print(
                f"| {model} | {tokens[0]} + {tokens[1]} | {size} | {runs} | {peak:.0f} "
                f"| {estimate / MIB:.0f} |",
                flush=True,
            )


@one_thread()
def peak_of(number: int, runs: int) -> float:
    """MiB that so many trainings of a shape add to this process at their peak."""
    model, tokens, widths, network = SHAPES[number]
    schedule = TrainConfig(epochs=1, batch_size=BATCH, least_steps=2)
    rows = 2 * BATCH
    text, audio = (side(rows, *shape) for shape in zip(tokens, widths, strict=True))
    train = Examples(tuple(map(str, range(rows))), text, audio, torch.arange(rows) % CLASSES)
    dims, few = Dims(*widths, CLASSES), train.take(range(CLASSES))
    small = Ensemble(MODELS[model], dims, ModelConfig(members=1, hidden_dim=4))
    fit_all([Task(small, few, few, 0)], schedule)  # what is loaded at first use
    before = memory("VmRSS")
    made = [Ensemble(MODELS[model], dims, network) for _ in range(runs)]
    fit_all([Task(one, train, few, seed) for seed, one in enumerate(made)], schedule)
    return memory("VmHWM") - before


def side(rows: int, tokens: int, width: int) -> Side:
    return Side(torch.randn(rows, tokens, width), torch.ones(rows, tokens, dtype=torch.bool))


def memory(kind: str) -> float:
    """MiB of this process, as Linux counts them."""
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
