"""All settings of a run as frozen dataclasses; commands show them and run folders store them.

The defaults are the recommended settings (docs/recipes.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal, get_args

from multimodal_ser.errors import SerError

# What a model can be trained to predict; of two at once, the classes' outputs come first.
Task = Literal[
    "classes", "distributions", "attributes", "classes+attributes", "distributions+attributes"
]
TASKS: tuple[Task, ...] = get_args(Task)
Vad = Literal["auto", "silero", "energy", "none"]
SAMPLE_RATE = 16_000  # Hz, of every waveform inside the package: the rate of speech encoders
# Marks fields that are left out at their default, so that hashes of runs from before they existed
# stay.
LEFT_OUT = {"left out where it is the default": True}


@dataclass(frozen=True)
class ModelConfig:
    """A fusion network.

    Attributes:
        members: number of small networks that are trained side by side; the prediction is their
            mean.
        hidden_dim: width of both modalities after projection.
        num_layers: number of attention blocks (bidirectional cross-attention for both modalities).
        num_heads: attention heads; the hidden dim must be divisible by their number.
        dropout: share of activations dropped inside the network.
        input_dropout: largest share of input features that are hidden from a training utterance, in
            all its tokens. It is reached with many more features than utterances; the more
            utterances there are per feature, the fewer are hidden (docs/recipes.md).
        modality_dropout: probability that one of the two modalities of a training utterance is
            hidden, so that the model also works without the words (or the sound).
        linear_path: add a linear layer from the pooled inputs to the logits. The network then
            begins as a linear probe and learns only what the probe misses.
        layer_sum: if the features hold several layers of an encoder, learn one weight per layer and
            read their weighted sum (SUPERB; Yang et al., 2021).
        before: number of utterances before each that a network over dialogues reads.
        after: the same for utterances after each; a prediction then has to wait for them.
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
    before: int = field(default=8, metadata=LEFT_OUT)
    after: int = field(default=0, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        _check_counts(self, "members", "hidden_dim", "num_heads")
        _check_counts(self, "num_layers", "before", "after", least=0)
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
        epochs: largest number of passes over the training part.
        patience: epochs without a lower validation loss before stopping.
        batch_size: utterances per step.
        learning_rate: AdamW's peak rate, after a warm-up over a tenth of the steps and before a
            cosine decay.
        weight_decay: AdamW's decoupled decay.
        label_smoothing: share of the probability that is spread over all classes; the losses kl and
            focal do without.
        class_weights: weight the loss by inverse class frequency; a class that is missing from the
            training part has weight 0.
        average: decay per step of the moving average of the weights, which is what is evaluated and
            kept; 0 keeps the weights of the last step.
        least_steps: smallest number of steps: a small training part is passed over more often than
            `epochs` says, and the patience grows in proportion.
        refit: after the validation part has chosen the epoch (for a baseline: the setting), train
            again on training and validation part together, for as many epochs.
        loss: one that `ser list` shows, by default the task's own; of two tasks the losses of both,
            such as cross-entropy+0.5*ccc (docs/tasks.md).
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
        batch_size: recordings per batch.
        learning_rate: AdamW's peak rate.
        probe_epochs: epochs in which the head alone is trained first, on vectors of the pretrained
            encoder, at ten times the rate: a random head would damage the encoder (Kumar et al.
            2022).
        weight_decay: AdamW's decoupled decay.
        label_smoothing: share of the probability that is spread over all classes.
        class_weights: weight the loss by inverse class frequency.
        average: decay per step of the moving average of the weights.
        hidden_dim: width of the head, and of the embedding.
        dropout: share of the head's activations dropped.
        frozen_blocks: number of the encoder's first blocks that are frozen, together with the
            convolutions; 0 tunes everything.
        method: what is trained: the whole encoder, its last blocks, or a low-rank update of
            attention and feed-forward layers (LoRA).
        blocks: number of last blocks that the method last trains.
        rank: of the method low-rank.
        modality: whose encoder is trained: audio, text, or both together with cross-attention over
            frames and tokens.
        head_rate: learning rate of the head, in multiples of the encoder's.
        layer_decay: learning rate of a block, in multiples of that of the block after it.
        accumulate: number of batches whose gradients make one step.
        checkpointing: recompute activations in the backward pass, which saves memory and takes
            about a third more time.
        augment: alter speed, frequency band, noise and room of the training recordings.
        precision: number type of the products: float32, or bfloat16 if the processor has it.
        source: where the encoder's weights are; by default the installed offline package.
        text_source: the same for the text encoder.
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
    """How a network is adapted to a target corpus without labels.

    Attributes:
        method: key in ADAPTERS.
        weight: of the alignment loss beside the classification loss; None for the method's default.
        standardize: standardise the inputs of each corpus by its own statistics before `dann`,
            `mmd` or `coral` align what remains (`coral` also gives the source the target's
            covariance). `none` never does, and `standardize` does nothing else.
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
