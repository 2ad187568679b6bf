"""config.json → what a reader would call the system: "dann", "fine-tuned (all), 10 %", "linear"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from multimodal_ser.config.record import as_json, dotted
from multimodal_ser.runs.folder import Run

# What the field compares systems by on a corpus; UA on the others.
_CONVENTIONS = {"meld": "WF1", "msp-podcast": "macro-F1"}
PROBE = "linear"  # the linear probe, which stands in every table
NO_ADAPTATION = "none"
TUNED_AS = {
    "all": "fine-tuned (all)",
    "head": "fine-tuned (head)",
    "scratch": "from scratch",
    "none": "not fine-tuned",
}
_NOT_A_SETTING = ("seed", "fold", "marks", "split", "labels", "protocol", "source", "code")
_NOT_IN_FEW = ("draw", "count")


@dataclass(frozen=True)
class Share:
    """How much of the target's labelled data a system was given.

    Attributes:
        amount: percent, or utterances of each class.
        unit: ``percent`` or ``shots``.
    """

    amount: float
    unit: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.amount:g} %" if self.unit == "percent" else f"{self.amount:g} per class"


def headline_name(task: str, corpora: Sequence[str]) -> str:
    """The score that systems are compared by: the corpus's convention.

    >>> headline_name("classes", ["meld"]), headline_name("classes", ["emodb", "meld"])
    ('WF1', 'UA')
    """
    if task == "attributes":
        return "CCC"
    return _CONVENTIONS.get(corpora[0], "UA") if len(corpora) == 1 else "UA"


def _as_text(value: Any) -> str:
    """Writes a setting.

    >>> _as_text("relu"), _as_text(["a", "b"]), _as_text([2, 3]), _as_text(None)
    ('relu', 'a, b', '[2, 3]', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def settings_of(run: Run) -> dict[str, str]:
    """What decides a run's result beside fold, seed and draw, flattened."""
    described = as_json(run.config)
    kept = {key: value for key, value in described.items() if key not in _NOT_A_SETTING}
    if few := kept["train"].get("few"):
        kept["train"]["few"] = {k: v for k, v in few.items() if k not in _NOT_IN_FEW}
    if run.source:
        kept["source"] = list(run.source)
    if network := run.config.train.network:  # with what the record leaves out at its default
        kept["train"]["network"] = asdict(network)
    return {name: _as_text(value) for name, value in dotted(kept).items()}


def share(run: Run) -> Share | None:
    """How much of the target's labels a run was given; None where it was all without asking."""
    few = run.config.train.few
    return Share(float(few.amount), few.unit) if few else None


def method(run: Run) -> str:
    """The adaptation's name, or that there is none."""
    adaptation = run.config.train.adaptation
    return adaptation.method if adaptation else NO_ADAPTATION


@dataclass(frozen=True)
class Variety:
    """What has to be said in names because the runs of a table differ in it."""

    networks: bool
    pooling: bool

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Variety:
        """Looks at all runs of a table."""
        networks = [run for run in runs if not run.config.train.of_baseline]
        return cls(
            networks=len({run.config.model for run in networks}) > 1,
            pooling=len({_pooled(run) for run in networks}) > 1,
        )


def kind(run: Run, variety: Variety) -> str:
    """What a run's system is, without its share of the target's labels."""
    train, used = run.config.train, method(run)
    adapted = None if used == NO_ADAPTATION else used
    pooling = ("pooled" if _pooled(run) else "tokens") if variety.pooling else None
    model = run.config.model if variety.networks else None
    parts: tuple[str | None, ...] = run.config.model, adapted, pooling
    if train.of_baseline:
        parts = run.config.model, adapted
    elif run.config.protocol == "adaptation":
        parts = used, model, pooling
    elif train.parts in TUNED_AS:
        parts = TUNED_AS[train.parts], model, pooling
    return ", ".join(one for one in parts if one)


def _pooled(run: Run) -> bool:
    tokens = [described.tokens for described in run.config.features.values() if described]
    return bool(tokens) and all(amount == 1 for amount in tokens)


def full_name(kind: str, share: Share | None, own: Mapping[str, str], alike: Sequence[Any]) -> str:
    """Names a system; `alike` are the settings of all that would be called the same."""
    name = kind if share is None else f"{kind}, {share}"
    keys = sorted({key for other in alike for key in other})
    differ = [key for key in keys if len({other.get(key) for other in alike}) > 1]
    # a hash tells a reader something only where nothing else tells the systems apart
    plain = [key for key in differ if not key.endswith(".content")]
    told_apart = {tuple(other.get(key) for key in plain) for other in alike}
    shown = plain if len(told_apart) == len(alike) else differ
    differing = [f"{key.rsplit('.', 1)[-1]} {own.get(key, 'none')}" for key in shown]
    return f"{name} ({', '.join(differing)})" if differing else name
