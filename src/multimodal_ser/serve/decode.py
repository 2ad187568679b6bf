"""the bytes of an upload → mono float32 at 16 kHz, with bounded time and memory.

Only what libsndfile reads is taken: containers such as mp4 state no length that could be trusted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import soundfile

from multimodal_ser.audio import SAMPLE_RATE, read_blocks
from multimodal_ser.errors import AudioError
from multimodal_ser.predict.backend import Wave
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings
from multimodal_ser.serve.turns import Pause

ALLOWED = "wav, flac, ogg (Vorbis, Opus), mp3 or AIFF"
_CHANNELS = 8
_RATE = 192_000
_UNSTATED = 1 << 62  # libsndfile's word for a length that the header does not state


LONG = 60  # seconds beyond which a recording takes a place for long work


def decode(data: bytes, settings: Settings, pause: Pause, lengthen: Callable[[], None]) -> Wave:
    """Decodes a recording that a stranger sent.

    Args:
        data: the file's bytes.
        settings: limits on length and time.
        pause: the turn in which this is called; given away after every block.
        lengthen: called where the recording turns out to be long.

    Returns:
        Samples of shape [time].

    Raises:
        RefusedError: 413 too long, 415 not a known format, 422 damaged or too slow to decode.
    """
    _check_kind(data)
    try:
        _check_header(data, settings)
        return _bounded(data, settings, pause, lengthen)
    except AudioError as error:
        raise RefusedError(422, _told(str(error))) from None
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError) as error:
        raise RefusedError(
            422,
            f"the recording cannot be decoded ({type(error).__name__}): it is damaged, or not one "
            f"of {ALLOWED}",
        ) from None


def _check_kind(data: bytes) -> None:
    head = data[:12]
    frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0  # of MPEG audio
    riff = head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"
    aiff = head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    if not (frame or riff or aiff or head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3"):
        raise RefusedError(
            415, f"the file is not a recording that this server reads; allowed: {ALLOWED}"
        )


def _check_header(data: bytes, settings: Settings) -> None:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
        guessed = file.format == "MP3"  # by libsndfile, from the first frame's bit rate
    if channels > _CHANNELS or not 0 < rate <= _RATE:
        raise RefusedError(
            422,
            f"the recording has {channels} channels at {rate} Hz; allowed: at most {_CHANNELS} "
            f"channels and {_RATE} Hz",
        )
    if frames < _UNSTATED and not guessed and frames > settings.max_seconds * rate:
        raise _too_long(frames / rate, settings)


def _bounded(data: bytes, settings: Settings, pause: Pause, lengthen: Callable[[], None]) -> Wave:
    """Decodes block by block, whatever the header says."""
    most, count = int(settings.max_seconds * SAMPLE_RATE), 0
    blocks: list[Wave] = []
    for block in read_blocks(data):
        blocks.append(block)
        count += len(block)
        if count > most + 1:  # resampling may round up
            raise _too_long(count / SAMPLE_RATE, settings)
        if count > LONG * SAMPLE_RATE:
            lengthen()
        pause()
        if pause.spent > settings.decode_seconds:
            raise RefusedError(
                422,
                f"decoding took longer than {settings.decode_seconds:g} s; send a shorter "
                "recording, or wav or flac",
            )
    return np.concatenate(blocks)


def _too_long(seconds: float, settings: Settings) -> RefusedError:
    return RefusedError(
        413,
        f"the recording is {seconds:.0f} s long or claims to be; allowed: "
        f"{settings.max_seconds:g} s; send it in parts",
    )


def _told(message: str) -> str:
    """The library's message without its name for bytes and formats that are not taken here."""
    return re.sub(r"Allowed: wav.*", f"Allowed: {ALLOWED}", message.replace("<bytes>", "recording"))
