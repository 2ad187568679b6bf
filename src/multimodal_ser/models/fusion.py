"""text [B,T,Dt], audio [B,A,Da], masks → logits [B,C], embedding [B,D].

A network is an ordinary module over standardised tokens; MODELS is the registry. What is trained,
saved and used to predict is an `Ensemble`: several networks of one kind with the input statistics
of the training part, so that a saved model is complete. docs/models.md shows how to add a network.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from multimodal_ser.config.settings import ModelConfig
from multimodal_ser.dataset.examples import MODALITIES, Examples, Unlabelled
from multimodal_ser.errors import SerError
from multimodal_ser.models.layers import (
    AttentionBlock,
    AttentivePool,
    Classifier,
    DialogueAttention,
    InputDropout,
    LayerSum,
    Output,
    Standardize,
    fit_statistics,
    masked_mean,
)


class Dims(NamedTuple):
    """Input widths of the two modalities (0: absent) and the number of classes.

    `text_layers` and `audio_layers` say how many layers of the encoder a width consists of: their
    features are concatenated.
    """

    text: int
    audio: int
    classes: int
    text_layers: int = 1
    audio_layers: int = 1


class Kind(Protocol):
    """The type of an entry in MODELS: a class of modules and the modalities that they read.

    A module is called with text [B, T, Dt], its mask [B, T], audio [B, A, Da] and its mask [B, A],
    and returns an `Output`. Tokens are standardised, and zero where the mask is False.
    """

    @property
    def modalities(self) -> tuple[str, ...]:
        """``text``, ``audio`` or both."""

    def __call__(self, dims: Dims, config: ModelConfig) -> nn.Module:
        """Makes an untrained network for inputs and classes of these sizes."""


class Fusion(nn.Module):
    """Projects each modality to a common width, mixes them and classifies.

    Subclasses differ in `mix`.
    """

    modalities: ClassVar[tuple[str, ...]] = MODALITIES
    dialogue: ClassVar[bool] = False  # whether a token is an utterance, see `dataset.views`

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__()
        widths = {name: getattr(dims, name) for name in self.modalities}
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(
                    # Encoders have widths from 88 to thousands; both modalities are projected to
                    # the same width.
                    nn.Linear(width, config.hidden_dim),
                    nn.LayerNorm(config.hidden_dim),
                )
                for name, width in widths.items()
            }
        )
        self.classify = Classifier(len(widths), sum(widths.values()), dims.classes, config)

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, H]."""
        batch = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        tokens, masks = zip(*(batch[name] for name in self.modalities), strict=True)
        hidden = [project(x) for project, x in zip(self.project.values(), tokens, strict=True)]
        # The linear path of the classifier reads what a linear probe reads: the inputs' means.
        own = slice(1 if self.dialogue else None)
        pooled = [masked_mean(x[:, own], m[:, own]) for x, m in zip(tokens, masks, strict=True)]
        vectors = self.mix(hidden, list(masks))
        return self.classify(torch.cat(vectors, 1), torch.cat(pooled, 1))

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] of each modality → one vector [B, H] for each modality."""
        raise NotImplementedError


class Concat(Fusion):
    """Simple fusion: each modality is pooled by itself, and the vectors are concatenated."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.pool = nn.ModuleList(AttentivePool(config.hidden_dim) for _ in self.modalities)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] of each modality → one vector [B, H] for each modality."""
        return [pool(x, mask) for pool, x, mask in zip(self.pool, hidden, masks, strict=True)]


class SelfAttention(Concat):
    """Each modality attends to itself and is then pooled."""

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.own = nn.ModuleList(AttentionBlock(config) for _ in self.modalities)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden tokens [B, T, H] of each modality → one vector [B, H] for each modality."""
        own = zip(self.own, hidden, masks, strict=True)
        return super().mix([attend(x, x, mask) for attend, x, mask in own], masks)


class Text(SelfAttention):
    """Reads the words alone."""

    modalities = ("text",)


class Audio(SelfAttention):
    """Reads the sound alone."""

    modalities = ("audio",)


class CrossAttention(Concat):
    """Each modality attends to the other in `num_layers` blocks and is then pooled.

    There is no self-attention within a modality: its tokens have attended to each other in the
    encoder already, and blocks with self-attention scored no higher (docs/design.md).
    """

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        blocks = range(config.num_layers)
        self.text_from_audio = nn.ModuleList(AttentionBlock(config) for _ in blocks)
        self.audio_from_text = nn.ModuleList(AttentionBlock(config) for _ in blocks)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Updates both modalities in each block: [B, T, H] each → one vector [B, H] each."""
        text, audio = hidden
        # One assignment for both: each attends to the other as it was before this block.
        for to_text, to_audio in zip(self.text_from_audio, self.audio_from_text, strict=True):
            text, audio = to_text(text, audio, masks[1]), to_audio(audio, text, masks[0])
        return super().mix([text, audio], masks)


class Dialogue(Fusion):
    """Each utterance attends to those before it in its dialogue, in each modality by itself.

    The tokens are utterances, see `dataset.views`; the first is the utterance itself.
    """

    dialogue = True

    def __init__(self, dims: Dims, config: ModelConfig) -> None:
        super().__init__(dims, config)
        self.around = nn.ModuleList(DialogueAttention(config) for _ in self.modalities)

    def mix(self, hidden: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Hidden utterances [B, T, H] of each modality → one vector [B, H] for each."""
        return [around(x, m) for around, x, m in zip(self.around, hidden, masks, strict=True)]


class DialogueText(Dialogue):
    """The words of each utterance attend to those before them in the dialogue."""

    modalities = ("text",)


class DialogueAudio(Dialogue):
    """The sound of each utterance attends to those before it in the dialogue."""

    modalities = ("audio",)


class Ensemble(nn.Module):
    """Several small networks of one kind, each trained with its own loss; the prediction is a mean.

    With few utterances most of a network's error is variance, so several small networks generalise
    better than one of the same total size (Lakshminarayanan et al., 2017, "Simple and Scalable
    Predictive Uncertainty Estimation").

    Attributes:
        classes: number of outputs, of which the last `values` are attributes.
        modalities: the modalities that the networks read.
        standardize: statistics of the inputs, by modality.
        sums: learnt weights of an encoder's layers, by modality; empty without `layer_sum`.
        hide: input dropout, drawn anew for every member.
        members: the networks.
        temperature: factor of the logits, set on the validation part.
    """

    temperature: Tensor  # a buffer: saved with the weights and moved to the device, not trained

    def __init__(self, kind: Kind, dims: Dims, config: ModelConfig, values: int = 0) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(1.0))
        self.classes = dims.classes
        self.values = values
        self.modalities = kind.modalities
        apart = getattr(kind, "dialogue", False)
        self.standardize = nn.ModuleDict(
            {name: Standardize(getattr(dims, name), apart) for name in self.modalities}
        )
        sizes = dims._asdict()
        layers = {name: sizes[f"{name}_layers"] for name in self.modalities if config.layer_sum}
        self.sums = nn.ModuleDict({name: LayerSum(n) for name, n in layers.items() if n > 1})
        # The members read the sum of the layers, which is as wide as one layer.
        summed = {name: sizes[name] // layers[name] for name in self.sums}
        dims = dims._replace(**summed)
        # Hiding a modality needs two of them: a network of one would be left with nothing.
        both = len(self.modalities) == 2
        self.hide = InputDropout(config.input_dropout, config.modality_dropout if both else 0.0)
        self.members = nn.ModuleList(kind(dims, config) for _ in range(config.members))

    def fit_inputs(self, examples: Examples | Unlabelled) -> None:
        """Computes the input statistics from these utterances; labels are not used."""
        fit_statistics(self.standardize, examples)
        self.hide.rows = len(examples)

    def each(
        self,
        text: Tensor,
        text_mask: Tensor,
        audio: Tensor,
        audio_mask: Tensor,
        standardize: nn.ModuleDict | None = None,
    ) -> Output:
        """Outputs of every member: logits [members, B, C], embedding [members, B, H].

        Args:
            text: [B, T, Dt].
            text_mask: [B, T].
            audio: [B, A, Da].
            audio_mask: [B, A].
            standardize: statistics to use instead of the model's own, such as a target corpus's.
        """
        own = self.standardize if standardize is None else standardize
        given = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        for name, (tokens, mask) in given.items():
            if name in own:
                scaled = own[name](tokens, mask)
                given[name] = self.sums[name](scaled) if name in self.sums else scaled, mask
        outputs = [self._of_member(member, given) for member in self.members]
        # A user's network may compute in 16 bits; losses and probabilities are float32.
        return Output(*(torch.stack(parts).float() for parts in zip(*outputs, strict=True)))

    def _of_member(self, member: nn.Module, given: dict[str, tuple[Tensor, Tensor]]) -> Output:
        """Output of a network, which may be one of a user's own that does not keep the rules."""
        inputs = self.hide(*given["text"], *given["audio"])
        counted = inputs if self.training and len(self.members) > 1 else ()
        # Tensors count the writes into them, except in inference mode.
        before = [one._version for one in counted]
        output = member(*inputs)
        kind = type(member).__name__
        if not isinstance(output, Output):
            other = type(output).__name__
            raise SerError(f"{kind}.forward gave a {other}, not an Output; see docs/models.md")
        # When they predict, all members are given the same tensors.
        if before != [one._version for one in counted]:
            raise SerError(
                f"{kind}.forward writes into its inputs, which the other networks of the ensemble "
                "read too; make new tensors, such as audio = audio + 1 for audio += 1 and "
                "masked_fill for masked_fill_, or train one network: --network.members 1"
            )
        return output

    def layer_weights(self) -> dict[str, list[float]]:
        """Modality → the learnt weight of each of the encoder's layers in its features."""
        weights = {name: layers.weights.tolist() for name, layers in self.sums.items()}  # type: ignore[operator]
        return {name: [round(one, 4) for one in each] for name, each in weights.items()}

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Output:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → logits [B, C], embedding [B, M·H].

        For classes, the logits are the logarithm of the members' mean probability, times the
        temperature; for attributes, they are the members' mean value.
        """
        each = self.each(text, text_mask, audio, audio_mask)
        cut, parts = self.classes - self.values, []
        if cut:
            # log of the mean of p = logsumexp of log p − log M: no probability underflows to zero
            logs = each.logits[:, :, :cut].log_softmax(2).logsumexp(0) - math.log(len(self.members))
            parts = [logs * self.temperature]
        parts += [each.logits[:, :, cut:].mean(0)] if self.values else []
        return Output(torch.cat(parts, 1), each.embedding.transpose(0, 1).flatten(1))


MODELS: dict[str, Kind] = {
    "text": Text,
    "audio": Audio,
    "concat": Concat,
    "cross_attention": CrossAttention,
    "dialogue": Dialogue,
    "dialogue_text": DialogueText,
    "dialogue_audio": DialogueAudio,
}


def reads_dialogue(name: str) -> bool:
    """Whether a model of this name reads the utterances around each, see `dataset.views`."""
    return bool(getattr(MODELS.get(name), "dialogue", False))
