"""Material → the same, with the utterances of its dialogue as the tokens of each utterance.

The first token is the utterance itself. Each other place stands for one distance and for whether
the same person speaks there: the mask is what tells a network who speaks when. Only utterances
before are tokens, unless later ones are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.dataset.examples import Modality
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import FeatureError
from multimodal_ser.features.context import turns_of


def with_dialogue(material: Material, before: int, after: int = 0) -> Material:
    """Replaces the one token of each utterance with those of its dialogue.

    Utterances that are not in the material, such as those without a class of the class set, are
    not in its dialogues either.

    Returns:
        The material with 1 + 2 (before + after) tokens per utterance.

    Raises:
        FeatureError: an utterance has several tokens, or none has a dialogue.
    """
    check_single_tokens(material)
    if all(row.dialogue is None for row in material.utterances):
        raise FeatureError(
            "a network over dialogues needs to know them, and no utterance has a dialogue; add "
            "them to the manifest, or choose another --model"
        )
    places = material.examples.places
    index = torch.full((len(places), 1 + 2 * (before + after)), -1)
    index[:, 0] = torch.arange(len(places))
    for row, place, other in _around(material.utterances, before, after):
        index[places[row.id], place] = places[other.id]
    text, audio = (
        _gathered(one, index) for one in (material.examples.text, material.examples.audio)
    )
    return replace(material, examples=replace(material.examples, text=text, audio=audio))


def check_single_tokens(material: Material) -> None:
    """Raises FeatureError if an utterance has several tokens in a modality."""
    for name, described in material.features.items():
        if described is not None and getattr(material.examples, name).mask.shape[1] > 1:
            raise FeatureError(
                f"a network over dialogues reads one vector per utterance, and the {name} features "
                f"have up to {described.tokens}; take their means with --tokens pooled"
            )


def _around(
    rows: Sequence[Utterance], before: int, after: int
) -> Iterator[tuple[Utterance, int, Utterance]]:
    """An utterance, the place of another one among its tokens, and that other one."""
    distances = [*range(-1, -before - 1, -1), *range(1, after + 1)]
    for turns in turns_of(rows):
        for at, row in enumerate(turns):
            for number, distance in enumerate(distances):
                if 0 <= at + distance < len(turns):
                    other = turns[at + distance]
                    both = row.speaker is not None and other.speaker is not None
                    same = both and alike(str(row.speaker)) == alike(str(other.speaker))
                    # after the utterance itself, two places for each distance: the first is taken
                    # if somebody else speaks there, the second if the same person does
                    yield row, 1 + 2 * number + same, other


def _gathered(modality: Modality, index: Tensor) -> Modality:
    """The tokens [N, 1, D] of the utterances of an index [N, T], -1 for none → [N, T, D]."""
    if not modality.dim:
        return modality
    known = index >= 0
    mask = known & modality.mask[:, 0][index.clamp(min=0)]
    tokens = modality.tokens[:, 0][index.clamp(min=0)] * mask[..., None]
    return Modality(tokens, mask)
