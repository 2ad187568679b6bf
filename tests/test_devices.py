"""Where networks are trained, and how many of them the memory holds."""

from dataclasses import replace

import pytest
import torch

from made_features import made_folder, made_rows
from multimodal_ser import devices, experiments
from multimodal_ser.alignment import Adaptation
from multimodal_ser.config import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.data import Examples, Side
from multimodal_ser.devices import check_device, memory_of
from multimodal_ser.encoders import load_encoder
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import bundle, memory
from multimodal_ser.experiments.bundle import Bench, make_bundle
from multimodal_ser.experiments.memory import bytes_of_training, most_together
from multimodal_ser.labels import class_set
from multimodal_ser.material import load_material
from multimodal_ser.models import MODELS, Dims, Ensemble
from multimodal_ser.predict import load
from multimodal_ser.splits import make_split
from multimodal_ser.train import Task, fit_all

NETWORK = ModelConfig(members=2, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=2, batch_size=16, least_steps=1)
ABSENT = f"cuda:{torch.cuda.device_count()}"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = made_folder(tmp_path_factory.mktemp("features"), made_rows(48, speakers=4), skill=0.7)
    return load_material(folder, class_set("common4"))


@pytest.fixture(scope="module")
def plans(material):
    split = make_split(material.utterances, "speaker")
    return experiments.plan(material, split, ("cross_attention",), 1, NETWORK, SCHEDULE)


@pytest.mark.parametrize("name", [ABSENT, "gpu"])
def test_a_device_that_is_not_there_is_refused_before_any_work(name, material, plans, tmp_path):
    said = rf"cannot compute on device '{name}'.*there is: cpu"
    with pytest.raises(SerError, match=said):
        load_encoder("whisper-tiny", device=name)
    with pytest.raises(SerError, match=said):
        load(device=name)
    split = make_split(material.utterances, "speaker")
    planned = experiments.plan_in_domain(
        material, split, ("text",), seeds=1, network=NETWORK, schedule=SCHEDULE
    )
    with pytest.raises(SerError, match=said):
        experiments.make(planned, tmp_path / "out", device=name)
    assert not (tmp_path / "out").exists()
    assert check_device("cpu") == "cpu"


def test_a_container_has_no_more_memory_than_it_was_given(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(devices, "_CGROUP_LIMIT", limit)
    whole = memory_of("cpu")
    assert whole > 2**28
    limit.write_text("max\n")
    assert memory_of("cpu") == whole
    limit.write_text(f"{2**28}\n")
    assert memory_of("cpu") == 2**28


@pytest.mark.parametrize("model", ["text", "concat", "cross_attention"])
@pytest.mark.parametrize(("tokens", "width"), [((1, 1), 16), ((12, 20), 16), ((12, 20), 48)])
def test_the_estimate_lies_above_what_a_step_keeps(model, tokens, width):
    """What the graph keeps for the gradients, and copies of the weights, are needed at least."""
    network, size, dims = ModelConfig(members=2, hidden_dim=width), 32, Dims(24, 40, 4)
    sides = [
        Side(torch.randn(size, count, dim), torch.ones(size, count, dtype=torch.bool))
        for count, dim in zip(tokens, dims[:2], strict=True)
    ]
    rows = Examples(tuple(map(str, range(size))), *sides, torch.arange(size) % 4)
    made = Ensemble(MODELS[model], dims, network)
    weights = sum(part.numel() for part in made.parameters()) * 4
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    schedule = TrainConfig(epochs=1, batch_size=size, least_steps=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fit_all([Task(made, rows, rows.take(range(4)), 0)], schedule)
    estimate = bytes_of_training(model, dims, tokens, network, size)
    assert sum(kept.values()) + 5 * weights < estimate
    assert estimate < 20 * (sum(kept.values()) + 5 * weights)


def test_no_more_runs_are_put_together_than_the_memory_holds(material, plans, monkeypatch):
    bench = Bench(material, None, None)
    one = memory.bytes_of_run(bench, plans[0])
    for factor, jobs, expected in [(1000, 2, 8), (5.5, 1, 5), (5.5, 2, 2), (0.1, 1, 1)]:
        monkeypatch.setattr(memory, "memory_of", lambda device, f=factor: f * one / memory.SHARE)
        assert most_together(bench, plans[0], jobs) == expected
        assert most_together(bench, plans[0], jobs, together=2) == min(2, expected)
    monkeypatch.setattr(memory, "memory_of", lambda device: 1000 * one)
    assert most_together(replace(bench, device="cuda"), plans[0], 1) == 32
    source = replace(bench, source=material)
    assert memory.bytes_of_run(source, plans[0]) > one  # a batch of each


def test_runs_that_do_not_fit_together_are_made_in_halves(material, plans, tmp_path, monkeypatch):
    whole, tried = bundle.fit_all, []

    def small(tasks, schedule):
        tried.append(len(tasks))
        if len(tasks) > 1:
            raise torch.OutOfMemoryError("full")
        return whole(tasks, schedule)

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "fit_all", small)
        made = make_bundle(Bench(material, None, tmp_path / "halves"), plans)
    assert tried == [4, 2, 1, 1, 2, 1, 1]
    alone = [make_bundle(Bench(material, None, tmp_path / "alone"), [item])[0] for item in plans]
    for mine, other in zip(made, alone, strict=True):
        assert mine.name == other.name
        assert (mine / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def test_a_run_that_does_not_fit_says_what_to_change(material, plans, tmp_path, monkeypatch):
    def full(tasks, schedule):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(bundle, "fit_all", full)
    with pytest.raises(SerError, match=r"too little memory.*--schedule.batch-size"):
        make_bundle(Bench(material, None, tmp_path), plans[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", [None, "dann", "mmd", "coral"])
def test_a_gpu_trains_to_the_scores_of_the_processor(material, plans, method):
    labelled = material.examples
    scores = {}
    for device in ("cpu", "cuda"):
        rows = labelled.to(device)
        adaptation = None
        if method:
            config = AdaptConfig(method=method)
            adaptation = Adaptation(config, rows.unlabelled())
        torch.manual_seed(0)
        model = Ensemble(MODELS["cross_attention"], Bench(material, None, None).dims, NETWORK)
        tasks = [Task(model.to(device), rows, rows, seed, adaptation) for seed in (0,)]
        (fitted,) = fit_all(tasks, TrainConfig(epochs=20, batch_size=16))
        assert next(fitted.model.parameters()).device.type == device
        scores[device] = fitted.history[-1]["validation_ua"]
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.1)
