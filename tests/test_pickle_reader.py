"""The safe reader of pickles: what is admitted, what is refused, and that nothing runs."""

import contextlib
import copyreg
import io
import os
import pickle
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal_ser.errors import FeatureError
from multimodal_ser.features.pickle_reader import read_pickle
from test_import_features import IDS, VECTORS, imported, original_rows

VALUES = [
    torch.arange(24.0).reshape(4, 6)[1:, ::2].T,
    torch.tensor([1.5, -2.25, 3e38]).bfloat16(),
    torch.tensor([True, False]),
    torch.tensor(3, dtype=torch.int16),
    torch.zeros(0, 4),
    torch.nn.Parameter(torch.ones(2, dtype=torch.float64)),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(6, dtype=">i4"),
    np.arange(12.0)[::3],
    np.float32(2.5),
    np.array(["ä", "bc"]),
    np.array([1, "x", [2.0]], dtype=object),
    (1, 2.5, None, True, "text", b"bytes", 10**30, [{"a": ()}]),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=[str(n) for n in range(len(VALUES))])
def test_values_are_what_pickle_itself_gives(tmp_path, value, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([value, value], protocol))
    ours = read_pickle(tmp_path / "a.pkl")[1]
    if isinstance(value, torch.Tensor):
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        value = value.numpy()
    if isinstance(value, tuple):
        assert ours == value
    else:
        np.testing.assert_array_equal(np.asarray(ours, dtype=value.dtype), value)


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class State:
    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np.ndarray.__new__, (np.ndarray, (0,)), self.state


class Made(dict):
    pass


def touching(marker: Path) -> dict[str, object]:
    """Pickles that would make `marker`, by name."""
    shell, code = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    inner = pickle.dumps(Call(os.system, shell))
    torch_inner = io.BytesIO()
    torch.save(Call(os.system, shell), torch_inner, _use_new_zipfile_serialization=False)
    return {
        "os.system": Call(os.system, shell),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "getattr": Call(getattr, Made(), "clear"),
        "open": Call(open, str(marker), "w"),
        "import": Call(__import__, "os"),
        "map": Call(map, eval, [code]),
        "pickle.loads": Call(pickle.loads, inner),
        "torch.load": Call(torch.load, str(marker)),
        "np.load": Call(np.load, str(marker), None, True),
        "np.save": Call(np.save, str(marker), [1]),
        "torch bytes": Call(torch.storage._load_from_bytes, torch_inner.getvalue()),
        "torch plain bytes": Call(torch.storage._load_from_bytes, inner),
        "state": State((1, (1,), np.dtype("O"), False, [Call(os.system, shell)])),
        "in an array": np.array([Call(os.system, shell)], dtype=object),
        "in a list": [[1, {"label": Call(os.system, shell)}]],
        "as a key": {"x": 1, Call(os.system, shell): 2},
        "beside tensors": [*original_rows(), Call(os.system, shell)],
        "subclass": Made(a=1),
        "reconstructor": Call(copyreg._reconstructor, Made, dict, {}),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", sorted(touching(Path("x"))))
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, name, protocol):
    marker, source = tmp_path / "marker", tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps(touching(marker)[name], protocol))
    with pytest.raises(FeatureError, match=r"refused|damaged"):
        read_pickle(source)
    with pytest.raises(FeatureError, match=r"a\.pkl"):
        imported(tmp_path, source, rows="manifest")
    assert not marker.exists()


def test_refusals_name_what_was_asked_for(tmp_path):
    source = tmp_path / "a.pkl"
    for value, name in [
        (Call(os.system, "true"), f"{os.system.__module__}.system"),
        (Call(eval, "1"), "builtins.eval"),
        (Made(), f"{__name__}.Made"),
    ]:
        source.write_bytes(pickle.dumps(value))
        with pytest.raises(FeatureError, match=f"asks for {name}, and nothing in it was run"):
            read_pickle(source)


def test_pickles_written_by_hand_are_refused(tmp_path):
    marker, source = tmp_path / "marker", tmp_path / "a.pkl"
    shell = f"touch {marker}".encode()
    short = b"\x8c" + bytes([len(shell)]) + shell
    load = b"\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93"
    by_hand = {
        "GLOBAL": b"cos\nsystem\n(S'x'\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        "dotted": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93" + short + b"\x85R.",
        "joined": b"\x80\x04\x8c\x05torch\x8c\x18storage._load_from_bytes\x93" + short + b"\x85R.",
        "INST": b"(" + short + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + short + b"o.",
        "INST of an allowed class": b"(icollections\nOrderedDict\n.",
        "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "EXT1": b"\x80\x02\x82\x01.",
        "PERSID": b"Pos.system\n.",
        "BINPERSID": b"\x80\x04" + short + b"Q.",
        "BUILD on a builder": b"ccollections\nOrderedDict\n(N}(" + short + b"Ntub.",
        "BUILD on a list": b"](N}(" + short + b"Ntub.",
        "REDUCE of text": short + b")R.",
        "REDUCE of an array": b"cnumpy.core.multiarray\n_reconstruct\n)R)R.",
        "load of no bytes": b"\x80\x04" + load + short + b"\x85R.",
        "a type as value": b"cnumpy\nndarray\n.",
        "memo of gigabytes": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "bytes of terabytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\x01\x00\x00.",
        "itself": b"]q\x00h\x00a.",
    }
    for name, content in by_hand.items():
        source.write_bytes(content)
        with pytest.raises(FeatureError, match=r"a\.pkl"):
            imported(tmp_path, source, rows="manifest")
        assert not marker.exists(), name


def forged(size, stride=(1,), offset=0, shape=None, dtype="f4"):
    """A tensor or an array whose claims go beyond its bytes."""
    content = io.BytesIO()
    torch.save(torch.zeros(4).storage(), content, _use_new_zipfile_serialization=False)
    load = Call(torch.storage._load_from_bytes, content.getvalue())
    if shape is not None:
        rebuild = np.zeros(1).__reduce_ex__(5)[0]  # its module's name is numpy's own affair
        return Call(rebuild, bytes(16), np.dtype(dtype), shape, "C")
    return Call(torch._utils._rebuild_tensor_v2, load, offset, size, stride, False, OrderedDict())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    "value",
    [
        ((5,),),
        ((2, 2), (3, 2)),
        ((2,), (1,), 3),
        ((2,), (-1,), 3),
        ((10**12,), (0,)),
        ((-1,),),
        ((2, 2), (1,)),
        ((2**62, 4), (1, 1)),
        ((), (), 0, (5,)),
        ((), (), 0, (-1, -4)),
        ((), (), 0, (2**62, 8)),
        ((), (), 0, (4,), "f8"),
        ((), (), 0, (0, 2**70)),
        ((), (), 0, (1,), "V16"),
    ],
)
def test_claims_beyond_the_bytes_are_refused(tmp_path, value):
    source = tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps(forged(*value)))
    with pytest.raises(FeatureError, match=r"a\.pkl"):
        read_pickle(source)


def test_numpy_files_with_objects_run_nothing(tmp_path):
    marker = tmp_path / "marker"
    objects = np.array([Call(os.system, f"touch {marker}")] * 6, dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", v=objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(objects))
    for name in ["a.npy", "a.npz", "b.npy"]:
        with pytest.raises(FeatureError, match=name):
            imported(tmp_path, tmp_path / name, rows="manifest")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_mutated_pickles_run_nothing_and_raise_nothing_else(tmp_path, protocol):
    marker, source = tmp_path / "marker", tmp_path / "a.pkl"
    noise = random.Random(protocol)
    seeds = [
        pickle.dumps(value, protocol)
        for value in [
            original_rows()[:2],
            {"id": np.array(IDS), "audio_embed": VECTORS, "o": np.array([1, "a"], dtype=object)},
            [Call(os.system, f"touch {marker}"), VECTORS],
        ]
    ]
    zipped = io.BytesIO()
    torch.save(original_rows()[:2], zipped)
    for turn in range(300):
        content = bytearray(noise.choice([*seeds, zipped.getvalue()]))
        for _ in range(noise.randint(1, 4)):
            place = noise.randrange(len(content))
            action = noise.random()
            if action < 0.6:
                content[place] = noise.randrange(256)
            elif action < 0.8:
                del content[place : place + noise.randint(1, 9)]
            else:
                content[place:place] = content[noise.randrange(len(content)) :][:9]
        source.write_bytes(bytes(content))
        with contextlib.suppress(FeatureError):
            read_pickle(source)
        assert not marker.exists(), turn


def test_reading_tensors_imports_no_torch(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(original_rows()))
    code = (
        "import sys; from pathlib import Path; from multimodal_ser.features import pickle_reader; "
        "rows = pickle_reader.read_pickle(Path(sys.argv[1])); "
        "print(len(rows), rows[0]['audio_embed'].shape, 'torch' in sys.modules)"
    )
    source = Path(sys.modules["multimodal_ser"].__path__[0]).parent
    shown = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.pkl"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == "6 (5,) False"
