"""What of an encoder learns: all of it, its last blocks, or a low-rank update; and its file.

A low-rank update (Hu et al., 2021) leaves a weight as it is and learns ``up @ down`` beside it, of
a few ranks. It stands in the place of the weight itself, as a parametrisation of torch's. So it
reaches networks that read ``linear.weight`` without calling the layer too, as WavLM's attention.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from multimodal_ser.common.files import parse_json, written_aside
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.encoders.exposure import write_tuned_on
from multimodal_ser.encoders.pretrained_speech import PretrainedSpeech
from multimodal_ser.encoders.pretrained_text import PretrainedText
from multimodal_ser.errors import SerError

SCALE = 2.0  # of an update, as is usual: alpha is twice the rank


class LowRank(nn.Module):
    """A weight [out, in] → the weight with its update; nothing changes before it has learnt."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """``weight + 2 · up @ down``."""
        return weight + SCALE * (self.up @ self.down)


def let_learn(network: Any, config: TuneConfig) -> None:
    """Marks what of an encoder's network learns, by ``requires_grad``.

    Args:
        network: with its `blocks` in order.
        config: ``method`` and what belongs to it.

    Raises:
        SerError: more blocks are asked for than there are.
    """
    blocks = list(network.blocks)
    last = config.blocks if config.method == "last" else len(blocks) - config.frozen_blocks
    if not 1 <= last <= len(blocks):
        raise SerError(
            f"the encoder has {len(blocks)} blocks and {last} of them would learn; allowed: 1 to "
            f"{len(blocks)} (--tune.blocks, --tune.frozen-blocks)"
        )
    whole = config.method == "whole" and last == len(blocks)
    network.requires_grad_(whole)
    if not whole:
        for block in blocks[-last:]:
            block.requires_grad_(config.method != "low-rank")
            if config.method == "low-rank":
                _add_low_rank(block, config.rank)
    waves = getattr(getattr(network, "model", None), "feature_extractor", None)
    if waves is not None and not any(p.requires_grad for p in waves.parameters()):
        waves._requires_grad = False  # transformers would keep its activations for nothing
    if config.checkpointing:
        for block in blocks:
            block.forward = _Again(block.forward)


class _Again:
    """A block's forward pass whose activations are computed again in the backward pass."""

    def __init__(self, forward: Any) -> None:
        self.inner = forward

    def __call__(self, *given: Any, **named: Any) -> Any:
        from torch.utils.checkpoint import checkpoint

        return checkpoint(self.inner, *given, use_reentrant=False, **named)


def _linears(module: nn.Module) -> Iterator[nn.Linear]:
    """The linear layers of attention and feed-forward."""
    for one in module.modules():
        if isinstance(one, nn.Linear):
            yield one


def _add_low_rank(block: nn.Module, rank: int) -> None:
    for linear in list(_linears(block)):
        rows, columns = linear.weight.shape
        update = LowRank(rows, columns, min(rank, rows, columns))
        update.to(linear.weight.device)
        parametrize.register_parametrization(linear, "weight", update)


def rates(network: Any, config: TuneConfig) -> list[dict[str, Any]]:
    """AdamW's groups of an encoder: each block below the last learns `layer_decay` times slower."""
    blocks = list(network.blocks)
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
    """Writes what an encoder has learnt: a few MB where the update is of low rank."""
    header = {**about, "method": config.method, "rank": config.rank, "blocks": len(network.blocks)}
    learnt = {k: p for k, p in network.named_parameters() if p.requires_grad}
    learning = [n for n, block in enumerate(network.blocks) if _learns(block)]
    header["first"] = min(learning, default=0)
    tensors = {key: value.detach().cpu().contiguous() for key, value in learnt.items()}
    with written_aside(path) as partial:
        partial.write_bytes(save(tensors, {"changes": json.dumps(header)}))


def _learns(block: nn.Module) -> bool:
    return any(p.requires_grad for p in block.parameters())


def write_merged(encoder: Any, changes: Path, out: Path) -> Path:
    """Writes an encoder of transformers with what it has learnt, as a folder of the hub's layout.

    Args:
        encoder: as it was before, of the weights that it was tuned from.
        changes: what `save_changes` wrote.
        out: folder to write; it is a source like any other, and notes what it was tuned on.

    Raises:
        SerError: it is no encoder of transformers, or the changes are another's.
    """
    if not isinstance(encoder, PretrainedSpeech | PretrainedText):
        raise SerError(
            f"{encoder.info.name}: encoders of transformers are written; others keep their changes "
            "apart, in the run folder"
        )
    header = apply_changes(encoder.network, changes)
    prepares = encoder.extractor if isinstance(encoder, PretrainedSpeech) else encoder.tokenizer
    with written_aside(out) as partial:
        encoder.network.model.save_pretrained(partial)
        prepares.save_pretrained(partial)
        write_tuned_on(partial, header["tuned on"], header["labels"])
    return out


def apply_changes(network: Any, path: Path) -> dict[str, Any]:
    """Gives an encoder what `save_changes` wrote; a low-rank update is merged into its weights.

    Returns:
        What the file says of itself.

    Raises:
        SerError: it is no such file, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = parse_json((file.metadata() or {})["changes"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        blocks = list(network.blocks)
        if header["method"] == "low-rank":
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
        raise SerError(f"{path}: not what this encoder learnt ({error!r}); train again") from error
    network.eval().requires_grad_(False)
    return header
