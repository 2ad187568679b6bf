"""A GPU by name, for machines without one: it computes on the CPU and refuses what a GPU refuses.

    python tests/made_gpu.py FOLDER     # trains, encodes and predicts on it, and on the CPU

Its tensors are wrappers of the CPU's, so results are the same to the bit. An operation that is
given a wrapper and a tensor of the CPU fails as on a GPU, and so does numpy. This changes torch for
the whole process, so it only runs as a process of its own (`test_made_gpu.py`).
"""

import sys
from concurrent.futures import thread
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten._unsafe_index.Tensor)


class Backend(backend_registration._DummyBackendModule):
    """What torch asks of the module of a device."""

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


backend_registration._setup_privateuseone_for_python_backend("gpu", backend_module=Backend())
GPU = torch.device("gpu:0")


class OnGpu(torch.Tensor):
    """A tensor of the GPU, around the tensor of the CPU that holds its numbers."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=GPU, layout=inner.layout,
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})


class OnGpuToo(TorchDispatchMode):
    """Sees the operations without a tensor of the GPU, such as those that make one."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})


def computed(operation, args, kwargs):
    """Computes on the CPU what a GPU would compute, and wraps the result."""
    if operation is aten._fused_sdp_choice.default:
        return 0  # attention in plain operations: the CPU has no kernels of a GPU
    flat, structure = tree_flatten((args, kwargs))
    own = [x for x in flat if isinstance(x, OnGpu)]
    others = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu)]
    asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    check_places(operation, args, own, others)
    args, kwargs = tree_unflatten([x.inner if isinstance(x, OnGpu) else x for x in flat], structure)
    on_gpu = bool(own) if asked is None else asked.type == GPU.type
    if operation is aten.copy_.default:
        on_gpu = isinstance(flat[0], OnGpu)
    if asked is not None and on_gpu:
        kwargs["device"] = torch.device("cpu")
    if on_gpu and kwargs.get("generator") is not None:
        raise RuntimeError(f"{operation}: a generator of the CPU for a tensor of the GPU")
    wrappers = {id(x.inner): x for x in own}  # what is changed in place stays the same tensor

    def wrapped(x):
        if not isinstance(x, torch.Tensor) or any(x is other for other in others):
            return x
        if id(x) in wrappers:
            return wrappers[id(x)]
        return OnGpu(x) if on_gpu else x

    return tree_map(wrapped, operation(*args, **kwargs))


def check_places(operation, args, own, others):
    """Raises RuntimeError if tensors of both places meet; numbers and indices may, as on CUDA."""
    met = [x for x in others if x.dim()]
    if operation in INDEXED and isinstance(args[0], OnGpu):
        met = [x for x in met if x.is_floating_point()]
    if own and met and operation not in COPIES:
        shapes = [tuple(x.shape) for x in met]
        raise RuntimeError(f"{operation}: expected all tensors on the GPU, {shapes} are on the CPU")


def replaced():
    """Replaces what goes past the dispatcher: in wrappers of torch it finds no storage."""
    made, listed, run = torch.tensor, torch.Tensor.tolist, thread._WorkItem.run

    class NoGrad(torch.no_grad):  # inference tensors cannot be wrapped
        def __init__(self, mode=True):
            super().__init__()

    def tensor(data, *args, device=None, **how):
        return made(data, *args, **how).to(device or "cpu")

    def new_tensor(self, data, *, dtype=None, device=None):
        return made(data, dtype=dtype or self.dtype).to(device or self.device)

    def from_cpu(save):
        return lambda tensors, *args, **how: save(
            {name: value.cpu() for name, value in tensors.items()}, *args, **how
        )

    def in_thread(item, *args):
        with OnGpuToo():  # a mode is of one thread
            run(item, *args)

    torch.inference_mode, torch.tensor, torch.Tensor.new_tensor = NoGrad, tensor, new_tensor
    torch.Tensor.tolist = lambda self: listed(self.inner if isinstance(self, OnGpu) else self)
    for name in ("save", "save_file"):
        setattr(safetensors.torch, name, from_cpu(getattr(safetensors.torch, name)))
    thread._WorkItem.run = in_thread


def train(folder):
    """Trains on features what `ser` trains, and one network on the CPU, too."""
    from made_transfer import corpus_folder, shares_of
    from multimodal_ser.cli import main

    source, target = corpus_folder(folder, "one"), corpus_folder(folder, "two", gain=3.0, count=64)
    small = [
        *("--labels", "common4", "--seeds", "1", "--jobs", "1", "--schedule.epochs", "2"),
        *("--schedule.least-steps", "1", "--network.hidden-dim", "8", "--network.num-heads", "2"),
    ]
    alone = ["train", "--features", source, "--split", "speaker", "--folds", "2"]
    pair = ["--source", source, "--target", target, "--source-folds", "2", "--target-folds", "2"]
    pair += ["--source-split", "speaker", "--target-split", "speaker"]

    def made(*line, device="gpu"):
        out = folder / f"runs-{len(list(folder.iterdir()))}"
        with OnGpuToo():
            words = [str(x) for x in (*line, *small, "--device", device, "--out", out)]
            assert main(words) == 0, words
        return sorted(file.parent for file in out.glob("cross_attention*/predictions.csv"))

    fused = (*alone, "--model", "cross_attention", "--network.before", "1")
    on_gpu, on_cpu = made(*fused), made(*fused, device="cpu")
    assert len(on_gpu) == 2
    for there, here in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(shares_of(there), shares_of(here), atol=1e-4)
    made(*alone, "--model", "stacked")
    made("experiment", "adaptation", *pair)
    made("experiment", "fewshot", *pair, "--percentages", "50", "--draws", "1")


def encode(folder):
    """Encodes with speech encoders on both devices, and fine-tunes one that then moves."""
    from made_emotion2vec import noise
    from made_encoders import tiny
    from multimodal_ser.encoders import load_encoder
    from multimodal_ser.training.tune.loop import predict_clips, tune
    from test_tune_any import QUICK, clips, made

    items = [noise(n, n) for n in (400, 9_000, 5_000)]
    for name in ("emotion2vec-plus-base", "wav2vec2", "whisper-tiny"):
        root = tiny(name, folder)
        with OnGpuToo():
            frames = load_encoder(name, root, device="gpu")(items)
        for on_gpu, on_cpu in zip(frames, load_encoder(name, root)(items), strict=True):
            torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)
    for name in ("wav2vec2", "whisper-tiny"):
        with OnGpuToo():
            model, features = made((name,), folder, QUICK, "gpu")
            model = tune(model.to("gpu"), clips(), clips(4, 1), QUICK, 0, features=features).model
            predicted = predict_clips(model, clips(4, 2))
            moved = predict_clips(model.to("cpu"), clips(4, 2))
        torch.testing.assert_close(moved, predicted, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    replaced()  # before the package takes names of torch
    encode(Path(sys.argv[1]))
    train(Path(sys.argv[1]))
    print("all of it ran on the GPU")
