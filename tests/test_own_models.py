"""A user's models of ordinary layers: trained, saved, loaded and used like the shipped ones."""

import copy
import functools
import importlib
import linecache
import math
import re
import subprocess
import sys
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from made_features import DIMS, made_examples, made_folder, made_rows
from made_transfer import rows_of, shares_of
from multimodal_ser.common.plugins import code_of
from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import failures, plans, protocols, running
from multimodal_ser.experiments.explain import _likeness, measured
from multimodal_ser.experiments.fitting import warn_of_outputs
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.models.layers import Output, masked_mean
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.splits import make_split
from multimodal_ser.splits.folds import Fold, Split
from multimodal_ser.training.alignment import AlignmentTarget
from multimodal_ser.training.loop import fit, predict
from multimodal_ser.training.losses import LOSSES, Loss

NETWORK = ModelConfig(members=2, hidden_dim=16, num_heads=2, dropout=0.1, input_dropout=0.0)
SCHEDULE = TrainConfig(epochs=12, batch_size=16, learning_rate=0.01, least_steps=1)
OWN = ("recurrent", "attending")
GUIDE = Path(__file__).parents[1] / "docs" / "models.md"


class Attending(nn.Module):
    """The sound attends to the words, both of which torch's own attention mixes."""

    modalities = ("text", "audio")

    def __init__(self, dims, config):
        super().__init__()
        self.text = nn.Linear(dims.text, config.hidden_dim)
        self.audio = nn.Linear(dims.audio, config.hidden_dim)
        self.attention = nn.MultiheadAttention(
            config.hidden_dim, config.num_heads, batch_first=True, add_zero_attn=True
        )
        self.drop = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.hidden_dim, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        words, sound = self.text(text), self.audio(audio)
        heard, _ = self.attention(sound, words, words, key_padding_mask=~text_mask)
        embedding = masked_mean(self.drop(sound + heard), audio_mask)
        return Output(self.classify(embedding), embedding)


def documented():
    """The file that docs/models.md shows."""
    return re.search(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL).group(1)


@pytest.fixture(scope="module", autouse=True)
def own():
    """The documented model and another one, in the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "recurrent", None)
        patch.setitem(MODELS, "attending", Attending)
        exec(documented(), {"__name__": "my_models"})
        yield {name: MODELS[name] for name in OWN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = made_rows(96, speakers=4)
    return made_folder(tmp_path_factory.mktemp("features"), rows, skill=0.8)


@pytest.fixture(scope="module")
def material(folder):
    return load_material(folder, class_set("common4"))


@pytest.mark.parametrize("name", OWN)
def test_a_model_of_ordinary_layers_is_trained_saved_and_loaded(name, own, material, tmp_path):
    split = make_split(material.utterances, "speaker")
    planned = protocols.InDomain(models=(name,), seeds=1, network=NETWORK, schedule=SCHEDULE).plan(
        material, split
    )
    folders = running.make_experiment(planned, tmp_path, jobs=1)
    right = []
    for folder, item in zip(folders, planned.plans, strict=True):
        test = [row for row in rows_of(folder) if row["part"] == "test"]
        given = shares_of(folder)[-len(test) :]
        model = load_model(folder / "model.safetensors")
        assert all(type(member) is own[name] for member in model.members)
        keys = item.fold.test
        examples = material.examples.take([material.examples.places[key] for key in keys])
        np.testing.assert_allclose(predict(model, examples).softmax(1), given, atol=1e-6)
        best = np.array(material.labels.classes)[given.argmax(1)]
        right += [row["label"] == name for row, name in zip(test, best, strict=True)]
    assert np.mean(right) > 0.6  # chance is 0.25


@pytest.mark.parametrize("name", OWN)
def test_padding_changes_nothing_and_a_missing_modality_is_predicted(name, own):
    examples = made_examples(24, no_text=(3,), no_audio=(6,))
    torch.manual_seed(0)
    model = Ensemble(own[name], Dims(DIMS["text"], DIMS["audio"], 3), NETWORK).eval()
    model.fit_inputs(examples)
    batch = list(examples.batch(torch.arange(24))[:4])
    with torch.inference_mode():
        before = model(*batch).logits
        for tokens, mask in ((0, 1), (2, 3)):
            batch[tokens] = nn.functional.pad(batch[tokens], (0, 0, 0, 3), value=7.0)
            batch[mask] = nn.functional.pad(batch[mask], (0, 3), value=False)
        after = model(*batch).logits
    assert before.isfinite().all()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["coral", "dann"])
def test_a_model_of_ordinary_layers_adapts(method, own):
    examples = made_examples(64)
    torch.manual_seed(0)
    model = Ensemble(own["recurrent"], Dims(DIMS["text"], DIMS["audio"], 3), NETWORK)
    adaptation = AlignmentTarget(AdaptConfig(method), made_examples(40, seed=5).unlabelled())
    alone = copy.deepcopy(model)
    parts = examples.take(range(48)), examples.take(range(48, 64))
    fit(model, *parts, SCHEDULE, 0, adaptation=adaptation)
    fit(alone, *parts, SCHEDULE, 0)
    weights = [one.members[0].text.weight_ih_l0 for one in (model, alone)]
    assert all(one.isfinite().all() for one in weights)
    assert not torch.allclose(*weights)


class Normalised(nn.Module):
    """Batch normalisation behind an offset, and two layers that share their weights."""

    modalities = ("audio",)

    def __init__(self, dims, config):
        super().__init__()
        self.one, self.two = (nn.Linear(dims.audio, dims.audio) for _ in range(2))
        self.two.weight = self.one.weight
        self.norm = nn.BatchNorm1d(dims.audio)
        self.classify = nn.Linear(dims.audio, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        embedding = self.norm(self.two(self.one(masked_mean(audio, audio_mask))) * 3 + 20)
        return Output(self.classify(embedding), embedding)


def test_running_statistics_are_kept_and_no_batch_has_one_row(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "My norm/1", Normalised)
    # 81 rows to train with in a fold of 4 speakers' 24: batches of 16 leave a single one
    material = load_material(folder, class_set("common4"), text="none")
    keys = [row.id for row in material.utterances]
    split = Split("one", (Fold("a/b", tuple(keys[:65]), tuple(keys[65:80]), tuple(keys[80:])),))
    schedule = replace(SCHEDULE, refit=False)
    planned = plans.plan_runs(material, split, ("My norm/1",), 1, NETWORK, schedule)
    (made,) = running.run_all(planned, material, tmp_path, jobs=1)
    assert made.parent == tmp_path  # a slash in a name makes no folder within a folder
    (member, _) = load_model(made / "model.safetensors").members
    assert (member.norm.running_mean - 20).abs().max() < 15  # initially 0
    assert torch.equal(member.one.weight, member.two.weight)
    right = [row["label"] for row in rows_of(made) if row["part"] == "test"]
    said = shares_of(made)[-len(right) :].argmax(1)
    assert np.mean(np.array(right) == np.array(material.labels.classes)[said]) > 0.6


@pytest.mark.parametrize("affine", [True, False])
def test_a_frozen_normalisation_does_not_move(affine):
    examples = made_examples(40)
    model = Ensemble(Normalised, Dims(DIMS["text"], DIMS["audio"], 3), NETWORK)
    for member in model.members:
        member.norm = nn.BatchNorm1d(member.norm.num_features, affine=affine)
    fit(model, examples, examples, SCHEDULE, 0)
    before = copy.deepcopy(model.members[0].norm.state_dict())
    assert before["running_mean"].any()
    model.requires_grad_(False)
    model.members[0].classify.requires_grad_(True)
    fit(model, examples, examples, SCHEDULE, 1)
    for name, value in model.members[0].norm.state_dict().items():
        assert torch.equal(value, before[name]), name


class Wrong(Normalised):
    fault = "tensor"

    def forward(self, *given):
        said = super().forward(*given)
        if self.fault == "tensor":
            return said.logits
        if self.fault == "width":
            return Output(said.logits[:, :1], said.embedding)
        if self.fault == "embedding":
            return Output(said.logits, said.embedding[:, None])
        if self.fault == "writes":
            given[2].mul_(2)
            return said
        return Output(said.logits * math.nan, said.embedding)


class Unlearnt(Normalised):
    fault = "frozen"

    def __init__(self, dims, config):
        super().__init__(dims, config)
        if self.fault == "frozen":
            self.requires_grad_(False)
        if self.fault == "lazy":
            self.classify = nn.LazyLinear(dims.classes)
        if self.fault == "complex":
            self.more = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
        if self.fault == "weight_norm":
            self.classify = nn.utils.weight_norm(self.classify)

    def forward(self, *given):
        said = super().forward(*given)
        if self.fault == "detached":
            return Output(said.logits.detach(), said.embedding)
        return said


def refused_without_a_run(name, told, material, folder):
    split = make_split(material.utterances, "speaker")
    planned = plans.plan_runs(material, split, (name,), 1, NETWORK, SCHEDULE)
    with pytest.raises(SerError, match=told):
        running.run_all(planned[:1], material, folder, jobs=1)
    assert not list(folder.iterdir())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(
    ("kind", "fault", "told"),
    [
        (Unlearnt, "frozen", "own: there is no parameter to learn: all are frozen"),
        (Unlearnt, "detached", "own: there is no parameter to learn: its logits have no gradient"),
        (Unlearnt, "lazy", "own: 0.classify.weight belongs to a lazy layer"),
        (Unlearnt, "complex", "own: the parameter 0.more is torch.complex64; allowed: real"),
        (
            Unlearnt,
            "weight_norm",
            "Unlearnt cannot be copied.*take torch.nn.utils.parametrizatio",
        ),
        (Wrong, "tensor", "Wrong.forward gave a Tensor, not an Output"),
        (Wrong, "width", r"Wrong.forward gave logits of shape \[16, 1\]; needed: \[16, 4\]"),
        (
            Wrong,
            "embedding",
            r"Wrong.forward gave an embedding of shape \[16, 1, 8\]; needed: \[",
        ),
        (Wrong, "writes", "Wrong.forward writes into its inputs, which the other networks"),
        (Wrong, "nan", "Wrong: the training diverged.*nan in epoch 0; take a lower --schedule.l"),
    ],
)
def test_faults_of_a_network_are_told_and_leave_no_run(
    kind, fault, told, material, tmp_path, monkeypatch
):
    monkeypatch.setitem(MODELS, "own", kind)
    monkeypatch.setattr(kind, "fault", fault)
    refused_without_a_run("own", told, material, tmp_path)


def test_a_model_that_fails_does_not_keep_the_others_from_being_made(
    material, tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(MODELS, "wrong", Wrong)
    monkeypatch.setattr(Wrong, "fault", "width")
    split = make_split(material.utterances, "speaker", folds=2)
    asked = protocols.InDomain(
        models=("wrong", "linear"), seeds=1, network=NETWORK, schedule=SCHEDULE
    ).plan(material, split)
    with pytest.raises(SerError, match=r"Wrong.forward gave logits of shape"):
        running.make_experiment(asked, tmp_path, jobs=1)
    made = [path.name.split("-")[0] for path in tmp_path.iterdir() if path.is_dir()]
    assert made == ["linear", "linear"]
    assert "2 of 4 runs failed; those that are complete are kept" in caplog.text


class Asking(Exception):
    """An error that cannot be rebuilt from its message, as another process does it."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_an_error_of_any_class_comes_from_another_process():
    told = failures.sendable(failures.Failure("run", Asking(1, 2), "trace"))
    sent = ForkingPickler.loads(ForkingPickler.dumps(told))
    assert str(sent.error) == "Asking: 1 and 2"
    refused = SerError("no")
    assert failures.sendable(failures.Failure("run", refused, "")).error is refused


def test_a_model_that_does_not_say_what_it_reads(material, monkeypatch):
    monkeypatch.setitem(MODELS, "silent", type("Silent", (nn.Module,), {}))
    split = make_split(material.utterances, "speaker")
    with pytest.raises(SerError, match=r"'silent' lacks its attribute .modalities."):
        plans.plan_runs(material, split, ("silent",), 1, NETWORK, SCHEDULE)
    for read in ("audio", (), ("video",)):
        monkeypatch.setattr(MODELS["silent"], "modalities", read, raising=False)
        with pytest.raises(SerError, match=r"'modalities'; allowed: \('text',\), \('audio',\) or"):
            plans.plan_runs(material, split, ("silent",), 1, NETWORK, SCHEDULE)


@pytest.mark.slow
def test_the_documented_file_is_a_command_whose_processes_know_its_model(folder, tmp_path):
    file, out = tmp_path / "my_models.py", tmp_path / "runs"
    file.write_text(documented(), encoding="utf-8")
    words = f"""train --features {folder} --labels common4 --split speaker --out {out} --seeds 1
        --model recurrent --baselines linear --jobs 2 --schedule.epochs 2
        --schedule.least-steps 1 --network.hidden-dim 8 --network.members 1""".split()
    done = subprocess.run([sys.executable, file, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^recurrent", done.stdout, re.MULTILINE)
    assert len([path for path in out.iterdir() if path.name.startswith("recurrent-")]) == 4


def test_a_model_that_this_process_does_not_know_is_named(tmp_path, monkeypatch, material):
    split = make_split(material.utterances, "speaker")
    planned = plans.plan_runs(material, split, ("attending",), 1, NETWORK, SCHEDULE)
    (folder,) = running.run_all(planned[:1], material, tmp_path, jobs=1)
    monkeypatch.delitem(MODELS, "attending")
    with pytest.raises(SerError, match=r"unknown model 'attending'; choose one of: text, audio"):
        load_model(folder / "model.safetensors")


def test_runs_of_changed_code_are_made_again(tmp_path, monkeypatch, material, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both versions are of one size and time
    split, found = make_split(material.utterances, "speaker", folds=2), []
    asked = protocols.InDomain(
        models=("recurrent", "linear"),
        seeds=1,
        network=NETWORK,
        schedule=replace(SCHEDULE, epochs=1),
    )
    for order in ("words, sound", "sound, words"):
        (tmp_path / "my_own.py").write_text(documented().replace("words, sound", order))
        module = importlib.import_module("my_own")
        monkeypatch.setitem(MODELS, "recurrent", importlib.reload(module).Recurrent)
        running.make_experiment(asked.plan(material, split), tmp_path / "runs", jobs=1)
        found.append({path.name for path in (tmp_path / "runs").glob("*-*0-*")})
    assert {name.split("-")[0] for name in found[0] & found[1]} == {"linear"}
    assert [len(names) for names in found] == [4, 4]
    assert "2 runs in" in caplog.text
    assert "made with other code; set aside" in caplog.text
    assert code_of(MODELS["text"], None) == ""


class Careless(nn.Module):
    """Reads padding as if it were sound, or adds noise; its layers are of three tokens at most."""

    modalities = ("audio",)

    def __init__(self, dims, config, how="reads padding"):
        super().__init__()
        self.how, self.classify = how, nn.Linear(dims.audio, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        real = masked_mean(audio, audio_mask)
        if self.how == "reads padding":
            real = audio.mean(1)
        if self.how == "noise":
            real = real + torch.randn_like(real)
        if self.how == "fixed":
            real = real + audio.reshape(-1, 5, audio.shape[2])[: len(real), 0]
        return Output(self.classify(real), real)


@pytest.mark.parametrize("how", ["reads padding", "noise", "fixed", "well"])
def test_a_network_that_reads_padding_is_told(how, caplog):
    class Kind(Careless):
        def __init__(self, dims, config):
            super().__init__(dims, config, how)

    examples = made_examples(8, tokens=5)
    model = Ensemble(Kind, Dims(**DIMS, classes=3), NETWORK).eval()
    model.fit_inputs(examples)
    warn_of_outputs("mine", model, examples)
    assert bool(caplog.records) == (how != "well")
    caplog.clear()
    for name in ("audio", "text", "cross_attention", "concat"):
        model = Ensemble(MODELS[name], Dims(**DIMS, classes=3), NETWORK).eval()
        model.fit_inputs(examples)
        warn_of_outputs(name, model, examples)
    assert not caplog.records


class Both(nn.Module):
    """Has no mean of a modality without tokens; computes its logits in 16 bits."""

    modalities = ("text", "audio")

    def __init__(self, dims, config):
        super().__init__()
        self.words = nn.Linear(dims.text, dims.audio)
        self.classify = nn.Linear(dims.audio, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        words, sound = (
            x.sum(1) / m.sum(1, True) for x, m in ((text, text_mask), (audio, audio_mask))
        )
        embedding = self.words(words) * sound
        with torch.autocast(text.device.type, torch.bfloat16):
            return Output(self.classify(embedding), embedding)


def test_a_network_that_needs_both_modalities_is_told_why_its_loss_is_nan():
    examples, dims = made_examples(48), Dims(**DIMS, classes=3)
    with pytest.raises(SerError, match=r"Both.forward gives nan for an utterance without text"):
        fit(Ensemble(Both, dims, NETWORK), examples, examples, SCHEDULE, 0)
    model = Ensemble(Both, dims, replace(NETWORK, modality_dropout=0.0))
    fit(model, examples, examples, SCHEDULE, 0)
    assert predict(model, examples).dtype == torch.float32
    # Without a modality its outputs are nan, which no explanation can compare with.
    modalities, moments, features = measured(model, examples)
    for name in ("text", "audio"):
        assert modalities[name]["hidden"] is None
        assert math.isfinite(modalities[name]["another's"])
        assert all(loss is None or math.isfinite(loss) for loss in moments.get(name, ()))
        assert all(map(math.isfinite, features[name].values()))
    unknown = np.array([np.nan, 1.0, 2.0, 3.0])
    assert _likeness(unknown, np.array([7.0, 2.0, 4.0, 6.0])) == pytest.approx(1)


def test_a_network_that_returns_probabilities_is_told(caplog):
    class Soft(Careless):
        def __init__(self, dims, config):
            super().__init__(dims, config, "well")

        def forward(self, *given):
            said = super().forward(*given)
            return Output(said.logits.softmax(1), said.embedding)

    examples = made_examples(8, tokens=5)
    model = Ensemble(Soft, Dims(**DIMS, classes=3), NETWORK)
    model.fit_inputs(examples)
    warn_of_outputs("mine", model.eval(), examples)
    assert "its outputs are probabilities" in caplog.text


def test_the_hash_of_own_code_has_what_it_imports_and_its_arguments(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_part.py").write_text("WIDTH = 8\n\ndef half(x):\n    return x / 2\n")
    (tmp_path / "own_net.py").write_text(
        "import torch\nfrom own_part import half\n\nclass Net:\n    modalities = ('audio',)\n"
    )
    modules = [importlib.import_module(name) for name in ("own_part", "own_net")]
    before = code_of(modules[1].Net)
    assert before == code_of(modules[1].Net) != ""
    (tmp_path / "own_part.py").write_text("WIDTH = 9\n\ndef half(x):\n    return x / 2\n")
    linecache.clearcache()
    assert code_of(modules[1].Net) != before
    two, three = (code_of(functools.partial(modules[1].Net, layers=n)) for n in (2, 3))
    assert two != three
    assert code_of(functools.partial(len, len)) == code_of(functools.partial(len, len))


def test_runs_with_an_own_loss_are_named_by_its_code(material, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    split, names = make_split(material.utterances, "speaker", folds=2), []
    for factor in (1, 2):
        (tmp_path / "own_loss.py").write_text(
            "def scaled(logits, truth, weights, smoothing):\n"
            f"    return {factor} * (logits.logsumexp(2).mean() - logits[:, range(len(truth)), "
            "truth].mean())\n"
        )
        module = importlib.reload(importlib.import_module("own_loss"))
        linecache.clearcache()
        monkeypatch.setitem(LOSSES, "scaled", Loss(module.scaled, ("classes",)))
        schedule = replace(SCHEDULE, loss="scaled", epochs=1)
        for model in ("audio", "stacked"):
            planned = plans.plan_runs(material, split, (model,), 1, NETWORK, schedule)
            names.append(planned[0].config.folder)
    assert len(set(names)) == 4
    planned = plans.plan_runs(material, split, ("audio",), 1, NETWORK, schedule)
    (folder,) = running.run_all(planned[:1], material, tmp_path / "runs", jobs=1)
    assert (folder / "predictions.csv").is_file()
