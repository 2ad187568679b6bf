"""recordings + labels → an encoder fine-tuned end to end with its head, in one file."""

from multimodal_ser.tune.clips import Clips
from multimodal_ser.tune.loop import choose_threshold, evaluate, predict, tune
from multimodal_ser.tune.tuned import (
    LONGEST,
    Tuned,
    load_tuned,
    log_mels,
    save_tuned,
)

__all__ = [
    "LONGEST",
    "Clips",
    "Tuned",
    "choose_threshold",
    "evaluate",
    "load_tuned",
    "log_mels",
    "predict",
    "save_tuned",
    "tune",
]
