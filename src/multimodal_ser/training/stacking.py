"""Examples → `stacked`, the recommended model: a weighted combination of several models.

A network, kernel ridge regression and logistic regression make different errors, and so do models
of the words, of the sound and of both. Each of these experts is fitted by itself; the
validation part then sets how much each of them counts. This is stacked generalisation (Wolpert
1992) with a logarithmic opinion pool: the logits are ``Σ w_e log p_e`` with ``w_e ≥ 0``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.dataset.examples import MODALITIES, Examples
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.models.layers import Output
from multimodal_ser.training.baselines import Linear, Setting, fit_baseline
from multimodal_ser.training.kernel import KernelRidge, fit_kernel_ridge
from multimodal_ser.training.loop import Fitted, fit, predict, ua_of
from multimodal_ser.training.schedule import class_weights, log_prior

STACKED = "stacked"
LINEAR, KERNEL = "linear", "kernel"
# Which experts there are. It is part of a run's settings: runs with other experts are made again.
GENERATION = "kernel-ridge"
# Coarser than the baseline's own grid: an expert need not be the best possible model of its kind.
_SETTINGS = [Setting(c, None) for c in (1e-4, 0.001, 0.01, 0.1)]
# Before the validation part is seen, an expert on words and sound counts as much as four on one of
# them: of nine experts the three on both modalities have two thirds of the weight.
_BOTH = 4.0
_PRIOR = 3.0  # λ in `pool_weights`: how strongly the weights are held to those prior weights


class Stacked(nn.Module):
    """Experts and their weights.

    Its embedding is that of the first expert, the network that reads all modalities.

    Attributes:
        modalities: the modalities that the experts read.
        experts: models over features by name, such as ``cross_attention`` and ``kernel_text``.
        weights: of the experts, in their order [E].
    """

    weights: Tensor

    def __init__(self, dims: Dims, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.classes = dims.classes
        self.modalities = _present(dims)
        self.experts = nn.ModuleDict(experts)
        self.register_buffer("weights", torch.full((len(experts),), 1 / len(experts)))

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, D]."""
        outputs = [expert(text, text_mask, audio, audio_mask) for expert in self.experts.values()]
        logs = torch.stack([output.logits.log_softmax(1) for output in outputs])  # [E, B, C]
        return Output(torch.einsum("e,ebc->bc", self.weights, logs), outputs[0].embedding)


def _present(dims: Dims) -> tuple[str, ...]:
    return tuple(name for name in MODALITIES if getattr(dims, name))


def experts_of(dims: Dims) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The experts for inputs of these widths: name → kind, and the modalities that it reads.

    >>> list(experts_of(Dims(0, 1152, 7)))
    ['audio', 'linear_audio', 'kernel_audio']
    """
    present = _present(dims)
    # All modalities together first: the first expert gives the embedding.
    groups = [present, *((name,) for name in present if len(present) > 1)]
    experts = {}
    for group in groups:
        network = group[0] if len(group) == 1 else "cross_attention"
        experts[network] = (network, group)
        for kind in (LINEAR, KERNEL):
            # Names such as kernel_text_audio are part of saved models.
            experts["_".join((kind, *group))] = (kind, group)
    return experts


def build_stacked(dims: Dims, config: ModelConfig, state: Mapping[str, Tensor]) -> Stacked:
    """Makes the module that a saved state fits into; the state shows how many vectors it has."""
    experts: dict[str, nn.Module] = {}
    for name, (kind, group) in experts_of(dims).items():
        if kind == KERNEL:
            dual = state.get(f"experts.{name}.dual", torch.empty(0, 0))
            experts[name] = KernelRidge(dims, group, vectors=len(dual))
        elif kind == LINEAR:
            experts[name] = Linear(dims, group)
        else:
            experts[name] = Ensemble(MODELS[kind], dims, config)
    return Stacked(dims, experts)


def fit_stacked(
    dims: Dims,
    train: Examples,
    validation: Examples,
    network: ModelConfig,
    schedule: TrainConfig,
    seed: int,
    *,
    device: str = "cpu",
    groups: Tensor | None = None,
) -> Fitted:
    """Fits every expert and then their weights.

    Args:
        dims: widths and number of classes.
        train: the training part; with `schedule.refit` the experts in the end learn from both.
        validation: the part that chooses the experts' settings and sets their weights.
        network: settings of the networks.
        schedule: how the networks are trained.
        seed: of the networks.
        device: where the networks are trained.
        groups: of the rows of both parts, see `loop.fit`.

    Returns:
        The model; its history has one row per expert, with its weight.
    """
    fitted: dict[str, Fitted] = {}
    for name, (kind, group) in experts_of(dims).items():
        if kind == KERNEL:
            fitted[name] = fit_kernel_ridge(dims, train, validation, schedule, modalities=group)
        elif kind == LINEAR:
            fitted[name] = fit_baseline(
                kind, dims, train, validation, schedule, modalities=group, settings=_SETTINGS
            )
        else:
            torch.manual_seed(seed)  # an expert's initial weights do not depend on those before it
            member = Ensemble(MODELS[kind], dims, network).to(device)
            # Only networks are trained on the device; the other experts are fitted on the CPU.
            parts = train.to(device), validation.to(device)
            fitted[name] = fit(member, *parts, schedule, seed, groups=groups)
            fitted[name].model.to("cpu")
    # Held-out logits: a refitted expert has learnt from the validation part and looks too good.
    expert_logits = {
        name: predict(one.model, validation) if one.validation is None else one.validation
        for name, one in fitted.items()
    }
    logs = torch.stack([logits.log_softmax(1) for logits in expert_logits.values()])
    balance = class_weights(train.label, dims.classes, schedule.class_weights)
    weights = pool_weights(logs, validation.label, prior_weights(dims), balance)
    model = Stacked(dims, {name: one.model for name, one in fitted.items()})
    model.weights = weights
    history = [
        {"expert": name, "weight": float(weight), "validation_ua": ua_of(logits, validation)}
        for (name, logits), weight in zip(expert_logits.items(), weights, strict=True)
    ]
    return Fitted(model.eval(), history, torch.einsum("e,ebc->bc", weights, logs))


def prior_weights(dims: Dims) -> Tensor:
    """Weights of the experts before the validation part is seen [E]; their sum is 1.

    >>> prior_weights(Dims(384, 88, 4)).mul(18).round().tolist()
    [4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    whole = len(_present(dims))
    shares = [_BOTH if len(group) == whole else 1.0 for _, group in experts_of(dims).values()]
    return torch.tensor(shares) / sum(shares)


def pool_weights(logs: Tensor, labels: Tensor, prior: Tensor, balance: Tensor) -> Tensor:
    """Weights ``w_e ≥ 0`` [E] that maximise the likelihood of the pooled log-probabilities.

    The likelihood is at the class frequencies of the corpus (`schedule.log_prior`). A validation
    part may be only fifty utterances of one speaker, so the weights are held to the prior weights
    by a penalty ``λ E Σ_e (w_e − prior_e)²`` beside the summed cross-entropy.

    Args:
        logs: log-probabilities of the validation part by each expert [E, N, C].
        labels: class ids [N].
        prior: weights before the validation part is seen [E].
        balance: the class weights that the experts were trained with [C].
    """
    count = len(logs)
    # Double precision: L-BFGS compares losses that differ in their last digits as it converges.
    frequencies = log_prior(balance).double()
    # An expert's zero probability would exclude a class by itself: log p is at least -12, 6e-6.
    given, labels = logs.double().clamp(min=-12), labels.to(logs.device)
    start = prior.double()
    # L-BFGS: few parameters, a convex loss, and no learning rate to choose. Clamping inside the
    # loss keeps weights at zero or above.
    free = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.einsum("e,enc->nc", free.clamp(min=0), given)
        total = len(labels) * F.cross_entropy(logits + frequencies, labels)
        total = total + _PRIOR * count * (free - start).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return free.detach().clamp(min=0).float()
