"""Reading in blocks gives what reading at once gives, in memory that does not grow."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from made_sound import tone, written
from multimodal_ser.audio import read_audio, read_blocks
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError
from test_containers import container


def noise(seconds, rate=SAMPLE_RATE, channels=1):
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((round(seconds * rate), channels))).astype("f4")


def joined(source, **how):
    blocks = list(read_blocks(source, **how))
    assert all(block.dtype == np.float32 and len(block) for block in blocks)
    return np.concatenate(blocks), len(blocks)


def repeated(path, samples, rate, times):
    with soundfile.SoundFile(path, "w", rate, samples.shape[1]) as file:
        for _ in range(times):
            file.write(samples)


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("a.wav", 16_000, 1),
        ("a.wav", 8_000, 2),
        ("a.flac", 44_100, 2),
        ("a.ogg", 48_000, 1),
        ("a.mp3", 22_050, 2),
    ],
)
def test_files(tmp_path, name, rate, channels):
    # libsndfile's Vorbis writer crashes on a whole minute at once, so it is given less
    path = tmp_path / name
    repeated(path, noise(3, rate, channels), rate, 23)
    samples, count = joined(path)
    assert count >= 2
    np.testing.assert_array_equal(samples, read_audio(path))
    np.testing.assert_array_equal(joined(io.BytesIO(path.read_bytes()))[0], samples)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.webm", "libopus"), ("a.avi", "mp2")]
)
def test_containers(tmp_path, name, codec):
    path = container(tmp_path / name, tone(35, 48_000), codec=codec)
    samples, count = joined(path)
    assert count == 2
    np.testing.assert_array_equal(samples, read_audio(path))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_arrays(rate):
    array = noise(75, rate, 2)
    samples, count = joined(array, sample_rate=rate)
    assert count in (2, 3)  # the resampler holds some samples back
    np.testing.assert_array_equal(samples, read_audio(array, sample_rate=rate))


def test_what_is_no_sound_is_refused_as_elsewhere(tmp_path):
    (tmp_path / "a.wav").write_text("not sound")
    bad = noise(1)[:, 0]
    bad[5] = np.nan
    for source, how in (
        (tmp_path / "a.wav", {}),
        (tmp_path / "missing.wav", {}),
        (bad, {"sample_rate": 16_000}),
        (bad[:0], {"sample_rate": 16_000}),
        (bad, {}),
        (noise(1), {"sample_rate": 10}),
    ):
        with pytest.raises(AudioError) as whole:
            read_audio(source, **how)
        with pytest.raises(AudioError) as blocks:
            list(read_blocks(source, **how))
        assert str(blocks.value) == str(whole.value)


def test_a_recording_cut_short_says_so_after_its_last_block(tmp_path):
    path = written(tmp_path / "a.flac", noise(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    told = []
    blocks = read_blocks(path, warn=told.append)
    assert len(next(blocks)) >= 30 * SAMPLE_RATE
    assert not told
    assert sum(map(len, blocks)) > 0
    assert any("truncated" in line for line in told)


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = written(tmp_path / "a.wav", noise(300, 8_000), 8_000)
    tracemalloc.start()
    for _ in read_blocks(path):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20  # the whole would be 19 MB
