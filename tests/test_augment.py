"""Augmentation does what its names say, and the same for the same seed."""

import numpy as np
import pytest

from multimodal_ser.audio import augment

RATE = 16_000
TIME = np.arange(RATE) / RATE


def tone(hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def power(wave: np.ndarray) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64)))


@pytest.mark.parametrize("snr", [20.0, 5.0])
def test_noise_has_the_ratio_asked_for(snr):
    clean = tone(440)
    added = augment.noisy(clean, snr, np.random.default_rng(0)) - clean
    assert 10 * np.log10(power(clean) / power(added)) == pytest.approx(snr, abs=0.1)


def test_a_band_keeps_what_lies_in_it():
    wave = tone(100) + tone(1_000) + tone(6_000)
    kept = augment.band_limited(wave, 300, 3_400)
    np.testing.assert_allclose(kept, tone(1_000), atol=1e-4)


def test_reverberation_follows_the_direct_sound():
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    heard = augment.reverberated(click, 0.4, np.random.default_rng(0))
    assert len(heard) == RATE
    assert heard[100] == pytest.approx(1, abs=1e-5)
    assert np.abs(heard[:100]).max() < 1e-5
    early, late = power(heard[200:2_200]), power(heard[4_500:6_500])
    assert 0 < late < early / 50


def test_faster_speech_is_shorter_and_higher():
    fast = augment.speed(tone(1_000), 1.1)
    assert len(fast) == pytest.approx(RATE / 1.1, abs=2)
    peak = np.argmax(np.abs(np.fft.rfft(fast))) * RATE / len(fast)
    assert peak == pytest.approx(1_100, abs=5)


def test_a_seed_gives_the_same_recording_and_silence_stays_silent():
    draws = [augment.augmented(tone(440), np.random.default_rng(k)) for k in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert draws[2].shape != draws[0].shape or not np.array_equal(draws[0], draws[2])
    for seed in range(20):
        wave = augment.augmented(np.zeros(RATE, np.float32), np.random.default_rng(seed))
        assert wave.dtype == np.float32
        assert not wave.any()


def test_a_microphone_changes_the_spectrum_smoothly_and_keeps_the_time():
    click = np.zeros(RATE, np.float32)
    click[8_000] = 1
    changed = augment.equalised(click, np.random.default_rng(0))
    gain = 20 * np.log10(np.abs(np.fft.rfft(changed)))
    assert 3 < np.ptp(gain[100:]) < 60
    assert np.abs(np.diff(gain[1_000:])).max() < 0.1
    assert np.abs(changed).argmax() == 8_000


def test_compression_lessens_differences_of_loudness():
    wave = tone(440) * np.linspace(0.1, 1, RATE, dtype=np.float32)
    changed = augment.compressed(wave, 0.6)
    ratio = [power(w[-2_000:]) / power(w[:2_000]) for w in (wave, changed)]
    assert ratio[1] < 0.5 * ratio[0]
    assert np.abs(changed).max() == pytest.approx(np.abs(wave).max())


def test_silence_and_pieces():
    rng = np.random.default_rng(0)
    wave = tone(440)
    for _ in range(10):
        wide = augment.with_silence(wave, rng)
        assert RATE <= len(wide) <= 5 * RATE
        assert power(wide) * len(wide) == pytest.approx(power(wave) * RATE, rel=0.01)
    assert len(augment.cropped(wave, 0.25, rng)) == RATE // 4
    assert len(augment.cropped(wave, 2, rng)) == RATE


def test_a_telephone_loses_what_lies_above_its_band():
    lost = augment.telephone(tone(6_000))
    kept = augment.telephone(tone(1_000))
    assert power(lost) < 1e-4 * power(kept)


def test_a_rebuilt_recording_keeps_its_spectrum_but_not_its_phase():
    wave = tone(440) + 0.3 * tone(2_000)
    made = augment.rebuilt(wave, np.random.default_rng(0))
    assert made.shape == wave.shape
    peaks = np.argsort(np.abs(np.fft.rfft(made)))[-1]
    assert abs(peaks - 440) <= 5
    assert power(made) == pytest.approx(power(wave), rel=0.5)


@pytest.mark.parametrize("kind", ["mp3", "opus"])
def test_a_codec_keeps_the_audible_signal(kind):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    heard = augment.coded(tone(440), kind, 32_000)
    assert abs(len(heard) - RATE) < 3_000
    assert power(heard[:RATE]) == pytest.approx(power(tone(440)), rel=0.2)
    assert abs(np.abs(np.fft.rfft(heard[:RATE])).argmax() - 440) <= 1
