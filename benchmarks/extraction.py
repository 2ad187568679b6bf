"""Extraction compared with transformers' Whisper, and its memory as a corpus grows.

    python benchmarks/extraction.py --manifest emodb.jsonl [--sizes 1 4 16] [--rows 1000000]

Time: from the recordings of the manifest to features on disk with whisper-tiny (decoding,
resampling, encoding, writing; the network is loaded before), compared with the same weights in
transformers' encoder as it is normally used: recordings decoded one after the other, padded to
30 s, encoded one at a time, nothing written. Both use the same number of threads, one after the
other in every repeat; the ratio is the median of the repeats' ratios. transformers encodes only
every --every-th recording, and its time is scaled up to all.

Memory: the peak resident memory of `ser extract` in its own process, for the corpus, for several
copies of it under other ids, and for one recording of several lengths in minutes; and of the
bookkeeping alone, for --rows sentences and an encoder that returns one number.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from machine import machine

from multimodal_ser.audio import audio_info, read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora import Utterance, read_manifest
from multimodal_ser.corpora.utterance import write_manifest
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.whisper import Whisper
from multimodal_ser.features import extract

sys.path.append(str(Path(__file__).parents[1] / "tests"))

COMMAND = """
import sys
from pathlib import Path
from multimodal_ser.cli import main
code = main(sys.argv[1:])
"""
ROWS = """
import sys
from pathlib import Path
import numpy as np
from multimodal_ser.corpora import read_manifest
from multimodal_ser.encoders.base import EncoderInfo
from multimodal_ser.features import extract

class One:
    info = EncoderInfo("one", "text", 1, 0, weights="none", layers="1", exposure={})

    def __call__(self, items):
        return [np.ones((1, 1), np.float32)] * len(items)

extract(read_manifest(Path(sys.argv[1])), One(), Path(sys.argv[2]))
code = 0
"""
# The process prints its own peak, so that its parents' memory does not count.
PEAK = """
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    rows = read_manifest(given.manifest)
    print(f"{machine(packages=('multimodal-ser', 'torch', 'transformers'))}\n")
    print("| what | took | against |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        report_time(rows, given, Path(folder))
        report_memory(rows, given, Path(folder))
        report_lengths(rows, given, Path(folder))
        report_rows(given, Path(folder))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of one corpus")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--every", type=int, default=4, help="transformers encodes 1 in this many")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--minutes", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--rows", type=int, default=0, help="rows for the bookkeeping alone")
    parser.add_argument("--encoder", default="whisper-tiny", help="encoder for the memory")
    return parser.parse_args()


def report_time(rows: Sequence[Utterance], given: argparse.Namespace, folder: Path) -> None:
    """Times our extraction and transformers', one after the other."""
    ours = load_encoder("whisper-tiny")
    assert isinstance(ours, Whisper)
    theirs = transformers_way(ours.network.state_dict())
    some = rows[:: given.every]
    theirs(some[:1])
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    for repeat in range(given.repeats):
        out = folder / f"features-{repeat}"
        took["ours"].append(seconds(partial(extract, rows, ours, out, threads=given.threads)))
        share = seconds(lambda: theirs(some))
        took["theirs"].append(share * sound_of(rows) / sound_of(some))
    ratio = statistics.median(b / a for a, b in zip(took["ours"], took["theirs"], strict=True))
    of = f"{len(rows)} recordings, {sound_of(rows) / 60:.1f} min"
    print(f"| whisper-tiny, {of}: here | {statistics.median(took['ours']):.1f} s | 1 |")
    print(
        f"| the same by transformers, one clip at a time (1 in {given.every} timed) "
        f"| {statistics.median(took['theirs']):.1f} s | {ratio:.1f} × |",
        flush=True,
    )


def transformers_way(weights: dict[str, torch.Tensor]) -> Callable[[Sequence[Utterance]], None]:
    """Returns transformers' feature extractor and encoder with our weights, as normally used."""
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from test_whisper import transformers_names

    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536
    )
    network = WhisperEncoder(config).eval()  # type: ignore[no-untyped-call]
    network.load_state_dict(transformers_names(weights))
    prepare = WhisperFeatureExtractor()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(rows: Sequence[Utterance]) -> None:
        for row in rows:
            wave = read_audio(str(row.audio))
            mel = prepare(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
            network(mel, output_hidden_states=True)

    return run


def sound_of(rows: Sequence[Utterance]) -> float:
    return sum(audio_info(str(row.audio)).duration for row in rows)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def report_memory(rows: Sequence[Utterance], given: argparse.Namespace, folder: Path) -> None:
    """Measures peaks for corpora that contain the same recordings 1, 4 or 16 times."""
    first = None
    for size in given.sizes:
        copies = [replace(row, id=f"{row.id}.{copy}") for copy in range(size) for row in rows]
        manifest = folder / f"{size}.jsonl"
        write_manifest(copies, manifest)
        peak = peak_of(COMMAND, *options(manifest, folder / f"grown-{size}", given))
        first = first or peak
        print(
            f"| peak memory of `ser extract --audio {given.encoder}`, {len(copies)} recordings "
            f"| {peak:.0f} MiB | {peak / first:.2f} × |",
            flush=True,
        )


def report_lengths(rows: Sequence[Utterance], given: argparse.Namespace, folder: Path) -> None:
    """Measures seconds and peaks for one recording of growing length, joined from the corpus's."""
    wave = np.concatenate([read_audio(str(row.audio)) for row in rows])
    for minutes in given.minutes:
        audio, manifest = folder / f"{minutes}.wav", folder / f"minutes-{minutes}.jsonl"
        soundfile.write(audio, np.resize(wave, minutes * 60 * SAMPLE_RATE), SAMPLE_RATE)
        write_manifest([Utterance(f"long/{minutes}", "long", "none", str(audio))], manifest)
        begin = time.perf_counter()
        peak = peak_of(COMMAND, *options(manifest, folder / "long", given), "--overwrite")
        print(
            f"| `ser extract --audio {given.encoder}`, one recording of {minutes} min "
            f"| {time.perf_counter() - begin:.1f} s | {peak:.0f} MiB |",
            flush=True,
        )


def report_rows(given: argparse.Namespace, folder: Path) -> None:
    """Measures the peak memory of what extraction holds per utterance, without any encoder."""
    if not given.rows:
        return
    named = (f"rows/Ses01F_impro{number:08d}_F000" for number in range(given.rows))
    rows = (Utterance(key, "rows", "neutral", text="it is eleven", speaker="01F") for key in named)
    write_manifest(rows, folder / "rows.jsonl")
    peak = peak_of(ROWS, str(folder / "rows.jsonl"), str(folder / "rows"))
    print(f"| peak memory of the bookkeeping of {given.rows} sentences | {peak:.0f} MiB | |")


def options(manifest: Path, out: Path, given: argparse.Namespace) -> list[str]:
    return [
        "extract", "--manifest", str(manifest), "--out", str(out),
        "--audio", given.encoder, "--threads", str(given.threads),
    ]  # fmt: skip


def peak_of(work: str, *arguments: str) -> float:
    """Runs a process; returns its peak memory in MiB."""
    command = [sys.executable, "-c", work + PEAK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    return int(done.stderr.split()[-1]) / 2**10


if __name__ == "__main__":
    main()
