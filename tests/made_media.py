"""Sound and video files made by FFmpeg through PyAV, and what FFmpeg reads back from them."""

import io
from fractions import Fraction

import numpy as np
import pytest

from made_sound import tone


def av():
    return pytest.importorskip("av", reason="the extra 'video' is not installed")


def media(kind, codec, rate, *, late=0.0, gap=0.0, picture=None, **options):
    """440 Hz from 0.1 to 0.9 s, at 1 s a `gap` without packets, then two seconds of 880 Hz.

    Args:
        kind: FFmpeg's name of the container.
        codec: FFmpeg's name of the sound's encoder.
        rate: Hz.
        late: seconds after the picture at which the sound begins.
        gap: seconds that no packet covers.
        picture: encoder of a picture of 7 s; None for none.
        options: of the container.

    Returns:
        The file's bytes, and the times at which the tones begin, seconds.
    """
    file, made = io.BytesIO(), av()
    if codec not in made.codecs_available:
        pytest.skip(f"this PyAV, {made.__version__}, has no encoder {codec}")
    with made.open(file, "w", format=kind, options=options) as out:
        packets = _picture(out.add_stream(picture, rate=10)) if picture else []
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        context = stream.codec_context
        context.open()
        size = context.frame_size or 1024
        turn = max(1, round(rate / size)) * size  # the gap lies between two frames
        pause = np.zeros(rate // 10, np.float32)
        first = tone(turn / rate - 0.2, rate)
        sound = np.concatenate([pause, first, pause, pause, tone(2.0, rate, 880.0)])
        plain = made.AudioResampler(context.format, "mono", rate)
        for at in range(0, len(sound), size):
            block = np.pad(sound[at : at + size], (0, max(0, at + size - len(sound))))
            frame = made.AudioFrame.from_ndarray(block[None], "fltp", "mono")
            frame.sample_rate = rate
            for one in plain.resample(frame):
                one.pts = at + round(late * rate) + (round(gap * rate) if at >= turn else 0)
                one.time_base = Fraction(1, rate)
                packets += stream.encode(one)
        packets += stream.encode(None)
        packets = [packet for packet in packets if packet.size]
        packets.sort(key=lambda p: (p.pts if p.dts is None else p.dts) * p.time_base)
        out.mux(packets)
    return file.getvalue(), (late + 0.1, late + turn / rate + gap + 0.1)


def _picture(stream):
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    packets = []
    for number in range(70):
        frame = av().VideoFrame.from_ndarray(np.full((96, 64), number, np.uint8), "yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def ffmpeg_seconds(data):
    """Seconds of sound that FFmpeg decodes, and where its clock then stands."""
    count = end = 0.0
    with av().open(io.BytesIO(data)) as file:
        begins = (file.start_time or 0) / 1e6
        for packet in file.demux(file.streams.audio[0]):
            try:
                frames = packet.decode()
            except av().FFmpegError:
                continue
            for frame in frames:
                length = frame.samples / frame.sample_rate
                count += length
                end = max(end, (frame.time or 0.0) + length)
    return count, end, begins


def tones_begin(samples, rate=16_000):
    """Where 440 Hz and 880 Hz are first half as loud as they become, seconds."""
    size, step = rate // 100, rate // 400
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::step]
    turns = 2j * np.pi * np.arange(size) / rate
    found = []
    for hertz in (440, 880):
        level = np.abs(frames @ np.exp(hertz * turns))
        loud = np.flatnonzero(level > 0.5 * level.max())
        found.append(float(loud[0] * step + size / 2) / rate)
    return tuple(found)
