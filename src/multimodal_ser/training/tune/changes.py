"""Chooses what of an encoder is trained (all, its last blocks, a low-rank update), and stores it.

A low-rank update (LoRA; Hu et al., 2021) leaves a weight unchanged and adds ``up @ down``, a
product of low rank, to it. It is a parametrisation of the weight itself, not a layer around it. So
it also works for networks that read ``linear.weight`` without calling the layer, such as WavLM's
attention.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from multimodal_ser.common.files import tensors_header, write_file, written_aside
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.encoders.exposure import write_tuned_on
from multimodal_ser.encoders.pretrained_speech import PretrainedSpeech
from multimodal_ser.encoders.pretrained_text import PretrainedText
from multimodal_ser.errors import SerError

SCALE = 2.0  # of the update: the usual choice, alpha = 2 · rank


class LowRank(nn.Module):
    """A weight [out, in] → the weight plus its low-rank update, which is zero before training."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        # One factor is zero and the other random, as in the paper: the network begins unchanged,
        # and the zero factor still gets a gradient.
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """``weight + 2 · up @ down``."""
        return weight + SCALE * (self.up @ self.down)


def let_learn(network: Any, config: TuneConfig) -> None:
    """Sets ``requires_grad`` for the parts of an encoder that are trained.

    Args:
        network: with its `blocks` in order.
        config: ``method`` and its settings.

    Raises:
        SerError: there are not as many blocks as are to be trained.
    """
    blocks = list(network.blocks)
    last = config.blocks if config.method == "last" else len(blocks) - config.frozen_blocks
    if not 1 <= last <= len(blocks):
        raise SerError(
            f"the encoder has {len(blocks)} blocks and {last} of them would be trained; "
            f"allowed: 1 to {len(blocks)} (--tune.blocks, --tune.frozen-blocks)"
        )
    whole = config.method == "whole" and last == len(blocks)
    network.requires_grad_(whole)
    if not whole:
        for block in blocks[-last:]:
            block.requires_grad_(config.method != "low-rank")
            if config.method == "low-rank":
                _add_low_rank(block, config.rank)
    convolutions = getattr(getattr(network, "model", None), "feature_extractor", None)
    if convolutions is not None and not any(p.requires_grad for p in convolutions.parameters()):
        # Otherwise transformers makes the waveform require a gradient, and the frozen convolutions
        # would keep their activations for nothing.
        convolutions._requires_grad = False
    if config.checkpointing:
        for block in blocks:
            # Activations are not kept, but computed again in the backward pass, to save memory.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _linears(module: nn.Module) -> Iterator[nn.Linear]:
    """All linear layers: those of attention and feed-forward."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part


def _add_low_rank(block: nn.Module, rank: int) -> None:
    for linear in list(_linears(block)):
        rows, columns = linear.weight.shape
        update = LowRank(rows, columns, min(rank, rows, columns))
        update.to(linear.weight.device)
        parametrize.register_parametrization(linear, "weight", update)


def rates(network: Any, config: TuneConfig) -> list[dict[str, Any]]:
    """Groups for AdamW: a block learns `layer_decay` times as fast as the block after it."""
    blocks = list(network.blocks)
    # Parameters outside of the blocks (convolutions, embeddings) have depth 0: the lowest rate.
    depth = {id(p): n for n, block in enumerate(blocks, 1) for p in block.parameters()}
    groups: dict[int, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault(depth.get(id(parameter), 0), []).append(parameter)
    return [
        {"params": groups[n], "lr": config.learning_rate * config.layer_decay ** (len(blocks) - n)}
        for n in sorted(groups)
    ]


def save_changes(network: Any, config: TuneConfig, about: Mapping[str, Any], path: Path) -> None:
    """Writes the trained parameters of an encoder: a few MB for a low-rank update."""
    header = {**about, "method": config.method, "rank": config.rank, "blocks": len(network.blocks)}
    learnt = {k: p for k, p in network.named_parameters() if p.requires_grad}
    # The first block that is trained: `apply_changes` adds low-rank updates from there on.
    trained = [any(p.requires_grad for p in block.parameters()) for block in network.blocks]
    header["first"] = trained.index(True) if any(trained) else 0
    tensors = {key: value.detach().cpu().contiguous() for key, value in learnt.items()}
    write_file(path, save(tensors, {"changes": json.dumps(header)}))


def write_merged(encoder: Any, changes: Path, out: Path) -> Path:
    """Writes an encoder of transformers with its changes merged, as a folder with the hub's layout.

    Args:
        encoder: with the weights that it had before it was fine-tuned.
        changes: the file that `save_changes` wrote.
        out: folder to write; it can be given as a source, and records what it was fine-tuned on.

    Raises:
        SerError: it is not an encoder of transformers, or the changes are of another one.
    """
    if not isinstance(encoder, PretrainedSpeech | PretrainedText):
        raise SerError(
            f"{encoder.info.name}: only encoders of transformers can be written with their changes "
            "merged; the changes of others stay in the run folder, from where `ser predict` takes "
            "them"
        )
    header = apply_changes(encoder.network, changes)
    # The configuration of the input is written too, without which the folder is no whole encoder.
    processor = encoder.extractor if isinstance(encoder, PretrainedSpeech) else encoder.tokenizer
    with written_aside(out) as partial:
        encoder.network.model.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_tuned_on(partial, header["tuned on"], header["labels"], encoder.info.exposure)
    return out


def apply_changes(network: Any, path: Path) -> dict[str, Any]:
    """Applies the changes that `save_changes` wrote; a low-rank update is merged into the weights.

    Returns:
        The header of the file.

    Raises:
        SerError: the file is of another kind, or of another network.
    """
    try:
        header: dict[str, Any] = tensors_header(path, "changes")
        state = load_file(path)
        blocks = list(network.blocks)
        if header["method"] == "low-rank":
            # The parametrisations of the training must exist before their parameters are filled.
            for block in blocks[header["first"] :]:
                _add_low_rank(block, header["rank"])
        own = dict(network.named_parameters())
        if strange := sorted(state.keys() - own.keys()):
            raise ValueError(f"the network has no {strange[0]}")
        with torch.no_grad():
            for key, value in state.items():
                own[key].copy_(value)
        for linear in _linears(network):
            if parametrize.is_parametrized(linear, "weight"):
                parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SerError(
            f"{path}: not the changes of this encoder ({error!r}); train again"
        ) from error
    network.eval().requires_grad_(False)
    return header
