"""Writes goldens/emotion2vec.safetensors: a tiny seeded emotion2vec of FunASR, and what it gives.

Run ``python tests/make_emotion2vec_goldens.py`` where `funasr_oracle` finds FunASR. The file lets
the tests check equality with the reference where FunASR is absent.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import funasr_oracle

FILE = Path(__file__).parent / "goldens" / "emotion2vec.safetensors"
LABELS = ["angry", "unuse_0", "happy", "neutral", "unuse_1", "sad", "unknown"]
LENGTHS = (400, 1_600, 12_345)  # samples


def made_wave(samples: int) -> torch.Tensor:
    """Noise under a swelling tone, away from zero mean."""
    noise = np.random.default_rng(samples).normal(0, 0.05, samples)
    tone = 0.2 * np.sin(np.arange(samples) * 0.05) * np.linspace(0, 1, samples)
    return torch.from_numpy((noise + tone + 0.02).astype(np.float32))


def main() -> None:
    network = funasr_oracle.network(
        dim=48, heads=6, first=1, later=1, classes=len(LABELS), channels=16, seed=1
    )
    content = {f"weights/{key}": value for key, value in network.state_dict().items()}
    for samples in LENGTHS:
        wave = made_wave(samples)
        frames = funasr_oracle.frames(network, wave)
        logits = network.proj(frames.mean(0))
        for place, label in enumerate(LABELS):
            if label.startswith("unuse"):
                logits[place] = -torch.inf
        content[f"frames/{samples}"] = frames
        content[f"scores/{samples}"] = logits.softmax(-1)
    FILE.parent.mkdir(exist_ok=True)
    content = {key: value.detach().clone().contiguous() for key, value in content.items()}
    save_file(content, FILE, metadata={"labels": json.dumps(LABELS), "made_with": "funasr 1.4.16"})


if __name__ == "__main__":
    main()
