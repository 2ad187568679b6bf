"""An extraction killed at any moment: a second call gives the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal_ser.features import extract
from test_extract import FakeEncoder, made_corpus

WORKER = """
    import sys, time, torch  # torch before any fork: importing it in every child takes minutes
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from multimodal_ser.corpora.utterance import read_manifest
    from multimodal_ser.features import extract
    from test_extract import FakeEncoder

    class Slow(FakeEncoder):
        def __call__(self, items):
            time.sleep(0.01)
            return super().__call__(items)

    manifest, out = Path(sys.argv[1]), Path(sys.argv[2])
    def run(encoder=Slow):
        return extract(read_manifest(manifest), encoder(), out, chunk=3, batch_seconds=0.3)
"""
# Dies before and after every step that changes what is on disk, one after the other.
EVERY_STEP = """
    import os, shutil, signal
    steps = {"Path.replace": (Path, "replace"), "Path.unlink": (Path, "unlink"),
             "Path.mkdir": (Path, "mkdir"), "fsync": (os, "fsync"), "rmtree": (shutil, "rmtree"),
             "copyfileobj": (shutil, "copyfileobj"), "os.replace": (os, "replace"),
             "os.unlink": (os, "unlink"), "os.rmdir": (os, "rmdir")}
    def die_at(number):
        count = 0
        def wrap(owner, name):
            real = getattr(owner, name)
            def step(*args, **kwargs):
                nonlocal count
                for call in (None, real):
                    count += 1
                    if count >= number:
                        os.kill(os.getpid(), signal.SIGKILL)
                    result = call and call(*args, **kwargs)
                return result
            setattr(owner, name, step)
        for owner, name in steps.values():
            wrap(owner, name)

    def child(number):
        pid = os.fork()
        if not pid:
            die_at(number)
            run(FakeEncoder)
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    undisturbed = Path(sys.argv[3]).read_bytes()
    number = 0
    while True:
        number += 1
        shutil.rmtree(out, ignore_errors=True)
        if child(number) == 0:
            break
        if number % 3 == 0:
            child(number // 2 + 1)  # killed twice
        assert child(10**9) == 0
        left = sorted(file.name for file in (out / "made").iterdir())
        assert left == ["fake.safetensors", "manifest.jsonl"], (number, left)
        assert (out / "made" / "fake.safetensors").read_bytes() == undisturbed, number
    print(number)
"""


def start(tmp_path: Path, script: str, *arguments: Path) -> subprocess.Popen:
    path = tmp_path / "worker.py"
    worker = textwrap.dedent(WORKER).replace("{tests!r}", repr(str(Path(__file__).parent)))
    path.write_text(worker + textwrap.dedent(script))
    source = Path(sys.modules["multimodal_ser"].__path__[0]).parent
    return subprocess.Popen(
        [sys.executable, path, *arguments],
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def undisturbed(tmp_path):
    """A manifest of 11 recordings, two of which fail, and the file that a whole run gives."""
    rows = made_corpus(tmp_path / "wav", 11)
    Path(rows[3].audio).write_bytes(b"")
    soundfile.write(rows[9].audio, np.ones(777) * 0.1, 16_000)
    result = extract(rows, FakeEncoder(), tmp_path / "whole", chunk=3, batch_seconds=0.3)
    assert len(result.failures) == 2
    return result.path.parent / "manifest.jsonl", result.path


@pytest.mark.slow
def test_killed_at_every_step_a_second_call_gives_the_same_bytes(tmp_path, undisturbed):
    manifest, whole = undisturbed
    process = start(tmp_path, EVERY_STEP, manifest, tmp_path / "out", whole)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    assert int(output) > 60


@pytest.mark.slow
def test_killed_from_outside_a_second_call_gives_the_same_bytes(tmp_path, undisturbed):
    manifest, whole = undisturbed
    out = tmp_path / "out"
    killed = 0
    for parts in [0, 1, 2, 4]:
        with start(tmp_path, "run()", manifest, out) as process:
            folder = out / "made" / ".fake.parts"
            while process.poll() is None and len(list(folder.glob("0*.safetensors"))) < parts:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 2
    with start(tmp_path, "run()", manifest, out) as process:
        process.communicate(timeout=300)
    assert process.returncode == 0
    assert (out / "made" / "fake.safetensors").read_bytes() == whole.read_bytes()
