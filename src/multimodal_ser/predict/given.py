"""What callers give → waveforms and words, or the errors that each deserves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio import SAMPLE_RATE, Source, read_audio
from multimodal_ser.errors import AudioError, SerError
from multimodal_ser.predict.backend import Wave

log = logging.getLogger(__name__)

Recording: TypeAlias = "Source | tuple[NDArray[Any], int]"
LONG = 30.0  # seconds beyond which one answer says little


def many(source: object) -> bool:
    """Whether a source is a list of recordings instead of one: (array, rate) is one."""
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "__array__"):
        return not isinstance(source[1], int | float | np.number)
    return isinstance(source, list | tuple)


def read(source: Recording) -> Wave | SerError:
    """A recording as mono float32 [samples] at 16 kHz, or why it cannot be read."""
    try:
        if isinstance(source, tuple):
            wave = read_audio(source[0], sample_rate=source[1])
        elif hasattr(source, "__array__"):
            raise AudioError("<array>: an array does not know its rate; give (array, rate in Hz)")
        else:
            wave = read_audio(source)
    except SerError as error:
        return error
    except OSError as error:
        name = source if isinstance(source, str | Path) else "<stream>"
        return AudioError(f"{name}: cannot be read ({error})")
    seconds = len(wave) / SAMPLE_RATE
    if seconds > LONG:
        log.warning(
            "%s: one answer for %.0f s; `ser analyze` gives its emotions over time",
            source if isinstance(source, str | Path) else "a recording", seconds,
        )  # fmt: skip
    return wave


def checked_texts(texts: Sequence[str | None] | None, count: int) -> list[str | None]:
    """As many texts as recordings; blank ones are None."""
    if isinstance(texts, str):
        raise SerError(f"one text for {count} recordings; give a list of as many")
    given = [None] * count if texts is None else list(texts)
    if len(given) != count:
        raise SerError(f"{len(given)} texts for {count} recordings; give as many, or None")
    if odd := [text for text in given if not (text is None or isinstance(text, str))]:
        raise SerError(f"a text is {type(odd[0]).__name__}; allowed: strings and None")
    return [text if text and text.strip() else None for text in given]
