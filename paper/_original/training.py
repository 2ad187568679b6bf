"""The original's flags → the library's experiments → results JSON; one function per script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from _original.flags import DEFAULT, Experiment, Flags, Given
from _original.inputs import Inputs, whole_train
from _original.metadata import PARTS
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import protocols, transfer

MODEL = "cross_attention"
ABLATED = {
    "text": "Text-only (BERT)",
    "audio": "Audio-only (emotion2vec)",
    "concat": "Simple Fusion",
    "cross_attention": "Full Model (Cross-Attention)",
}


def in_domain(
    train: Path, val: Path, test: Path | None = None, ablation: bool = False, flags: Given = DEFAULT
) -> None:
    """Trains on one corpus, or compares text, audio, concatenation and cross-attention.

    Args:
        train: features for training.
        val: features that choose the epoch.
        test: features to test on. An ablation does not need them: then it is tested on `val`,
            and a tenth of the speakers of `train` chooses the epoch.
        ablation: compare the models instead.
        flags: the flags that all training scripts have.
    """
    files = {"train": train, "val": val, **({"test": test} if test else {})}
    run = Experiment(flags, files, {"ablation": ablation})
    if test is None and not ablation:
        raise SerError("--test is missing; only --ablation can do without it")
    inputs = run.load("corpus", **PARTS) if test else run.load("corpus", train="train", test="val")
    parts = {"val": "validation", "test": "test"} if test else {"val": "test"}
    corpus, settings = (inputs.material, inputs.split), flags.settings()
    if not ablation:
        run.make(protocols.InDomain(models=(MODEL, "linear", "svm"), **settings).plan(*corpus))
        run.write(MODEL, parts)
    else:
        run.make(protocols.Ablation(tokens=("tokens",), **settings).plan(*corpus))
        run.write(MODEL, parts, renamed=ABLATED)


def adaptation(
    source_train: Path,
    source_val: Path,
    target_train: Path,
    target_test: Path,
    method: Literal["dann", "mmd", "coral"] = "dann",
    lambda_domain: float | None = None,
    flags: Given = DEFAULT,
) -> None:
    """Adapts a source model to a target corpus without using the target's labels.

    For comparison, the table also has no adaptation and mere standardisation per corpus.

    Args:
        source_train: features for training, with labels.
        source_val: features that choose the epoch.
        target_train: features of the target; their labels are not used.
        target_test: features to test on.
        method: the adaptation method.
        lambda_domain: weight of the adaptation's loss; default: the library's.
        flags: the flags that all training scripts have.
    """
    files = {"source_train": source_train, "source_val": source_val,
             "target_train": target_train, "target_test": target_test}  # fmt: skip
    run = Experiment(flags, files, {"method": method, "lambda_domain": lambda_domain})
    source = run.load("source", train="source_train", validation="source_val")
    target = whole_train(run.load("target", train="target_train", test="target_test"))
    asked = transfer.Adaptation(
        methods=("none", "standardize", method), weight=lambda_domain, model=MODEL,
        **flags.settings(),
    )  # fmt: skip
    planned = asked.plan(source.material, source.split, target.material, target.split)
    run.make(planned)
    run.write(method, {"test": "test"})


def combined(
    iemocap_train: Path,
    iemocap_val: Path,
    iemocap_test: Path,
    cremad_train: Path,
    cremad_val: Path,
    cremad_test: Path,
    flags: Given = DEFAULT,
) -> None:
    """Trains one model on IEMOCAP and CREMA-D together, sampling both equally often.

    Args:
        iemocap_train: features for training.
        iemocap_val: features that choose the epoch.
        iemocap_test: features to test on.
        cremad_train: features for training.
        cremad_val: features that choose the epoch.
        cremad_test: features to test on.
        flags: the flags that all training scripts have.
    """
    files = {"iemocap_train": iemocap_train, "iemocap_val": iemocap_val,
             "iemocap_test": iemocap_test, "cremad_train": cremad_train,
             "cremad_val": cremad_val, "cremad_test": cremad_test}  # fmt: skip
    run = Experiment(flags, files)
    corpora = [run.load(name, **_of(name)) for name in ("iemocap", "cremad")]
    both = [(one.material, one.split) for one in corpora]
    run.make(protocols.Combined(model=MODEL, **flags.settings()).plan(both))
    run.write(MODEL, {"val": "validation", "test": "test"})


def _of(name: str) -> dict[str, str]:
    return {part: f"{name}_{flag}" for part, flag in PARTS.items()}


def finetune(
    source_train: Path,
    source_val: Path,
    target_train: Path,
    target_val: Path,
    target_test: Path,
    flags: Given = DEFAULT,
) -> None:
    """Fine-tunes a source model on the target, as a whole and head only; also from scratch.

    Args:
        source_train: features to train the source model on.
        source_val: features that choose the source model's epoch.
        target_train: features to fine-tune on.
        target_val: features that choose the epoch of fine-tuning.
        target_test: features to test on.
        flags: the flags that all training scripts have.
    """
    run, source, target = _transfer(
        flags, (source_train, source_val, target_train, target_val, target_test)
    )
    asked = transfer.Finetune(model=MODEL, **flags.settings())
    planned = asked.plan(source.material, source.split, target.material, target.split)
    run.make(planned)
    run.write("fine-tuned (all)", {"val": "validation", "test": "test"})


def fewshot(
    source_train: Path,
    source_val: Path,
    target_train: Path,
    target_val: Path,
    target_test: Path,
    percentages: str = "10,20,50,100",
    draws: int = 3,
    flags: Given = DEFAULT,
) -> None:
    """Fine-tunes a source model on a few utterances of the target; also from scratch and linear.

    Args:
        source_train: features to train the source model on.
        source_val: features that choose the source model's epoch.
        target_train: features from which the few utterances of each class are drawn.
        target_val: not used; a fifth of the few utterances chooses the epoch.
        target_test: features to test on.
        percentages: shares of the target's training set, separated by commas.
        draws: number of random draws of the few utterances.
        flags: the flags that all training scripts have.
    """
    run, source, target = _transfer(
        flags,
        (source_train, source_val, target_train, target_val, target_test),
        percentages=percentages,
        draws=draws,
    )
    asked = transfer.Fewshot(
        percentages=_numbers(percentages), draws=draws, model=MODEL, **flags.settings()
    )
    planned = asked.plan(source.material, source.split, target.material, target.split)
    run.make(planned)
    run.write("fine-tuned (all)", {"test": "test"})


def _transfer(
    flags: Flags, files: Sequence[Path], **more: Any
) -> tuple[Experiment, Inputs, Inputs]:
    """Loads what fine-tuning and few-shot share: the source without a test set, and the target."""
    names = ("source_train", "source_val", "target_train", "target_val", "target_test")
    run = Experiment(flags, dict(zip(names, files, strict=True)), more)
    source = run.load("source", train="source_train", validation="source_val")
    return run, source, run.load("target", **_of("target"))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SerError(
            f'--percentages {text!r}; write numbers with commas, such as "10,20,50,100"'
        ) from error
