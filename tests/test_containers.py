"""The sound of mp4, mkv, webm and avi, through the extra 'video'."""

import gc
import io
import sys

import numpy as np
import pytest

from made_media import av, media
from made_sound import pitch, refused, tone
from multimodal_ser.audio import audio_info, read_audio, read_blocks
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import to_install


def container(path, samples, rate=48_000, codec="aac", **options):
    """A file with one stereo sound track, made by FFmpeg."""
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.stack([samples, samples]), "f4"), "fltp", "stereo"
        )
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "stereo", rate, stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.m4a", "aac"), ("a.mkv", "aac"), ("a.webm", "libopus"), ("a.avi", "mp2")],
)
def test_containers(tmp_path, name, codec):
    sound = np.concatenate([tone(rate=48_000, hertz=hz) for hz in (440, 880, 1320)])
    path = container(tmp_path / name, sound, codec=codec)
    samples = read_audio(path)
    assert abs(len(samples) - 3 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    assert pitch(samples[:SAMPLE_RATE]) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.2)
    info = audio_info(path)
    assert (info.sample_rate, info.channels) == (48_000, 2)
    assert info.duration == pytest.approx(3.0, abs=0.1)
    np.testing.assert_array_equal(read_audio(path.read_bytes()), samples)
    part = read_audio(path, start=1.25, end=1.75)
    assert len(part) == 8_000
    # Matroska rounds times to milliseconds, 16 samples.
    shifts = [part[500:-500] - samples[20_500 + k : 27_500 + k] for k in range(-16, 17)]
    assert min(np.abs(shift).max() for shift in shifts) < 0.1
    refused(path, "beyond", start=9.0)


def test_broken_containers(tmp_path):
    path = container(tmp_path / "dia125_utt3.mp4", tone(3.0, 48_000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "cannot be read as audio")
    path = container(tmp_path / "a.mp4", tone(9.0, 48_000), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told = []
    assert 3.5 < len(read_audio(path, warn=told.append)) / SAMPLE_RATE < 5.5
    assert any("truncated" in line for line in told)


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
     ("matroska", "pcm_s16le", {}), ("webm", "libopus", {}), ("avi", "pcm_s16le", {}),
     ("asf", "wmav2", {}), ("caf", "pcm_s16le", {}), ("flv", "aac", {}), ("w64", "pcm_s16le", {}),
     ("au", "pcm_s16be", {}), ("wv", "wavpack", {}), ("tta", "tta", {})],
)  # fmt: skip
def test_files_without_their_last_tenth_are_told(kind, codec, options):
    whole, told = media(kind, codec, 48_000, **options)[0], []
    read_audio(whole, warn=told.append)
    assert told == []
    cut = whole[: len(whole) * 9 // 10]
    assert len(read_audio(cut, warn=told.append)) < len(read_audio(whole))
    assert any("claims" in line and "it may be truncated" in line for line in told)


def test_a_short_recording_that_loses_its_second_half_to_damage_is_told():
    data, told = bytearray(media("webm", "libopus", 48_000)[0]), []
    whole = len(read_audio(bytes(data), warn=told.append))
    assert not told
    middle = len(data) * 7 // 10
    data[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    lost = (whole - len(read_audio(bytes(data), warn=told.append))) / SAMPLE_RATE
    assert 0.3 < lost < 1.0
    assert any("claims" in line and "it may be truncated" in line for line in told)


@pytest.mark.parametrize(
    ("kind", "codec"), [("wv", "wavpack"), ("tta", "tta"), ("matroska", "flac")]
)
def test_damaged_frames_of_lossless_codecs_are_left_out_and_told(kind, codec):
    data, told = bytearray(media(kind, codec, 48_000)[0]), []
    whole = read_audio(bytes(data), warn=told.append)
    assert told == []
    at = len(data) * 2 // 3
    data[at : at + 8] = bytes(8)
    assert len(read_audio(bytes(data), warn=told.append)) <= len(whole)
    assert any("left out: " in line for line in told)


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_damaged_frames_is_no_other_scale(seed):
    data = bytearray(media("amr", "libopencore_amrnb", 8_000)[0])
    at = len(data) // 3
    data[at : at + 500] = np.random.default_rng(seed).bytes(500)
    assert np.abs(read_audio(bytes(data))).max() <= 2.1


@pytest.mark.parametrize(("kind", "codec"), [("matroska", "aac"), ("avi", "pcm_s16le")])
def test_tags_that_are_no_utf8(kind, codec):
    data = media(kind, codec, 16_000, picture="mpeg4")[0]
    strange = data.replace(b"Lavf", b"\xfc\xff\xe4\xfe")
    assert strange != data
    np.testing.assert_array_equal(read_audio(strange), read_audio(data))


def test_a_video_without_sound(tmp_path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    refused(tmp_path / "a.mp4", "no sound track")
    gc.collect()  # a file left open is a ResourceWarning, which is an error here


def test_containers_need_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(99))
    refused(tmp_path / "a.mp4", to_install("video"))


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_sound_tracks_the_default_is_read_and_that_is_said(default):
    file, told = io.BytesIO(), []
    with av().open(file, "w", format="matroska") as out:
        tracks = [out.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        tracks[default].disposition = 1
        for track, hertz in zip(tracks, (440.0, 880.0), strict=True):
            sound = (tone(1.0, 16_000, hertz) * 32767).astype(np.int16)
            frame = av().AudioFrame.from_ndarray(sound[None], "s16", "mono")
            frame.sample_rate = 16_000
            out.mux([*track.encode(frame), *track.encode(None)])
    samples = read_audio(file.getvalue(), warn=told.append)
    assert pitch(samples) == pytest.approx((440, 880)[default], abs=2)
    (line,) = told
    assert f"has 2 sound tracks; only track {default + 1} is read" in line


@pytest.mark.parametrize(("kind", "count"), [("matroska", 8), ("matroska", 16), ("mov", 12)])
def test_sound_of_more_than_seven_channels_is_read(kind, count):
    # as in videos with 7.1: PyAV's own planes of such frames lead beyond their memory
    file = io.BytesIO()
    sound = np.stack([tone(1.0, hertz=100.0 * n) for n in range(1, count + 1)], axis=1)
    with av().open(file, "w", format=kind) as out:
        stream = out.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout=f"{count} channels")
        packed = (sound * 32767).astype(np.int16).reshape(1, -1)
        frame = av().AudioFrame.from_ndarray(packed, "s16", stream.layout)
        frame.sample_rate = SAMPLE_RATE
        out.mux([*stream.encode(frame), *stream.encode(None)])
    apart = np.concatenate(list(read_blocks(file.getvalue(), mixed=False)))
    np.testing.assert_allclose(apart, sound, atol=1e-4)
    np.testing.assert_allclose(read_audio(file.getvalue()), sound.mean(axis=1), atol=1e-4)


def test_a_track_that_begins_on_the_way_is_told():
    def part(seconds, *tones):
        file, packets = io.BytesIO(), []
        with av().open(file, "w", format="mpegts") as out:
            tracks = [out.add_stream("mp2", rate=48_000, layout="mono") for _ in tones]
            for track, hertz in zip(tracks, tones, strict=True):
                sound = (tone(seconds, 48_000, hertz) * 32767).astype(np.int16)
                for at in range(0, len(sound), 1152):
                    block = np.ascontiguousarray(sound[None, at : at + 1152])
                    frame = av().AudioFrame.from_ndarray(block, "s16", "mono")
                    frame.sample_rate, frame.pts = 48_000, at
                    packets += track.encode(frame)
                packets += track.encode(None)
            out.mux(sorted(packets, key=lambda packet: packet.pts))
        return file.getvalue()

    told = []
    alone = part(10.0, 440.0)
    samples = read_audio(alone + part(1.0, 440.0, 880.0) + alone, warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(21.0, abs=0.1)
    assert pitch(samples) == pytest.approx(440, abs=2)
    assert any("another track begins on the way" in line for line in told)
