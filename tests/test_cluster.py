"""Threads and Ray: the same results, whoever dies on the way."""

import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import made_cluster
from made_features import made_folder, made_rows
from made_timeline import RATE, Pitch, recording
from multimodal_ser.cli import main
from multimodal_ser.common.cluster import run_on_ray, run_on_threads
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance, write_manifest
from multimodal_ser.dataset.material import load_material
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.experiments.plans import plan_runs
from multimodal_ser.experiments.running import run_all
from multimodal_ser.features import extract
from multimodal_ser.predict import resumable
from multimodal_ser.splits import make_split
from multimodal_ser.timeline import Recogniser
from multimodal_ser.timeline.folder import AnalysisRecipe, Folder
from multimodal_ser.timeline.places import places
from test_extract import FakeEncoder, Stops, made_corpus

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
CPUS = 2


@pytest.fixture(scope="module")
def cluster():
    """A Ray of our own with two CPUs and a made-up GPU; gives its address."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        context = ray.init(
            "local", num_cpus=CPUS, num_gpus=1, include_dashboard=False, log_to_driver=False
        )
        yield context.address_info["gcs_address"]
        assert ray.is_initialized()  # nobody shut down what was not theirs
        ray.shutdown()


class Drawn(list):
    """Counts how many of its items were taken."""

    taken = 0

    def __iter__(self):
        for item in super().__iter__():
            self.taken += 1
            yield item


def test_threads_compute_each_item_on_one_and_leave_the_setting_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert set(run_on_threads(made_cluster.threads_of, None, range(8), threads=3)) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_run_side_by_side_and_few_items_wait():
    together = threading.Barrier(3, timeout=300)

    def meet(shared, item):
        together.wait()
        return item

    items = Drawn(range(12))
    results = []
    for result in run_on_threads(meet, None, items, threads=3):
        results.append(result)
        assert items.taken - len(results) <= 4
    assert sorted(results) == list(range(12))


def test_threads_hand_over_what_is_done_then_the_error_itself_and_stop():
    stop, results = threading.Event(), []

    def collect():
        for result in run_on_threads(
            made_cluster.fails_on_two, None, range(99), threads=1, stop=stop
        ):
            results.append(result)
            time.sleep(0.05)  # so that item 2 is done too when the next is asked for

    with pytest.raises(FeatureError, match="two is bad"):
        collect()
    assert results == [0, 1, 3][: len(results)]
    assert len(results) >= 2
    assert stop.is_set()
    with pytest.raises(SerError, match="threads=0"):
        list(run_on_threads(made_cluster.times, 1, [1], threads=0))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SerError, match=r"pip install .*\[ray\]'"):
        list(run_on_ray(made_cluster.times, 1, [1]))


def test_ray_does_every_item_on_one_thread_with_few_in_flight(cluster):
    items = Drawn(range(20))
    results = []
    for result in run_on_ray(made_cluster.times, 3, items):
        results.append(result)
        assert items.taken - len(results) <= 2 * CPUS
    assert sorted(results) == [3 * item for item in range(20)]
    assert set(run_on_ray(made_cluster.threads_of, None, range(4))) == {1}
    assert list(run_on_ray(made_cluster.times, 3, [])) == []


def test_ray_gives_an_item_the_gpu_it_asks_for(cluster):
    assert list(run_on_ray(made_cluster.gpus_of, None, [0], gpus=1)) == [[0]]
    assert list(run_on_ray(made_cluster.gpus_of, None, [0])) == [[]]


def test_what_is_shared_reaches_each_worker_once(cluster, tmp_path):
    workers = set(run_on_ray(made_cluster.process_of, made_cluster.Counted(tmp_path), range(30)))
    loaded = sorted(int(file.name.split("-")[0]) for file in tmp_path.iterdir())
    assert loaded == sorted(workers)


def test_an_error_on_ray_is_the_works_own(cluster):
    with pytest.raises(FeatureError, match="two is bad") as caught:
        list(run_on_ray(made_cluster.fails_on_two, None, range(6)))
    assert type(caught.value) is FeatureError


def test_what_rays_threads_print_is_no_result(cluster, capsys):
    for _ in run_on_ray(made_cluster.times, 2, [1]):
        noisy = threading.Thread(target=print, args=["noise"], name="ray_listen_error_messages")
        noisy.start()
        noisy.join()
        print("result")
    said = capsys.readouterr()
    assert (said.out, "noise" in said.err) == ("result\n", True)
    assert type(sys.stdout).__name__ != "_OwnOutput"


def test_an_item_that_kills_every_worker_is_named_after_its_retries(cluster, tmp_path):
    with pytest.raises(SerError, match="workers died again and again"):
        list(run_on_ray(made_cluster.dies, tmp_path, [0], retries=2))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture
def corpus(tmp_path):
    """Recordings and words of 20 utterances, some of which fail."""
    rows = made_corpus(tmp_path / "wav", 20)
    Path(rows[3].audio).write_bytes(b"")
    soundfile.write(rows[9].audio, np.ones(777) * 0.1, 16_000)
    return rows


def test_ray_and_threads_write_the_same_bytes(cluster, tmp_path, corpus):
    whole = extract(corpus, FakeEncoder(), tmp_path / "a", chunk=3, threads=1)
    assert len(whole.failures) == 2
    threads = extract(corpus, FakeEncoder(), tmp_path / "b", chunk=3, threads=3)
    ray = extract(corpus, FakeEncoder(), tmp_path / "c", chunk=3, engine="ray")
    assert threads.path.read_bytes() == whole.path.read_bytes() == ray.path.read_bytes()


def test_a_worker_killed_in_the_middle_loses_nothing(cluster, tmp_path, corpus):
    whole = extract(corpus, FakeEncoder(), tmp_path / "a", chunk=4)
    flag = tmp_path / "died"
    loudest = max(np.abs(soundfile.read(corpus[i].audio)[0]).max() for i in (4, 5, 6, 7))
    encoder = made_cluster.Deadly(flag, float(np.float32(loudest)))
    killed = extract(corpus, encoder, tmp_path / "b", chunk=4, engine="ray")
    assert flag.exists()
    assert killed.path.read_bytes() == whole.path.read_bytes()


def test_either_engine_resumes_the_others_extraction(cluster, tmp_path, corpus):
    whole = extract(corpus, FakeEncoder(), tmp_path / "a", chunk=3)
    with pytest.raises(KeyboardInterrupt):
        extract(corpus, Stops(4), tmp_path / "b", chunk=3, threads=1)
    made = sorted((tmp_path / "b" / "made" / ".fake.parts").glob("0*.safetensors"))
    assert len(made) >= 2
    rows = [corpus[3 * int(part.stem) + place] for part in made for place in range(3)]
    rows = [row for row in rows if row.id not in whole.failures]
    complete = [soundfile.read(row.audio, dtype="float32")[0] for row in rows]

    class Refuses(FakeEncoder):
        def __call__(self, items):
            again = [np.array_equal(item, wave) for item in items for wave in complete]
            assert not any(again), "what is complete is encoded again"
            return super().__call__(items)

    rest = extract(corpus, Refuses(), tmp_path / "b", chunk=3, engine="ray")
    assert rest.path.read_bytes() == whole.path.read_bytes()
    again = extract(corpus, FakeEncoder(), tmp_path / "b", chunk=3)
    assert again.path.read_bytes() == whole.path.read_bytes()


def real(name):
    """An encoder with its real weights from the offline package."""
    pytest.importorskip(
        WEIGHT_SOURCES[name].offline.package, reason="the extra 'offline' is not installed"
    )
    return load_encoder(name)


@pytest.mark.slow
def test_real_networks_give_the_same_bytes_on_threads_and_on_ray(cluster, tmp_path):
    if not EMODB.is_dir():
        pytest.skip("no recordings of EmoDB beside the checkout")
    files = sorted(EMODB.iterdir())[::45]
    rows = [
        Utterance(
            f"emodb/{file.stem}", "emodb", "N", str(file), f"the file is {file.stem} and " * n
        )
        for n, file in enumerate(files, 1)
    ]
    for name in ("whisper-tiny", "minilm"):
        encoder = real(name)
        ways = {"one": {"threads": 1}, "two": {"threads": 2}, "ray": {"engine": "ray"}}
        written = {
            extract(
                rows, encoder, tmp_path / way, dtype="float32", chunk=4, batch_seconds=9.0, **given
            ).path.read_bytes()
            for way, given in ways.items()
        }
        assert len(written) == 1, name


def in_process(*command, environment):
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, *command],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


NAMED_THEN_OWN = """
import os
from made_cluster import address_of
from multimodal_ser.common.cluster import run_on_ray
print(*run_on_ray(address_of, None, [0]))
del os.environ["RAY_ADDRESS"]
print(*run_on_ray(address_of, None, [0]))
"""


@pytest.mark.slow
def test_the_cluster_that_is_named_is_used_and_else_one_is_started(cluster):
    said = in_process("-c", NAMED_THEN_OWN, environment={"RAY_ADDRESS": cluster})
    named, own = said.split()
    assert named == cluster != own


def test_the_command_gives_the_same_file_and_messages(cluster, tmp_path, capsys):
    real("minilm")
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(made_corpus(tmp_path / "wav", 6), manifest)
    said, written = set(), set()
    for engine in ("local", "ray"):
        given = ["--manifest", str(manifest), "--text", "minilm", "--engine", engine]
        assert main(["extract", *given, "--out", str(tmp_path / engine)]) == 0
        said.add(capsys.readouterr().out.replace(str(tmp_path / engine), ""))
        written.add((tmp_path / engine / "made" / "minilm.safetensors").read_bytes())
    assert len(said) == len(written) == 1


@pytest.mark.slow
def test_experiments_on_ray_make_the_bytes_that_processes_make(cluster, tmp_path):
    rows = made_rows(48, speakers=4)
    folder = made_folder(tmp_path, rows, skill=0.7, lacking={"mine/004"})
    material = load_material(folder, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=4)
    network = ModelConfig(members=2, hidden_dim=8, num_heads=2)
    schedule = TrainConfig(epochs=2, batch_size=16, least_steps=1)
    plans = plan_runs(material, split, ("concat", "linear"), 1, network, schedule)
    here = run_all(plans, material, tmp_path / "here", jobs=2)
    there = run_all(plans, material, tmp_path / "there", jobs=2, engine="ray")
    assert len(here) == 8
    for one, other in zip(here, there, strict=True):
        for name in ("predictions.csv", "model.safetensors", "metrics.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
    with pytest.raises(SerError, match="unknown engine 'slurm'; choose one of: local, ray"):
        run_all(plans, material, tmp_path, engine="slurm")


def test_a_folder_is_analysed_on_ray_to_the_same_bytes(cluster, tmp_path):
    """A worker dies on the way; the driver writes, so workers need not see where to."""
    for name in ("a/call", "b/call", "c/call"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "in" / f"{name}.wav", recording(0.5, (1.0, "anger"), 0.5), RATE)
    (tmp_path / "in/bad.wav").write_text("nothing")
    found = places([str(tmp_path / "in")])
    written = []
    for engine in ("local", "ray"):
        model = made_cluster.DeadlyPitch(tmp_path / "flag") if engine == "ray" else Pitch()
        out = tmp_path / engine
        folder = Folder(out, AnalysisRecipe(model, {"vad": "energy"}, ("json", "csv")), found)
        assert len(list(folder.run(engine, lambda place: nullcontext()))) == 4
        folder.finish()
        files = (f for f in sorted(out.rglob("*")) if f.is_file())
        written.append({str(f.relative_to(out)): f.read_bytes() for f in files})
    assert (tmp_path / "flag").exists()
    assert written[0] == written[1]
    assert len(written[0]) == 2 * 3 + 4


def test_a_folder_is_predicted_on_ray_to_the_same_bytes(cluster, tmp_path, monkeypatch, capsys):
    """A worker dies on the way, and one recording cannot be read."""
    (tmp_path / "in").mkdir()
    for number, emotion in enumerate(("anger", "sadness", "anger", "sadness", "anger")):
        sound = recording(0.5, (1.0 + 0.1 * number, emotion), 0.5)
        soundfile.write(tmp_path / f"in/{number}.wav", sound, RATE)
    (tmp_path / "in/bad.wav").write_text("nothing")
    monkeypatch.setattr(resumable, "CHUNK", 2)
    (tmp_path / "flag").touch()
    for engine in ("local", "ray"):
        made = made_cluster.DeadlyAnswers(tmp_path / "flag")
        made.modalities = ("audio",)
        monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, made=made, **how: made)
        args = ["predict", str(tmp_path / "in"), "--format", "csv", "--engine", engine]
        assert main([*args, "--out", str(tmp_path / f"{engine}.csv")]) == 1
        assert "in/bad.wav: is text, not audio" in capsys.readouterr().err
        (tmp_path / "flag").unlink(missing_ok=True)
    assert main(args) == 1  # standard output, in the order of the recordings
    assert capsys.readouterr().out == (tmp_path / "ray.csv").read_text()
    assert (tmp_path / "flag").exists()
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()
    rows = (tmp_path / "ray.csv").read_text().splitlines()
    assert len(rows) == 7
    assert "in/bad.wav,failed," in rows[-1]


def test_a_recogniser_is_loaded_again_where_it_is_sent(monkeypatch):
    made = SimpleNamespace(model=SimpleNamespace(is_multilingual=True), supported_languages=["de"])
    package = SimpleNamespace(WhisperModel=lambda place, **how: made)
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    again = pickle.loads(pickle.dumps(Recogniser("made", language="de")))
    assert (again.multilingual, again._language) == (True, "de")
