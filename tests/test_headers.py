"""Wrong headers: joined recordings, crashed recorders, lengths that are missing."""

import io
import re
import struct
import sys
from itertools import islice, pairwise, zip_longest

import numpy as np
import pytest
import soundfile

from made_media import av, ffmpeg_seconds, media, tones_begin
from made_sound import pitch, refused, tone
from multimodal_ser.audio import audio_info, read_audio, read_blocks
from multimodal_ser.audio.check import check
from multimodal_ser.audio.container import Container
from multimodal_ser.audio.framing import _frames
from multimodal_ser.audio.sndfile import Sndfile
from multimodal_ser.audio.sound import other_channels
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora.utterance import Utterance

NEAR = 0.02  # seconds


def two(kind, subtype=None, rates=(SAMPLE_RATE, SAMPLE_RATE), channels=(1, 1)):
    files = []
    for seconds, rate, count, hertz in (
        (1.9, rates[0], channels[0], 440.0),
        (3.9, rates[1], channels[1], 880.0),
    ):
        file = io.BytesIO()
        sound = np.repeat(tone(seconds, rate, hertz)[:, None], count, axis=1)
        soundfile.write(file, sound, rate, format=kind, subtype=subtype)
        files.append(file.getvalue())
    return files


CHAINS = {
    "vorbis": two("OGG", "VORBIS"),
    "opus": two("OGG", "OPUS"),
    "vorbis then opus": [two("OGG", "VORBIS")[0], two("OGG", "OPUS")[1]],
    "vorbis of two rates": two("OGG", "VORBIS", (SAMPLE_RATE, 44_100)),
    "vorbis, stereo and mono": two("OGG", "VORBIS", (44_100, 44_100), (2, 1)),
    "flac": two("FLAC"),
    "flac of two rates and widths": [two("FLAC")[0], two("FLAC", "PCM_24", (16_000, 48_000))[1]],
    "wav": two("WAV"),
    "wav then other wav": [two("WAV")[0], two("WAV", "FLOAT", (16_000, 8_000))[1]],
    "aiff": two("AIFF"),
    "au": two("AU"),
    "caf of two rates": two("CAF", "PCM_16", (SAMPLE_RATE, 44_100)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_recordings_one_after_another_in_a_file_are_all_read(tmp_path, name):
    path = tmp_path / "joined"
    path.write_bytes(b"".join(CHAINS[name]))
    told = []
    samples = read_audio(path, warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(5.8, abs=0.002)
    assert "holds 2 recordings one after another; all are read" in told[0]
    assert pitch(samples[2_000:28_000]) == pytest.approx(440, abs=2)
    assert pitch(samples[32_000:90_000]) == pytest.approx(880, abs=2)
    assert audio_info(path).duration == pytest.approx(5.8, abs=0.002)
    part = read_audio(path.read_bytes(), start=1.4, end=2.4)
    assert tones_begin(part)[1] == pytest.approx(0.5, abs=NEAR)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path))), samples)
    if name in ("vorbis", "opus", "flac"):  # where FFmpeg manages it; its Vorbis keeps a block
        assert ffmpeg_seconds(path.read_bytes())[0] == pytest.approx(5.8, abs=0.065)


@pytest.mark.parametrize(
    ("rates", "options"),
    [
        ((44_100, 44_100), {}),
        ((16_000, 16_000), {}),
        ((16_000, 44_100), {}),
        ((44_100, 44_100), {"id3v2_version": "3"}),
        ((44_100, 44_100), {"write_xing": "0"}),
    ],
)
def test_joined_mp3_files_are_read_as_ffmpeg_plays_them(rates, options):
    options = {"id3v2_version": "0", **options}
    parts = [media("mp3", "libmp3lame", rate, **options)[0] for rate in rates]
    data = b"".join(parts)
    samples = read_audio(data)
    if rates[0] == rates[1]:
        assert len(samples) / SAMPLE_RATE == pytest.approx(ffmpeg_seconds(data)[0], abs=NEAR)
    # An encoder's delay and its tag are sound to a player, where they stand within the file.
    whole = sum(ffmpeg_seconds(part)[0] for part in parts)
    assert whole - 0.05 < len(samples) / SAMPLE_RATE < whole + 0.25


PLAIN = {"write_xing": "0", "id3v2_version": "0"}
MP3_TAG = b"TAG" + bytes(125)  # ends older files; it then stands in the middle
MP3_JOINS = [
    ([(44_100, PLAIN), (22_050, PLAIN)], b""),
    ([(22_050, PLAIN), (44_100, PLAIN)], b""),
    ([(44_100, PLAIN), (44_100, PLAIN), (16_000, {})], b""),
    ([(44_100, PLAIN), (22_050, PLAIN)], MP3_TAG),
    ([(44_100, {}), (44_100, {})], MP3_TAG),
    ([(44_100, {}), (44_100, {})], bytes(300)),
]


@pytest.mark.parametrize(("parts", "between"), MP3_JOINS)
def test_joined_mp3_files_of_other_rates_or_with_tags_between(parts, between):
    files = [media("mp3", "libmp3lame", rate, **options)[0] for rate, options in parts]
    whole = sum(ffmpeg_seconds(one)[0] for one in files)
    samples = read_audio(between.join(files), warn=lambda line: None)
    assert whole - 0.05 < len(samples) / SAMPLE_RATE < whole + 0.15 * len(files)
    assert pitch(samples[-24_000:-8_000]) == pytest.approx(880, abs=4)


def test_an_mp3_that_becomes_stereo():
    files = two("MP3", "MPEG_LAYER_III", (44_100, 44_100), (1, 2))
    assert len(read_audio(b"".join(files))) / SAMPLE_RATE == pytest.approx(5.8, abs=0.2)


def varied_mp3():
    """Noise that becomes quiet, in frames of many bit rates, the first of them with a tag."""
    sound = np.random.default_rng(0).normal(0, 1, 12 * SAMPLE_RATE) * np.geomspace(
        0.1, 1e-4, 12 * SAMPLE_RATE
    )
    vary = {"bitrate_mode": "VARIABLE", "compression_level": 0.9}
    soundfile.write(file := io.BytesIO(), sound, SAMPLE_RATE, format="MP3", **vary)
    return file.getvalue()


@pytest.mark.parametrize("tag", ["absent", "blank", "without a number", "number 0"])
@pytest.mark.parametrize("inside", ["mp3", "wav"])
def test_mp3_of_varying_bit_rate_that_does_not_state_its_length_is_read_whole(inside, tag):
    data = varied_mp3()
    _, second = islice(_frames(data), 2)
    at = data.index(b"Xing")
    assert at < second.at, "the tag is in the first frame"
    data = {
        "absent": data[second.at :],
        "blank": data[:at] + bytes(second.at - at) + data[second.at :],
        "without a number": data[: at + 4] + bytes(4) + data[at + 8 :],
        "number 0": data[: at + 8] + bytes(4) + data[at + 12 :],
    }[tag]
    if inside == "wav":
        kind = struct.pack(
            "<HHIIHHHHIHHH", 0x55, 1, SAMPLE_RATE, 4000, 1, 0, 12, 1, 2, 288, 1, 1393
        )
        body = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind
        body += b"data" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
        data = b"RIFF" + struct.pack("<I", len(body)) + body
    told = []
    assert len(read_audio(data, warn=told.append)) / SAMPLE_RATE == pytest.approx(12.0, abs=0.2)
    assert audio_info(data).duration == pytest.approx(12.0, abs=0.2)
    assert not told


@pytest.mark.parametrize("kind", ["OGG", "FLAC", "MP3"])
def test_channels_are_kept_apart_also_where_their_number_changes(kind):
    """Two channels, then one, then two: three recordings in a file, or frames of one mp3."""
    rate = 44_100
    left, right = tone(1.9, rate, 440.0), tone(1.9, rate, 660.0)
    parts = (
        np.stack([left, right], 1),
        tone(1.9, rate, 880.0)[:, None],
        np.stack([right, left], 1),
    )
    files = []
    for part in parts:
        soundfile.write(file := io.BytesIO(), part, rate, format=kind)
        files.append(file.getvalue())
    told = []
    both = np.concatenate(list(read_blocks(b"".join(files), mixed=False, warn=told.append)))
    assert both.shape == (len(read_audio(b"".join(files), warn=None)), 2)
    assert told.count("<bytes>: " + other_channels(2, 1)) == 1
    third = len(both) // 3
    heard = [
        [round(pitch(both[n * third + 6_000 : (n + 1) * third - 6_000, k]) / 220) for k in (0, 1)]
        for n in range(3)
    ]
    assert heard == [[2, 3], [4, 4], [3, 2]]


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "aac"), ("mov", "pcm_s16le"), ("3gp", "aac"), ("flv", "aac"), ("wv", "wavpack"),
     ("tta", "tta"), ("avi", "pcm_s16le"), ("matroska", "aac"), ("asf", "wmav2"),
     ("w64", "pcm_s16le"), ("amr", "libopencore_amrnb")],
)  # fmt: skip
def test_joined_containers(kind, codec):
    one = media(kind, codec, 8_000 if kind == "amr" else 44_100)[0]
    alone, told = len(read_audio(one)), []
    both = read_audio(one + one, warn=told.append)
    assert len(both) == pytest.approx(2 * alone, abs=3)
    assert "holds 2 recordings one after another; all are read" in told[0]


def test_ogg_of_flac_and_three_links_and_a_broken_link():
    flac = [media("ogg", "flac", rate)[0] for rate in (16_000, 44_100)]
    each = [len(read_audio(one)) for one in flac]
    assert len(read_audio(b"".join(flac))) == pytest.approx(sum(each), abs=2)
    a, b = CHAINS["opus"]
    assert len(read_audio(a + b + a)) / SAMPLE_RATE == pytest.approx(7.7, abs=0.002)
    told = []
    samples = read_audio(a + b[:60] + bytes(500), warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(1.9, abs=0.002)
    assert any("recording 2 in it cannot be read" in line for line in told)


def header(riff, data, *, before=b"", after=b"", kind=b"RIFF", sound=None):
    sound = (tone(2.0) * 32767).astype("<i2").tobytes() if sound is None else sound
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    body = b"WAVE" + fmt + before + b"data" + struct.pack("<I", data) + sound + after
    return kind + struct.pack("<I", len(body) if riff is None else riff) + body


BYTES = 2 * 2 * SAMPLE_RATE
LIST = b"LIST" + struct.pack("<I", 5) + b"INFO\x01\0"  # an odd chunk and its padding
DS64 = b"ds64" + struct.pack("<IQQQI", 28, 36 + 36 + BYTES, BYTES, BYTES // 2, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(None, BYTES), ""),
        (header(36, 0), "states no length"),
        (header(0, 0), "states no length"),
        (header(None, 0), "states no length"),
        (header(0, BYTES), ""),
        (header(0xFFFFFFFF, 0xFFFFFFFF), ""),
        (header(0xFFFFFFFF, 0x7FFFF000), ""),
        (header(None, 3 * BYTES), "truncated"),
        (header(9 * BYTES, 3 * BYTES), "truncated"),
        (header(0, 0, before=LIST), "states no length"),
        (header(None, BYTES, before=LIST, after=LIST), ""),
        (header(36, BYTES, after=LIST), ""),
        (header(None, BYTES, after=b"ID3\4" + bytes(9000)), ""),
        (header(None, BYTES, after=bytes(9000)), ""),
    ],
)
def test_wav_headers_that_are_wrong(data, said):
    told = []
    samples = read_audio(data, warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.001)
    assert pitch(samples) == pytest.approx(440, abs=1)
    assert len(samples) / SAMPLE_RATE == pytest.approx(ffmpeg_seconds(data)[0], abs=NEAR)
    assert len(told) == bool(said)
    assert said in "".join(told)


SIZES = {  # format → name of the sound's chunk, offset, bytes and order of its size
    "WAV": (b"data", 4, 4, "little"),
    "AIFF": (b"SSND", 4, 4, "big"),
    "AU": (b".snd", 8, 4, "big"),
    "CAF": (b"data", 4, 8, "big"),
    "RF64": (b"ds64", 16, 8, "little"),
    "W64": (b"data", 16, 8, "little"),
}


@pytest.mark.parametrize("stated", [0, 24, 20_000])
@pytest.mark.parametrize("kind", SIZES)
def test_a_header_that_states_less_sound_than_follows(kind, stated):
    file = io.BytesIO()
    soundfile.write(file, tone(2.0), SAMPLE_RATE, "PCM_16", format=kind)
    data, (chunk, offset, size, order) = bytearray(file.getvalue()), SIZES[kind]
    at = data.index(chunk) + offset
    data[at : at + size] = stated.to_bytes(size, order)
    told = []
    assert len(read_audio(bytes(data), warn=told.append)) == 2 * SAMPLE_RATE
    if kind != "W64":  # libsndfile reads it to its end by itself
        assert ("no length" if stated == 0 else f"only {stated} bytes") in told[0]
    assert audio_info(bytes(data)).duration == 2.0


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_of_an_ogg_file_that_are_left_out_are_told(subtype):
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * SAMPLE_RATE)
    soundfile.write(file, noise, SAMPLE_RATE, format="OGG", subtype=subtype)
    whole, told = file.getvalue(), []
    read_audio(whole, warn=told.append)
    assert told == []
    at = whole.index(b"OggS", len(whole) // 3)
    after = whole.index(b"OggS", at + 4)
    damaged = bytearray(whole)
    damaged[at + 200 : at + 220] = bytes(20)
    for data in (bytes(damaged), whole[:at] + whole[after:]):
        told = []
        assert 0 < len(read_audio(data, warn=told.append)) <= len(noise)
        assert "skips 1 damaged or missing page" in told[0]


def test_several_chunks_of_sound_are_all_read():
    half = (tone(1.0) * 32767).astype("<i2").tobytes()
    other = (
        b"data"
        + struct.pack("<I", BYTES // 2)
        + (tone(1.0, hertz=880) * 32767).astype("<i2").tobytes()
    )
    for between in (b"", LIST):
        told = []
        samples = read_audio(
            header(None, BYTES // 2, sound=half, after=between + other), warn=told.append
        )
        assert len(samples) == 2 * SAMPLE_RATE
        assert pitch(samples[1_000:15_000]) == pytest.approx(440, abs=2)
        assert pitch(samples[17_000:]) == pytest.approx(880, abs=2)
        assert "holds 2 recordings" in told[0]


def aiff(before):
    """An AIFF file with this chunk in front of its sound."""
    made = io.BytesIO()
    soundfile.write(made, tone(2.0), SAMPLE_RATE, format="AIFF")
    return made.getvalue().replace(b"SSND", before + b"SSND", 1)


EMPTY = b"data" + bytes(4)
FMT = header(None, 0, sound=b"")[12:36]
FIRST, SECOND = ((tone(1.0) * 32767).astype("<i2").tobytes() for _ in "ab")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(None, BYTES, before=EMPTY), ""),
        (header(None, BYTES, before=EMPTY + EMPTY + LIST), ""),
        (header(None, BYTES, before=EMPTY + FMT), ""),
        (header(None, BYTES, before=EMPTY + bytes(2004)), ""),
        (header(None, BYTES).replace(b"data", b"DATA"), ""),
        (header(None, BYTES, before=EMPTY + bytes(20)).replace(b"data", b"DATA"), ""),
        (header(None, 0, before=EMPTY), "states no length"),
        (header(None, BYTES, before=LIST[:-1]), ""),  # its padding is left out
        (header(None, BYTES, before=LIST + LIST[:-1] + LIST), ""),
        (header(None, 0, before=LIST[:-1]), "states no length"),
        (aiff(b"NAME" + struct.pack(">I", 5) + b"call1"), ""),
        (header(None, BYTES, after=EMPTY), ""),
        (header(None, BYTES, after=LIST + EMPTY), ""),
        (header(None, BYTES // 2, sound=FIRST, after=EMPTY + SECOND), "states no length"),
        (header(None, BYTES // 2, sound=FIRST, after=b"data\xff\xff\xff\xff" + SECOND), "holds 2"),
    ],
)
def test_chunks_of_sound_without_sound_or_length(data, said):
    told = []
    samples = read_audio(data, warn=told.append)
    assert len(samples) == 2 * SAMPLE_RATE
    assert np.abs(samples[:15_900] - tone(2.0)[:15_900]).max() < 1e-3
    assert np.array_equal(samples, np.concatenate(list(read_blocks(data, warn=None))))
    assert said in "".join(told)
    assert bool(said) == bool(told)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_streams_of_unknown_length_one_after_another(size):
    one = header(size, size, sound=FIRST)
    told = []
    samples = read_audio(one + one + one, warn=told.append)
    assert len(samples) == 3 * SAMPLE_RATE
    assert np.abs(samples[SAMPLE_RATE:] - np.tile(samples[:SAMPLE_RATE], 2)).max() == 0
    assert "holds 3 recordings" in told[0]


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [("ipod", "aac", 44_100), ("wv", "wavpack", 16_000), ("amr", "libopencore_amrnb", 8_000),
     ("adts", "aac", 44_100)],
)  # fmt: skip
def test_cover_art_in_front_of_what_ffmpeg_reads(kind, codec, rate):
    plain, _ = media(kind, codec, rate)
    tagged = b"ID3\4\0\0\0\0\7\x68" + bytes(1_000) + plain
    np.testing.assert_array_equal(read_audio(tagged), read_audio(plain))


@pytest.mark.parametrize("footer", [False, True])
@pytest.mark.parametrize("kind", ["WAV", "RF64", "FLAC", "MP3", "OGG", "AIFF", "AU", "CAF"])
def test_cover_art_in_front_of_any_format_takes_no_sound(tmp_path, kind, footer):
    file = io.BytesIO()
    soundfile.write(file, tone(2.0), SAMPLE_RATE, format=kind)
    tag = b"\4\0\x10" if footer else b"\4\0\0"
    tag += bytes([0, 1, 1, 1])  # 16513 bytes, in 7 bits each
    picture = np.random.default_rng(0).bytes(16_513)
    data = b"ID3" + tag + picture + (b"3DI" + tag) * footer + file.getvalue()
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    told = []
    wanted = read_audio(file.getvalue())
    for source in (data, path):  # FFmpeg's mp3 decoder rounds otherwise than libsndfile's
        np.testing.assert_allclose(read_audio(source, warn=told.append), wanted, atol=1e-5)
    assert told == []


TAG = b"ID3\4\0\0\0\0\7\x68" + bytes(1_000)
AROUND_MP3 = {
    "nothing": (b"", b""),
    "a tag with a footer": (
        b"ID3\4\0\x10\0\0\7\x68" + bytes(1_000) + b"3DI\4\0\x10\0\0\7\x68",
        b"",
    ),
    "two tags": (TAG + TAG, b""),
    "a tag and padding": (TAG + bytes(5_000), b""),
    "a tag that states less than it has": (TAG + b"x" * 500, b""),
    "an APE tag": (b"APETAGEX" + bytes(400), b""),
    "the end of something else": (np.random.default_rng(0).bytes(5_000), b""),
    "tags at its end": (b"", b"APETAGEX" + bytes(400) + b"TAG" + bytes(125)),
}


@pytest.mark.parametrize("around", AROUND_MP3)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_needs_no_extra_whatever_is_around_its_sound(rate, around, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    soundfile.write(file := io.BytesIO(), tone(2.0, rate), rate, format="MP3")
    before, after = AROUND_MP3[around]
    path = tmp_path / "a.bin"
    path.write_bytes(before + file.getvalue() + after)
    told = []
    for source in (path, path.read_bytes()):
        samples = read_audio(source, warn=told.append)
        assert len(samples) == 2 * SAMPLE_RATE
        np.testing.assert_allclose(samples[2_000:-2_000], tone(2.0)[2_000:-2_000], atol=0.05)
    assert told == []


def test_an_mp3_without_its_end_is_told():
    soundfile.write(file := io.BytesIO(), tone(4.0), SAMPLE_RATE, format="MP3")
    told = []
    samples = read_audio(file.getvalue()[: len(file.getvalue()) // 2], warn=told.append)
    assert 1.8 < len(samples) / SAMPLE_RATE < 2.2
    assert "claims 64000 samples" in told[0]


@pytest.mark.parametrize(("stated", "said"), [(SAMPLE_RATE, True), (0, False)])
def test_a_wav_whose_bytes_per_second_are_not_those_of_its_rate(stated, said):
    data, told = bytearray(header(None, BYTES)), []
    data[28:32] = struct.pack("<I", stated)
    assert len(read_audio(bytes(data), warn=told.append)) == 2 * SAMPLE_RATE
    assert [("contradicts itself: 16000 Hz are 32000" in line) for line in told] == [True] * said


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_sphere_files_state_their_samples(keep):
    file, told = io.BytesIO(), []
    soundfile.write(file, tone(2.0), SAMPLE_RATE, "PCM_16", format="NIST")
    data = file.getvalue()[: 1024 + round(keep * BYTES)]
    assert len(read_audio(data, warn=told.append)) == keep * 2 * SAMPLE_RATE
    assert [("claims 32000 samples, it holds 16000" in line) for line in told] == [True] * (
        keep < 1
    )


def test_rf64_and_a_wav_that_is_really_empty():
    rf64 = header(0xFFFFFFFF, 0xFFFFFFFF, before=b"", kind=b"RF64")
    rf64 = rf64[:12] + DS64 + rf64[12:]
    assert len(read_audio(rf64)) == 2 * SAMPLE_RATE
    refused(header(None, 0, sound=b"", after=LIST), "0 samples")
    refused(header(None, 0, sound=b""), "0 samples")


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
def test_rf64_and_bw64_without_their_end_or_length_are_told(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    whole = header(0xFFFFFFFF, 0xFFFFFFFF, kind=kind)
    whole, told = whole[:12] + DS64 + whole[12:], []
    assert len(read_audio(whole, warn=told.append)) == 2 * SAMPLE_RATE
    assert not told
    assert len(read_audio(whole[: -BYTES // 2], warn=told.append)) == SAMPLE_RATE
    crashed = whole.replace(struct.pack("<Q", BYTES), bytes(8))
    assert len(read_audio(crashed, warn=told.append)) == 2 * SAMPLE_RATE
    assert [f"claims {BYTES} bytes" in told[0], "states no length" in told[1]] == [True, True]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_of_several_streams_in_an_ogg_file_the_first_is_read_and_that_is_said(subtype):
    pages = []
    for data in two("OGG", subtype):
        starts = [match.start() for match in re.finditer(b"OggS", data)]
        pages.append([data[a:b] for a, b in pairwise([*starts, len(data)])])
    order = [page for one in zip_longest(*pages, fillvalue=b"") for page in one]
    told = []
    samples = read_audio(b"".join(order), warn=told.append)
    assert len(samples) / SAMPLE_RATE == pytest.approx(1.9, abs=NEAR)
    assert pitch(samples) == pytest.approx(440, abs=2)
    (line,) = told
    assert "has 2 sound tracks; only track 1 is read" in line


def test_a_flac_with_a_tag_of_mp3_at_its_end_is_not_called_damaged():
    soundfile.write(file := io.BytesIO(), tone(2.0), SAMPLE_RATE, format="FLAC")
    told = []
    np.testing.assert_array_equal(
        read_audio(file.getvalue() + MP3_TAG, warn=told.append), read_audio(file.getvalue())
    )
    assert not told


def test_a_flac_whose_header_states_too_little():
    file = io.BytesIO()
    soundfile.write(file, tone(9.0), SAMPLE_RATE, format="FLAC")
    flac = bytearray(file.getvalue())
    flac[22:26] = struct.pack(">I", SAMPLE_RATE)
    told = []
    assert len(read_audio(bytes(flac), warn=told.append)) == 9 * SAMPLE_RATE
    assert "claims 16000 samples, it holds 144000" in told[0]
    assert len(read_audio(bytes(flac), start=8.0)) == SAMPLE_RATE


def test_what_follows_a_damaged_frame_of_flac_keeps_its_time():
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * SAMPLE_RATE)
    soundfile.write(file, noise, SAMPLE_RATE, format="FLAC")
    flac, told = bytearray(file.getvalue()), []
    flac[len(flac) // 2] ^= 1
    samples = read_audio(bytes(flac), warn=told.append)
    assert len(samples) == len(noise)
    np.testing.assert_allclose(samples[-20_000:], noise[-20_000:], atol=1e-4)
    assert "damaged" in told[0]


def test_a_reader_that_stops_after_a_damaged_frame_leaves_no_file_open(monkeypatch):
    av()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * SAMPLE_RATE)
    soundfile.write(file := io.BytesIO(), noise, SAMPLE_RATE, format="FLAC")
    flac, made = bytearray(file.getvalue()), []
    flac[len(flac) // 2] ^= 1

    class Told(Container):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

        def close(self):
            super().close()
            self.closed = True

    monkeypatch.setattr("multimodal_ser.audio.sndfile.Container", Told)
    blocks = Sndfile("noise", io.BytesIO(bytes(flac))).blocks()
    while not made:  # until the damaged frame, which FFmpeg skips
        next(blocks)
    made[0].closed = False
    blocks.close()  # as where `read_audio` has come to the end that it was given
    assert made[0].closed


def test_flac_recorded_from_the_middle_of_a_stream_begins_at_once():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8 * SAMPLE_RATE)
    soundfile.write(file := io.BytesIO(), noise, SAMPLE_RATE, format="FLAC")
    flac = file.getvalue()
    with av().open(io.BytesIO(flac)) as opened:
        places = [packet.pos for packet in opened.demux() if packet.size]
    cut = flac[: places[0]] + flac[places[10] :]
    samples = read_audio(cut, warn=None)
    np.testing.assert_allclose(samples, noise[-len(samples) :], atol=1e-4)
    assert len(noise) - len(samples) == 10 * 4_096
    np.testing.assert_array_equal(
        read_audio(cut, start=1, end=2, warn=None), samples[16_000:32_000]
    )


def test_check_names_what_headers_get_wrong(tmp_path):
    (tmp_path / "a.wav").write_bytes(header(36, 0))
    (tmp_path / "b.ogg").write_bytes(b"".join(CHAINS["opus"]))
    rows = [Utterance(f"x/{n}", "x", "anger", str(tmp_path / n)) for n in ("a.wav", "b.ogg")]
    found = [(f.id, f.problem) for f in check(rows)]
    assert found == [("x/a.wav", "length"), ("x/b.ogg", "length")]
