"""Every container and codec: read to the end, at the file's own times, as FFmpeg decodes it."""

import io
import struct
import sys
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from made_media import ffmpeg_seconds, media, tones_begin
from made_sound import pitch, refused, tone, written
from multimodal_ser.audio import audio_info, read_audio, read_blocks
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError, to_install

NEAR = 0.02  # seconds

VIDEO = [
    ("mp4", "aac", 48_000, "mpeg4"), ("mp4", "aac", 16_000, "libx264"),
    ("mp4", "libmp3lame", 44_100, "mpeg4"), ("mp4", "ac3", 48_000, "mpeg4"),
    ("mp4", "alac", 16_000, "mpeg4"), ("mp4", "flac", 16_000, "mpeg4"),
    ("mp4", "libopus", 48_000, "mpeg4"), ("3gp", "libopencore_amrnb", 8_000, "mpeg4"),
    ("matroska", "aac", 48_000, "mpeg4"), ("matroska", "libopus", 48_000, "mpeg4"),
    ("matroska", "pcm_s16le", 16_000, "mpeg4"), ("matroska", "flac", 16_000, "mpeg4"),
    ("matroska", "libmp3lame", 44_100, "mpeg4"), ("webm", "libopus", 48_000, "libvpx"),
    ("mpegts", "aac", 48_000, "mpeg2video"), ("mpegts", "mp2", 48_000, "mpeg2video"),
    ("mpegts", "ac3", 48_000, "libx264"), ("mpegts", "libopus", 48_000, "mpeg2video"),
    ("mpeg", "mp2", 48_000, "mpeg2video"), ("vob", "ac3", 48_000, "mpeg2video"),
    ("flv", "aac", 44_100, "flv"), ("flv", "aac", 44_100, "libx264"),
    ("flv", "libmp3lame", 44_100, "flv"), ("nut", "aac", 48_000, "mpeg4"),
    ("f4v", "aac", 44_100, "libx264"), ("wtv", "mp2", 48_000, "mpeg2video"),
]  # fmt: skip
SOUND = [
    ("adts", "aac", 44_100), ("mp3", "libmp3lame", 44_100), ("mp3", "libmp3lame", 16_000),
    ("mp2", "mp2", 48_000), ("ac3", "ac3", 48_000), ("eac3", "eac3", 48_000),
    ("amr", "libopencore_amrnb", 8_000), ("latm", "aac", 48_000), ("ipod", "aac", 44_100),
    ("ipod", "alac", 16_000), ("3g2", "aac", 16_000), ("asf", "wmav2", 44_100),
    ("asf", "wmav1", 16_000), ("matroska", "libopus", 48_000), ("webm", "libopus", 48_000),
    ("avi", "mp2", 48_000), ("avi", "libmp3lame", 44_100), ("avi", "pcm_s16le", 16_000),
    ("wav", "pcm_s16le", 16_000), ("wav", "adpcm_ms", 16_000), ("wav", "adpcm_ima_wav", 16_000),
    ("wav", "libmp3lame", 44_100), ("wav", "ac3", 48_000), ("wav", "g726", 8_000),
    ("wav", "pcm_mulaw", 8_000), ("w64", "pcm_s16le", 16_000), ("aiff", "pcm_s16be", 16_000),
    ("au", "pcm_s16be", 16_000), ("caf", "pcm_s16le", 16_000), ("flac", "flac", 16_000),
    ("ogg", "flac", 16_000), ("ogg", "libopus", 48_000), ("tta", "tta", 16_000),
    ("wv", "wavpack", 16_000), ("rm", "ac3", 48_000), ("voc", "pcm_u8", 16_000),
    ("mov", "pcm_s16le", 16_000), ("mpegts", "aac", 48_000), ("flv", "aac", 44_100),
    ("swf", "libmp3lame", 44_100), ("ircam", "pcm_s16le", 16_000),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "codec", "rate"), SOUND)
def test_sound_is_as_long_as_ffmpeg_decodes_it(kind, codec, rate):
    data, wanted = media(kind, codec, rate)
    samples = read_audio(data)
    assert len(samples) / SAMPLE_RATE == pytest.approx(ffmpeg_seconds(data)[0], abs=NEAR)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(data))), samples)
    # Without a container's word on it, an encoder's delay (up to 0.1 s) is part of the sound.
    assert tones_begin(samples)[1] == pytest.approx(wanted[1], abs=0.1)


@pytest.mark.parametrize(("late", "gap"), [(0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize(("kind", "codec", "rate", "picture"), VIDEO)
def test_events_are_where_the_video_has_them(kind, codec, rate, picture, late, gap):
    data, wanted = media(kind, codec, rate, late=late, gap=gap, picture=picture)
    samples = read_audio(data)
    count, end, begins = ffmpeg_seconds(data)
    assert tones_begin(samples) == pytest.approx(wanted, abs=NEAR)
    clock = end if kind in ("mp4", "3gp", "matroska", "webm") else end - begins
    assert len(samples) / SAMPLE_RATE == pytest.approx(clock, abs=NEAR)
    assert clock == pytest.approx(count + late + gap, abs=0.15)  # the oracle itself
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(data))), samples)
    begin = wanted[1] - 0.5
    part = read_audio(data, start=begin, end=begin + 1)
    assert len(part) == SAMPLE_RATE
    assert tones_begin(part)[1] == pytest.approx(0.5, abs=NEAR)


@pytest.mark.parametrize(
    ("codec", "rate", "kind"), [("wmav2", 44_100, "asf"), ("wmav1", 16_000, "asf")]
)
@pytest.mark.parametrize(("late", "gap"), [(3.0, 0.0), (2.0, 1.0)])
def test_windows_media(codec, rate, kind, late, gap):
    # FFmpeg drops the first frames of WMA, and with them the beginning of the first tone
    data, wanted = media(kind, codec, rate, late=late, gap=gap, picture="wmv2")
    assert tones_begin(read_audio(data))[1] == pytest.approx(wanted[1], abs=NEAR)


def test_a_fragmented_mp4_and_one_without_pictures(tmp_path):
    for kind, picture, options in (
        ("mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
        ("ipod", None, {}),
        ("matroska", None, {}),
    ):
        codec = "libopus" if kind == "matroska" else "aac"
        data, wanted = media(kind, codec, 48_000, late=3.0, picture=picture, **options)
        path = tmp_path / "a"
        path.write_bytes(data)
        assert tones_begin(read_audio(path)) == pytest.approx(wanted, abs=NEAR)


SNDFILE = [
    (kind, subtype)
    for kind in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(kind)
    if kind not in ("RAW", "SD2", "MPC2K") or (kind, subtype) == ("RAW", "GSM610")
]


@pytest.mark.parametrize(("kind", "subtype"), SNDFILE)
def test_all_that_libsndfile_writes_is_read_whole(kind, subtype):
    file = io.BytesIO()
    rate = 8_000 if kind == "WVE" else 44_100 if kind == "XI" else SAMPLE_RATE
    if subtype in ("GSM610", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "VOX_ADPCM"):
        rate = 8_000
    sound = np.concatenate([tone(1.0, rate), tone(1.5, rate, 880.0)])
    try:
        soundfile.write(file, sound, rate, format=kind, subtype=subtype)
    except (soundfile.SoundFileError, TypeError) as error:
        pytest.skip(f"libsndfile does not write it: {error}")
    samples = read_audio(file.getvalue())
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.5, abs=0.07)  # codecs fill up a block
    assert pitch(samples[2_000:14_000]) == pytest.approx(440, abs=5)  # VOC rounds its rate
    assert pitch(samples[-12_000:-2_000]) == pytest.approx(880, abs=9)


@pytest.mark.parametrize(("kind", "codec"), [("wav", "libmp3lame"), ("voc", "pcm_s16le")])
def test_blocks_in_wav_and_voc_are_neither_called_truncated_nor_heard(kind, codec):
    data, _ = media(kind, codec, SAMPLE_RATE)
    told = []
    samples = read_audio(data, warn=told.append)
    assert told == []
    assert np.abs(samples[: SAMPLE_RATE // 20]).max() < 0.02  # a head of a block is a click


@pytest.mark.parametrize(
    ("codec", "how", "seconds"),
    [
        ("libopus", {"late": 2.0, "picture": "mpeg4"}, pytest.approx(5.1, abs=0.03)),
        # its packets, half a second each, do not state how long they last
        ("wavpack", {}, pytest.approx(3.5, abs=0.5)),
    ],
)
def test_an_intact_file_whose_sound_seems_to_end_early_is_not_called_truncated(codec, how, seconds):
    told = []
    data, _ = media("matroska", codec, 48_000, **how)
    assert len(read_audio(data, warn=told.append)) / SAMPLE_RATE == seconds
    assert not told
    read_audio(data[: len(data) * 6 // 10], warn=told.append)
    assert any("truncated" in line for line in told)


@pytest.mark.parametrize("picture", [None, "mpeg4"])
@pytest.mark.parametrize(
    ("kind", "codec"),
    [("matroska", "aac"), ("mp4", "aac"), ("mov", "aac"), ("nut", "pcm_s16le"), ("asf", "wmav2")],
)
def test_an_intact_file_whose_clock_begins_late_is_not_called_truncated(kind, codec, picture):
    told = []
    data, wanted = media(kind, codec, 48_000, late=2.5, picture=picture)
    samples = read_audio(data, warn=told.append)
    assert tones_begin(samples) == pytest.approx(wanted, abs=NEAR)
    assert not told


@pytest.mark.parametrize("codec", ["pcm_s16le", "libmp3lame", "ac3"])
def test_an_avi_whose_sound_begins_late(codec):
    data, wanted = media("avi", codec, 48_000, picture="mpeg4")
    track = data.index(b"auds") + 20  # where the track's header has the ticks of a second
    ticks, per_second = struct.unpack("<II", data[track : track + 8])
    late = 3 * per_second // ticks
    moved = data[: track + 8] + struct.pack("<I", late) + data[track + 12 :]
    seconds = late * ticks / per_second
    found = tones_begin(read_audio(moved))
    before = tones_begin(read_audio(data))
    assert found == pytest.approx([one + seconds for one in before], abs=NEAR)
    assert found[1] == pytest.approx(wanted[1] + 3.0, abs=0.1)


def test_a_gap_of_days_takes_no_memory_and_is_said():
    data, _ = media("matroska", "pcm_s16le", SAMPLE_RATE, gap=90_000.0)
    told = []
    samples = read_audio(data, warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(3.1, abs=0.1)
    assert any("its clock jumps 1 time;" in line for line in told)


def test_playlists_lead_nowhere(tmp_path):
    secret = written(tmp_path / "secret.wav", tone())
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {secret}\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={secret}\n",
    ):
        for data in (text.encode(), text.encode() + bytes(5000)):
            refused(data)
            (tmp_path / "list.m3u8").write_bytes(data)
            refused(tmp_path / "list.m3u8")


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "amr", "asf", "flv", "adts", "ac3"])
def test_without_the_extra_the_format_is_named(monkeypatch, kind):
    codec, rate = {
        "amr": ("libopencore_amrnb", 8_000),
        "asf": ("wmav2", 44_100),
        "ac3": ("ac3", 48_000),
    }.get(kind, ("aac", 44_100))
    data, _ = media(kind, codec, rate)
    monkeypatch.setitem(sys.modules, "av", None)
    told = refused(data, to_install("video"))
    assert "does not read" not in told  # it has a name


def test_names_that_are_no_utf8(tmp_path):
    folder = bytes(tmp_path)
    try:
        for name in (b"\xe9t\xe9.wav", b"\xff.mp4"):
            with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123 - a name in bytes
                kind = ("wav", "pcm_s16le") if b"wav" in name else ("mp4", "aac")
                file.write(media(*kind, 44_100)[0])
    except OSError as error:
        pytest.skip(f"this file system takes no such names: {error}")
    for path in sorted(tmp_path.iterdir()):
        assert len(read_audio(path)) >= 2 * SAMPLE_RATE
        assert audio_info(path).duration >= 2


@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts", "flv", "asf", "adts", "ogg", "avi"])
def test_damaged_files_give_sound_or_one_error(kind):
    codec = {"asf": "wmav2", "ogg": "libopus", "avi": "mp2"}.get(kind, "aac")
    whole, _ = media(kind, codec, 48_000 if codec == "libopus" else 44_100)
    rng = np.random.default_rng(5)
    for _ in range(12):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 40)):
            data[place] = rng.integers(0, 256)
        data = bytes(data[: rng.integers(len(data) // 3, len(data))])
        with suppress(AudioError):
            blocks = list(read_blocks(data, warn=lambda line: None))
            assert all(np.isfinite(block).all() for block in blocks)
        with suppress(AudioError):
            assert len(read_audio(data, start=0.5, end=1.0, warn=lambda line: None)) <= 8_001


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("ipod", "aac", 44_100),
        ("webm", "libopus", 48_000),
        ("mpegts", "aac", 48_000),
        ("flv", "aac", 44_100),
        ("asf", "wmav2", 44_100),
        ("amr", "libopencore_amrnb", 8_000),
        ("adts", "aac", 44_100),
        ("ac3", "ac3", 48_000),
        ("caf", "pcm_s16be", 44_100),
        ("au", "pcm_s16be", 44_100),
        ("w64", "pcm_s16le", 44_100),
        ("voc", "pcm_s16le", 16_000),
        ("nut", "pcm_s16le", 16_000),
    ],
)
def test_the_server_takes_what_the_commands_take(kind, codec, rate):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    from multimodal_ser.serve.decode import decode_upload
    from multimodal_ser.serve.settings import Settings

    class Turn:
        spent = 0.0

        def __call__(self):
            pass

    data, _ = media(kind, codec, rate)
    sound = decode_upload(data, Settings(), Turn(), lambda: None).wave
    np.testing.assert_array_equal(sound, read_audio(data))
