"""Subcommands about features: extract, convert-weights, import-features."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from multimodal_ser.cli.app import MOST_SHOWN, File, Name, app, say
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.features import ExtractionResult, ImportResult


def _keep_memory_flat() -> None:
    """Keeps batches of ever other sizes from leaving ever more behind, in every thread.

    oneDNN would keep what it compiled for a thousand shapes; the C library (Linux) would keep freed
    blocks under 32 MiB for itself, and now returns those of 64 KiB and more to the system.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(-3, 1 << 16)  # M_MMAP_THRESHOLD


@app.command
def extract(
    manifest: tuple[Path, ...],
    out: Path,
    audio: str | None = None,
    text: str | None = None,
    audio_source: str | None = None,
    text_source: str | None = None,
    audio_tokens: int = 32,
    text_tokens: int = 64,
    layers: tuple[int, ...] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    device: str = "cpu",
    audio_dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    engine: Literal["local", "ray"] = "local",
    threads: int | None = None,
) -> int:
    """Encodes the recordings and words of manifests into feature files.

    Killed at any moment, the same command goes on where it was. Failures are listed, the rest is
    kept, and the exit code is then 1.

    Args:
        manifest: one or more, from `ser manifest`.
        out: the features folder.
        audio: encoder of the sound: whisper-tiny, whisper-base, whisper-small, whisper-medium,
            whisper-large, wav2vec2, egemaps, emotion2vec-base, emotion2vec-plus-seed,
            emotion2vec-plus-base, emotion2vec-plus-large.
        text: encoder of the words: minilm, bert.
        audio_source: folder or hub id of its weights; the installed offline package otherwise.
        text_source: the same for the words.
        audio_tokens: frames are averaged to at most so many; 1 is the pooled vector.
        text_tokens: word pieces kept at most; 1 is the pooled vector.
        layers: layers of the audio encoder to put side by side.
        dtype: precision in the file.
        device: where torch computes, such as cpu or cuda.
        audio_dtype: what emotion2vec computes in; where not given, bfloat16 on CPUs that have it
            in hardware and float32 elsewhere.
        overwrite: replace features that were made with other settings.
        retry_failed: try what failed before again.
        engine: local, or ray for a cluster (docs/cluster.md); the features are the same.
        threads: processors that the local engine uses; those that torch would use if not given.
    """
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.encoders import ENCODERS, load_encoder
    from multimodal_ser.errors import one_of
    from multimodal_ser.features import extract as extract_features
    from multimodal_ser.features.precision import default_dtype

    if audio is None and text is None:
        raise SerError("nothing to extract: give --audio ENCODER, --text ENCODER, or both")
    _keep_memory_flat()
    utterances = [row for path in manifest for row in read_manifest(path)]
    failed = 0
    sides = {
        "audio": (audio, audio_source, audio_tokens),
        "text": (text, text_source, text_tokens),
    }
    for side, (name, source, tokens) in sides.items():
        if name is None:
            continue
        fitting = [key for key, spec in ENCODERS.items() if spec.modality == side]
        if name not in fitting:
            raise SerError(one_of(f"{side} encoder", name, fitting))
        asked = audio_dtype or default_dtype(name, device)
        given = {"layers": layers, "dtype": asked} if name == audio else {}
        options = {key: value for key, value in given.items() if value is not None}
        encoder = load_encoder(name, source, device=device, **options)
        for corpus in sorted({row.corpus for row in utterances}):
            result = extract_features(
                [row for row in utterances if row.corpus == corpus],
                encoder,
                out,
                tokens=tokens,
                dtype=dtype,
                overwrite=overwrite,
                retry_failed=retry_failed,
                engine=engine,
                threads=threads,
            )
            failed += _show_extracted(result)
    return 1 if failed else 0


def _show_extracted(result: ExtractionResult) -> int:
    say(f"{result.path}: {result.done} utterances, {len(result.failures)} failed")
    if result.truncated:
        say(f"  the last words of {result.truncated} utterances were cut (--text-tokens)")
    if result.repeated:
        say(
            f"  {len(result.repeated)} utterances hold the very sound of an earlier one, such as "
            f"{result.repeated[0]}: are their start and end in the manifest?"
        )
    for key, reason in list(result.failures.items())[:MOST_SHOWN]:
        say(f"  {key}: {reason}")
    if len(result.failures) > MOST_SHOWN:
        say(f"  … and {len(result.failures) - MOST_SHOWN} more")
    return len(result.failures)


@app.command(name="convert-weights")
def convert_weights(
    source: Name,
    /,
    out: Path,
    name: str = "emotion2vec-plus-large",
    revision: str | None = None,
) -> None:
    """Writes emotion2vec's model.pt as safetensors, which loads faster and holds no code.

    Args:
        source: folder or hub id with model.pt.
        out: folder to write; it is a source for --audio-source.
        name: which emotion2vec it is.
        revision: branch, tag or commit on the hub.
    """
    from multimodal_ser.encoders.emotion2vec_files import convert_weights as convert

    say(f"wrote {convert(source, out, name=name, revision=revision)}")


@app.command(name="import-features")
def import_features(
    source: File,
    /,
    manifest: Path,
    out: Path,
    name: str,
    modality: Literal["audio", "text"],
    key: str | None = None,
    ids: Path | None = None,
    id_format: str | None = None,
    rows: Literal["ids", "manifest"] = "ids",
    pickle_labels: str | None = None,
    tokens: int | None = None,
    pool: Literal["mean", "first"] = "mean",
    dtype: Literal["float16", "float32"] = "float16",
    trained_on: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Takes your own features: .npy, .npz, .parquet, or the original's .pkl, which never runs.

    Args:
        source: the file.
        manifest: whose utterances these are, from `ser manifest`.
        out: the features folder.
        name: what the features are called, in place of an encoder.
        modality: audio or text.
        key: which array, column or entry of the file.
        ids: file with one id per row, where the source has none.
        id_format: how columns of the ids file make an id: meld/dev/dia{Dialogue_ID}_utt{…}
        rows: match rows by ids, or take row i for the manifest's i-th utterance.
        pickle_labels: order of classes behind a pickle's integer labels, to check them.
        tokens: tokens kept per utterance at most.
        pool: what one token is.
        dtype: precision in the file.
        trained_on: what the extractor saw: meld=labels, cremad=unlabelled, emodb=no.
        overwrite: replace features of that name.
    """
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.features import import_features as import_rows

    result: ImportResult = import_rows(
        source,
        read_manifest(manifest),
        out,
        name,
        modality,
        key=key,
        ids=ids,
        id_format=id_format,
        rows=rows,
        labels=pickle_labels.split(",") if pickle_labels else None,
        tokens=tokens,
        pool=pool,
        dtype=dtype,
        trained_on=trained_on,
        overwrite=overwrite,
    )
    say(f"{result.path}: {result.done} utterances")
    for what, keys in (
        ("without a row", result.missing),
        ("unknown to the manifest", result.unknown),
    ):
        if keys:
            say(f"  {len(keys)} {what}, such as {next(iter(keys))}")
