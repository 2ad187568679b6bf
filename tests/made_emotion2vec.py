"""Small random emotion2vec checkpoints, keyed as the published ones are."""

import numpy as np
import torch
from safetensors.torch import save_file

NINE = (
    "生气/angry", "厌恶/disgusted", "恐惧/fearful", "开心/happy", "中立/neutral", "其他/other",
    "难过/sad", "吃惊/surprised", "<unk>",
)  # fmt: skip
AUDIO = "modality_encoders.AUDIO."


def checkpoint(dim=32, heads=4, first=1, later=2, classes=9, channels=16, seed=0):
    """A state dict with the keys of a published checkpoint."""
    shapes = {f"{AUDIO}extra_tokens": (1, 10, dim), f"{AUDIO}alibi_scale": (1, 1, heads, 1, 1)}
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        conv = f"{AUDIO}local_encoder.conv_layers.{i}"
        shapes[f"{conv}.0.weight"] = (channels, channels if i else 1, kernel)
        shapes |= {f"{conv}.2.1.{part}": (channels,) for part in ("weight", "bias")}
    shapes |= {f"{AUDIO}project_features.1.{part}": (channels,) for part in ("weight", "bias")}
    shapes |= _linear(f"{AUDIO}project_features.2", channels, dim)
    for i in range(1, 6):
        shapes[f"{AUDIO}relative_positional_encoder.{i}.0.weight"] = (dim, dim // 16, 19)
        shapes[f"{AUDIO}relative_positional_encoder.{i}.0.bias"] = (dim,)
    blocks = [f"{AUDIO}context_encoder.blocks.{i}" for i in range(first)]
    for block in [*blocks, *(f"blocks.{i}" for i in range(later))]:
        shapes |= _linear(f"{block}.attn.qkv", dim, 3 * dim) | _linear(
            f"{block}.attn.proj", dim, dim
        )
        shapes |= _linear(f"{block}.mlp.fc1", dim, 4 * dim) | _linear(
            f"{block}.mlp.fc2", 4 * dim, dim
        )
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.{part}": (dim,) for part in ("weight", "bias")}
    shapes |= {f"{AUDIO}context_encoder.norm.{part}": (dim,) for part in ("weight", "bias")}
    if classes:
        shapes |= _linear("proj", dim, classes)
    return _filled(shapes, seed)


def folder(path, name="emotion2vec-plus-base", tokens=NINE, **sizes):
    """A folder as the hub lays it out, but with safetensors."""
    path.mkdir(parents=True, exist_ok=True)
    classes = 0 if name == "emotion2vec-base" else len(tokens)
    state = checkpoint(classes=classes, **sizes)
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    if classes:
        (path / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


def _linear(name, wide, out):
    return {f"{name}.weight": (out, wide), f"{name}.bias": (out,)}


def _filled(shapes, seed):
    noise = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        drawn = torch.randn(shape, generator=noise)
        if len(shape) == 1 or "alibi" in key:
            state[key] = 0.1 * drawn + (0.0 if key.endswith("bias") else 1.0)
        else:
            state[key] = drawn * (1.0 if "extra" in key else torch.Size(shape[1:]).numel() ** -0.5)
    return state


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def close(got, wanted, off=1e-5):
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= off * max(1.0, np.abs(wanted).max())
