"""emotion2vec as an encoder: batches, windows, labels, checkpoints, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import made_emotion2vec as made
from made_emotion2vec import close, noise
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.emotion2vec import frame_times
from multimodal_ser.encoders.emotion2vec_net import AlibiAttention, alibi_slopes, frame_count
from multimodal_ser.encoders.int8 import Int8Linear
from multimodal_ser.errors import EncoderError

PLUS = "emotion2vec-plus-base"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("emotion2vec"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(PLUS, folder)


def test_frames_and_their_times(encoder):
    assert [frame_count(n) for n in (400, 719, 720, 16_000)] == [1, 1, 2, 49]
    frames = encoder([noise(16_000)])[0]
    assert frames.shape == (49, 32)
    times = frame_times(len(frames))
    np.testing.assert_allclose(np.diff(times), 1 / encoder.info.rate)
    assert times[0] == 200 / 16_000
    assert times[-1] <= 1 - 200 / 16_000


def test_a_frame_follows_the_sound_beneath_it(encoder):
    features = encoder.network.features
    wave = torch.from_numpy(noise(8_000))[None]
    other = wave.clone()
    other[0, 3_200:] = 0
    same = (features(wave) == features(other)).all(-1)[0]
    assert same.tolist() == [i * 320 + 400 <= 3_200 for i in range(frame_count(8_000))]


LENGTHS = st.lists(
    st.one_of(st.integers(400, 9_000), st.sampled_from([400, 719, 720, 5_000])),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.booleans(), st.integers(4_000, 40_000))
def test_batches_equal_single_items(encoder, lengths, padded, most):
    waves = [noise(length, seed) for seed, length in enumerate(lengths)]
    singles = [encoder([wave])[0] for wave in waves]
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["multimodal_ser.encoders.emotion2vec"]
        patch.setattr(module, "BATCH_SECONDS", most / 16_000)
        if padded:  # as on a GPU
            real = AlibiAttention.__init__
            patch.setattr(AlibiAttention, "__init__", lambda s, c, b, p: real(s, c, b, padded=True))
        batch = encoder(waves)
    for frames, single in zip(batch, singles, strict=True):
        close(frames, single)


def test_means_and_layers(folder, encoder):
    waves = [noise(n, n) for n in (400, 9_000, 5_000)]
    wanted = np.stack([frames.mean(0) for frames in encoder(waves)])
    close(encoder.means(waves), wanted)
    everything = load_encoder(PLUS, folder, layers=(1, 2, 3))
    assert (everything.info.layers, everything.info.dim) == ("1,2,3", 96)
    frames = everything(waves)[1]
    close(frames[:, 64:], encoder(waves)[1])
    first = load_encoder(PLUS, folder, layers=(1,))
    close(frames[:, :32], first(waves)[1])
    for a, b in zip(first.classify(waves), encoder.classify(waves), strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    with pytest.raises(EncoderError, match="allowed: all, or one or more of 1 to 3"):
        load_encoder(PLUS, folder, layers=(4,))


def test_windows_of_a_long_recording(encoder, monkeypatch):
    wave = noise(60 * 16_000)
    whole = 2_000
    assert encoder.whole == whole
    frames = encoder([wave, wave[:5_000]])
    assert frames[0].shape == (frame_count(len(wave)), 32)
    close(frames[1], encoder([wave[:5_000]])[0])
    close(encoder.means([wave]), frames[0].mean(0)[None])
    monkeypatch.setattr(encoder, "whole", 10_000)
    unwindowed = encoder([wave])[0]
    # The convolutions see the same samples; only attention sees less.
    similar = (frames[0] * unwindowed).sum(1)
    similar /= np.linalg.norm(frames[0], axis=1) * np.linalg.norm(unwindowed, axis=1)
    assert similar.min() > 0.99
    assert np.abs(frames[0].mean(0) - unwindowed.mean(0)).max() < 0.02


def test_every_window_is_normalised_by_the_whole_recording(encoder, monkeypatch):
    wave = noise(60 * 16_000)
    wave[32 * 16_000 :] *= 10
    monkeypatch.setattr(encoder, "whole", 10_000)
    at_once = encoder.states(encoder.inputs([wave]))[0].detach().numpy()
    close(encoder([wave])[0], at_once)
    monkeypatch.setattr(encoder, "whole", 2_000)
    similar = (encoder([wave])[0] * at_once).sum(1)
    assert (similar / (at_once**2).sum(1)).min() > 0.95


def test_a_recording_of_the_window_length_is_encoded_at_once(encoder, monkeypatch):
    wave = noise(1_999 * 320 + 400)
    assert frame_count(len(wave)) == encoder.whole
    at_once = encoder([wave])[0]
    monkeypatch.setattr(encoder, "whole", 10_000)
    np.testing.assert_array_equal(encoder([wave])[0], at_once)


def test_alibi(encoder):
    assert alibi_slopes(8).tolist() == [2.0**-k for k in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert alibi_slopes(12)[8:].tolist() == pytest.approx([2.0**-k for k in (0.5, 1.5, 2.5, 3.5)])
    bias = encoder.network.bias(5)
    assert bias.shape == (4, 15, 15)
    assert not bias[:, :10].any()
    assert not bias[:, :, :10].any()
    torch.testing.assert_close(bias[:, 10:, 10:], bias[:, 10:, 10:].mT)
    assert (bias <= 0).all()


def test_classes(folder, encoder, tmp_path):
    waves = [noise(5_000), noise(9_000, 1)]
    assert encoder.labels[0] == "angry"
    assert encoder.labels[-1] == "unknown"
    for row in encoder.classify(waves):
        assert list(row) == list(encoder.labels)
        assert sum(row.values()) == pytest.approx(1)
    tokens = ["生气/angry", "unuse_0", "开心/happy", "中立/neutral", "unuse_1", "<unk>"]
    rows = load_encoder(PLUS, made.folder(tmp_path, tokens=tokens)).classify(waves)
    assert [list(row) for row in rows] == 2 * [["angry", "happy", "neutral", "unknown"]]
    assert [sum(row.values()) for row in rows] == pytest.approx([1, 1])
    (tmp_path / "tokens.txt").write_text("a\nb\n")
    with pytest.raises(EncoderError, match="6 classes, but its labels are"):
        load_encoder(PLUS, tmp_path)
    (tmp_path / "tokens.txt").unlink()
    with pytest.raises(EncoderError, match=r"put a tokens\.txt beside the weights"):
        load_encoder(PLUS, tmp_path)
    nine = made.folder(tmp_path / "nine")
    (nine / "tokens.txt").unlink()
    assert load_encoder(PLUS, nine).labels == encoder.labels


def test_a_variant_is_loaded_by_its_own_name(folder, tmp_path):
    base = made.folder(tmp_path, "emotion2vec-base")
    encoder = load_encoder("emotion2vec-base", base)
    assert encoder.labels is None
    with pytest.raises(EncoderError, match="no head for classes; emotion2vec-plus-seed"):
        encoder.classify([noise(5_000)])
    with pytest.raises(EncoderError, match="has no head for classes; emotion2vec-base has none"):
        load_encoder("emotion2vec-plus-large", base)
    with pytest.raises(EncoderError, match="has a head for classes"):
        load_encoder("emotion2vec-base", folder)


@pytest.mark.parametrize("wave", [np.zeros(8_000), np.full(8_000, 0.3), 1e-9 * noise(8_000)])
def test_silence_has_frames_of_its_own(encoder, wave):
    frames = encoder([wave.astype(np.float32)])[0]
    assert np.isfinite(frames).all()
    assert np.abs(frames).max() > 0.1
    close(frames, encoder([np.zeros(8_000, np.float32)])[0], 1e-3)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (noise(399), "item 1 has 399 samples; it needs at least 400"),
        (np.zeros(0, np.float32), "item 1 has 0 samples"),
        (np.full(8_000, np.nan, np.float32), "item 1 holds NaN"),
        (np.full(8_000, np.inf, np.float32), "item 1 holds NaN or infinite"),
        (noise(8_000).reshape(2, -1), r"item 1 is float32 of shape \(2, 4000\)"),
        (np.zeros(8_000, np.int16), "item 1 is int16"),
        ("words", "item 1 is"),
    ],
)
def test_bad_waveforms(encoder, item, message):
    for call in (encoder, encoder.means, encoder.classify):
        with pytest.raises(EncoderError, match=message):
            call([noise(8_000), item])


def test_loudness_and_offset_do_not_matter_much_and_extremes_are_finite(encoder):
    wave = noise(8_000)
    close(encoder([wave * 3 + 0.5])[0], encoder([wave])[0], 2e-2)  # layer norm's epsilon
    assert np.isfinite(encoder([wave * np.float32(1e30)])[0]).all()


def test_frames_that_overflow_are_an_error(tmp_path):
    state = made.checkpoint()
    state["blocks.0.norm2.weight"] *= 1e38
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match="frames are not finite in float32"):
        load_encoder(PLUS, tmp_path)([noise(8_000)])


def test_types(folder, encoder):
    half = load_encoder(PLUS, folder, dtype="bfloat16")
    waves = [noise(n, n) for n in (400, 9_000, 30_000)]
    for a, b in zip(half.means(waves), encoder.means(waves), strict=True):
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.9999
    assert half([waves[0]])[0].dtype == np.float32
    assert sum(half.classify(waves)[0].values()) == pytest.approx(1)
    with pytest.raises(EncoderError, match="float16 is for GPUs"):
        load_encoder(PLUS, folder, dtype="float16")
    with pytest.raises(EncoderError, match="choose one of: float32, bfloat16, float16, int8"):
        load_encoder(PLUS, folder, dtype="int4")


def test_eight_bits(folder, encoder):
    small = load_encoder(PLUS, folder, dtype="int8")
    assert small.computes.startswith("int8 beside ")
    linears = [name for name, part in small.network.named_modules() if type(part) is nn.Linear]
    assert linears == ["feature_proj", "head"]
    waves = [noise(n, n) for n in (400, 9_000, 30_000)]
    for a, b in zip(small.means(waves), encoder.means(waves), strict=True):
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.998
    alone = small([waves[1]])[0]
    # What comes before differs by rounding, which may make another integer here and there.
    assert np.abs(small(waves)[1] - alone).max() < 0.05 * np.abs(alone).max()


def test_a_product_in_eight_bits_is_that_of_the_rounded_numbers():
    torch.manual_seed(0)
    linear = nn.Linear(48, 32)
    x = torch.randn(2, 20, 48) * torch.logspace(-3, 3, 20)[:, None]  # every row has its own scale
    found, wanted = Int8Linear(linear)(x), linear(x)
    assert found.shape == wanted.shape
    steps = x.abs().amax(-1, keepdim=True) * linear.weight.abs().amax(1) / 127
    error = (found - wanted).abs() / (steps * 48**0.5)
    assert error.max() < 3  # some standard deviations of the sum of 48 rounding errors
    assert Int8Linear(linear)(torch.zeros(3, 48)).equal(linear.bias.expand(3, -1))
    # what a row gives does not depend on the others, nor on how many share a product
    many = torch.randn(600, 48)
    with torch.inference_mode():
        alone = Int8Linear(linear)(many[-5:])
    assert Int8Linear(linear)(many)[-5:].equal(alone)


LONG = """
import sys
from pathlib import Path
import numpy as np
from multimodal_ser.encoders import load_encoder
encoder = load_encoder("emotion2vec-plus-base", sys.argv[1])
wave = np.random.default_rng(0).standard_normal(1200 * 16_000, dtype=np.float32)
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
assert encoder([wave])[0].shape == (59_999, 32)
print((peak() - before) / 2**10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_long_sound_needs_little_beside_itself_and_its_frames(folder):
    done = subprocess.run(
        [sys.executable, "-c", LONG, str(folder)], capture_output=True, check=True
    )
    # MiB; a second copy of the sound would be 73 more, the first layer of all of it 234
    assert float(done.stdout) < 200
