"""Fine-tuning: it learns, it is resumed, and saved models predict the same."""

import numpy as np
import pytest
import soundfile
import torch

from made_models import StopError, stopped_at
from multimodal_ser.audio.speech import lengthened
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.errors import SerError
from multimodal_ser.predict.tuned_backend import TunedBackend
from multimodal_ser.training.schedule import EarlyStopping
from multimodal_ser.training.tune.clips import Clips
from multimodal_ser.training.tune.loop import _Training, predict_clips, tune
from multimodal_ser.training.tune.multi_device import DeviceShare
from multimodal_ser.training.tune.tuned import Tuned, load_tuned, log_mels, save_tuned

CLASSES = ("low", "high")


def encoder(mels: int = 80) -> WhisperEncoder:
    network = WhisperEncoder(dim=16, heads=2, depth=2, mels=mels, steps=200)
    torch.nn.init.normal_(network.positions, std=0.02)
    return network


def model(seed: int = 0, dropout: float = 0.0, mels: int = 80) -> Tuned:
    torch.manual_seed(seed)
    return Tuned(encoder(mels), CLASSES, 8, dropout, card="# made", about={"encoder": "made"})


def clips(count: int = 12, seed: int = 0) -> Clips:
    """Low and high tones of unequal lengths."""
    rng = np.random.default_rng(seed)
    waves, label = [], []
    for place in range(count):
        time = np.arange(int(rng.uniform(0.3, 0.9) * 16_000)) / 16_000
        tone = np.sin(2 * np.pi * (300, 2_000)[place % 2] * time)
        noisy = 0.3 * tone + 0.01 * rng.standard_normal(len(time))
        waves.append((noisy * 32_767).astype(np.int16))
        label.append(place % 2)
    return Clips(tuple(f"made/{k}" for k in range(count)), waves, torch.tensor(label))


QUICK = TuneConfig(
    epochs=3, batch_size=4, learning_rate=1e-3, probe_epochs=2, average=0.5, augment=False
)


@pytest.mark.parametrize("mels", [80, 128])  # 128: whisper-large-v3
def test_it_learns_what_separates_the_classes(mels):
    fitted = tune(model(mels=mels), clips(), clips(6, seed=1), QUICK, seed=0)
    unseen = clips(20, seed=2)
    assert predict_clips(fitted.model, unseen).argmax(1).tolist() == unseen.label.tolist()
    assert [row["epoch"] for row in fitted.history] == [-1, 0, 1, 2]


def test_the_encoder_moves_and_frozen_blocks_do_not():
    before = model().state_dict()
    after = tune(model(), clips(), clips(6), QUICK, 0).model.state_dict()
    assert not torch.equal(before["encoder.conv1.weight"], after["encoder.conv1.weight"])
    frozen = TuneConfig(**{**QUICK.__dict__, "frozen_blocks": 1})
    after = tune(model(), clips(), clips(6), frozen, 0).model.state_dict()
    still = [key for key in before if key.startswith(("encoder.conv", "encoder.blocks.0"))]
    assert len(still) > 8
    for key in still:
        assert torch.equal(before[key], after[key]), key
    assert not torch.equal(
        before["encoder.blocks.1.up.weight"], after["encoder.blocks.1.up.weight"]
    )


def test_what_the_validation_part_sounds_like_changes_no_weight():
    made = [tune(model(), clips(), clips(6, seed), QUICK, 0).model for seed in (1, 2)]
    assert made[0].about["epoch"] == made[1].about["epoch"]
    states = [one.state_dict() for one in made]
    assert all(
        torch.equal(value, states[1][key])
        for key, value in states[0].items()
        if key != "temperature"
    )


def test_an_interrupted_training_gives_the_same_result(tmp_path):
    config = TuneConfig(**{**QUICK.__dict__, "augment": True, "dropout": 0.2})
    whole = tune(model(dropout=0.2), clips(), clips(6), config, seed=3)

    file = tmp_path / "checkpoint.safetensors"
    with stopped_at(5), pytest.raises(StopError):  # in the second epoch, which has steps 4 to 6
        tune(model(dropout=0.2), clips(), clips(6), config, 3, checkpoint=file)
    with stopped_at(None) as steps:
        resumed = tune(model(seed=9, dropout=0.2), clips(), clips(6), config, 3, checkpoint=file)
    assert len(steps) == 6
    assert resumed.history == whole.history
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.filterwarnings("ignore:.*from a non-meta parameter")
def test_a_resumed_optimiser_is_on_the_device_of_the_model(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    tune(model(), clips(), clips(6), QUICK, 0, checkpoint=file)
    # "meta", a device without memory, stands for a GPU, on which AdamW refuses state on the CPU
    there = _Training(model().to("meta"), clips(), QUICK, torch.ones(2), 0, DeviceShare())
    there.load(file, EarlyStopping(1, 6))
    states = there.optimizer.state
    assert len(states) > 20
    for parameter, state in states.items():
        assert state["exp_avg"].device == state["exp_avg_sq"].device == parameter.device
        assert state["step"] == 9


@pytest.mark.parametrize("kept", [0, 8, 0.5])
def test_a_damaged_checkpoint_is_reported_and_made_anew(kept, tmp_path, caplog):
    file = tmp_path / "checkpoint.safetensors"
    whole = tune(model(), clips(), clips(6), QUICK, 0, checkpoint=file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    again = tune(model(), clips(), clips(6), QUICK, 0, checkpoint=file)
    assert again.history == whole.history
    assert "is damaged" in caplog.text
    assert "begins anew" in caplog.text
    assert len(file.read_bytes()) == len(content)


def test_a_training_that_was_killed_after_its_last_epoch_learns_no_more(tmp_path):
    config = TuneConfig(**{**vars(QUICK), "epochs": 9, "patience": 1})
    file = tmp_path / "checkpoint.safetensors"
    whole = tune(model(), clips(), clips(6), config, 0, checkpoint=file)
    assert 1 < len(whole.history) < 10  # patience ran out
    resumed = tune(model(seed=9), clips(), clips(6), config, 0, checkpoint=file)
    assert resumed.history == whole.history
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.parametrize("augment", [False, True])
def test_recordings_of_more_than_30_s_are_learnt_and_predicted_as_ser_predict_does(
    tmp_path, augment, monkeypatch
):
    monkeypatch.setattr("multimodal_ser.training.tune.tuned._WINDOWS", 2)  # of five
    torch.manual_seed(0)
    made = Tuned(WhisperEncoder(dim=8, heads=1, depth=1, steps=1500), CLASSES, 4)
    parts = [clips(4), clips(4, seed=1)]
    for part in parts:
        part.waves[1] = np.tile(part.waves[1], 200)[: 31 * 16_000]
    config = TuneConfig(epochs=1, batch_size=2, probe_epochs=1, augment=augment)
    fitted = tune(made, *parts, config, seed=0)
    save_tuned(fitted.model, tmp_path / "model.safetensors", half=False)
    waves = [parts[1].wave(row) for row in range(4)]
    said = TunedBackend(tmp_path / "model.safetensors", "made")(waves, [None] * 4).probabilities
    told = predict_clips(fitted.model, parts[1]).softmax(1).numpy()
    np.testing.assert_allclose(told, said, rtol=1e-4)


def test_recordings_of_16_bits_are_kept_exactly(tmp_path):
    told = np.random.default_rng(0).integers(-32_768, 32_768, 999).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", told, 16_000)
    row = Utterance("made/a", "made", "low", str(tmp_path / "a.wav"))
    np.testing.assert_array_equal(Clips.decode([row], torch.zeros(1)).waves[0], told)


def test_batches_left_at_an_epochs_end_are_averaged_too():
    made = [
        tune(model(), clips(), clips(6), TuneConfig(**{**vars(QUICK), "accumulate": count}), 0)
        for count in (3, 50)  # an epoch has three batches
    ]
    assert made[0].history == made[1].history


def test_batches_that_make_one_step_equal_one_batch_of_all_their_utterances():
    made = [
        tune(
            model(), clips(9), clips(6), TuneConfig(**{**vars(QUICK), "probe_epochs": 0, **how}), 0
        )
        for how in ({"batch_size": 9}, {"batch_size": 4, "accumulate": 3})  # 4, 4 and 1
    ]
    whole, parts = ([row.get("train_loss") for row in one.history[1:]] for one in made)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_a_batch_equals_its_single_items():
    torch.manual_seed(0)
    made = model().eval()
    waves = [clips().wave(row) for row in range(5)]
    together = made(*log_mels(waves))
    for place, wave in enumerate(waves):
        alone = made(*log_mels([wave]))
        torch.testing.assert_close(alone.logits[0], together.logits[place], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            alone.embedding[0], together.embedding[place], rtol=1e-4, atol=1e-5
        )


def test_loudness_changes_nothing():
    made = model().eval()
    wave = clips().wave(0)
    loud, soft = made(*log_mels([wave])).logits, made(*log_mels([wave * 0.1])).logits
    torch.testing.assert_close(loud, soft, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("samples", [399, 30 * 16_000 + 1])
def test_a_recording_that_does_not_fit_is_an_error(samples):
    with pytest.raises(SerError, match=rf"{samples} samples; allowed: 400 to 480000"):
        log_mels([np.zeros(samples, np.float32)])


def test_a_saved_model_predicts_the_same(tmp_path):
    made = model().eval()
    made.temperature.fill_(1.5)
    made.least_confidence.fill_(0.6)
    save_tuned(made, tmp_path / "model.safetensors")
    read = load_tuned(tmp_path / "model.safetensors")
    assert (read.classes, read.card, read.about) == (CLASSES, "# made", {"encoder": "made"})
    assert read.threshold == pytest.approx(0.6)
    batch = log_mels([clips().wave(0), clips().wave(1)])
    torch.testing.assert_close(made(*batch).logits, read(*batch).logits, rtol=1e-2, atol=1e-2)
    save_tuned(made, tmp_path / "full.safetensors", half=False)
    assert torch.equal(
        load_tuned(tmp_path / "full.safetensors")(*batch).logits, made(*batch).logits
    )


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(SerError, match="not a fine-tuned model"):
        load_tuned(tmp_path / "x.safetensors")


def probe() -> Tuned:
    torch.manual_seed(1)
    made = Tuned(encoder().cut(1), CLASSES, 1, about={"encoder": "made"}, axes=3)
    torch.nn.init.normal_(made.centres)
    return made.eval()


def test_a_loaded_linear_probe_predicts_the_same(tmp_path):
    made = probe()
    save_tuned(made, tmp_path / "model.safetensors")
    read = load_tuned(tmp_path / "model.safetensors")
    batch = log_mels([clips().wave(0), clips().wave(1)])
    pooled = read.pooled(*batch)
    assert pooled.shape == (2, 3)
    torch.testing.assert_close(read.references, made.centres, rtol=1e-2, atol=1e-2)
    far = made.predict_from(10 * pooled)
    assert (made.distance(10 * pooled) > 50 * made.distance(pooled)).all()
    assert torch.isfinite(far.logits).all()
    torch.testing.assert_close(read(*batch).logits, made(*batch).logits, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(read.predict_from(pooled).logits, read(*batch).logits)
    assert (read.shortest, model().shortest) == (25_600, 0)


def test_a_cut_encoder_gives_the_first_layers_of_the_whole():
    whole, cut = encoder().eval(), encoder().eval()
    cut.load_state_dict(whole.state_dict())
    cut.cut(1)
    batch = log_mels([clips().wave(0)])
    assert len(cut(*batch)) == 1
    torch.testing.assert_close(cut(*batch)[0], whole(*batch)[0])


def test_short_recordings_are_repeated():
    wave = clips().wave(0)
    longer = lengthened(wave, 25_600)
    assert 25_600 <= len(longer) < 25_600 + len(wave)
    np.testing.assert_array_equal(longer[len(wave) : 2 * len(wave)], wave)
    assert lengthened(wave, 0) is wave
