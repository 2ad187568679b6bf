"""FunASR's own emotion2vec network as a test oracle; nothing else of FunASR is imported.

``pip install --no-deps funasr==1.4.16`` and ``pip install omegaconf`` are enough: FunASR's package
file imports all its models, and the network's file imports `distutils` (gone in Python 3.12) and a
reader of sound files with many dependencies, so stand-ins take their places for the import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import torch

BASE = {"dim": 768, "heads": 12, "first": 4, "later": 8}
LARGE = {"dim": 1024, "heads": 16, "first": 4, "later": 8}


def available() -> bool:
    """Whether FunASR and omegaconf are installed."""
    return all(importlib.util.find_spec(name) for name in ("funasr", "omegaconf"))


def network(
    dim: int = 768,
    heads: int = 12,
    first: int = 4,
    later: int = 8,
    classes: int = 0,
    channels: int = 512,
    seed: int = 0,
) -> torch.nn.Module:
    """FunASR's network with seeded random weights, in evaluation mode."""
    torch.manual_seed(seed)
    kind = _imported()
    made = kind(model_conf=_conf(dim, heads, first, later, channels), vocab_size=classes or -1)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if parameter.ndim == 1 or "alibi" in key or "extra" in key:
                parameter += 0.1 * torch.randn_like(parameter)
        # One head whose scale fell below zero, where it is clamped.
        made.modality_encoders["AUDIO"].alibi_scale[:, :, 1] = -0.2
    return made.eval().requires_grad_(False)


def normalised(wave: torch.Tensor) -> torch.Tensor:
    """The input as FunASR normalises it, [1, samples]."""
    return torch.nn.functional.layer_norm(wave, wave.shape).view(1, -1)


def frames(made: torch.nn.Module, wave: torch.Tensor) -> torch.Tensor:
    """Frames [time, dim] of a recording [samples], as FunASR's inference gives them."""
    with torch.inference_mode():
        return made.extract_features(normalised(wave), padding_mask=None)["x"][0]


def _imported() -> type[torch.nn.Module]:
    package = types.ModuleType("funasr")
    package.__path__ = [str(Path(importlib.util.find_spec("funasr").origin).parent)]
    version = types.ModuleType("distutils.version")
    version.LooseVersion = _Version
    sound = types.ModuleType("funasr.utils.load_utils")
    sound.load_audio_text_image_video = None
    stands = {
        "funasr": package,
        "distutils": types.ModuleType("distutils"),
        "distutils.version": version,
        "funasr.utils.load_utils": sound,
    }
    before = {name: sys.modules.get(name) for name in stands}
    sys.modules.update(stands)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("funasr.models.emotion2vec.model").Emotion2vec
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Version(tuple):
    def __new__(cls, text: str) -> _Version:
        return super().__new__(cls, map(int, text.split("+")[0].split(".")[:2]))


def _conf(dim: int, heads: int, first: int, later: int, channels: int) -> dict[str, object]:
    audio = {
        "type": "AUDIO", "prenet_depth": first, "prenet_layerdrop": 0.0, "prenet_dropout": 0.0,
        "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "num_extra_tokens": 10,
        "init_extra_token_zero": True, "mask_prob": 0.0, "mask_length": 5,
        "mask_channel_prob": 0.0, "local_grad_mult": 1.0, "use_alibi_encoder": True,
        "alibi_scale": 1.0, "learned_alibi": False, "alibi_max_pos": None,
        "learned_alibi_scale": True, "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False, "num_alibi_heads": heads, "model_depth": later,
        "decoder": None, "extractor_mode": "layer_norm",
        "feature_encoder_spec": f"[({channels},10,5)]+[({channels},3,2)]*4+[({channels},2,2)]*2",
        "conv_pos_width": 95, "conv_pos_groups": 16, "conv_pos_depth": 5,
        "conv_pos_pre_ln": False,
    }  # fmt: skip
    return {
        "embed_dim": dim, "num_heads": heads, "depth": later, "mlp_ratio": 4.0,
        "norm_eps": 1e-5, "norm_affine": True, "layer_norm_first": False,
        "encoder_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "post_mlp_drop": 0.0, "dropout_input": 0.0, "layerdrop": 0.0,
        "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "end_of_block_targets": False,
        "normalize": True, "modalities": {"audio": audio},
    }  # fmt: skip
