"""Encoders of sound, words or both, fine-tuned together with a network over their tokens.

The network is one of MODELS, and its tokens are made as for a feature file. A fine-tuned model
therefore predicts in the same way as one that was trained on features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.dataset.examples import MODALITIES, Examples, Modality, of_present
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.models.layers import Output
from multimodal_ser.training.tune.changes import let_learn, rates

_Inputs: TypeAlias = Mapping[str, Sequence[Tensor | None]]


class TunedEncoders(nn.Module):
    """Encoders and their head.

    Attributes:
        encoders: by modality; their networks are registered in this module.
        features: how frames become tokens, by modality.
        kind: key in MODELS.
        network: settings of the head.
        head: the network over tokens.
        classes: class names in order.
        about: what else its files say, such as the epoch that was kept.
    """

    def __init__(
        self,
        encoders: Mapping[str, Any],
        features: Mapping[str, FeatureSpec],
        dims: Dims,
        classes: Sequence[str],
        config: TuneConfig,
        about: dict[str, Any],
    ) -> None:
        super().__init__()
        self.encoders, self.features = dict(encoders), dict(features)
        self.kind = "cross_attention" if len(self.encoders) > 1 else next(iter(self.encoders))
        self.network = ModelConfig(
            members=1, hidden_dim=config.hidden_dim, dropout=config.dropout, layer_sum=True
        )
        self.head = Ensemble(MODELS[self.kind], dims, self.network)
        self.networks = nn.ModuleDict({name: one.network for name, one in self.encoders.items()})
        self.classes, self.about = tuple(classes), about

    @property
    def temperature(self) -> Tensor:
        """The temperature of the head."""
        return self.head.temperature

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.head.temperature.device

    def begin(self, train: Examples, validation: Examples, config: TuneConfig, seed: int) -> None:
        """Fits the head to features of the pretrained encoders, before these are trained too."""
        # Imported here: predicting with this module needs no training loop.
        from multimodal_ser.training.loop import fit

        torch.manual_seed(seed)
        if config.probe_epochs:
            schedule = TrainConfig(
                epochs=config.probe_epochs,
                patience=config.probe_epochs,
                batch_size=config.batch_size,
                class_weights=config.class_weights,
                label_smoothing=config.label_smoothing,
                weight_decay=config.weight_decay,
                least_steps=0,
                refit=False,
            )
            device = str(self.device)
            fit(self.head, train.to(device), validation.to(device), schedule, seed)
        else:
            self.head.fit_inputs(train.to(str(self.device)))
        # `fit` set the temperature for the encoders as they were; `tune` sets it after fine-tuning.
        self.head.temperature.fill_(1.0)

    def learn(self, config: TuneConfig, rows: int) -> list[dict[str, Any]]:
        """Freezes what is not trained; returns groups for AdamW, the head with its own rate.

        Args:
            config: what is trained, and at which rates.
            rows: number of utterances of the training part.
        """
        self.head.hide.rows = rows
        groups = []
        for network in self.networks.values():
            let_learn(network, config)
            groups += rates(network, config)
        head = {"params": [*self.head.parameters()], "lr": config.head_rate * config.learning_rate}
        return [*groups, head]

    @property
    def frozen(self) -> frozenset[str]:
        """Names of frozen weights, which a resumed training loads from their source."""
        return frozenset(name for name, p in self.named_parameters() if not p.requires_grad)

    def inputs(self, items: Mapping[str, Sequence[Any]], draw: object = None) -> _Inputs:
        """Waveforms and words, by modality → the inputs of the encoders' networks.

        None stands for what an utterance lacks, here and in `predict`: its tokens are masked.
        """
        return {name: of_present(one.inputs, items[name]) for name, one in self.encoders.items()}

    def logits(self, inputs: _Inputs) -> Tensor:
        """The result of `inputs` → logits [B, C], with gradients."""
        output: Output = self(inputs)
        return output.logits

    def forward(self, inputs: _Inputs) -> Output:
        """Result of `inputs` → logits [B, C], embedding [B, H]; gradients reach the encoders."""
        batch = []
        rows = len(next(iter(inputs.values())))
        for name in MODALITIES:
            if name not in self.encoders:
                # A modality without an encoder has no tokens and no width.
                batch += [torch.zeros(rows, 0, 0), torch.zeros(rows, 0, dtype=torch.bool)]
                continue
            on_device = [None if x is None else x.to(self.device) for x in inputs[name]]
            states = of_present(self.encoders[name].states, on_device)
            spec = self.features[name]
            kept = [None if x is None else _kept(x.float(), name, spec) for x in states]
            lengths = torch.tensor([0 if x is None else len(x) for x in kept], device=self.device)
            none = torch.zeros(1, spec.dim, device=self.device)
            tokens = [none if x is None else x for x in kept]
            batch.append(nn.utils.rnn.pad_sequence(tokens, batch_first=True))
            batch.append(torch.arange(batch[-1].shape[1], device=self.device) < lengths[:, None])
        return self.head(*batch)

    @torch.inference_mode()
    def predict(self, items: Mapping[str, Sequence[Any]]) -> Tensor:
        """Logits [B, C] by the same steps as extraction, so that `ser predict` gives the same."""
        rows = len(next(iter(items.values())))
        modalities = [
            Modality.encoded(self.encoders[name], items[name], self.features[name])
            if name in self.encoders
            else Modality.absent(rows)
            for name in MODALITIES
        ]
        batch = [
            part.to(self.device)
            for modality in modalities
            for part in (modality.tokens, modality.mask)
        ]
        logits: Tensor = self.head(*batch).logits
        return logits.float().cpu()


def _kept(frames: Tensor, modality: str, spec: FeatureSpec) -> Tensor:
    """Like `features.pool.keep_tokens`, but differentiable: [T, D] → [at most `tokens`, D]."""
    most = spec.pooled_from or spec.tokens
    if (most == 1 and spec.pool == "first") or (most > 1 and modality == "text"):
        kept = frames[:most]
    else:
        count = min(len(frames), most)
        # Frames are divided into `count` nearly equal spans, and each span becomes its mean.
        edges = torch.arange(count + 1, device=frames.device) * len(frames) // count
        sizes = edges.diff()
        place = torch.arange(count, device=frames.device).repeat_interleave(sizes)
        sums = frames.new_zeros(count, frames.shape[1]).index_add(0, place, frames)
        kept = sums / sizes[:, None]
    return kept.mean(0, keepdim=True) if spec.pooled_from else kept
