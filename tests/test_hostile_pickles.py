"""Pickles that grow by references to themselves: bounded in depth, instructions, memo and size."""

import io
import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal_ser.errors import FeatureError
from multimodal_ser.features import pickle_values
from multimodal_ser.features.pickle_reader import read_pickle
from test_import_features import imported, original_rows


def laughs(make, levels=40, width=10):
    """Every level holds the one below `width` times: width ** levels when written out."""
    value = make("ha")
    for _ in range(levels):
        value = make([value] * width)
    return value


def objects(parts):
    made = np.empty(len(parts), dtype=object)
    for place, part in enumerate(parts):
        made[place] = part
    return made


def as_rows(value):
    return [{**row, "text": value} for row in original_rows()]


def encodes_of_one_text(count):
    """`_codecs.encode` of the same megabyte again and again, at six bytes each."""
    text = b"\x80\x02X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000 + b"q\x00"
    latin = b"X\x06\x00\x00\x00latin1q\x02"
    call = b"h\x01h\x00h\x02\x86R"
    return text + b"c_codecs\nencode\nq\x01" + latin + b"(" + call * count + b"l."


def loads_of_one_tensor(count):
    content = io.BytesIO()
    torch.save(torch.zeros(100_000), content, _use_new_zipfile_serialization=False)
    data = content.getvalue()
    head = b"\x80\x05B" + struct.pack("<I", len(data)) + data + b"\x94"
    load = b"ctorch.storage\n_load_from_bytes\n\x94"
    return head + load + b"(" + b"h\x01h\x00\x85R" * count + b"l."


BOMBS = {
    "lists": lambda: pickle.dumps(laughs(list)),
    "tuples": lambda: pickle.dumps(laughs(tuple)),
    "dicts": lambda: pickle.dumps(laughs(lambda part: dict(enumerate(part)), width=9)),
    "rows": lambda: pickle.dumps(as_rows(laughs(list))),
    "a vector of vectors": lambda: pickle.dumps(
        [{**row, "audio_embed": laughs(list, 9)} for row in original_rows()]
    ),
    "a tuple as key": lambda: b"\x80\x04}" + pickle.dumps(laughs(tuple))[2:-1] + b"K\x01s.",
    "tuples as keys": lambda: b"\x80\x04(" + pickle.dumps(laughs(tuple))[2:-1] + b"K\x01d.",
    "a key among others": lambda: (
        b"\x80\x04}(K\x01K\x01" + pickle.dumps(laughs(tuple))[2:-1] + b"K\x01u."
    ),
    "very deep": lambda: b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "very deep tuples": lambda: b"\x80\x04)" + b"\x85" * 100_000 + b".",
    "a deep key": lambda: b"\x80\x04})" + b"\x85" * 300_000 + b"K\x01s.",
    "an array many times": lambda: pickle.dumps([np.zeros(100_000)] * 50_000),
    "a text many times": lambda: pickle.dumps(["a" * 1_000_000] * 50_000),
    "objects many times": lambda: pickle.dumps(laughs(objects)),
    "encoded again and again": lambda: encodes_of_one_text(30_000),
    "loaded again and again": lambda: loads_of_one_tensor(30_000),
    "a refusal of a nest": lambda: b"\x80\x04" + pickle.dumps(laughs(tuple))[2:-1] + b"\x85Q.",
    "a size that is a nest": lambda: (
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x00a" + pickle.dumps(laughs(tuple))[2:-1] + b"\x86R."
    ),
    "a huge dimension": lambda: pickle.dumps(10**2_000_000) + b"",
}
READ = """
    import resource, sys
    from pathlib import Path
    from multimodal_ser.errors import FeatureError
    from multimodal_ser.features.pickle_reader import read_pickle
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
    for name in sys.argv[1:]:
        try:
            print(name, type(read_pickle(Path(name))).__name__, flush=True)
        except FeatureError as error:
            print(name, error, flush=True)
"""


def test_bombs_are_refused_in_bounded_memory_and_time(tmp_path):
    """In a process that may take 100 s and 6 GB for all of them together."""
    files = []
    for place, make in enumerate(BOMBS.values()):
        files.append(tmp_path / f"{place:02d}.pkl")
        files[-1].write_bytes(make())
        assert files[-1].stat().st_size < 60_000_000
    source = Path(sys.modules["multimodal_ser"].__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), *files],
        env={"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(zip(BOMBS, done.stdout.splitlines(), strict=True))
    assert answers.pop("a huge dimension").endswith(" int")  # big, and as big as its file
    for name, told in answers.items():
        assert "refused" in told or "damaged" in told, (name, told)
        assert len(told) < 500, name


def test_instructions_and_references_are_counted(tmp_path, monkeypatch):
    source = tmp_path / "a.pkl"
    monkeypatch.setattr(pickle_values, "MEMO", 1_000)
    source.write_bytes(b"\x80\x04N" + b"\x94" * 1_001 + b".")
    with pytest.raises(FeatureError, match=r"refers to more than 1,000 objects"):
        read_pickle(source)
    source.write_bytes(b"\x80\x04" + b"]0" * 3_000 + b"N.")
    assert read_pickle(source) is None
    monkeypatch.setattr(pickle_values, "STEPS", 5_000)
    with pytest.raises(FeatureError, match=r"more than 5,000 instructions"):
        read_pickle(source)


@pytest.mark.parametrize("name", ["rows", "a vector of vectors", "tuples", "very deep"])
def test_they_reach_no_feature_file(tmp_path, name):
    source = tmp_path / "a.pkl"
    source.write_bytes(BOMBS[name]())
    with pytest.raises(FeatureError, match=r"a\.pkl: refused"):
        imported(tmp_path, source, rows="manifest")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_legitimate_sharing_in_pickles_is_read(tmp_path):
    """Rows that share what describes them, as `paper/` writes, and one vector for equal words."""
    shared = {"classes": ["a", "b"], "encoder": {"name": "x", "layers": [1, 2, 3]}}
    vector = np.arange(384, dtype="f4")
    rows = [{"id": f"u{n}", "about": shared, "embed": vector} for n in range(20_000)]
    source = tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps(rows))
    found = read_pickle(source)
    assert len(found) == 20_000
    assert found[7]["about"] == shared
    np.testing.assert_array_equal(found[-1]["embed"], vector)


def test_lists_of_floats_are_read(tmp_path):
    """Five thousand utterances whose vectors are lists: five million instructions."""
    values = np.random.default_rng(0).normal(size=(1_000, 768)).tolist()
    source = tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps([{"id": str(n), "v": v} for n, v in enumerate(values)]))
    assert read_pickle(source)[999]["v"] == values[999]


def test_depth_is_counted_along_the_longest_path(tmp_path):
    """A nest that is first met near the top, and then again at the bottom."""
    inner = []
    for _ in range(40):
        inner = [inner]
    outer = inner
    for _ in range(40):
        outer = [inner, outer]
    source = tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps(outer))
    with pytest.raises(FeatureError, match="64 deep"):
        read_pickle(source)
    source.write_bytes(pickle.dumps(inner))
    assert read_pickle(source) == inner
