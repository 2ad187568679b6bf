"""The bytes of an upload → mono float32 at 16 kHz, with bounded time and memory.

The same formats as in the commands are read, in blocks, so that the length in a header is not
needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from multimodal_ser.audio import audio_info, read_blocks
from multimodal_ser.audio.sources import READABLE, is_known
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.scheduling import HeldTurn
from multimodal_ser.serve.settings import Settings

UPLOADABLE = READABLE.replace("with the", "where the server has the")
_CHANNELS = 8  # largest number of channels
_APART = 2  # length of all channels together if they are kept, in multiples of `max_seconds`
_RATE = 192_000  # Hz: the highest rate that is accepted

_LONG = 60  # seconds from which on a recording needs a place for long work


class DecodedUpload(NamedTuple):
    """The content of an upload: samples at 16 kHz, and warnings for the sender.

    Attributes:
        wave: [time], or [time, channels] if channels are kept.
        warnings: one line each.
    """

    wave: Samples
    warnings: list[str]


def decode_upload(
    data: bytes, settings: Settings, pause: HeldTurn, lengthen: Callable[[], None],
    mixed: bool = True,
) -> DecodedUpload:  # fmt: skip
    """Decodes a recording from an untrusted sender.

    Args:
        data: the file's bytes.
        settings: limits on length and time.
        pause: the turn in which this is called; it is released after every block.
        lengthen: called if the recording turns out to be long.
        mixed: whether the channels are mixed; otherwise they are kept.

    Raises:
        RefusedError: 413 if too long, 415 for an unknown format, 422 if damaged or too slow to
            decode.
    """
    if not is_known(data[:4096]):
        raise RefusedError(
            415, f"the file is not a recording that this server reads; allowed: {UPLOADABLE}"
        )
    try:
        _check_header(data, settings)
        return _bounded(data, settings, pause, lengthen, mixed)
    except AudioError as error:
        raise RefusedError(422, reworded(str(error))) from None


def _check_header(data: bytes, settings: Settings) -> None:
    info = audio_info(data, count=False)
    rate, channels = info.sample_rate, info.channels
    if channels > _CHANNELS or not 0 < rate <= _RATE:
        raise RefusedError(
            422,
            f"the recording has {channels} channels at {rate} Hz; allowed: at most {_CHANNELS} "
            f"channels and {_RATE} Hz",
        )
    if info.duration > settings.max_seconds:
        raise _too_long(info.duration, settings)


def _bounded(
    data: bytes, settings: Settings, pause: HeldTurn, lengthen: Callable[[], None], mixed: bool
) -> DecodedUpload:
    """Decodes block by block and checks the limits after each, whatever the header says."""
    most, count = int(settings.max_seconds * SAMPLE_RATE), 0
    blocks: list[Samples] = []
    warnings: list[str] = []
    for block in read_blocks(data, warn=lambda line: warnings.append(reworded(line)), mixed=mixed):
        blocks.append(block[:, 0] if block.ndim == 2 and block.shape[1] == 1 else block)
        count += len(block)
        if count > most + 1:  # resampling may round up
            raise _too_long(count / SAMPLE_RATE, settings)
        width = 1 if block.ndim == 1 else block.shape[1]
        if width * count > _APART * (most + 1):
            raise RefusedError(
                413,
                f"{width} channels of {count / SAMPLE_RATE:.0f} s or more are too long to analyse "
                f"each; allowed: {_APART * settings.max_seconds:g} s together; send channels=mix",
            )
        if count > _LONG * SAMPLE_RATE:
            lengthen()
        pause()
        if pause.spent > settings.decode_seconds:
            raise RefusedError(
                422,
                f"decoding took longer than {settings.decode_seconds:g} s; send a shorter "
                "recording, or wav or flac",
            )
    return DecodedUpload(np.concatenate(blocks), warnings)


def _too_long(seconds: float, settings: Settings) -> RefusedError:
    return RefusedError(
        413,
        f"the recording is {seconds:.0f} s long or claims to be; allowed: "
        f"{settings.max_seconds:g} s; send it in parts",
    )


def reworded(message: str) -> str:
    """A message about a recording, in words for whoever sent it."""
    return message.replace("<bytes>", "recording").replace(READABLE, UPLOADABLE)
