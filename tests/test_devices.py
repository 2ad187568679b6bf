"""Where networks are trained, and the messages if a device is missing or too small."""

import numpy as np
import pytest
import torch

from made_emotion2vec import noise
from made_encoders import tiny
from made_features import made_folder, made_rows
from multimodal_ser.common.devices import check_device
from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material
from multimodal_ser.encoders import load_encoder
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import fitting, plans, protocols, running
from multimodal_ser.experiments.fitting import RunContext, make_run
from multimodal_ser.models.fusion import MODELS, Ensemble
from multimodal_ser.predict import load
from multimodal_ser.splits import make_split
from multimodal_ser.training.alignment import AlignmentTarget
from multimodal_ser.training.loop import fit

NETWORK = ModelConfig(members=2, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=2, batch_size=16, least_steps=1)
ABSENT = f"cuda:{torch.cuda.device_count()}"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = made_folder(tmp_path_factory.mktemp("features"), made_rows(48, speakers=4), skill=0.7)
    return load_material(folder, class_set("common4"))


@pytest.fixture(scope="module")
def planned(material):
    split = make_split(material.utterances, "speaker")
    return plans.plan_runs(material, split, ("cross_attention",), 1, NETWORK, SCHEDULE)


@pytest.mark.parametrize("name", [ABSENT, "gpu"])
def test_a_device_that_is_not_there_is_refused_before_any_work(name, material, planned, tmp_path):
    said = rf"cannot compute on device '{name}'.*there is: cpu"
    with pytest.raises(SerError, match=said):
        load_encoder("whisper-tiny", device=name)
    with pytest.raises(SerError, match=said):
        load(device=name)
    split = make_split(material.utterances, "speaker")
    planned = protocols.InDomain(
        models=("text",), seeds=1, network=NETWORK, schedule=SCHEDULE
    ).plan(material, split)
    with pytest.raises(SerError, match=said):
        running.make_experiment(planned, tmp_path / "out", device=name)
    assert not (tmp_path / "out").exists()
    assert check_device("cpu") == "cpu"


def test_a_run_that_does_not_fit_says_what_to_change(material, planned, tmp_path, monkeypatch):
    def full(*given, **more):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(fitting, "fit", full)
    with pytest.raises(SerError, match=r"too little memory.*--schedule.batch-size"):
        make_run(RunContext(material, None, tmp_path), planned[0])


@needs_gpu
@pytest.mark.parametrize("method", [None, "dann", "mmd", "coral"])
def test_a_gpu_trains_to_the_scores_of_the_processor(material, planned, method):
    labelled = material.examples
    scores = {}
    for device in ("cpu", "cuda"):
        rows = labelled.to(device)
        adaptation = None
        if method:
            adaptation = AlignmentTarget(AdaptConfig(method=method), rows.unlabelled())
        torch.manual_seed(0)
        model = Ensemble(MODELS["cross_attention"], RunContext(material, None, None).dims, NETWORK)
        schedule = TrainConfig(epochs=20, batch_size=16)
        fitted = fit(model.to(device), rows, rows, schedule, 0, adaptation=adaptation)
        assert next(fitted.model.parameters()).device.type == device
        scores[device] = fitted.history[-1]["validation_ua"]
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.1)


@pytest.mark.parametrize("name", ["emotion2vec-plus-base", "wav2vec2", "whisper-tiny", "bert"])
def test_an_encoder_is_where_its_network_was_moved_to(name, tmp_path):
    """A fine-tuned model is moved as a whole; what its encoders compute goes with it."""
    encoder = load_encoder(name, tiny(name, tmp_path))
    assert encoder.device == torch.device("cpu")
    encoder.network.to("meta")
    assert encoder.device == torch.device("meta")


@needs_gpu
@pytest.mark.parametrize("name", ["emotion2vec-plus-base", "wav2vec2", "whisper-tiny", "bert"])
def test_a_gpu_encodes_as_the_processor_does(name, tmp_path, monkeypatch):
    # A GPU may round the numbers of convolutions to 10 bits (TF32), which is PyTorch's default.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder = tiny(name, tmp_path)
    words = ["so what", "else !", "what else so ! so"]
    items = words if name == "bert" else [noise(n, n) for n in (400, 9_000, 5_000, 70_000)]
    wanted = load_encoder(name, folder)(items)
    for frames, on_cpu in zip(
        load_encoder(name, folder, device="cuda")(items), wanted, strict=True
    ):
        np.testing.assert_allclose(frames, on_cpu, atol=1e-4)
    if name != "whisper-tiny":  # it computes in float32 only
        half = load_encoder(name, folder, device="cuda", dtype="bfloat16")(items)
        for frames, on_cpu in zip(half, wanted, strict=True):
            cosines = (frames * on_cpu).sum(1) / np.linalg.norm(frames, axis=1)
            assert (cosines / np.linalg.norm(on_cpu, axis=1)).min() > 0.99
