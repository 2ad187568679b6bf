"""The error every part raises for what a user gave: what it was, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable


class SerError(Exception):
    """Something the user gave cannot be used; the message says what is allowed and the remedy."""


class AudioError(SerError):
    """A recording cannot be decoded or holds nothing usable; the message starts with its name."""


class NoSpeechError(SerError):
    """Recordings without speech, where something was to be learnt from it."""


class LabelError(SerError):
    """A class set and a corpus, or two class sets, do not fit together."""


class SplitError(SerError):
    """A split is malformed, or lets speakers, sessions, dialogues or recordings leak."""


class FeatureError(SerError):
    """A feature file is missing, damaged, or was made with other settings than asked for."""


class EncoderError(SerError):
    """An encoder's weights are missing, altered, or not what its code expects."""


TRAINING = ("torch", "transformers", "scipy", "sklearn", "threadpoolctl")


def not_installed(error: ModuleNotFoundError) -> SerError | None:
    """What to install where a package of the extra ``train`` is missing; None for any other.

    >>> str(not_installed(ModuleNotFoundError("No module named 'torch'", name="torch")))
    "this needs torch, which is not installed: pip install 'multimodal-ser[train]'"
    """
    name = (error.name or "").split(".")[0]
    if name not in TRAINING:
        return None
    return SerError(
        f"this needs {name}, which is not installed: pip install 'multimodal-ser[train]'"
    )


def one_of(kind: str, given: object, allowed: Iterable[object]) -> str:
    """Says which values are allowed where `given` is not one of them.

    Args:
        kind: what is being chosen, such as ``"corpus"``.
        given: the value that is not allowed.
        allowed: an iterable of the allowed names, in the order to show.

    >>> one_of("corpus", "emo", ["cremad", "emodb"])
    "unknown corpus 'emo'; choose one of: cremad, emodb"
    """
    names = ", ".join(str(name) for name in allowed)
    return f"unknown {kind} {given!r}; choose one of: {names}"
