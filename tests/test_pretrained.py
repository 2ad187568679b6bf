"""Speech and text encoders of transformers, against its own forward pass, item by item."""

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
import tokenizers
import torch
import transformers as hf

from made_emotion2vec import close
from made_encoders import VOCABULARY
from multimodal_ser.encoders import file_name, load_encoder
from multimodal_ser.encoders.pretrained import SPEECH, TEXT
from multimodal_ser.errors import EncoderError

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {**SMALL, "intermediate_size": 32}
CONVOLUTIONS = {
    **WIDE, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SPEECH_KINDS = {
    "wav2vec2": ("wav2vec2", {}),
    "xls-r": ("wav2vec2", LAYER_NORM),  # and MMS, wav2vec 2.0 large
    "hubert": ("hubert", {}),
    "hubert-large": ("hubert", LAYER_NORM),
    "hubert-batch-norm": ("hubert", {**LAYER_NORM, "conv_pos_batch_norm": True}),
    "wavlm": ("wavlm", {}),
    "wavlm-large": ("wavlm", LAYER_NORM),
    "data2vec-audio": ("data2vec-audio", {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}),
    "unispeech": ("unispeech", {}),
    "unispeech-sat": ("unispeech-sat", LAYER_NORM),
    "wav2vec2-conformer": ("wav2vec2-conformer", {"position_embeddings_type": "relative"}),
    "wav2vec2-bert": ("wav2vec2-bert", {"feature_projection_input_dim": 160}),
}
PADS = {"xls-r", "hubert-large", "wavlm-large", "wav2vec2-bert"}
LENGTHS = [6_000, 16_000, 5_123, 16_000, 9_999]
SENTENCES = ["so what", "", "what else !", "so so so so whatr zebra", "else " * 40]
POSITIONS = {"max_position_embeddings": 64}


def waves(lengths=LENGTHS):
    noise = np.random.default_rng(0)
    return [noise.normal(0.1, 0.1, length).astype(np.float32) for length in lengths]


def shaken(model):
    """Random weights of a size that lets every parameter show."""
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Kind → its network, its way of preparing sound, and its folder as the hub lays it out."""
    root, made = tmp_path_factory.mktemp("speech"), {}

    def of(kind):
        if kind not in made:
            architecture, options = SPEECH_KINDS[kind]
            torch.manual_seed(0)
            config = hf.AutoConfig.for_model(architecture, **{**CONVOLUTIONS, **options})
            model = shaken(hf.AutoModel.from_config(config))
            extractor = (
                hf.SeamlessM4TFeatureExtractor()
                if architecture == "wav2vec2-bert"
                else hf.Wav2Vec2FeatureExtractor(do_normalize=kind != "wavlm")  # as WavLM base
            )
            for saved in (model, extractor):
                saved.save_pretrained(root / kind)
            made[kind] = model, extractor, root / kind
        return made[kind]

    return of


def test_every_architecture_is_tried():
    assert {architecture for architecture, _ in SPEECH_KINDS.values()} == set(SPEECH)


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_speech_equals_transformers(kind, speech):
    model, extractor, folder = speech(kind)
    encoder = load_encoder(str(folder), layers="all")
    assert (encoder.info.layers, encoder.info.dim) == ("0,1,2", 48)
    assert encoder.info.name == {"wav2vec2": "my-wav2vec2"}.get(kind, kind)
    assert {claim.saw for claim in encoder.info.exposure.values()} == {"unknown"}
    assert encoder.network.pads == (kind in PADS)
    found = encoder(waves())
    sent = pickle.loads(pickle.dumps(encoder))  # as to the workers of a cluster
    for own, there in zip(found, sent(waves()), strict=True):
        assert np.array_equal(own, there)
    for wave, frames in zip(waves(), found, strict=True):
        given = extractor(wave, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            states = model(**given, output_hidden_states=True)
        wanted = torch.cat([*states.hidden_states[:-1], states.last_hidden_state], -1)[0].numpy()
        assert len(wanted) - len(frames) in ((0, 1) if kind == "wav2vec2-bert" else (0,))
        close(frames, wanted[: len(frames)])


@pytest.mark.parametrize("kind", ["wav2vec2", "xls-r", "wav2vec2-bert"])
def test_an_adapter_after_the_last_block_changes_nothing(kind, speech, tmp_path):
    model, extractor, folder = speech(kind)
    config = model.config.to_dict() | {"add_adapter": True, "num_adapter_layers": 1}
    config["use_intermediate_ffn_before_adapter"] = kind == "wav2vec2-bert"
    more = type(model)(type(model.config)(**config))
    assert not more.load_state_dict(model.state_dict(), strict=False).unexpected_keys
    for saved in (more, extractor):
        saved.save_pretrained(tmp_path)
    wanted = load_encoder(str(folder), layers="all")(waves())
    for got, frames in zip(load_encoder(str(tmp_path), layers="all")(waves()), wanted, strict=True):
        close(got, frames)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm-large", "wav2vec2-bert"])
def test_long_recordings_pass_in_windows_with_context(kind, speech):
    encoder = load_encoder(str(speech(kind)[2]))
    [wave] = waves([16_000 * 6])
    whole = encoder([wave])[0]
    encoder.whole = 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_ser.encoders.pretrained_speech.CONTEXT", 20)
        cut = encoder([wave, wave[:16_000]])[0]
    assert cut.shape == whole.shape
    assert not np.array_equal(cut, whole)
    # untrained attention reaches everywhere, so windows can only come near
    assert np.corrcoef(cut.ravel(), whole.ravel())[0, 1] > 0.8


def test_a_missing_preparation_is_said(speech, tmp_path, caplog):
    folder = speech("hubert")[2]
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folder / file, tmp_path)
    with caplog.at_level(logging.WARNING):
        found = load_encoder(str(tmp_path), device="cpu")
    assert "has no preprocessor_config.json" in caplog.text
    close(found(waves())[0], load_encoder(str(folder))(waves())[0])
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(EncoderError, match="at 8000 Hz; allowed: 16000"):
        load_encoder(str(tmp_path))


def test_older_layouts_of_weights(speech, tmp_path):
    """As facebook/wav2vec2-base has it: a pickle, old names of a weight norm, a head, and cut."""
    model, _, folder = speech("wav2vec2")
    for file in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / file, tmp_path)
    state = {f"wav2vec2.{key}": value for key, value in model.state_dict().items()}
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        name = "wav2vec2.encoder.pos_conv_embed.conv."
        state[name + old] = state.pop(f"{name}parametrizations.weight.{new}")
    state["quantizer.codevectors"] = torch.zeros(1, 4, 4)
    torch.save(state, tmp_path / "pytorch_model.bin")
    wanted = load_encoder(str(folder))(waves())
    for got, frames in zip(load_encoder("mine", tmp_path)(waves()), wanted, strict=True):
        close(got, frames)
    keys, parts = sorted(state), {}
    for place in range(2):
        parts |= dict.fromkeys(keys[place::2], f"pytorch_model-{place + 1}.bin")
        part = tmp_path / f"pytorch_model-{place + 1}.bin"
        torch.save({k: state[k] for k in keys[place::2]}, part)
    (tmp_path / "pytorch_model.bin").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": parts}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    cut = load_encoder("mine", tmp_path)
    close(cut(waves())[0], wanted[0])
    torch.save({k: state[k] + 1 for k in keys[1::2]}, tmp_path / "pytorch_model-2.bin")
    assert load_encoder("mine", tmp_path).info.weights != cut.info.weights
    (tmp_path / "pytorch_model-2.bin").unlink()
    with pytest.raises(EncoderError, match=r"pytorch_model-2\.bin cannot be read"):
        load_encoder("mine", tmp_path)


def test_weights_are_not_rounded_to_what_the_configuration_says(speech, tmp_path):
    model, _, folder = speech("wav2vec2")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    said = json.loads((tmp_path / "config.json").read_text())
    half = {**said, "torch_dtype": "float16", "dtype": "float16"}
    (tmp_path / "config.json").write_text(json.dumps(half))
    own = load_encoder(str(tmp_path)).network.model.state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0)


def test_a_configuration_that_asks_for_other_software_or_outputs(speech, tmp_path):
    folder = speech("wav2vec2")[2]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    said = json.loads((tmp_path / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (tmp_path / "config.json").write_text(json.dumps({**said, **quantised}))
    with pytest.raises(EncoderError, match=r"cannot be loaded \(ImportError: .*bitsandbytes"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**said, "return_dict": False}))
    close(load_encoder(str(tmp_path))(waves())[0], load_encoder(str(folder))(waves())[0])


@pytest.mark.parametrize("kind", ["hubert", "wavlm-large"])
def test_what_does_not_fit_is_named(kind, speech, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(speech(kind)[2], tmp_path, dirs_exist_ok=True)
    state, about = load_file(tmp_path / "model.safetensors"), {"format": "pt"}
    lost = "encoder.layers.1.attention.q_proj.weight"
    fewer = {key: value for key, value in state.items() if key != lost}
    save_file(fewer, tmp_path / "model.safetensors", about)
    with pytest.raises(EncoderError, match=f"lacks 1 parameters.*{lost}"):
        load_encoder(str(tmp_path))
    save_file({**state, "encoder.odd": torch.zeros(2)}, tmp_path / "model.safetensors", about)
    with pytest.raises(EncoderError, match=r"1 parameters that the network lacks \(encoder\.odd"):
        load_encoder(str(tmp_path))
    save_file({**state, lost: torch.zeros(3, 3)}, tmp_path / "model.safetensors", about)
    with pytest.raises(EncoderError, match=lost):
        load_encoder(str(tmp_path))
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "model_type": "llama"}))
    with pytest.raises(EncoderError, match="unknown model_type 'llama'; choose one of: wav2vec2,"):
        load_encoder(str(tmp_path))


def test_weights_beside_those_of_the_hash_are_refused(speech, tmp_path):
    """What an encoder saw is known by its hash, which an adapter or another file is not in."""
    shutil.copytree(speech("hubert")[2], tmp_path, dirs_exist_ok=True)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(EncoderError, match=r"has an adapter \(adapter_config\.json\).*merge it"):
        load_encoder(str(tmp_path))
    (tmp_path / "adapter_config.json").unlink()
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "tuned.safetensors")
    said = json.loads((tmp_path / "config.json").read_text())
    other = {**said, "transformers_weights": "tuned.safetensors"}
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(EncoderError, match=r"transformers_weights 'tuned\.safetensors'"):
        load_encoder(str(tmp_path))
    same = {**said, "transformers_weights": "model.safetensors"}
    (tmp_path / "config.json").write_text(json.dumps(same))
    close(
        load_encoder(str(tmp_path))(waves())[0], load_encoder(str(speech("hubert")[2]))(waves())[0]
    )


TEXT_KINDS = {
    "bert": {},
    "roberta": {"pad_token_id": 0},
    "xlm-roberta": {"pad_token_id": 0},  # and multilingual E5
    "deberta": {"relative_attention": True, "pos_att_type": "c2p|p2c", "type_vocab_size": 0},
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0,
    },
    "modernbert": {"local_attention": 4, "pad_token_id": 0, "global_attn_every_n_layers": 2},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "mpnet": {"pad_token_id": 0},
}  # fmt: skip


def test_every_text_architecture_is_tried():
    assert set(TEXT_KINDS) == set(TEXT)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_text_equals_transformers(kind, tmp_path):
    torch.manual_seed(0)
    small = {} if kind == "distilbert" else WIDE
    config = hf.AutoConfig.for_model(
        kind, **{**small, **POSITIONS, "vocab_size": len(VOCABULARY), **TEXT_KINDS[kind]}
    )
    model = shaken(hf.AutoModel.from_config(config))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = hf.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    for saved in (
        model,
        hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            model_input_names=["input_ids", "attention_mask"],
        ),
    ):
        saved.save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), layers=(0, 2))
    assert (encoder.info.modality, encoder.info.dim, encoder.info.pool) == ("text", 32, "mean")
    found = encoder(SENTENCES)
    sent = pickle.loads(pickle.dumps(encoder))  # as to the workers of a cluster
    for own, there in zip(found, sent(SENTENCES), strict=True):
        assert np.array_equal(own, there)
    for text, frames in zip(SENTENCES, found, strict=True):
        given = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            states = model(**given, output_hidden_states=True)
        wanted = torch.cat([states.hidden_states[0], states.last_hidden_state], -1)[0].numpy()
        close(frames, wanted)
    shorter = {"roberta": 1, "xlm-roberta": 1, "mpnet": 2}.get(kind, 0)  # padding has a position
    assert len(encoder(["so " * 600])[0]) == 64 - shorter


@pytest.fixture
def cased(tmp_path):
    """The folder of a BERT with a cased vocabulary and no word on what becomes of capitals."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Haus", "haus", "das"]
    config = hf.BertConfig(**WIDE, **POSITIONS, vocab_size=len(pieces))
    shaken(hf.BertModel(config)).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    return tmp_path


def test_capitals_are_not_lost_silently(cased):
    for content in (None, '{"model_max_length": 64}'):
        if content:
            (cased / "tokenizer_config.json").write_text(content)
        with pytest.raises(EncoderError, match=r"1 of the 3 pieces .* such as 'Haus'.*do_lower_ca"):
            load_encoder(str(cased))
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    great, small = load_encoder(str(cased))(["das Haus", "das haus"])
    assert not np.array_equal(great, small)
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert np.array_equal(*load_encoder(str(cased))(["das Haus", "das haus"]))
    # an uncased vocabulary is lowered by default, as transformers does
    (cased / "tokenizer_config.json").unlink()
    uncased = (cased / "vocab.txt").read_text().replace("Haus", "hof")
    (cased / "vocab.txt").write_text(uncased)
    assert np.array_equal(*load_encoder(str(cased))(["das Haus", "das haus"]))


def test_pieces_are_counted_by_their_largest_number(cased):
    uncased = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "das": 5, "haus": 9}
    (cased / "vocab.txt").unlink()
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(uncased, unk_token="[UNK]"))
    hf.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(cased)
    with pytest.raises(EncoderError, match="has 10 pieces, the network 8; they do not belong"):
        load_encoder(str(cased))


def test_names_that_features_go_by(tmp_path):
    (tmp_path / "my net+1").mkdir()
    assert file_name(str(tmp_path / "my net+1")) == "my-net-1"
    assert file_name("microsoft/wavlm-large") == "microsoft--wavlm-large"


def test_a_hub_id_is_fetched_by_itself_and_by_the_name_of_its_features(speech, monkeypatch):
    asked, folder = [], speech("wavlm")[2]

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for given in (("microsoft/wavlm-base",), ("microsoft--wavlm-base", "microsoft/wavlm-base")):
        info = load_encoder(*given, revision="abc", dtype="bfloat16").info
        assert info.name == "microsoft--wavlm-base"
    assert set(asked) == {("microsoft/wavlm-base", "abc")}
    with pytest.raises(EncoderError, match="unknown encoder 'hello'"):
        load_encoder("hello")


def test_other_number_formats_come_near(speech):
    # On processors with AMX, torch 2.13 computes a convolution in groups of 8 channels wrongly in
    # bfloat16; those of published networks have 48 or more.
    folder = str(speech("wav2vec2-conformer")[2])
    [half], [whole] = (load_encoder(folder, dtype=d)(waves()[:1]) for d in ("bfloat16", "float32"))
    assert half.dtype == np.float32
    assert np.corrcoef(half.ravel(), whole.ravel())[0, 1] > 0.999
    assert not np.array_equal(half, whole)
    with pytest.raises(EncoderError, match="float16 is for GPUs"):
        load_encoder(folder, dtype="float16")


def test_whisper_of_any_size_needs_no_name(tmp_path):
    config = hf.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=20,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        num_mel_bins=128, max_source_positions=50,
    )  # fmt: skip
    model = shaken(hf.WhisperModel(config))
    model.save_pretrained(tmp_path)
    encoder = load_encoder("someone--whisper", tmp_path, layers=(1, 2))
    extractor = hf.WhisperFeatureExtractor(feature_size=128, chunk_length=1)
    for wave, frames in zip(waves([16_000, 16_000]), encoder(waves([16_000, 16_000])), strict=True):
        mel = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.inference_mode():
            states = model.encoder(mel, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(frames, torch.cat(states[1:], -1)[0].numpy(), atol=1e-4)
