"""every knob of a run, as frozen dataclasses: what commands show and run folders store.

Defaults are the setting that we recommend.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from multimodal_ser.errors import SerError

TASKS = ("classes", "distributions", "attributes")  # what a model may be asked to tell
Vad = Literal["auto", "silero", "energy", "none"]
SAMPLE_RATE = 16_000  # Hz, of every waveform inside: what the speech encoders were trained on


@dataclass(frozen=True)
class ModelConfig:
    """A fusion network.

    Attributes:
        members: small networks that are trained side by side and answer with their mean.
        hidden_dim: width of both modalities after projection.
        num_layers: blocks of (bidirectional cross-)attention.
        num_heads: attention heads; divides `hidden_dim`.
        dropout: share of activations dropped inside the network.
        input_dropout: share of input features hidden from a training item, in all its tokens,
            where there are many more features than utterances; the more utterances there are for
            each feature, the fewer are hidden (`layers.Hide.share`).
        modality_dropout: chance that one of two modalities of an item is hidden, so that the
            model also answers when the words (or the sound) are missing.
        linear_path: add a linear layer from the pooled inputs to the logits, so that the network
            begins as a linear probe and learns only what the probe misses.
        layer_sum: where features hold several layers of an encoder side by side, learn one weight
            a layer and read their weighted sum (SUPERB; Yang et al., 2021).
    """

    members: int = 2
    hidden_dim: int = 96
    num_layers: int = 1
    num_heads: int = 4
    dropout: float = 0.4
    input_dropout: float = 0.5
    modality_dropout: float = 0.1
    linear_path: bool = True
    layer_sum: bool = False

    def __post_init__(self) -> None:
        _check_counts(self, "members", "hidden_dim", "num_heads")
        _check_counts(self, "num_layers", least=0)
        _check_shares(self, "dropout", "input_dropout", "modality_dropout")
        if self.hidden_dim % self.num_heads:
            raise SerError(
                f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}; "
                f"take {self.hidden_dim // self.num_heads * self.num_heads or self.num_heads}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """How a network is fitted.

    Attributes:
        epochs: passes over the training part at most.
        patience: epochs without a lower validation loss before stopping.
        batch_size: utterances a step.
        learning_rate: AdamW's peak rate, after a warm-up over a tenth of the steps and before a
            cosine decay.
        weight_decay: AdamW's decoupled decay.
        label_smoothing: share of probability spread over the other classes.
        class_weights: weight the loss by inverse class frequency; a class that is missing from
            the training part weighs nothing.
        average: decay a step of the running average of the weights, which is what is evaluated
            and kept; 0 keeps the last step's weights.
        least_steps: steps to take at least: a small training part is passed over more often than
            `epochs`, with as much more patience.
        refit: once the validation part has picked the epoch (of a baseline: the setting), train
            again on training and validation part together, for as many epochs.
        loss: key in `losses.LOSSES`; the task's own where not given (docs/tasks.md).
    """

    epochs: int = 5
    patience: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    class_weights: bool = True
    average: float = 0.99
    least_steps: int = 800
    refit: bool = True
    loss: str | None = None

    def __post_init__(self) -> None:
        _check_counts(self, "epochs", "patience", "batch_size")
        _check_counts(self, "least_steps", least=0)
        _check_amounts(self, "learning_rate", "weight_decay")
        _check_shares(self, "label_smoothing", "average")


@dataclass(frozen=True)
class TuneConfig:
    """How an encoder is fine-tuned together with its head.

    Attributes:
        epochs: passes over the training part at most.
        patience: epochs without a better validation UA before stopping.
        batch_size: recordings a step.
        learning_rate: AdamW's peak rate.
        probe_epochs: passes before, of the head alone over the untouched encoder's vectors, at
            ten times the rate: a head that begins from nothing would first spoil the encoder
            (Kumar et al., 2022).
        weight_decay: AdamW's decoupled decay.
        label_smoothing: share of probability spread over the other classes.
        class_weights: weight the loss by inverse class frequency.
        average: decay a step of the running average of the weights.
        hidden_dim: width of the head, and of the embedding.
        dropout: share of the head's activations dropped.
        frozen_blocks: of the encoder's first blocks, how many (and the convolutions) stay as
            they are; 0 tunes everything.
        method: what of the encoder learns: the ``whole`` of it, its ``last`` blocks, or a
            ``low-rank`` update of attention and feed-forward.
        blocks: how many of the last blocks learn with ``last``.
        rank: of a low-rank update.
        modality: which encoder learns: of ``audio``, of ``text``, or of ``both`` together with
            cross-attention over frames and tokens.
        head_rate: the head's learning rate, in times the encoder's.
        layer_decay: the learning rate of a block, in times that of the block after it.
        accumulate: batches whose gradients make one step.
        checkpointing: compute activations again in the backward pass, which saves memory and
            costs a third more time.
        augment: change loudness, speed, band, noise and room of the training recordings.
        precision: of the products: float32, or bfloat16 where the processor has it.
        source: where the encoder's weights are; the installed offline package where not given.
        text_source: the same for the words' encoder.
    """

    epochs: int = 4
    patience: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-4
    probe_epochs: int = 30
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    class_weights: bool = True
    average: float = 0.99
    hidden_dim: int = 256
    dropout: float = 0.3
    frozen_blocks: int = 0
    augment: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    source: str | None = None
    method: Literal["whole", "last", "low-rank"] = "whole"
    blocks: int = 4
    rank: int = 8
    modality: Literal["audio", "text", "both"] = "audio"
    head_rate: float = 10.0
    layer_decay: float = 1.0
    accumulate: int = 1
    checkpointing: bool = False
    text_source: str | None = None

    def __post_init__(self) -> None:
        _check_counts(self, "epochs", "patience", "batch_size", "hidden_dim")
        _check_counts(self, "blocks", "rank", "accumulate")
        _check_amounts(self, "head_rate", "layer_decay")
        _check_counts(self, "probe_epochs", "frozen_blocks", least=0)
        _check_amounts(self, "learning_rate", "weight_decay")
        _check_shares(self, "label_smoothing", "average", "dropout")


@dataclass(frozen=True)
class AdaptConfig:
    """How a network is drawn towards a corpus whose labels it never sees.

    Attributes:
        method: key in ADAPTERS.
        weight: of the adapter's loss beside the classification's; None for the method's own.
        standardize: standardise each corpus's inputs by its own statistics before `dann`, `mmd`
            or `coral` align what is left, `coral` by giving the source the target's covariance
            too; `none` never does and `standardize` does nothing else.
    """

    method: str = "none"
    weight: float | None = None
    standardize: bool = True

    def __post_init__(self) -> None:
        if self.weight is not None:
            _check_amounts(self, "weight")


def _check_counts(config: object, *names: str, least: int = 1) -> None:
    """Raises SerError unless these are whole numbers of `least` or more."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, Integral) or value < least:
            raise SerError(f"{name} is a whole number, {least} or more, not {value}")


def _check_shares(config: object, *names: str) -> None:
    """Raises SerError unless these are shares, from 0 to less than 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:  # written so that nan fails it too
            raise SerError(f"{name} is a share from 0 to less than 1, not {value}")


def _check_amounts(config: object, *names: str) -> None:
    """Raises SerError unless these are finite and 0 or more."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < float("inf"):
            raise SerError(f"{name} is a finite number, 0 or more, not {value}")
