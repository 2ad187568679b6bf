"""Our Whisper encoder against transformers' own, and its reader of CTranslate2 files."""

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.encoders.whisper import (
    Whisper,
    WhisperEncoder,
    block_outputs,
    log_mel_tensor,
    mel_filters,
)
from multimodal_ser.errors import EncoderError

hf = pytest.importorskip("transformers")


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def our_log_mel(wave, mels=80):
    filters = torch.from_numpy(mel_filters(mels)).float()
    return log_mel_tensor(torch.from_numpy(wave), filters, torch.hann_window(400)).numpy()


@pytest.mark.parametrize("mels", [80, 128])
def test_mel_filters(mels):
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(mels), theirs, atol=1e-7)


def test_log_mel():
    wave = noise(30 * 16_000)
    wave[5 * 16_000 :] *= 1e-6  # quieter than 80 dB below the loudest bin
    theirs = hf.WhisperFeatureExtractor()(wave, sampling_rate=16_000)["input_features"][0]
    np.testing.assert_allclose(our_log_mel(wave), theirs, atol=1e-4)


def folder_of(model, path):
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """transformers' random Whisper, and our encoder read from its folder."""
    torch.manual_seed(0)
    config = hf.WhisperConfig(
        d_model=32, encoder_layers=3, encoder_attention_heads=4, encoder_ffn_dim=128,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=20,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = hf.WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    folder = folder_of(model, tmp_path_factory.mktemp("whisper"))
    return model.model.encoder, load_encoder("whisper-tiny", folder, layers=(1, 2, 3))


def test_network(pair):
    theirs, ours = pair
    wave = noise(30 * 16_000)
    mel = torch.from_numpy(our_log_mel(wave))[None]
    with torch.inference_mode():
        states = theirs(mel, output_hidden_states=True).hidden_states
    wanted = torch.cat([*states[1:3], states[3]], dim=-1)[0].numpy()
    got = ours([wave])[0]
    assert got.shape == wanted.shape == (1500, 96)
    np.testing.assert_allclose(got, wanted, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(400, 12_000), min_size=1, max_size=6))
def test_any_mix_of_lengths_equals_single_items(pair, lengths):
    encoder = pair[1]
    items = [noise(length, seed) for seed, length in enumerate(lengths)]
    for item, frames in zip(items, encoder(items), strict=True):
        assert frames.shape == ((len(item) // 160 + 1) // 2, 96)
        np.testing.assert_allclose(frames, encoder([item])[0], atol=2e-5)


def test_an_odd_number_of_mel_frames_is_heard_to_its_end():
    torch.manual_seed(0)
    network = WhisperEncoder(dim=16, heads=2, depth=2, steps=40).eval()
    mel = torch.randn(1, 80, 33)
    x = F.gelu(network.conv2(F.gelu(network.conv1(mel)))).transpose(1, 2)
    with torch.inference_mode():
        wanted = block_outputs(network.blocks, network.norm, x + network.positions[:17], None)
        torch.testing.assert_close(network(mel, torch.tensor([33])), wanted)


def test_the_mask_is_exact():
    """In double precision, where rounding hides nothing, padding leaves no trace."""
    net = network().double().eval()
    mels = [torch.randn(80, length).double() for length in (3, 40, 117, 200)]
    lengths = torch.tensor([mel.shape[1] for mel in mels])
    batch = torch.zeros(4, 80, 200).double()
    for row, mel in zip(batch, mels, strict=True):
        row[:, : mel.shape[1]] = mel
    with torch.inference_mode():
        for i, padded in enumerate(zip(*net(batch, lengths), strict=True)):
            alone = net(mels[i][None], lengths[i : i + 1])
            for got, wanted in zip(padded, alone, strict=True):
                steps = wanted.shape[1]
                torch.testing.assert_close(got[:steps], wanted[0], atol=1e-12, rtol=0)


def written(path, tensors, specification=b"WhisperSpec", count=None):
    """A CTranslate2 file of (name, array) pairs."""

    def string(text):
        return struct.pack("<H", len(text) + 1) + text + b"\0"

    codes = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    blob = struct.pack("<I", 6) + string(specification)
    blob += struct.pack("<II", 3, len(tensors) if count is None else count)
    for name, array in tensors:
        blob += string(name.encode()) + struct.pack("<B", array.ndim)
        blob += struct.pack(f"<{array.ndim}I", *array.shape)
        blob += struct.pack("<BI", codes[str(array.dtype)], array.nbytes) + array.tobytes()
    path.mkdir(exist_ok=True)
    (path / "model.bin").write_bytes(blob + struct.pack("<I", 0))
    return path


def ctranslate2(network, dtype=np.float16):
    """Our network's tensors by CTranslate2's names."""
    parts = {
        "norm1": "self_attention/layer_norm", "qkv": "self_attention/linear_0",
        "out": "self_attention/linear_1", "norm2": "ffn/layer_norm", "up": "ffn/linear_0",
        "down": "ffn/linear_1",
    }  # fmt: skip
    yield "decoder/embeddings/weight", np.zeros((7, 3), np.int8)
    yield "encoder/num_heads", np.array(2, np.int16)
    for key, value in network.state_dict().items():
        names = key.split(".")
        if names[0] == "blocks":
            names = [f"layer_{names[1]}", parts[names[2]], names[3]]
        if "norm" in key:
            names[-1] = {"weight": "gamma", "bias": "beta"}[names[-1]]
        name = "/".join(names).replace("positions", "position_encodings/encodings")
        name = name.replace("norm/", "layer_norm/") if names[0] == "norm" else name
        yield f"encoder/{name}", value.numpy().astype(dtype)


def network():
    torch.manual_seed(0)
    made = WhisperEncoder(dim=8, heads=2, depth=4, steps=100)
    torch.nn.init.normal_(made.positions)
    return made


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_ctranslate2_file(tmp_path, dtype):
    made = network()
    encoder = load_encoder("whisper-tiny", written(tmp_path, list(ctranslate2(made, dtype))))
    assert encoder.info.dim == 24
    rounded = {
        k: v.to(torch.from_numpy(np.zeros(0, dtype)).dtype) for k, v in made.state_dict().items()
    }
    made.load_state_dict(rounded)
    same = Whisper(made, encoder.info, (2, 3, 4), "cpu")
    wave = noise(5 * 16_000)  # beyond this network's 100 positions: three windows
    np.testing.assert_array_equal(encoder([wave])[0], same([wave])[0])
    assert len(encoder([wave])[0]) == 250


def refused(folder, words):
    with pytest.raises(EncoderError, match=words):
        load_encoder("whisper-tiny", folder)


def test_damaged_ctranslate2_files(tmp_path):
    tensors = list(ctranslate2(network()))
    whole = (written(tmp_path / "a", tensors) / "model.bin").read_bytes()
    for keep in (0, 3, 5, 20, 40, len(whole) // 2, len(whole) - 100):
        (tmp_path / "a" / "model.bin").write_bytes(whole[:keep])
        refused(tmp_path / "a", "damaged")
    refused(written(tmp_path / "b", tensors, b"TransformerSpec"), "'TransformerSpec'")
    refused(written(tmp_path / "c", tensors, count=2**31), "claims")
    refused(written(tmp_path / "d", tensors[:-1]), "whole Whisper encoder")
    refused(written(tmp_path / "e", tensors[2:]), "num_heads")
    tensors[1] = ("encoder/num_heads", np.array(3, np.int16))
    refused(written(tmp_path / "f", tensors), "3 heads")
    tensors[2] = (tensors[2][0], tensors[2][1].astype(np.int8))
    refused(written(tmp_path / "g", tensors), "float32 and float16")


def test_a_tensor_may_not_reach_beyond_the_file(tmp_path):
    name = b"encoder/conv1/weight\0"
    blob = (
        struct.pack("<I", 6) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 1)
    )
    blob += struct.pack("<H", len(name)) + name
    blob += struct.pack("<BIBI", 1, 2**30, 0, 2**32 - 1)
    (tmp_path / "model.bin").write_bytes(blob)
    refused(tmp_path, "beyond the end")


@pytest.mark.skipif(
    find_spec(WEIGHT_SOURCES["whisper-tiny"].offline.package) is None,
    reason="the extra 'offline' is not installed",
)
def test_real_weights_in_transformers_network():
    """The offline file's tensors, put into transformers' encoder, give the same frames."""
    ours = load_encoder("whisper-tiny", layers=(1, 2, 3, 4))
    config = hf.WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536
    )
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    theirs = Theirs(config).eval()
    theirs.load_state_dict(transformers_names(ours.network.state_dict()))
    wave = noise(30 * 16_000)
    with torch.inference_mode():
        states = theirs(torch.from_numpy(our_log_mel(wave))[None], output_hidden_states=True)
    wanted = torch.cat(states.hidden_states[1:], dim=-1)[0].numpy()
    assert np.abs(ours([wave])[0] - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_weights_are_named_by_what_they_are(tmp_path):
    made = WhisperEncoder(dim=512, heads=8, depth=6, steps=10)
    folder = written(tmp_path, list(ctranslate2(made, np.float16)))
    refused(folder, "holds whisper-base .*ask for whisper-base")
    assert load_encoder("whisper-base", folder).info.name == "whisper-base"


def transformers_names(state):
    parts = {"norm1": "self_attn_layer_norm", "out": "self_attn.out_proj", "up": "fc1"}
    parts |= {"norm2": "final_layer_norm", "down": "fc2"}
    named = {}
    for key, value in state.items():
        names = key.split(".")
        if names[0] == "blocks" and names[2] == "qkv":
            for letter, chunk in zip("qkv", value.chunk(3), strict=True):
                if (letter, names[3]) != ("k", "bias"):
                    named[f"layers.{names[1]}.self_attn.{letter}_proj.{names[3]}"] = chunk
        elif names[0] == "blocks":
            named[f"layers.{names[1]}.{parts[names[2]]}.{names[3]}"] = value
        else:
            key = key.replace("positions", "embed_positions.weight").replace("norm.", "layer_norm.")
            named[key] = value
    return named
