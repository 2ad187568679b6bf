"""The channel of recordings: what they have in common besides emotion, estimated without labels.

A microphone, a room, a language or a speaker shifts all vectors of a set alike, and with them the
predictions: many of one class, next to none of another. The estimated shift is the one whose
removal gives the set's mean prediction the expected class frequencies. It is the reverse of Saerens
et al. (2002), who adjust the frequencies to the predictions. Only part of it is removed, since a
set also has class frequencies of its own, which must be kept. Predictions are softened, so that a
set that is mostly one emotion shifts less than its mean vector would suggest. Nothing is removed
from a set that differs from the training data no more than sets of the training data do: if such a
set is mostly one emotion, the channel is not the reason.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio import audio_hash
from multimodal_ser.common.arrays import Floats, Samples, Singles
from multimodal_ser.common.files import parse_json, written_aside
from multimodal_ser.config.settings import Vad
from multimodal_ser.encoders.base import checked_waves
from multimodal_ser.encoders.mel import LEAST_SAMPLES
from multimodal_ser.errors import NoSpeechError, SerError, counted
from multimodal_ser.predict.backend import Backend, predict_batches, softmax, speech_input
from multimodal_ser.predict.inputs import Recording, as_list, read_recording
from multimodal_ser.predict.sources import find_recordings

_Vectors: TypeAlias = Singles
_T = TypeVar("_T")
LEAST_RECORDINGS = 10  # from so many recordings on a channel is estimated automatically
_CLIPS = 25.0  # number of recordings with which half of _MOST is removed
_MOST = 0.9  # share of the shift that is removed with very many recordings
_SOFT = 1.0  # log-odds that the mean squared distance of a class from the centre stands for
_ROUNDS = 50  # iterations of `_balance`
_RAREST = 1e-3  # added to predicted frequencies: bounds the correction of a class never predicted
_SURE = 0.5  # recordings less certain to be speech are not used
# Mean squares of a set's vectors on a probe's axes, where the training data has 1: none of the
# shift is removed below the first, all of it above the second. Of ten recordings of a speaker or an
# emotion from the starter's corpora, learnt from or held out, 95 % of the sets are below 1.14 and
# all below 1.25; those of corpora left out have 1.3 or more.
_NEAR, _FAR = 1.1, 1.25
ENOUGH_RECORDINGS = 128  # so many are used of more: the estimate hardly changes any further


@dataclass(frozen=True, eq=False)
class Channel:
    """The channel of a set of recordings, as seen by one model.

    Attributes:
        shift: what is subtracted from the input of the model's head, [V].
        count: number of recordings, or pieces of long ones, that it was estimated from.
        space: identifies the model that it is for, see `space_of`.
        model: name of that model.
        mostly: what most of the recordings would be called without it, and their share; None where
            it was read from a file or changes nothing.
    """

    shift: _Vectors = field(repr=False)
    count: int
    space: str
    model: str
    mostly: tuple[str, float] | None = None

    def save(self, file: str | Path) -> Path:
        """Writes it as JSON; `read` reads it."""
        content = {
            "kind": "channel",
            "model": self.model,
            "space": self.space,
            "count": self.count,
            "shift": b64encode(np.asarray(self.shift, "<f4").tobytes()).decode(),
        }
        with written_aside(Path(file)) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        return Path(file)

    @classmethod
    def read(cls, file: str | Path) -> Channel:
        """Reads what `save` wrote.

        Raises:
            SerError: there is no such file, or it holds something else.
        """
        try:
            content = parse_json(Path(file).read_text("utf-8"))
            shift = np.frombuffer(b64decode(content["shift"], validate=True), "<f4").copy()
            if content["kind"] != "channel" or not len(shift) or not np.isfinite(shift).all():
                raise ValueError("it holds no channel")
            return cls(shift, int(content["count"]), str(content["space"]), str(content["model"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SerError(
                f"{file}: not a channel ({error}); make it with: ser adapt RECORDINGS --out FILE"
            ) from error


def space_of(references: _Vectors) -> str:
    """A name for the space of a model's vectors: a hash of the references of its training."""
    return hashlib.sha256(np.asarray(references, "<f4").tobytes()).hexdigest()[:16]


def evenly_chosen(items: Sequence[_T]) -> list[_T]:
    """At most ENOUGH_RECORDINGS of the items, spread evenly over them."""
    count = min(len(items), ENOUGH_RECORDINGS)
    return [items[place * len(items) // count] for place in range(count)]


def channel_for(
    backend: Backend, recordings: str | Path | Sequence[Recording] | Channel, vad: Vad
) -> Channel:
    """The channel that `Predictor.adapted` is given, or that of the recordings it is given.

    Raises:
        SerError: the channel is another model's, no recording has speech, or one cannot be read.
    """
    channel = recordings
    if isinstance(channel, str | Path):
        channel = find_recordings([str(channel)])
    if not isinstance(channel, Channel):
        if (several := as_list(channel)) is None:
            raise SerError(
                f"a channel of {type(recordings).__name__}; allowed: several recordings (a list, a "
                "generator, a column), a folder, or a saved Channel"
            )
        sounds: list[Samples] = []
        for one in evenly_chosen(list(several)):
            sound = read_recording(one)
            if isinstance(sound, SerError):
                raise sound
            sounds.append(sound)
        channel = estimated_channel(backend, sounds, vad)
    if channel.space != space_of(references_of(backend)):
        raise SerError(
            f"the channel was estimated with {channel.model}, and {backend.name} is another "
            "model; make it again with: ser adapt RECORDINGS --model MODEL --out FILE"
        )
    return channel


def references_of(backend: Backend) -> Singles:
    """The mean inputs of the head in training, [N, V].

    Raises:
        SerError: the model cannot be adapted.
    """
    if backend.references is None:
        raise SerError(
            f"{backend.name} cannot be adapted to a channel; allowed: the starter model and other "
            "fine-tuned ones, and their .onnx files"
        )
    return backend.references


def estimated_channel(
    backend: Backend, waves: Sequence[Samples], vad: Vad, *, speech: bool = False
) -> Channel:
    """Estimates the channel of waveforms [samples], see `Predictor.channel_of`."""
    references = references_of(backend)
    checked = checked_waves(backend.name, evenly_chosen(waves), 0)
    # Recordings that are too short to be predicted are left out; predicting them says why. Copies
    # tell no more of the channel than one of them, and would pass for many recordings alike.
    long = [wave for wave in checked if len(wave) >= LEAST_SAMPLES]
    whole = list({audio_hash(wave): wave for wave in long}.values())
    given = [speech_input(backend, wave, None, vad, speech) for wave in whole]
    spoken = [item.wave for item in given if item.sure > _SURE]
    if not spoken:
        raise NoSpeechError(
            f"no speech in {counted(len(waves), 'recording')}, so they show no channel"
        )
    prediction = predict_batches(backend, spoken, [None] * len(spoken))
    assert prediction.vectors is not None  # noqa: S101 - a model with references has them
    shift = channel_shift(prediction.vectors, references, backend.shares)
    if not shift.any():
        return Channel(shift, len(spoken), space_of(references), backend.name)
    first = prediction.probabilities[:, : len(backend.labels)].argmax(1)
    most = int(np.bincount(first).argmax())
    mostly = backend.labels[most], float(np.mean(first == most))
    return Channel(shift, len(spoken), space_of(references), backend.name, mostly)


def channel_shift(
    vectors: NDArray[np.floating],
    references: NDArray[np.floating],
    shares: NDArray[np.floating] | None = None,
    *,
    clips: float = _CLIPS,
    most: float = _MOST,
) -> Singles:
    """Estimates the shift that the vectors of a set of recordings have in common.

    The shift is most · n / (n + clips) of the one that gives the mean prediction the expected
    class frequencies, in the directions in which classes differ; a shift in any other direction
    changes no prediction. It is reduced for a set that hardly differs from the training data, and
    zero for one that differs no more than sets of the training data do.

    Args:
        vectors: input of the model's head for the recordings of the set, [N, V].
        references: centres of the classes, [C, V], where the nearest one is the prediction; or the
            mean of the training, [1, V], where the whole shift is the difference of the means.
        shares: expected class frequencies, [C]; equal by default.
        clips: number of recordings with which half of `most` is removed.
        most: share of the shift that is removed with very many recordings.

    Returns:
        The vector to subtract from every vector of that channel, [V]; zero for an empty set.

    >>> channel_shift(np.full((20, 2), 3.0), np.array([[1.0, 1.0]]), clips=20, most=1)
    array([1., 1.], dtype=float32)
    """
    classes = np.asarray(references, np.float64)
    there = classes.mean(0)
    points = np.asarray(vectors, np.float64)
    count = len(points)
    if not count:
        return np.zeros(len(there), np.float32)
    apart = points - there
    way = apart.mean(0)
    if len(classes) > 1:
        centres = classes - there
        expected = np.full(len(classes), 1 / len(classes)) if shares is None else shares
        back = np.linalg.pinv(centres)
        unit = _SOFT / np.square(centres).sum(1).mean()
        size = np.square(centres).sum(1) / 2
        # Minus half the squared distance to a centre is a class's logit, up to what all classes
        # have in common. Softened predictions for the centres themselves have uneven frequencies
        # without any shift, so that these are the baseline for the expected ones.
        own = _mean_prediction(unit * (centres @ centres.T - size))
        wanted = expected * own / (expected @ own)
        # The change of the logits that balances the classes, translated into a shift of vectors.
        way = -back @ _balance(unit * (apart @ centres.T - size), wanted) / unit
        way = way * np.clip((np.square(points).mean() - _NEAR) / (_FAR - _NEAR), 0, 1)
    return np.asarray(most * count / (count + clips) * way, np.float32)


def _balance(logits: Floats, shares: NDArray[np.floating]) -> Floats:
    """What to add to logits [N, C] to give the mean prediction these shares: [C], with mean 0."""
    added = np.zeros(logits.shape[1])
    for _ in range(_ROUNDS):
        added += np.log(shares) - np.log(_mean_prediction(logits + added) + _RAREST)
    return np.asarray(added - added.mean())


def _mean_prediction(logits: Floats) -> Floats:
    return np.asarray(softmax(logits).mean(0))
