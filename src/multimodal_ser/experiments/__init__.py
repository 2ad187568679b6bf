"""Material + split + models → run folders: the experiments, each a list of runs.

A protocol is a function that plans an `Experiment`; `make` makes any of them.
"""

from __future__ import annotations

from multimodal_ser.experiments.adapting import plan_adaptation
from multimodal_ser.experiments.fitting import one_thread
from multimodal_ser.experiments.plans import Experiment, Plan, Stage, plan
from multimodal_ser.experiments.protocols import plan_ablation, plan_combined, plan_in_domain
from multimodal_ser.experiments.running import make, run_all
from multimodal_ser.experiments.tables import demo, load_domain, say_what, train_table
from multimodal_ser.experiments.tuning import plan_fewshot, plan_finetune

__all__ = [
    "Experiment",
    "Plan",
    "Stage",
    "demo",
    "load_domain",
    "make",
    "one_thread",
    "plan",
    "plan_ablation",
    "plan_adaptation",
    "plan_combined",
    "plan_fewshot",
    "plan_finetune",
    "plan_in_domain",
    "run_all",
    "say_what",
    "train_table",
]
