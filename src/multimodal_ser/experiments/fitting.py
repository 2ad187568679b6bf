"""A plan → its run folder: fits the model and predicts validation and test parts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from multimodal_ser.common.arrays import Floats
from multimodal_ser.common.devices import CPU
from multimodal_ser.common.plugins import code_of, load_plugins
from multimodal_ser.config.record import RunConfig
from multimodal_ser.config.settings import AdaptConfig, ModelConfig
from multimodal_ser.dataset.examples import Examples, Unlabelled
from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.tasks import class_votes, classes_of
from multimodal_ser.dataset.views import with_dialogue
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.finetuned import run_tuned
from multimodal_ser.experiments.plans import TUNED, Plan
from multimodal_ser.models.adapters import ADAPTERS
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble, reads_dialogue
from multimodal_ser.models.layers import read_out
from multimodal_ser.runs.folder import MODEL, write_run
from multimodal_ser.runs.model_file import build_model, dims_of, load_model
from multimodal_ser.runs.predictions import Predicted
from multimodal_ser.splits.folds import Fold
from multimodal_ser.training.alignment import AlignmentTarget
from multimodal_ser.training.baselines import BASELINES, fit_baseline
from multimodal_ser.training.loop import Fitted, fit, predict
from multimodal_ser.training.losses import learnt_as
from multimodal_ser.training.regressors import REGRESSORS, fit_regressor
from multimodal_ser.training.stacking import STACKED, fit_stacked

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """The data that runs are made from, and the place where they are written.

    Attributes:
        material: the corpus; the target, if there is a source.
        source: the corpus that plans with a `source_fold` learn from.
        out: the experiment's folder.
        devices: where the networks are trained, the first of them alone unless an encoder is
            fine-tuned; the baselines are fitted on the CPU.
    """

    material: Material
    source: Material | None
    out: Path
    devices: tuple[str, ...] = (CPU,)

    @property
    def device(self) -> str:
        """The device that networks on features are trained on."""
        return self.devices[0]

    @property
    def dims(self) -> Dims:
        """The sizes of a network for the material."""
        return dims_of(self.material)


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes on one thread inside the context, and as before after it.

    Sums in another order give other last digits: with one thread a run's result does not depend on
    the number of cores, or of runs side by side.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def make_run(context: RunContext, item: Plan) -> Path:
    """Fits one run, then predicts the validation and test parts of its fold.

    A run learns from the training part of its fold and selects by the validation part. If its plan
    has a `source_fold`, it learns and selects there instead, and is given the target's training
    part without labels.

    Args:
        context: the data, and where the run is written.
        item: the run.

    Returns:
        The run folder.

    Raises:
        SerError: the device has too little memory.
    """
    load_plugins()  # this may be a new process, whose registries lack what plug-ins add
    if item.config.model == TUNED:
        learnt = item.fold.train, item.fold.validation
        _check_classes(item.config, *map(context.material.examples.of, learnt))
        return run_tuned(item, context.material, context.out, context.devices)
    material = as_model_reads(context.material, item.config)
    source = context.source and as_model_reads(context.source, item.config)
    context = replace(context, material=material, source=source)
    try:
        fitted = _fit(context, item)
        parts = [_predict_part(fitted, context, item, part) for part in ("validation", "test")]
    except torch.OutOfMemoryError as error:
        raise SerError(
            f"{context.device} has too little memory for {item.config.folder} ({error}); take a "
            "smaller --schedule.batch-size or --network.hidden-dim, or --device cpu"
        ) from error
    if isinstance(fitted.model, Ensemble) and not reads_dialogue(item.config.model):
        few = material.examples.of(item.fold.test[:8])
        warn_of_outputs(item.config.model, fitted.model, few)
    return write_run(context.out, item.config, context.dims, fitted, parts)


def as_model_reads(material: Material, config: RunConfig) -> Material:
    """The material with the dialogue around each utterance, if the model of a run reads it."""
    network = config.train.network
    if network is None or not reads_dialogue(config.model):
        return material
    return with_dialogue(material, network.before, network.after)


def _fit(context: RunContext, item: Plan) -> Fitted:
    """Fits the model of a run: a baseline, the stack, or a network."""
    config, settings = item.config, item.config.train
    learnt, fold = _training_fold(context, item)
    # The part of the target that an adaptation may know: its training part without labels.
    adapts = learnt is context.source
    target = context.material.examples.of(item.fold.train).unlabelled() if adapts else None
    loss = settings.schedule.loss or "cross-entropy"
    train, validation = (
        learnt_as(learnt.examples.of(keys), loss) for keys in (fold.train, fold.validation)
    )
    _check_classes(config, train, validation)
    if config.model in REGRESSORS:
        return fit_regressor(config.model, context.dims, train, validation, settings.schedule)
    if config.model in BASELINES:
        fitted = fit_baseline(config.model, context.dims, train, validation, settings.schedule)
        # A baseline's adaptation is to standardise the target by its own statistics: the weights
        # were learnt on a source standardised by its own, too.
        method = settings.adaptation or AdaptConfig()
        if target is not None and ADAPTERS[method.method].standardizes:
            fitted.model.pooled.fit(target)  # type: ignore[union-attr, operator]
        return fitted
    groups = _corpus_of_each(learnt, fold.learnt) if settings.balanced else None
    if config.model == STACKED:
        return fit_stacked(
            context.dims,
            train,
            validation,
            settings.network or ModelConfig(),
            settings.schedule,
            config.seed,
            device=context.device,
            groups=groups,
        )
    return _fit_network(context, item, train, validation, target, groups)


def _fit_network(
    context: RunContext,
    item: Plan,
    train: Examples,
    validation: Examples,
    target: Unlabelled | None,
    groups: Tensor | None,
) -> Fitted:
    """Trains a network, from its initial weights or those of another run."""
    settings = item.config.train
    model = _initial_network(context, item, settings.network or ModelConfig())
    if settings.parts == "none":
        return Fitted(model, [])
    if settings.parts == "head":
        _freeze_body(model)
    if code_of(MODELS[item.config.model]):  # the networks of this package are tested
        check_learns(item.config.model, model, train.take([*range(min(2, len(train)))]))
    adaptation = None
    if target is not None:
        method = settings.adaptation or AdaptConfig()
        adaptation = AlignmentTarget(method, target.to(context.device))
    return fit(
        model,
        train.to(context.device),
        validation.to(context.device),
        settings.schedule,
        item.config.seed,
        adaptation=adaptation,
        groups=groups,
    )


def _check_classes(config: RunConfig, train: Examples, validation: Examples) -> None:
    """Raises SerError where a class is learnt and there are no two, or nothing to select by."""
    found = {config.labels.classes[place] for place in train.label.tolist()}
    if train.target is None and (len(found) < 2 or not len(validation)):
        raise SerError(
            f"{config.model}, fold {config.fold}: learns from {len(train)} utterances of the "
            f"classes {sorted(found)} and selects by {len(validation)}; two classes and an "
            "utterance to select by are needed: choose other folds or classes, or, where votes "
            "are learnt as classes, leave the baselines out and take --schedule.loss kl"
        )


def _training_fold(context: RunContext, item: Plan) -> tuple[Material, Fold]:
    """The data that a run learns from: the source if it adapts, else the corpus itself."""
    if item.source_fold is not None and context.source is not None:
        return context.source, item.source_fold
    return context.material, item.fold


def _corpus_of_each(material: Material, keys: Sequence[str]) -> Tensor:
    corpus = {row.id: row.corpus for row in material.utterances}
    names = sorted(set(corpus.values()))
    return torch.tensor([names.index(corpus[key]) for key in keys])


def _initial_network(context: RunContext, item: Plan, network: ModelConfig) -> Ensemble:
    """Makes an untrained network, or loads the network of the run that this one starts from."""
    config = item.config
    torch.manual_seed(config.seed)
    start = context.out / item.start / MODEL if item.start else None
    values = config.labels.values
    if start is None:
        model: nn.Module = build_model(config.model, context.dims, network, values=values)
    else:
        model = load_model(start)
    if not isinstance(model, Ensemble):
        raise SerError(f"{config.model!r} is not a network that can be fine-tuned")
    return model.to(context.device)


def _freeze_body(model: Ensemble) -> None:
    """Freezes everything except the classifiers of the members.

    Raises:
        SerError: a member has no module named ``classify``.
    """
    model.requires_grad_(False)
    for member in model.members:
        head = getattr(member, "classify", None)
        if not isinstance(head, nn.Module):
            raise SerError(
                f"{type(member).__name__} has no module named 'classify', so its head cannot be "
                "tuned by itself; tune all of it with --parts all"
            )
        head.requires_grad_(True)


def _predict_part(fitted: Fitted, context: RunContext, item: Plan, part: str) -> Predicted:
    material = context.material
    examples = material.examples.of(getattr(item.fold, part))
    logits, held_out = predict(fitted.model, examples).clone(), fitted.validation
    # A refitted model has learnt from the validation rows; its own predictions for them would be
    # too good. Those of the model before the refit are reported instead.
    own = _training_fold(context, item)[0] is material
    if part == "validation" and held_out is not None and own:
        # Only the rows that the loss learns from: some leave out utterances without a class.
        learnt = learnt_as(examples, item.config.train.schedule.loss or "cross-entropy")
        logits[[examples.places[key] for key in learnt.ids]] = held_out
    outputs = read_out(logits, item.config.labels.values).numpy()
    return Predicted.of(part, material, examples.ids, outputs, _targets(material, examples))


def _targets(material: Material, examples: Examples) -> Floats | None:
    """The truth beside the class: votes, or values in 0 … 1, or both; nan without a label."""
    if examples.target is None:
        return None
    target, classes = examples.target.numpy().astype(np.float64), classes_of(material.labels)
    if classes is None or not material.task.startswith("distributions"):
        return target
    rows = {row.id: row for row in material.utterances}
    votes = np.array([class_votes(rows[key], classes) for key in examples.ids])
    shares = np.where(votes.sum(1, keepdims=True) > 0, votes, np.nan)
    return np.hstack([shares, target[:, len(classes.classes) :]])


def _one_batch(examples: Examples, model: Ensemble) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Text, its mask, audio and its mask of all examples at once, on the model's device."""
    device = next(model.buffers()).device
    text, text_mask, audio, audio_mask, *_ = next(examples.batches(len(examples)))
    return text.to(device), text_mask.to(device), audio.to(device), audio_mask.to(device)


def check_learns(name: str, model: Ensemble, examples: Examples) -> None:
    """Raises SerError if nothing can be learnt by the gradient of the outputs for these examples.

    Args:
        name: of the model.
        model: untrained.
        examples: a few.
    """
    weights = dict(model.members.named_parameters())
    for key, weight in weights.items():
        if is_lazy(weight):
            raise SerError(
                f"{name}: {key} belongs to a lazy layer, whose width is not known; give it the "
                "width of its input, dims.text or dims.audio"
            )
        if not weight.is_floating_point():
            raise SerError(
                f"{name}: the parameter {key} is {weight.dtype}; allowed: real numbers, such as "
                "torch.float32; keep others in two parameters (real, imaginary) or as a buffer"
            )
    inputs = _one_batch(examples, model)
    device = inputs[0].device
    model.eval()
    # random numbers that a user's network draws here must not change its training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        learnt = model.each(*inputs).logits.requires_grad
    if not learnt:
        some = any(weight.requires_grad for weight in weights.values())
        why = "its logits have no gradient (detach, no_grad, numpy?)" if some else "all are frozen"
        why = why if weights else "it has none"
        raise SerError(f"{name}: there is no parameter to learn: {why}; see docs/models.md")


def warn_of_outputs(name: str, model: Ensemble, examples: Examples) -> None:
    """Warns if a network breaks the rules of docs/models.md, as one of a user's own may.

    Its outputs must be logits, and must depend neither on padding nor on the call. Otherwise a
    recording by itself, without the padding of longer ones, gets another prediction than in the
    table.
    """
    batch = _one_batch(examples, model)
    wider = [F.pad(one, (0, 0) * (one.ndim - 2) + (0, int(one.shape[1] > 1))) for one in batch]
    with torch.inference_mode():
        try:
            once, again = (model(*inputs).logits for inputs in (batch, wider))
            same = torch.allclose(once, again, atol=1e-3)
        except RuntimeError:  # layers of a fixed number of tokens
            same = False
    with torch.inference_mode():
        logits = model.each(*batch).logits[..., : model.classes - model.values]
    if logits.numel() and bool((logits >= 0).all() and ((logits.sum(2) - 1).abs() < 1e-3).all()):
        _log.warning(
            "%s: its outputs are probabilities, and softmax is applied to them once more, which "
            "makes all classes nearly equal; return the logits, without a softmax", name,
        )  # fmt: skip
    if not same:
        _log.warning(
            "%s: its outputs change with padding, or from call to call: a recording by itself gets "
            "another prediction than in the table; see the rules in docs/models.md", name,
        )  # fmt: skip
