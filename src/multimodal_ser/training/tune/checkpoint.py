"""The state of a fine-tuning between two epochs ↔ one safetensors file, to resume from."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from multimodal_ser.common.files import parse_json, write_file
from multimodal_ser.training.schedule import EarlyStopping, WeightAverage

_log = logging.getLogger(__name__)


def can_resume(path: Path | None) -> bool:
    """Whether there is a whole file of `TrainingState`; a damaged one is reported.

    The file of a machine that lost its power may be empty or cut off.
    """
    if path is None or not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            parse_json((file.metadata() or {})["progress"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        _log.warning("%s is damaged (%s): the training begins anew", path, error)
        return False
    return True


@dataclass(frozen=True)
class TrainingState:
    """Everything that is needed to resume a training after an epoch, as one safetensors file.

    Attributes:
        model: the model that is trained.
        optimizer: its optimiser.
        average: the moving average of its weights.
        stopping: keeps the best epoch.
        schedule: of the learning rate.
        frozen: names of weights that stay as they were loaded, and are not written.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    stopping: EarlyStopping
    schedule: torch.optim.lr_scheduler.LambdaLR
    frozen: frozenset[str] = frozenset()

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def save(self, path: Path, history: list[dict[str, Any]]) -> None:
        """Writes the file, complete or not at all."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.stopping.state.items()}
        tensors = {k: v for k, v in tensors.items() if k.split(".", 1)[1] not in self.frozen}
        for place, parameter in enumerate(self._parameters()):
            kept = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{place}.{k}": v for k, v in kept.items()}
        facts = {
            "history": history,
            "steps": self.average.steps,
            "best": [self.stopping.best, self.stopping.best_epoch, self.stopping.kept],
            "schedule": self.schedule.last_epoch,
        }
        # safetensors refuses tensors that share memory, as those of `best` and `average` may.
        apart = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        write_file(path, save(apart, {"progress": json.dumps(facts)}))

    def load(self, path: Path) -> list[dict[str, Any]]:
        """Restores the state that `save` wrote; returns the history."""
        with safe_open(path, "pt") as file:
            facts = parse_json((file.metadata() or {})["progress"])
        tensors = load_file(path)

        def under(prefix: str) -> dict[str, Tensor]:
            start = prefix + "."
            return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

        whole = not self.frozen
        self.model.load_state_dict(under("model"), strict=whole)
        self.average.model.load_state_dict(under("average"), strict=whole)
        self.average.steps = facts["steps"]
        self.stopping.state = under("best")
        self.stopping.best, self.stopping.best_epoch, self.stopping.kept = facts["best"]
        # An optimiser's state is keyed by parameter objects, which differ from process to process;
        # the file has them by position.
        for place, parameter in enumerate(self._parameters()):
            self.optimizer.state[parameter] = under(f"optimizer.{place}")
        self.schedule.last_epoch = facts["schedule"]
        # The scheduler would set the learning rate only at its next step.
        for group, first in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = first * self.schedule.lr_lambdas[0](facts["schedule"])
        history: list[dict[str, Any]] = facts["history"]
        return history
