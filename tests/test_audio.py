"""Any source → mono float32 at 16 kHz, and one error class for all that is not sound."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from made_sound import pitch, refused, tone, written
from multimodal_ser.audio import audio_hash, audio_info, check_scale, read_audio, read_blocks
from multimodal_ser.audio.sound import MonoMix
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError

DATA = Path(__file__).parents[2] / "shared" / "data"


FORMATS = [
    ("a.wav", "PCM_U8", 0.01),
    ("a.wav", "PCM_16", 1e-4),
    ("a.wav", "PCM_24", 1e-6),
    ("a.wav", "PCM_32", 1e-7),
    ("a.wav", "FLOAT", 0),
    ("a.wav", "DOUBLE", 0),
    ("a.flac", "PCM_16", 1e-4),
    ("a.flac", "PCM_24", 1e-6),
    ("a.aiff", "PCM_16", 1e-4),
    ("a.ogg", "VORBIS", 0.1),
    ("a.ogg", "OPUS", 0.1),
    ("a.mp3", "MPEG_LAYER_III", 0.1),
]


@pytest.mark.parametrize(("name", "subtype", "off"), FORMATS)
def test_formats(tmp_path, name, subtype, off):
    kind = {"format": "OGG"} if name.endswith("ogg") else {}
    path = written(tmp_path / name, tone(), subtype=subtype, **kind)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert samples.shape == (SAMPLE_RATE,)
    assert np.abs(samples[2000:-2000] - tone()[2000:-2000]).max() <= off
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.frames, info.duration) == (16_000, 1, 16_000, 1.0)
    for same in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_audio(same), samples)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read_audio(stream), samples)


def test_content_decides_not_the_ending(tmp_path):
    path = tmp_path / "OAF_bath_sad.wav"
    path.write_bytes(written(tmp_path / "a.aiff", tone()).read_bytes())
    assert len(read_audio(path)) == SAMPLE_RATE


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels(tmp_path, rate, channels):
    stereo = np.repeat(tone(1.5, rate)[:, None], channels, axis=1)
    samples = read_audio(written(tmp_path / "a.wav", stereo, rate, subtype="FLOAT"))
    assert abs(len(samples) - 1.5 * SAMPLE_RATE) <= 1
    assert pitch(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples[500:-500] - tone(1.5)[500 : len(samples) - 500]).max() < 1e-3


def test_channels_are_averaged():
    both = np.stack([tone(), tone(hertz=700)], axis=1)
    np.testing.assert_array_equal(read_audio(both, sample_rate=SAMPLE_RATE), both.mean(1))


@pytest.mark.parametrize(
    ("array", "first"),
    [
        (np.array([-128, 0, 64] * 9, np.int8), [-1, 0, 0.5]),
        (np.array([0, 128, 192] * 9, np.uint8), [-1, 0, 0.5]),
        (np.array([-32768, 0, 16384] * 9, np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30] * 9, np.int32), [-1, 0, 0.5]),
        (np.array([-1.5, 0, 0.5] * 9, np.float64), [-1.5, 0, 0.5]),
        (np.array([-1, 0, 0.5] * 9, np.float16), [-1, 0, 0.5]),
    ],
)
def test_arrays(array, first):
    samples = read_audio(array, sample_rate=SAMPLE_RATE)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples[:3], np.float32(first))
    two = read_audio(np.stack([array, array], axis=1), sample_rate=SAMPLE_RATE)
    np.testing.assert_array_equal(two, samples)


def test_arrays_that_are_refused(tmp_path):
    refused(tone(), "sample_rate=")
    refused(tone(), "whole numbers", sample_rate=16_000.5)
    refused(tone(), "allowed", sample_rate=0)
    refused(np.zeros((2, 16_000)), "transpose", sample_rate=16_000)
    refused(np.zeros((2, 2, 2)), "shape", sample_rate=16_000)
    refused(tone(), "whole numbers", sample_rate="fast")
    refused(np.array(["a.wav"]), "dtype", sample_rate=16_000)
    refused(torch.zeros(9, dtype=torch.complex64), "dtype", sample_rate=16_000)
    refused(np.zeros(9, np.int64), "int64", sample_rate=16_000)
    refused(np.zeros(9, complex), "complex", sample_rate=16_000)
    refused(np.zeros(0), "0 samples", sample_rate=16_000)
    refused(np.full(9, 1e39), "infinite", sample_rate=16_000)
    refused([0.0, 1.0], "list")
    refused(written(tmp_path / "a.wav", tone()), "for arrays only", sample_rate=8_000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_part_of_a_recording(tmp_path, name):
    samples = np.concatenate([tone(), tone(hertz=880), tone(hertz=1320)])
    path = written(tmp_path / name, samples)
    whole, part = read_audio(path), read_audio(path, start=1.0, end=2.0)
    assert len(part) == SAMPLE_RATE
    assert pitch(part) == pytest.approx(880, abs=2)
    if name in ("a.wav", "a.flac"):
        np.testing.assert_array_equal(part, whole[16_000:32_000])
    assert len(read_audio(path, start=2.5)) == 8_000
    assert len(read_audio(path, start=2.5, end=3.4)) == 8_000
    assert len(read_audio(path, end=0.25)) == 4_000
    assert len(read_audio(samples, sample_rate=16_000, start=1, end=1.5)) == 8_000


@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (1, 1), (2, 1), (float("nan"), None), (3.5, None), (0, 4.0)]
)
def test_parts_that_do_not_exist(tmp_path, start, end):
    refused(written(tmp_path / "a.wav", tone(3.0)), "start=", start=start, end=end)


def test_tensors_of_one_channel_with_a_gradient():
    wave = torch.from_numpy(tone()).requires_grad_()
    for given in (wave, wave[None], tone()[None]):
        np.testing.assert_array_equal(read_audio(given, sample_rate=SAMPLE_RATE), tone())


@pytest.mark.parametrize("scale", [3.0, 128.0, 32_768.0])
def test_floats_of_another_scale_are_refused_everywhere_alike(tmp_path, scale):
    loud = tone(level=0.9) * scale
    path = written(tmp_path / "a.wav", loud, subtype="FLOAT")
    for source, how in ((path, {}), (loud, {"sample_rate": SAMPLE_RATE})):
        refused(source, "its samples reach", "divide them by their full scale", **how)
        with pytest.raises(AudioError, match="its samples reach"):
            list(read_blocks(source, **how))
    with pytest.raises(AudioError, match="its samples reach"):
        check_scale("a chunk", loud)
    over = written(tmp_path / "b.wav", tone(level=1.9), subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(over), tone(level=1.9))  # as codecs overshoot


def test_wrong_paths(tmp_path):
    with pytest.raises(AudioError, match="cannot be a file's name"):
        read_audio("x" * 5000 + ".wav")
    refused(tmp_path / "no.wav", "no such file", str(tmp_path))
    refused(tmp_path, "is a folder")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty (0 bytes)")
    refused(b"", "empty")
    refused(io.StringIO("text"), "binary mode")


def test_what_is_no_audio(tmp_path):
    for name in ("a.wav", "a.mp4", "a.raw"):
        (tmp_path / name).write_text("file,emotion\na.wav,angry\n")
        refused(tmp_path / name, "is text, not audio")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "lfs.wav").write_text(pointer)
    refused(tmp_path / "lfs.wav", "git lfs pull")
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 20)
    refused(tmp_path / "noise.raw", "cannot be read as audio", "Allowed: wav")
    refused(b"RIFF\x00\x00\x00\x00WAVE" + bytes(9), "cannot be read as audio")


@pytest.mark.parametrize("ending", ["au", "snd", "vox", "gsm", "mp3", "wav", "al", "flac", "raw"])
def test_bytes_of_no_format_are_no_sound_whatever_their_name_says(tmp_path, ending):
    path = tmp_path / f"lost-its-header.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(40_000))
    refused(path, "cannot be read as audio (Format not recognised)", "Allowed: wav", "-ar 8000")


def test_sound_that_was_copied_as_text_is_refused():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE)
    for kind in ("WAV", "FLAC", "OGG"):
        soundfile.write(file := io.BytesIO(), noise, SAMPLE_RATE, format=kind)
        data = file.getvalue()
        assert len(read_audio(data)) == SAMPLE_RATE
        refused(data.replace(b"\n", b"\r\n"), "copy it again in binary mode")
        refused(data.decode("utf-8", "replace").encode(), "copy it again in binary mode")


def test_empty_and_not_finite(tmp_path):
    refused(written(tmp_path / "none.wav", tone()[:0]), "0 samples")
    for bad in (np.nan, np.inf, -np.inf):
        samples = np.stack([tone(), tone()], axis=1)
        samples[77, 1] = bad
        refused(written(tmp_path / "a.wav", samples, subtype="FLOAT"), "NaN or infinite")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.mp3", "vorbis.ogg", "opus.ogg"])
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_what_is_left_of_a_truncated_file_is_read_and_said(tmp_path, name, keep):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE)
    kind = {"subtype": name[:-4].upper()} if name.endswith("ogg") else {}
    path = written(tmp_path / name, noise, **kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    told = []
    samples = read_audio(path, warn=told.append)
    assert (keep - 0.3) * 5 < len(samples) / SAMPLE_RATE < keep * 5 + 0.3
    assert any(line.startswith(f"{name}: ") and "truncated" in line for line in told), told


def test_streamed_headers_state_no_length(tmp_path):
    """A writer to a pipe cannot go back: sizes stay 0 or all ones, and the sound is whole."""
    wav = bytearray(written(tmp_path / "a.wav", tone()).read_bytes())
    wav[40:44] = wav[4:8] = b"\xff\xff\xff\xff"
    assert len(read_audio(bytes(wav))) == SAMPLE_RATE
    flac = bytearray(written(tmp_path / "a.flac", tone(9.0)).read_bytes())
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    assert len(read_audio(bytes(flac))) == 9 * SAMPLE_RATE
    assert audio_info(bytes(flac)).duration == 9.0
    assert len(read_audio(bytes(flac), start=8.0)) == SAMPLE_RATE


def test_a_header_that_claims_hours_takes_no_memory(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    flac = bytearray(written(tmp_path / "a.flac", tone()).read_bytes())
    flac[22:26] = struct.pack(">I", 2**32 - 1)  # 74 hours
    wav = bytearray(written(tmp_path / "a.wav", tone()).read_bytes())
    wav[40:44] = struct.pack("<I", 2_000_000_000)
    tracemalloc.start()
    for data in (bytes(flac), bytes(wav)):
        told = []
        assert len(read_audio(data, warn=told.append)) == SAMPLE_RATE
        assert "truncated" in told[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_hash_is_of_the_sound(tmp_path):
    pcm = (tone() * 32767).astype(np.int16)
    wav = read_audio(written(tmp_path / "a.wav", pcm))
    flac = read_audio(written(tmp_path / "a.flac", pcm))
    assert audio_hash(wav) == audio_hash(flac) == audio_hash(wav.astype(float))
    assert audio_hash(wav) != audio_hash(wav[1:])


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize(
    ("pattern", "least"), [("emodb/wav/*.flac", 1.0), ("cremad/AudioWAV/*.wav", 1.0)]
)
def test_real_recordings(pattern, least):
    paths = sorted(DATA.glob(pattern))[:31]
    assert paths
    for path in paths:
        samples = read_audio(path)
        assert len(samples) >= least * SAMPLE_RATE
        assert 0 < np.abs(samples).max() <= 1
        assert audio_info(path).frames == len(samples)


@pytest.mark.parametrize("ending", ["wav", "ogg"])
def test_channels_that_cancel_are_not_mixed_to_silence(tmp_path, ending):
    sound = tone(2.0)
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, len(sound))).astype("f4")
    for left, right, wanted in (
        (sound, -sound, sound),
        (sound, -0.9 * sound, sound),
        (0 * sound, sound, sound / 2),  # a silent channel halves the level, as it always did
        (sound, sound, sound),
        (noise[0], noise[1], noise.mean(0)),
    ):
        path = written(tmp_path / f"a.{ending}", np.stack([left, right], 1))
        found = read_audio(path)
        if ending == "wav":
            np.testing.assert_allclose(found, wanted, atol=1e-4)
        elif not np.shares_memory(left, noise):  # the codec makes channels alike
            assert np.std(found) == pytest.approx(np.std(wanted), rel=0.1)


@pytest.mark.parametrize("codec", ["vorbis", "mp3", "aac", "mp2"])
def test_opposite_channels_of_a_lossy_codec_are_not_mixed_to_what_the_codec_changed(codec):
    draw, rate = np.random.default_rng(0), 48_000
    time = np.arange(4 * rate) / rate
    voiced = sum(np.sin(2 * np.pi * 130 * n * time + n) / n for n in range(1, 40))
    hiss = draw.normal(0, 0.5, len(time))
    sound = 0.1 * np.where(time % 0.4 < 0.25, voiced, hiss) * (time % 0.4 < 0.35)
    heard = []
    for sign in (0.9, -0.9):
        both = np.stack([sound, sign * sound], 1).astype("f4")
        file = io.BytesIO()
        if codec == "vorbis":
            soundfile.write(file, both, rate, format="OGG", subtype="VORBIS")
        else:
            _encoded(file, both, rate, {"mp3": "libmp3lame"}.get(codec, codec))
        found = read_audio(file.getvalue())
        heard.append(found[: len(found) // 320 * 320].reshape(-1, 320))
    alike, opposite = (20 * np.log10(np.square(one).mean(1) ** 0.5 + 1e-5) for one in heard)
    assert not (alike - opposite > 10)[alike > -35].any(), "20 ms that are 10 dB too quiet"


def _encoded(file, sound, rate, codec):
    made = pytest.importorskip("av", reason="the extra 'video' is not installed")
    kind = {"aac": "adts", "libmp3lame": "mp3"}.get(codec, codec)
    with made.open(file, "w", format=kind) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 64_000
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        plain = made.AudioResampler(stream.codec_context.format, "stereo", rate)
        for at in range(0, len(sound) - size, size):
            block = np.ascontiguousarray(sound[at : at + size].T)
            frame = made.AudioFrame.from_ndarray(block, "fltp", "stereo")
            frame.sample_rate, frame.pts = rate, at
            for one in plain.resample(frame):
                out.mux(stream.encode(one))
        out.mux(stream.encode(None))


def test_two_microphones_are_mixed_however_short_the_blocks():
    """A vowel that reaches one of them half a period later; one channel alone would click."""
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    vowel = (np.abs(time % 1 - 0.55) < 0.05) * tone(4.0, hertz=500.0)
    sound = 0.1 * tone(4.0, hertz=60.0) + 0.5 * vowel
    both = np.stack([sound[:-16], sound[16:]], 1).astype("f4")  # 1 ms
    for size in (160, 1024, 1 << 14):
        mix = MonoMix()
        blocks = [mix(both[at : at + size]) for at in range(0, len(both), size)]
        np.testing.assert_allclose(np.concatenate(blocks), both.mean(1), atol=1e-6)


def test_an_array_whose_channels_cancel_for_a_while_is_mixed_as_its_file(tmp_path):
    sound = tone(4.0)
    reversed_later = np.where(np.arange(len(sound)) < len(sound) // 2, sound, -sound)
    both = np.stack([sound, reversed_later], 1)
    found = read_audio(both, sample_rate=SAMPLE_RATE)
    assert np.array_equal(found, read_audio(written(tmp_path / "a.wav", both, subtype="FLOAT")))
    assert np.std(found[-SAMPLE_RATE:]) == pytest.approx(np.std(sound), rel=0.01)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "sound.wav")
    refused(tmp_path / "sound.wav", "a pipe or device", "standard input")
