"""emotion2vec compared with FunASR's network: same weights, recordings and process, interleaved.

    python benchmarks/emotion2vec.py --audio ../shared/data/emodb/wav [--funasr SITE_PACKAGES]

Weights are random, which does not change any timing. Only FunASR's network is timed, without its
decoding of files (`pip install --no-deps funasr==1.4.16` and `pip install omegaconf` are enough).
"files to features" is all that `ser extract` does, decoding and writing included. Every repeat
times all implementations one after the other, so that a busy machine slows all of them alike;
ratios are medians of the repeats' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import machine

from multimodal_ser.audio import read_audio
from multimodal_ser.common.devices import native_bfloat16
from multimodal_ser.corpora import Utterance
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.encoders.emotion2vec import Emotion2Vec
from multimodal_ser.encoders.emotion2vec_net import KERNELS, STRIDES, Sizes, frame_count
from multimodal_ser.encoders.emotion2vec_onnx import export_onnx
from multimodal_ser.features import extract

sys.path.append(str(Path(__file__).parents[1] / "tests"))
NAME = "emotion2vec-plus-base"


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    if given.funasr:
        sys.path.append(given.funasr)
    files = recordings(given.audio, given.clips)
    waves = [read_audio(file) for file in files]
    if given.memory:
        _print_peak(given, waves)
        return
    seconds = sum(map(len, waves)) / 16_000
    print(machine(given.device))
    on_gpu = given.device.startswith("cuda")
    # By default, PyTorch multiplies float32 numbers exactly but for convolutions on a GPU, of which
    # FunASR's network has more. So that both compute alike, it is one or the other throughout.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = given.tf32
    native = torch.cuda.is_bf16_supported(False) if on_gpu else native_bfloat16()
    print(f"bfloat16 products in hardware: {'yes' if native else 'no, so it is not timed here'}")
    print(f"{len(waves)} recordings, {seconds:.1f} s of sound, {given.size} layout")
    with tempfile.TemporaryDirectory() as folder:
        reference = make_weights(given.size, Path(folder))
        if given.repeats:
            ways = made_ways(given, files, waves, Path(folder), reference, native)
            times = interleaved(ways, given.repeats, given.device)
            report(times, seconds, flops_of(waves, given.size), given)
            report_agreement(given, waves, Path(folder), native)
        if not given.no_memory:
            dtypes = ["float32", *other_types(given, native)]
            ours = [f"ours {dtype}, {how}" for dtype in dtypes for how in ("one by one", "batches")]
            theirs = ["FunASR float32, one by one"] * (reference is not None)
            report_memory(given, Path(folder), [*theirs, *ours])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--size", choices=("base", "large"), default="base")
    parser.add_argument("--repeats", type=int, default=5, help="0 measures the memory alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true", help="round float32 products on a GPU")
    parser.add_argument("--funasr", help="folder to import FunASR and omegaconf from")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--minutes", type=int, default=0, help="memory for a recording this long")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def recordings(folder: Path, count: int) -> list[Path]:
    """Returns a number of recordings, spread evenly over the folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    return files[:: max(1, len(files) // count)][:count]


def make_weights(size: str, folder: Path) -> torch.nn.Module | None:
    """Writes random weights; returns FunASR's network with them, or None if it is not installed."""
    import funasr_oracle
    import made_emotion2vec

    sizes = funasr_oracle.LARGE if size == "large" else funasr_oracle.BASE
    if not funasr_oracle.available():
        print("FunASR is not installed: ours alone is timed")
        made_emotion2vec.folder(folder, channels=512, **sizes)
        return None
    network: torch.nn.Module = funasr_oracle.network(**sizes, classes=9)
    torch.save({"model": network.state_dict()}, folder / "model.pt")
    return network


def one_by_one(encoder: Encoder, waves: list[np.ndarray]) -> None:
    """Encodes waveforms in batches of one."""
    for wave in waves:
        encoder([wave])


def to_features(
    encoder: Encoder, files: list[Path], folder: Path, given: argparse.Namespace
) -> None:
    """Does what `ser extract` does: decodes, fingerprints, encodes, and writes a feature file."""
    rows = [Utterance(f"made/{file.stem}", "made", "neutral", str(file)) for file in files]
    out = folder / "features"
    extract(rows, encoder, out, overwrite=True, progress=False, threads=given.threads)


def made_ways(
    given: argparse.Namespace,
    files: list[Path],
    waves: list[np.ndarray],
    folder: Path,
    reference: torch.nn.Module | None,
    native: bool,
) -> dict[str, Callable[[], object]]:
    """Returns what is timed, by name."""
    ours = load_encoder(NAME, folder, device=given.device)
    ways: dict[str, Callable[[], object]] = {}
    if reference is not None:
        ways["FunASR float32, one by one"] = reference_way(reference, waves, given.device)
    ways["ours float32, one by one"] = partial(one_by_one, ours, waves)
    ways["ours float32, batches"] = partial(ours, waves)
    ways["ours float32, files to features"] = partial(to_features, ours, files, folder, given)
    if given.device == "cpu" and find_spec("onnxruntime") and find_spec("onnxscript"):
        assert isinstance(ours, Emotion2Vec)
        run = onnx_way(ours, waves, folder / "model.onnx", given.threads)
        ways["onnxruntime float32, one by one"] = run
    for dtype in other_types(given, native):
        half = load_encoder(NAME, folder, device=given.device, dtype=dtype)
        ways[f"ours {dtype}, one by one"] = partial(one_by_one, half, waves)
        ways[f"ours {dtype}, batches"] = partial(half, waves)
        way = partial(to_features, half, files, folder, given)
        ways[f"ours {dtype}, files to features"] = way
    return ways


def other_types(given: argparse.Namespace, native: bool) -> list[str]:
    """Returns the number formats that are timed in addition to float32."""
    return ["bfloat16"] * native + (["float16"] if given.device.startswith("cuda") else ["int8"])


def reference_way(
    network: torch.nn.Module, waves: list[np.ndarray], device: str
) -> Callable[[], object]:
    import funasr_oracle

    network = network.to(device)

    def run() -> list[np.ndarray]:
        tensors = [torch.from_numpy(wave).to(device) for wave in waves]
        return [funasr_oracle.frames(network, wave).cpu().numpy() for wave in tensors]

    return run


def onnx_way(
    encoder: Emotion2Vec, waves: list[np.ndarray], file: Path, threads: int
) -> Callable[[], object]:
    from multimodal_ser.predict.onnx_backend import onnxruntime

    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime().InferenceSession(str(export_onnx(encoder, file)), options)
    return lambda: [session.run(None, {"waves": wave[None]}) for wave in waves]


def interleaved(
    ways: dict[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, list[float]]:
    """Returns the seconds of every implementation in every repeat, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return times


def flops(sizes: Sizes, samples: int) -> float:
    """Counts floating-point operations of all products for one recording; a multiply-add is 2."""
    total, steps, wide = 0.0, samples, 1
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        steps = (steps - kernel) // stride + 1
        total += 2 * steps * kernel * wide * sizes.channels
        wide = sizes.channels
    frames, d = frame_count(samples), sizes.dim
    total += 2 * frames * (wide * d + sizes.positions * sizes.reach * d * d / sizes.groups)
    tokens = frames + sizes.extra
    block = tokens * (4 * d * d + 2 * d * sizes.hidden) + 2 * tokens**2 * d
    return total + 2 * sizes.depth * block


def flops_of(waves: list[np.ndarray], size: str) -> float:
    large = Sizes(dim=1024, heads=16, depth=12, hidden=4096)
    return sum(flops(large if size == "large" else Sizes(), len(wave)) for wave in waves)


def ceiling(dtype: torch.dtype, device: str, side: int = 2048) -> float:
    """Measures the operations per second of one large matrix product on this machine."""
    side = side * 4 if device.startswith("cuda") else side
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch._int_mm if dtype == torch.int8 else torch.matmul
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        product(a, b)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def report(
    times: dict[str, list[float]], seconds: float, work: float, given: argparse.Namespace
) -> None:
    first, *_ = times
    print(f"\n{work / 1e9:.0f} GFLOP, {work / seconds / 1e9:.1f} per second of sound")
    print(
        f"{'':32} {'× real time':>12} {'× ' + first.split(',')[0]:>18} {'GFLOP/s':>8} {'share':>6}"
    )
    limits: dict[str, float] = {}
    for name, took in times.items():
        dtype = name.split()[1].rstrip(",")
        if dtype not in limits:
            limits[dtype] = ceiling(getattr(torch, dtype), given.device)
        median = statistics.median(took)
        ratio = statistics.median(a / b for a, b in zip(times[first], took, strict=True))
        rate = work / median
        print(
            f"{name:32} {seconds / median:12.1f} {ratio:18.2f} {rate / 1e9:8.1f} "
            f"{rate / limits[dtype]:6.0%}"
        )
    for dtype, limit in limits.items():
        print(f"ceiling in {dtype}: {limit / 1e9:.0f} GFLOP/s (one large matrix product)")


def report_agreement(
    given: argparse.Namespace, waves: list[np.ndarray], folder: Path, native: bool
) -> None:
    """Prints the smallest cosine similarity to float32 of an utterance's mean, and of a frame."""

    def least(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
        pairs = zip(np.concatenate(found), np.concatenate(wanted), strict=True)
        return min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs)

    plain = load_encoder(NAME, folder, device=given.device)(waves)
    print()
    for dtype in other_types(given, native):
        found = load_encoder(NAME, folder, device=given.device, dtype=dtype)(waves)
        means = ([frames.mean(0)[None] for frames in rows] for rows in (found, plain))
        print(
            f"{dtype}: cosine with float32 of an utterance's mean at least {least(*means):.6f}, "
            f"of a frame {least(found, plain):.6f}"
        )


def report_memory(given: argparse.Namespace, folder: Path, ways: list[str]) -> None:
    """Prints the peak resident memory of each implementation, each in its own process."""
    print()
    long = [f"ours float32, {given.minutes} minutes"] * bool(given.minutes)
    for name in [*ways, *long]:
        command = [sys.executable, __file__, *_same(given), "--memory", str(folder), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"{name:32} {done.stdout.strip().splitlines()[-1]}")


def _same(given: argparse.Namespace) -> list[str]:
    options = ["audio", "clips", "size", "threads", "device", *["funasr"] * bool(given.funasr)]
    return [part for name in options for part in (f"--{name}", str(getattr(given, name)))]


def _print_peak(given: argparse.Namespace, waves: list[np.ndarray]) -> None:
    folder, name = Path(given.memory[0]), given.memory[1]
    if name.startswith("FunASR"):
        import funasr_oracle

        sizes = funasr_oracle.LARGE if given.size == "large" else funasr_oracle.BASE
        run = reference_way(funasr_oracle.network(**sizes, classes=9), waves, given.device)
    else:
        _, dtype, *_ = name.replace(",", "").split()
        ours = load_encoder(NAME, folder, device=given.device, dtype=dtype)
        if "minutes" in name:
            waves = [np.resize(np.concatenate(waves), int(name.split()[2]) * 60 * 16_000)]
        run = (lambda: ours(waves)) if "batches" in name else lambda: [ours([w]) for w in waves]
    if given.device.startswith("cuda"):
        run()
        print(f"peak on the GPU {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
        return
    run()
    peak, held = mebibytes("VmHWM"), mebibytes("VmRSS")
    print(f"peak {peak:.0f} MiB, {held:.0f} MiB at the end, torch and weights included")


def mebibytes(what: str) -> float:
    """Resident memory of this process (Linux); getrusage would also count its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split(f"{what}:")[1].split()[0]) / 2**10


if __name__ == "__main__":
    main()
