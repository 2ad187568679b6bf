"""Timeline → a self-contained HTML page that plays the recording."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from multimodal_ser.audio import Source, Warn, audio_info, read_blocks
from multimodal_ser.common.arrays import Samples, Singles
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict.prediction import label_colours
from multimodal_ser.timeline.track import Timeline, clock, display_name, remarks

PEAKS = (800, 6000)  # smallest and largest number of points of a drawn waveform; else ten a second
EMBEDDED = 10_000_000  # bytes of sound that a page contains at most
_MP3 = "MP3/MPEG_LAYER_III"
_PLAYED = {  # what browsers play, as `AudioInfo.kind` has it
    **dict.fromkeys(
        (
            f"{riff}/{kind}"
            for riff in ("WAV", "WAVEX")
            for kind in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW")
        ),
        "audio/wav",
    ),
    **dict.fromkeys(("FLAC/PCM_16", "FLAC/PCM_24"), "audio/flac"),
    **dict.fromkeys(("OGG/OPUS", "OGG/VORBIS"), "audio/ogg"),
    **dict.fromkeys(("mov/aac", "mov/mp3", "mov/opus"), "audio/mp4"),
    **dict.fromkeys(("matroska/opus", "matroska/vorbis"), "audio/webm"),
    _MP3: "audio/mpeg",
}
_CALLED = {"audio/mp4": (".m4a", ".mp4"), "audio/webm": (".webm",)}  # and no .mov or .mkv


def timeline_page(timeline: Timeline, source: Path, folder: Path | None = None) -> str:
    """Writes the page.

    Sound of at most 10 MB is inside it; larger recordings are played from where they are as seen
    from the page's folder, from that folder, or once the reader opens them in the page.

    Args:
        timeline: from `analyze`.
        source: the recording.
        folder: of the page; None if it is not known.
    """
    css, js = assets()
    odd: list[str] = []
    wave = peaks(source, warn=odd.append)
    audio, missing = _audio(source, folder, odd)
    data = page_data(timeline, wave)
    return (
        page_templates()
        .get_template("page.html")
        .render(
            name=display_name(timeline, source),
            timeline=timeline,
            clock=clock,
            remarks=remarks(data),
            data={
                **data,
                "missing": missing,
                "source": display_name(timeline, source),
                "keep": True,
            },
            audio=Markup(audio),  # noqa: S704 - base64, or quoted as an address
            css=Markup(css),  # noqa: S704 - the package's own
            js=Markup(js),  # noqa: S704 - the package's own
        )
    )


def page_templates() -> Environment:
    """The templates of this package; every value in them is escaped."""
    return Environment(
        loader=PackageLoader("multimodal_ser.timeline", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_data(timeline: Timeline, wave: Samples) -> dict[str, Any]:
    """The data for the page's script: the timeline, the waveform, and the colours of the labels."""
    rated = () if timeline.attributes is None else timeline.attributes.labels
    return {
        **timeline.as_dict(),
        "peaks": rounded(wave),
        "colours": label_colours(timeline.labels, timeline.scale, rated),
    }


def peaks(source: Source, rate: int | None = None, warn: Warn | None = None) -> Singles:
    """The largest magnitudes in equal parts of a recording, from 0 to 1: its drawn waveform.

    Args:
        source: path, bytes or binary file object, or an array.
        rate: of an array, in Hz.
        warn: as for `read_blocks`.

    Returns:
        [800 to 6000], ten per second; fewer if the recording has fewer spans of 20 ms.
    """
    span = SAMPLE_RATE // 50
    rest, found = np.zeros(0, np.float32), []
    for block in read_blocks(source, sample_rate=rate, warn=warn):
        sound = np.concatenate([rest, np.abs(block)])
        whole = len(sound) // span * span
        found.append(sound[:whole].reshape(-1, span).max(1))
        rest = sound[whole:]
    spans = np.concatenate([*found, [rest.max()] if len(rest) else []])
    count = min(int(np.clip(len(spans) / 5, *PEAKS)), len(spans))
    edges = np.linspace(0, len(spans), count + 1).astype(int)[:-1]
    return np.minimum(np.maximum.reduceat(spans, edges), 1).astype(np.float32)


def rounded(wave: Samples) -> list[float]:
    """Peaks with three decimals, which are enough for drawing."""
    return [round(float(peak), 3) for peak in wave]


def assets() -> tuple[str, str]:
    """The style sheet, and the script that defines ``serTimeline(element, data, audio)``."""
    folder = files("multimodal_ser.timeline") / "templates"
    css, *js = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("timeline.css", "drawing.js", "listing.js", "timeline.js")
    )
    return css, "".join(js)


def _audio(source: Path, folder: Path | None, odd: Sequence[str]) -> tuple[str, str]:
    """Addresses for the player, a line each, and a message if none of them plays.

    Args:
        source: the recording.
        folder: of the page.
        odd: warnings from reading it. Players then may read less of it, or at other times.
    """
    size, played = source.stat().st_size, _played(source)
    sound, kind = b"", played
    if (odd or played is None) and size <= 2 * EMBEDDED:
        sound, kind = _as_flac(source), "audio/flac"
    if played and not 0 < len(sound) <= EMBEDDED:
        sound, kind = (source.read_bytes() if size <= EMBEDDED else b""), played
    if 0 < len(sound) <= EMBEDDED:
        coded = base64.b64encode(sound).decode("ascii")
        return f"data:{kind};base64,{coded}", "This browser cannot play the recording."
    return "\n".join(quote(os.fsencode(one)) for one in _ways(source, folder)), (
        f"The recording ({size / 1e6:.0f} MB) is not part of this page, and is neither where it "
        "was nor in the page's folder."
    )


def _ways(source: Path, folder: Path | None) -> list[str]:
    """The relative paths by which a page looks for its recording."""
    if folder is None:
        return [source.name]
    try:
        whole = [os.path.abspath(one) for one in (source, folder)]  # noqa: PTH100 - keeps links
        # a page that is given to others says nothing of folders beyond those that it shares
        if Path(common := os.path.commonpath(whole)) == Path(common).parent:
            return [source.name]
        way = Path(os.path.relpath(*whole)).as_posix()
    except ValueError:  # on several drives
        return [source.name]
    return list(dict.fromkeys([way, source.name]))


def _played(source: Path) -> str | None:
    """The type of a recording that browsers play as `read_blocks` reads it; None of others."""
    about = audio_info(source, count=False)
    kind = _PLAYED.get(about.kind)
    if about.kind == _MP3 and not about.frames:
        return None  # its header has no length, and players then jump to wrong positions
    return (
        kind if source.suffix.lower() in _CALLED.get(kind or "", (source.suffix.lower(),)) else None
    )


def _as_flac(source: Path) -> bytes:
    """The recording as FLAC, 16 kHz mono, as it was read, for what browsers do not play so."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as sound:
        for block in read_blocks(source, warn=None):
            sound.write(block)
    return file.getvalue()
