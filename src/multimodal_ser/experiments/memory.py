"""How many runs may be trained as one computation: what fits into the memory."""

from __future__ import annotations

import torch

from multimodal_ser.config import ModelConfig
from multimodal_ser.devices import is_gpu, memory_of
from multimodal_ser.experiments.bundle import Bench, Settings
from multimodal_ser.experiments.plans import Plan
from multimodal_ser.models import MODELS, Dims, Ensemble

MOST_ON_CPU, MOST_ON_GPU = 8, 32  # more gain nothing on a CPU, and a kill loses all of them
SHARE = 0.5  # of the memory, for the runs of all processes
_FLOAT = 4  # bytes
# Copies, as measured at the peak of a step (`benchmarks/training_memory.py`), rounded up: of the
# weights (gradients, AdamW's two, average, best epoch, stack), the inputs a member, the hidden
# tokens a member and block, and the attention scores a member and block.
_OF_WEIGHTS, _OF_INPUTS, _OF_HIDDEN, _OF_SCORES = 8, 4, 24, 8


def most_together(bench: Bench, item: Plan, jobs: int, together: int | None = None) -> int:
    """Runs like this one that may be trained together in each of several processes.

    Args:
        bench: what they are made from, and where.
        item: one of them.
        jobs: processes that share the memory.
        together: runs at most; None is 8 on a CPU and 32 on a GPU.
    """
    most = together or (MOST_ON_GPU if is_gpu(bench.device) else MOST_ON_CPU)
    if item.config.model not in MODELS:
        return 1
    budget = SHARE * memory_of(bench.device) / max(jobs, 1)
    return max(1, min(most, int(budget // bytes_of_run(bench, item))))


def bytes_of_run(bench: Bench, item: Plan) -> int:
    """An upper estimate of what one run's training needs beside the features."""
    settings = Settings.of(item.config.train)
    materials = [bench.material, *([] if bench.source is None else [bench.source])]
    counts = [
        (one.examples.text.mask.shape[1], one.examples.audio.mask.shape[1]) for one in materials
    ]
    text, audio = (sum(side) for side in zip(*counts, strict=True))  # a batch of each corpus
    return bytes_of_training(
        item.config.model, bench.dims, (text, audio), settings.network, settings.schedule.batch_size
    )


def bytes_of_training(
    model: str, dims: Dims, tokens: tuple[int, int], network: ModelConfig, batch_size: int
) -> int:
    """An upper estimate of what training one network needs beside its features.

    Args:
        model: key in MODELS.
        dims: of its inputs.
        tokens: of the words and of the sound.
        network: its knobs.
        batch_size: utterances a step.
    """
    with torch.device("meta"):
        ensemble = Ensemble(MODELS[model], dims, network)
    weights = sum(part.numel() for part in ensemble.parameters())
    sides = {"text": (tokens[0], dims.text), "audio": (tokens[1], dims.audio)}
    read = [sides[name] for name in ensemble.sides]
    steps, inputs = sum(count for count, _ in read), sum(count * width for count, width in read)
    activations = _OF_INPUTS * inputs + max(1, network.num_layers) * (
        _OF_HIDDEN * steps * network.hidden_dim + _OF_SCORES * network.num_heads * (steps + 1) ** 2
    )
    return _FLOAT * (_OF_WEIGHTS * weights + network.members * batch_size * activations)
