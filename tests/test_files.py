"""Files under their final names: complete or absent, on full disks and in killed processes too."""

import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from made_sound import written
from multimodal_ser.cli import main
from multimodal_ser.common.files import locked, made_folder, scratch_folder, written_aside
from multimodal_ser.corpora import Utterance, write_manifest
from multimodal_ser.errors import SerError
from multimodal_ser.features.store import FeatureHeader, write_store
from multimodal_ser.splits.folds import Fold, Split, write_split

SOURCE = Path(sys.modules["multimodal_ser"].__path__[0]).parent
HERE = Path(__file__).parent


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("old", "new"):
        with written_aside(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() == "old"
        assert contents(path.parent) == {"a.txt": text.encode()}


def test_a_folder_replaces_the_old_one(tmp_path):
    for name in ("old", "new"):
        with written_aside(tmp_path / "run") as partial:
            partial.mkdir()
            (partial / name).write_text("x")
    assert contents(tmp_path / "run") == {"new": b"x"}
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_aside(path) as partial:
        partial.write_text(f"half {1 / (partial == path)}")
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_what_a_killed_process_left_is_replaced(tmp_path):
    (tmp_path / ".a.txt.partial").write_text("half of something longer")
    with written_aside(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    assert contents(tmp_path) == {"a.txt": b"whole"}


def test_a_link_stays_and_a_device_is_not_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "a.txt")
    with written_aside(link) as partial:
        partial.write_text("x")
    assert link.is_symlink()
    assert contents(tmp_path / "there") == {"a.txt": b"x"}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with written_aside(pipe) as partial:
        partial.write_text("x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_device_is_an_error_that_says_so():
    said = r"/dev/full: cannot be written \(No space.*free some space"
    told = pytest.raises(SerError, match=said)
    with told, written_aside(Path("/dev/full")) as partial:
        partial.write_text("x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_what_cannot_be_written_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for place, word in (("file/a.txt", "in a folder"), ("folder", "in a folder")):
        with pytest.raises(SerError, match=word), written_aside(tmp_path / place) as partial:
            partial.write_text("x")
    assert contents(tmp_path / "folder") == {}
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "a") as partial:
        partial.write_bytes((tmp_path / "missing input").read_bytes())
    told = pytest.raises(SerError, match="File name too long")
    with told, written_aside(tmp_path / ("n" * 256)) as partial:
        partial.write_text("x")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    with written_aside(tmp_path / ("n" * 255)) as partial:
        partial.write_text("x")
    assert contents(tmp_path) == {"n" * 255: b"x"}
    made_folder(tmp_path / "a" / "b")
    with pytest.raises(SerError, match="give the name of a file, in a folder"):
        made_folder(tmp_path / ("n" * 255))


def test_a_scratch_folder_is_gone_afterwards():
    with scratch_folder() as folder:
        (folder / "a").write_text("x")
    assert not folder.exists()


def started(tmp_path, program, *arguments):
    """A process whose disk takes no file above 2 kB, unless `room` is given."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{SOURCE}:{HERE}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        # a shell that runs the tests in the background lets its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


FULL = """
    import resource, sys
    import multimodal_ser.predict
    from made_server import MadePredictor
    from multimodal_ser.cli import main
    multimodal_ser.predict.load = lambda model, **_: MadeStream()
    class MadeStream(MadePredictor):
        modalities, adaptable = ("audio",), False
        def outcomes(self, sources, texts=None):
            from multimodal_ser.audio import read_audio
            for source in sources:
                yield self.waves([read_audio(source)])[0]
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def recordings(tmp_path):
    from made_server import encoded, melody

    folder = tmp_path / "in"
    folder.mkdir()
    for place in range(40):
        (folder / f"{place:02d}.wav").write_bytes(encoded(melody(200 + place, seconds=0.5)))
    return folder


@pytest.mark.parametrize("form", ["csv", "json"])
def test_predictions_on_a_full_disk_are_absent_and_whole_with_room(tmp_path, recordings, form):
    out = tmp_path / "out" / "p"
    line = ["predict", recordings, "--adapt", "off", "--format", form, "--out", out]
    process = started(tmp_path, FULL, 1000, *line)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 1, told
    assert "cannot be written (File too large); free some space" in told
    assert "Traceback" not in told
    # what was predicted is kept, so that rerunning the command with room resumes
    assert list(contents(out.parent)) == [".p.answered.jsonl"]
    process = started(tmp_path, FULL, resource.RLIM_INFINITY, *line)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert list(contents(out.parent)) == ["p"]
    assert out.read_text().count(".wav") == 40


def test_a_timeline_on_a_full_disk_leaves_nothing(tmp_path, recordings):
    out = tmp_path / "out"
    line = ["analyze", recordings / "00.wav", "--out", out, "--formats", "json,csv"]
    process = started(tmp_path, FULL, 100, *line)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 1, told
    assert "cannot be written" in told
    assert "Traceback" not in told
    assert contents(out) == {}


DAWDLING = """
    import sys, time
    import multimodal_ser.predict
    from made_server import MadePredictor
    from multimodal_ser.cli import main
    class Slow(MadePredictor):
        modalities = ("audio",)
        def outcomes(self, sources, texts=None):
            yield self.waves([[0.0] * 16000])[0]
            time.sleep(60)
    multimodal_ser.predict.load = lambda model, **_: Slow()
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_predictions_of_a_stopped_process(tmp_path, recordings, number):
    out = tmp_path / "out" / "p.csv"
    line = ["predict", recordings, "--adapt", "off", "--format", "csv", "--out", out]
    process = started(tmp_path, DAWDLING, *line)
    try:
        for _ in range(6000):
            if (out.parent / ".p.csv.partial").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert (out.parent / ".p.csv.partial").exists()
        process.send_signal(number)
        _, told = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in told
    assert not out.exists()
    if number != signal.SIGKILL:
        assert contents(out.parent) == {}


EXPORTING = """
    import sys, time
    import multimodal_ser.export.onnx_file as onnx_file
    from multimodal_ser.cli import main
    def write(predictor, file, part):
        file.write_bytes(b"half a model")
        print(file.parent, flush=True)
        time.sleep(60)
    onnx_file._write = write
    sys.exit(main(["export", "starter", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_export_that_is_stopped_leaves_nothing_beside_its_output(tmp_path, number):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    out = tmp_path / "out"
    out.mkdir()
    process = started(tmp_path, EXPORTING, out / "m.onnx")
    try:
        scratch = Path(process.stdout.readline().strip())
        assert contents(scratch) == {"m.onnx": b"half a model"}
        process.send_signal(number)
        process.communicate(timeout=300)
    finally:
        process.kill()
    assert contents(out) == {}
    if number == signal.SIGKILL:
        (scratch / "m.onnx").unlink()
        scratch.rmdir()
    assert not scratch.exists()


def write_a_store(path):
    header = FeatureHeader(
        corpus="made", encoder="made", modality="audio", weights="0", layers="0", tokens=4, dim=8,
        rate=50.0,
    )  # fmt: skip
    write_store(path, header, ((f"u{n}", np.zeros((4, 8), "f4")) for n in range(99)))


WRITERS = {
    "manifest": lambda path: write_manifest(
        [Utterance(f"u{n}", "made", emotion="anger") for n in range(99)], path
    ),
    "split": lambda path: write_split(
        Split("made", (Fold("f", *[tuple(f"{p}{n}" for n in range(99)) for p in "abc"]),)), path
    ),
    "features": write_a_store,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_keeps_what_stood_there(tmp_path, kind):
    path = tmp_path / "file"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(SerError, match="cannot be written"):
            WRITERS[kind](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(tmp_path) == {"file": b"old"}
    WRITERS[kind](path)
    assert list(contents(tmp_path)) == ["file"]


PARENT = """
    import os, time
    from concurrent.futures import ProcessPoolExecutor
    from multimodal_ser.experiments.running import _processes, _start_worker

    def work(_):
        print(os.getpid(), flush=True)
        while True:  # as a training does, without ever looking up
            pass

    if __name__ == "__main__":
        with ProcessPoolExecutor(1, _processes("cpu"), _start_worker, (None,)) as pool:
            pool.submit(work, 0).result()
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    process = subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=300)  # the worker holds the other end of the pipe until it ends
    assert not running(worker)


def running(number):
    """Whether a process runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_commands_do_not_write_at_one_place(tmp_path):
    place = tmp_path / "a" / "out.csv"  # need not exist
    with locked(place):
        with pytest.raises(SerError, match=r"out\.csv: another command is writing there"):
            locked(tmp_path / "." / "a" / "out.csv").__enter__()
        with locked(tmp_path / "other.csv"):
            pass
        asked = [sys.executable, "-c", f"from multimodal_ser.common.files import locked\n"
                 f"from pathlib import Path\nwith locked(Path({str(place)!r})): pass"]  # fmt: skip
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert "another command is writing there" in told.stderr
    with locked(place):
        assert contents(tmp_path) == {}


@pytest.mark.parametrize("command", ["predict", "analyze"])
def test_a_second_command_for_one_output_is_refused(tmp_path, command, capsys):
    for name in ("a.wav", "b.wav"):
        written(tmp_path / name, np.zeros(16_000, np.float32))
    out = tmp_path / "out"
    place = out if command == "predict" else out / ".analyzed.jsonl"
    asked = [command, str(tmp_path), "--out", str(out)]
    with locked(place):
        assert main(asked) == 1
    assert "another command is writing there" in capsys.readouterr().err
    assert not out.exists()
    assert main([*asked, *(["--formats", "json"] if command == "analyze" else [])]) == 0
    assert out.exists()
