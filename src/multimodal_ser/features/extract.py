"""manifest.jsonl → audio → encoders → features/<corpus>/<encoder>.safetensors, resumable.

The manifest's order is cut into chunks of fixed size; each chunk becomes a part file that is
complete or absent, and the parts are merged at the end. What a killed run left is finished by
the next call, to the same bytes: batches never cross a chunk, so the same utterances meet in
the same batches.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from multimodal_ser.corpora.utterance import Utterance, write_manifest
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.errors import FeatureError, one_of
from multimodal_ser.features.chunks import Made, Recipe, has_material
from multimodal_ser.features.engines import ENGINES, make_parts
from multimodal_ser.features.parts import Parts, digest, merge, work_folder
from multimodal_ser.features.pool import TOKENS, Modality, Pool, check_pooling
from multimodal_ser.features.precision import computed_in
from multimodal_ser.features.progress import meter
from multimodal_ser.features.store import (
    FeatureHeader,
    FeatureStore,
    differences,
    feature_path,
)

log = logging.getLogger(__name__)

_SETTINGS = (
    "corpus", "encoder", "modality", "dim", "weights", "layers", "tokens", "pool", "dtype",
    "compute_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class ExtractionResult:
    """What an extraction left.

    Attributes:
        path: the feature file.
        done: utterances with features.
        failures: id → reason, for those without.
        truncated: utterances whose last words were cut.
    """

    path: Path
    done: int
    failures: Mapping[str, str]
    truncated: int = 0


def extract(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    out: Path,
    *,
    tokens: int | None = None,
    dtype: str = "float16",
    pool: Pool | None = None,
    chunk: int = 64,
    batch_seconds: float = 32.0,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: bool = True,
    engine: str = "local",
    threads: int | None = None,
) -> ExtractionResult:
    """Encodes all utterances of a corpus into one feature file, with their manifest beside it.

    A finished file made with the same settings is kept as it is; its failures are tried again
    only with `retry_failed`. Utterances that fail are listed, and the rest is kept.

    Args:
        utterances: of one corpus.
        encoder: what turns them into frames.
        out: the features folder; the file is ``out/<corpus>/<encoder>.safetensors``.
        tokens: rows kept per utterance at most; None is 32 for audio, 64 for text; 1 is the
            pooled vector.
        dtype: ``float16`` or ``float32``, as stored.
        pool: what the pooled vector is, ``mean`` or ``first``; None is what the encoder says.
        chunk: utterances per part file.
        batch_seconds: length of a batch with its padding, in seconds of sound (15 characters of
            text count as one).
        overwrite: replace a finished file, whatever its settings.
        retry_failed: try the failures of a finished file again.
        progress: show a progress bar where standard error is a terminal.
        engine: ``local``, or ``ray`` for a cluster (see docs/cluster.md); both give the same bytes.
        threads: chunks that the local engine makes at a time; None is torch's number of threads.

    Raises:
        FeatureError: an unknown engine; a finished file has other settings; several corpora; none
            of the utterances has sound (or words); none succeeded; or values too large for float16.
    """
    if engine not in ENGINES:
        raise FeatureError(one_of("engine", engine, ENGINES))
    header = _header(utterances, encoder, tokens, dtype, pool)
    path = feature_path(out, header.corpus, header.encoder)
    done = None if overwrite or not path.exists() else _finished(path, header)
    write_manifest(utterances, path.parent / "manifest.jsonl")
    todo = utterances if done is None else _retried(utterances, done, retry_failed)
    if done is None or todo:
        chunks = [todo[begin : begin + chunk] for begin in range(0, len(todo), chunk)]
        parts = Parts(path, chunks, _fingerprint(header, todo, chunk, batch_seconds))
        _fill(parts, Recipe(encoder, header, batch_seconds), engine, threads, progress)
        stores = [*([] if done is None else [done]), *parts.stores()]
        _check_any_succeeded(parts, stores)
        done = merge(path, header, stores, utterances)
    shutil.rmtree(work_folder(path), ignore_errors=True)
    return ExtractionResult(path, len(done), done.header.failures, done.header.truncated)


def one_corpus(utterances: Sequence[Utterance]) -> str:
    """Returns the corpus that all utterances are of.

    Raises:
        FeatureError: none, several corpora, or an id that occurs twice.
    """
    corpora = sorted({row.corpus for row in utterances})
    if len(corpora) != 1:
        raise FeatureError(
            f"utterances of {len(corpora)} corpora {corpora} were given; a feature file holds one: "
            "extract each corpus by itself"
        )
    repeated = [key for key, count in Counter(row.id for row in utterances).items() if count > 1]
    if repeated:
        raise FeatureError(f"ids must be unique, but these occur twice: {repeated[:5]}")
    return corpora[0]


def _header(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    tokens: int | None,
    dtype: str,
    pool: Pool | None,
) -> FeatureHeader:
    info, corpus = encoder.info, one_corpus(utterances)
    tokens = TOKENS[info.modality] if tokens is None else tokens
    pool = pool or info.pool
    check_pooling(tokens, pool)
    if not any(has_material(row, info.modality) for row in utterances):
        needed = "words" if info.modality == "text" else "recordings"
        raise FeatureError(
            f"no utterance of {corpus!r} has {needed}, which {info.name!r} encodes; leave that "
            "side out, or add them to the manifest"
        )
    return FeatureHeader(
        corpus=corpus, encoder=info.name, modality=info.modality, dim=info.dim, rate=info.rate,
        weights=info.weights, layers=info.layers, tokens=tokens, pool=pool, dtype=dtype,
        exposure=dict(info.exposure), source=_source(utterances, info.modality),
        compute_dtype=computed_in(encoder),
    )  # fmt: skip


def _source(utterances: Sequence[Utterance], modality: Modality) -> str:
    """File names without folders: features do not change when a corpus is moved."""
    if modality == "text":
        return digest([[row.id, row.text] for row in utterances])
    names = [Path(row.audio).name if row.audio else None for row in utterances]
    rows = zip(utterances, names, strict=True)
    return digest([[row.id, name, row.start, row.end] for row, name in rows])


def _fingerprint(
    header: FeatureHeader, utterances: Sequence[Utterance], chunk: int, batch_seconds: float
) -> str:
    rows = [[row.id, row.audio, row.start, row.end, row.text] for row in utterances]
    return digest([asdict(header), rows, chunk, batch_seconds])


def _finished(path: Path, header: FeatureHeader) -> FeatureStore:
    store = FeatureStore.open(path)
    different = differences(store.header, {key: getattr(header, key) for key in _SETTINGS})
    if not different and store.header.source != header.source:
        count = len(store) + len(store.header.failures)
        different = f"it was made from another manifest (of {count} utterances)"
    if different:
        raise FeatureError(
            f"{path} is finished, but {different}; choose another --out, or replace it with "
            "--overwrite"
        )
    return store


def _retried(
    utterances: Sequence[Utterance], done: FeatureStore, retry: bool
) -> Sequence[Utterance]:
    return [row for row in utterances if retry and row.id in done.header.failures]


def _check_any_succeeded(parts: Parts, stores: Sequence[FeatureStore]) -> None:
    if any(len(store) for store in stores):
        return
    failures = {key: why for store in stores for key, why in store.header.failures.items()}
    shutil.rmtree(parts.folder)
    shown = "; ".join(f"{key}: {why}" for key, why in list(failures.items())[:3])
    raise FeatureError(f"all {len(failures)} utterances failed, so nothing was written: {shown}")


def _fill(parts: Parts, recipe: Recipe, engine: str, threads: int | None, progress: bool) -> None:
    """Makes the parts that are missing, and writes each as it comes."""
    missing, total = parts.missing(), sum(len(rows) for rows in parts.chunks)
    done = total - sum(len(parts.chunks[index]) for index in missing)
    if done:
        log.info("resuming: %d of %d utterances are done", done, total)
    if not missing:
        return
    header = recipe.header
    chunks = [(index, parts.chunks[index]) for index in missing]
    with (
        meter(f"{header.corpus} · {header.encoder}", total, done, progress) as bar,
        closing(make_parts(recipe, chunks, engine, threads)) as results,
    ):
        for index, made in results:
            parts.write(index, _of_part(header, made), made.arrays)
            bar.advance(len(parts.chunks[index]), made.seconds)


def _of_part(header: FeatureHeader, made: Made) -> FeatureHeader:
    return replace(
        header, failures=made.failures, audio_hashes=made.hashes, truncated=made.truncated
    )
