"""Any encoder fine-tuned with its head: whole, last blocks, low-rank; killed and resumed alike."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers as hf

import made_emotion2vec
from made_encoders import tiny
from made_models import StopError, stopped_at
from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.corpora import Utterance
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.encoders import load_encoder
from multimodal_ser.errors import SerError
from multimodal_ser.models.fusion import Dims
from multimodal_ser.training.tune.changes import apply_changes, save_changes
from multimodal_ser.training.tune.clips import Clips
from multimodal_ser.training.tune.encoders import TunedEncoders
from multimodal_ser.training.tune.loop import predict_clips, tune

QUICK = TuneConfig(
    epochs=2, batch_size=4, learning_rate=1e-3, probe_epochs=2, average=0.5, augment=False,
    hidden_dim=8, dropout=0.0, rank=2, method="low-rank",
)  # fmt: skip
WORDS = ("so what", "else !")
PLUS = "emotion2vec-plus-base"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tune")


def loaded(name, root, device="cpu"):
    folder = made_emotion2vec.folder(root / name) if name == PLUS else tiny(name, root)
    return load_encoder(name, folder, device=device)


def clips(count=8, seed=0):
    rng = np.random.default_rng(seed)
    waves = []
    for place in range(count):
        time = np.arange(int(rng.uniform(0.2, 0.4) * 16_000)) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * (300, 2_000)[place % 2] * time)
        waves.append((32_767 * (tone + 0.01 * rng.standard_normal(len(time)))).astype(np.int16))
    ids = tuple(f"made/{place}" for place in range(count))
    texts = [WORDS[place % 2] for place in range(count)]
    return Clips(ids, waves, torch.arange(count) % 2, texts)


def made(names, root, config=QUICK, device="cpu"):
    """A model of these encoders, and the features that they give as they are."""
    encoders = {one.info.modality: one for one in (loaded(name, root, device) for name in names)}
    specs = {
        side: FeatureSpec(one.info.name, one.info.weights, one.info.layers, 4, one.info.pool,
                          one.info.dim, "float32")
        for side, one in encoders.items()
    }  # fmt: skip
    dims = Dims(*(encoders[s].info.dim if s in encoders else 0 for s in ("text", "audio")), 2)
    torch.manual_seed(0)
    model = TunedEncoders(encoders, specs, dims, ("low", "high"), config, {"made": True})
    return model, tuple(features(model, part) for part in (clips(), clips(4, 1)))


def features(model, part):
    items = part.items(range(len(part)))
    sides = [
        Modality.encoded(model.encoders[name], items[name], model.features[name])
        if name in model.encoders
        else Modality.absent(len(part))
        for name in ("text", "audio")
    ]
    return Examples(part.ids, *sides, part.label)


def fitted(names, root, config=QUICK, **how):
    model, parts = made(names, root, config)
    return tune(model, clips(), clips(4, 1), config, 0, features=parts, **how)


EVERY = [("wav2vec2",), ("whisper-tiny",), (PLUS,), ("bert",), ("bert", "wav2vec2")]


@pytest.mark.parametrize("names", EVERY, ids="+".join)
def test_every_encoder_learns_and_is_read_again(names, root, tmp_path):
    before = {
        name: {k: v.clone() for k, v in loaded(name, root).network.state_dict().items()}
        for name in names
    }
    model = fitted(names, root).model
    wanted = predict_clips(model, clips(4, 2))
    for side, network in model.networks.items():
        learnt = [key for key, p in network.named_parameters() if p.requires_grad]
        assert learnt
        assert all(".parametrizations.weight.0." in key for key in learnt)
        file = tmp_path / f"{side}.safetensors"
        save_changes(network, QUICK, {"encoder": side}, file)
        size = sum(p.numel() for p in network.parameters())
        assert sum(p.numel() for p in network.parameters() if p.requires_grad) < size / 2
        again = loaded(next(n for n in names if (n == "bert") == (side == "text")), root)
        assert apply_changes(again.network, file)["encoder"] == side
        # merged: plain weights again, in the very shape that they had
        state = again.network.state_dict()
        assert state.keys() == before[again.info.name].keys()
        assert any(not torch.equal(state[k], v) for k, v in before[again.info.name].items())
        model.encoders[side] = again
    torch.testing.assert_close(predict_clips(model, clips(4, 2)), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("names", EVERY, ids="+".join)
def test_a_gpu_tunes_a_model_that_the_processor_reads(names, precision, root):
    """Losses are not compared with those of a CPU: dropout draws other random numbers there."""
    config = dataclasses.replace(QUICK, method="whole", precision=precision)
    model, parts = made(names, root, config, "cuda")
    before = predict_clips(model.to("cuda"), clips(4, 2))
    torch.testing.assert_close(
        before, predict_clips(made(names, root)[0], clips(4, 2)), rtol=1e-3, atol=1e-3
    )
    tuned = tune(model, clips(), clips(4, 1), config, 0, features=parts).model
    after = predict_clips(tuned, clips(4, 2))
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    torch.testing.assert_close(
        predict_clips(tuned.to("cpu"), clips(4, 2)), after, rtol=1e-3, atol=1e-3
    )


def test_gradients_are_those_of_extraction(root):
    """What learns is what is asked: the forward pass in training gives the same logits."""
    model, _ = made(("bert", "wav2vec2"), root)
    items = clips().items(range(4))
    model.eval()
    got = model(model.inputs(items)).logits
    torch.testing.assert_close(got.detach(), model.predict(items), rtol=1e-4, atol=1e-5)


def test_words_that_an_utterance_lacks_are_masked_as_on_features(root):
    model, _ = made(("bert", "wav2vec2"), root)
    model.eval()
    rows = [Utterance(f"made/{n}", "made", "x", text=text) for n, text in enumerate(["a", " ", ""])]
    assert Clips.words(rows, torch.zeros(3)).texts == ["a", None, None]
    part = clips(4)
    lacking = dataclasses.replace(part, texts=[None, *part.texts[1:]])
    items = lacking.items(range(4))
    assert features(model, lacking).text.mask.any(1).tolist() == [False, True, True, True]
    learnt, predicted = model(model.inputs(items)).logits.detach(), model.predict(items)
    torch.testing.assert_close(learnt, predicted, rtol=1e-4, atol=1e-5)
    alone = model.predict({"audio": items["audio"][:1], "text": [None]})
    torch.testing.assert_close(alone, predicted[:1], rtol=1e-4, atol=1e-5)
    empty = model.predict({"audio": items["audio"][:1], "text": [""]})
    assert not torch.allclose(empty, alone, atol=1e-4)


@pytest.mark.parametrize("method", ["whole", "last", "low-rank"])
def test_only_the_chosen_parts_are_trained(method, root):
    config = TuneConfig(**{**vars(QUICK), "method": method, "blocks": 1, "checkpointing": True,
                           "accumulate": 2, "layer_decay": 0.5})  # fmt: skip
    before = loaded("wav2vec2", root).network.state_dict()
    after = fitted(("wav2vec2",), root, config).model.networks["audio"]
    own = dict(after.named_parameters())
    moved = {
        key for key, value in before.items() if key in own and not torch.equal(own[key], value)
    }
    last = {key for key in before if ".encoder.layers.2." in key}
    assert len(last) > 8
    if method == "last":
        assert moved
        assert moved <= last
    else:
        assert (moved > last) if method == "whole" else not moved


def test_running_statistics_of_an_encoder_stay_and_its_changes_are_all_of_it(tmp_path, monkeypatch):
    """A conformer has batch normalisation, whose statistics are no parameters."""
    config = hf.Wav2Vec2ConformerConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        conv_depthwise_kernel_size=3,
    )  # fmt: skip
    torch.manual_seed(0)
    hf.Wav2Vec2ConformerModel(config).save_pretrained(tmp_path)
    hf.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    monkeypatch.setitem(globals(), "loaded", lambda *_: load_encoder(str(tmp_path)))
    how = TuneConfig(**{**vars(QUICK), "method": "whole"})
    model = fitted(("conformer",), tmp_path, how).model
    assert model.about["epoch"] >= 0
    wanted, again = predict_clips(model, clips(4, 2)), loaded("", tmp_path)
    kept = dict(again.network.named_buffers())
    assert any("running_mean" in name for name in kept)
    for name, value in model.networks["audio"].named_buffers():
        torch.testing.assert_close(value, kept[name], msg=name)
    save_changes(model.networks["audio"], how, {}, tmp_path / "changes.safetensors")
    apply_changes(again.network, tmp_path / "changes.safetensors")
    model.encoders["audio"] = again
    torch.testing.assert_close(predict_clips(model, clips(4, 2)), wanted, rtol=1e-3, atol=1e-4)


def test_a_killed_training_is_resumed_to_the_same_result(root, tmp_path):
    config = TuneConfig(**{**vars(QUICK), "augment": True, "dropout": 0.2})
    whole = fitted((PLUS,), root, config)

    file = tmp_path / "checkpoint.safetensors"
    with stopped_at(3), pytest.raises(StopError):  # in the second epoch
        fitted((PLUS,), root, config, checkpoint=file)
    base = sum(v.nbytes for v in loaded(PLUS, root).network.state_dict().values())
    assert file.stat().st_size < 3 * base  # the frozen weights are not kept
    resumed = fitted((PLUS,), root, config, checkpoint=file)
    assert resumed.history == whole.history
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_changes_of_another_encoder_are_refused(root, tmp_path):
    model = fitted(("bert",), root).model
    save_changes(model.networks["text"], QUICK, {}, tmp_path / "x.safetensors")
    with pytest.raises(SerError, match="not the changes of this encoder"):
        apply_changes(loaded("wav2vec2", root).network, tmp_path / "x.safetensors")
    with pytest.raises(SerError, match="has 3 blocks and 4 of them would be trained"):
        fitted(("bert",), root, TuneConfig(**{**vars(QUICK), "method": "last"}))
