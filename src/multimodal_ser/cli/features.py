"""Subcommands about features: extract, convert-weights, import-features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.cli.app import MOST_SHOWN, File, Name, app, say
from multimodal_ser.errors import SerError, counted, one_of

if TYPE_CHECKING:
    from multimodal_ser.encoders import Encoder
    from multimodal_ser.features import ExtractionResult, ImportResult


@app.command(name="extract")
def extract_command(
    manifest: tuple[Path, ...],
    out: Path,
    audio: str | None = None,
    text: str | None = None,
    audio_source: str | None = None,
    text_source: str | None = None,
    audio_tokens: int = 32,
    text_tokens: int = 64,
    context: int = 0,
    context_after: int = 0,
    revision: str | None = None,
    layers: tuple[str, ...] | None = None,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    audio_dtype: Literal["float32", "bfloat16", "float16", "int8"] | None = None,
    text_dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    text_prefix: str | None = None,
    trained_on: tuple[str, ...] = (),
    forbid_emotion_trained: bool = False,
    overwrite: bool = False,
    retry_failed: bool = False,
    engine: Literal["local", "ray"] = "local",
    threads: int | None = None,
) -> int:
    """Encodes the recordings and words of manifests into feature files.

    Rerun the same command to resume, even after it was killed. Failures are listed, all other
    features are kept, and the exit code is then 1.

    Args:
        manifest: one or more, from `ser manifest`.
        out: the features folder to write.
        audio: an audio encoder that `ser list` shows, such as whisper-tiny; or the folder or
            hub id of any other (wav2vec 2.0, HuBERT, WavLM, data2vec, w2v-BERT, Whisper), such as
            microsoft/wavlm-large.
        text: a text encoder that `ser list` shows, such as minilm; or the folder or hub id of
            any other (RoBERTa, DeBERTa, ModernBERT, E5), such as FacebookAI/roberta-base.
        audio_source: folder or hub id of its weights; default: the installed offline package.
        text_source: the same for text.
        audio_tokens: frames are averaged to at most this many tokens; 1 is the pooled vector.
        text_tokens: maximum number of word pieces; 1 is the pooled vector.
        context: number of preceding utterances of the dialogue that the text encoder sees.
        context_after: number of following utterances; predictions then have to wait for them.
        revision: branch, tag or commit on the hub, for a single encoder; extract the modalities one
            by one to give it.
        layers: layers to concatenate, of the audio encoder (or of the text encoder if there is no
            audio): numbers, or all.
        dtype: precision of the stored features; default: float16, but float32 for an encoder of
            your own, whose values may be too small or too large for 16 bits.
        device: device for torch, such as cpu or cuda.
        audio_dtype: precision of the audio encoder's computation; default: float32, but bfloat16
            for emotion2vec on CPUs that support it in hardware. int8 is for emotion2vec on a CPU.
        text_dtype: the same for text; default: float32; float16 is for GPUs.
        text_prefix: prepended to each text, such as "query: " for E5, which was trained with it.
        trained_on: the training data of an encoder that is not known here: meld=labels, emodb=no;
            emotions=no says that no emotion labels were used.
        forbid_emotion_trained: refuse an encoder that was trained on emotion labels, or whose
            training data is unknown.
        overwrite: replace features that were made with other settings.
        retry_failed: try utterances again that failed before.
        engine: local, or ray for a cluster (docs/cluster.md); both give the same features.
        threads: processors for the local engine; default: as many as torch would use.
    """
    from multimodal_ser.common.devices import limit_caches
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.encoders.base import default_dtype
    from multimodal_ser.encoders.exposure import refuse_emotion_trained, with_stated
    from multimodal_ser.features import extract as extract_features

    if audio is None and text is None:
        raise SerError("nothing to extract: give --audio ENCODER, --text ENCODER, or both")
    _check_used("audio", audio, audio_source, audio_dtype)
    _check_used("text", text, text_source, text_dtype, text_prefix, context, context_after)
    if revision and audio and text:
        raise SerError("--revision is of one encoder; extract --audio and --text one by one")
    limit_caches()
    utterances = [row for path in manifest for row in read_manifest(path)]
    failed = 0
    for modality, name, source, tokens in (
        ("audio", audio, audio_source, audio_tokens),
        ("text", text, text_source, text_tokens),
    ):
        if name is None:
            continue
        words = modality == "text"
        asked = text_dtype if words else audio_dtype or default_dtype(name, device)
        chosen = _layers(layers) if modality == "audio" or audio is None else None
        prefix = text_prefix if words else None
        options = {"layers": chosen, "dtype": asked, "revision": revision, "prefix": prefix}
        encoder = _encoder_of(modality, name, source, device, options)
        encoder.info = with_stated(encoder.info, trained_on)
        if forbid_emotion_trained:
            refuse_emotion_trained(name, encoder.info.emotion_labels)
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
                context=(context, context_after) if words else (0, 0),
            )
            failed += _show_extracted(result)
    return 1 if failed else 0


def _check_used(modality: str, encoder: str | None, *options: object) -> None:
    if encoder is None and any(options):
        raise SerError(f"options of {modality} need an encoder: add --{modality} ENCODER")


def _layers(given: tuple[str, ...] | None) -> tuple[int, ...] | Literal["all"] | None:
    if given is None:
        return None
    words = [word for part in given for word in part.replace(",", " ").split()]
    if words == ["all"]:
        return "all"
    if not all(word.isdecimal() for word in words):
        raise SerError(f"--layers {' '.join(given)}: allowed: all, or numbers such as 2 3 4")
    return tuple(int(word) for word in words)


def _encoder_of(
    modality: str, name: str, source: str | None, device: str, options: dict[str, Any]
) -> Encoder:
    """Loads the encoder of a modality.

    Raises:
        SerError: the encoder is unknown, or belongs to the other modality.
    """
    from multimodal_ser.encoders import ENCODERS, load_encoder

    fitting = [key for key, spec in ENCODERS.items() if spec.modality == modality]
    if name in ENCODERS and name not in fitting:
        raise SerError(one_of(f"{modality} encoder", name, fitting))
    given = {key: value for key, value in options.items() if value is not None}
    encoder = load_encoder(name, source, device=device, **given)
    if encoder.info.modality != modality:
        raise SerError(
            f"{name} is an encoder of {encoder.info.modality}; give it as --{encoder.info.modality}"
        )
    return encoder


def _show_extracted(result: ExtractionResult) -> int:
    say(f"{result.path}: {counted(result.done, 'utterance')}, {len(result.failures)} failed")
    if result.truncated:
        say(
            f"  the last words of {counted(result.truncated, 'utterance')} were cut "
            "(--text-tokens, or what the encoder reads at most)"
        )
    if result.repeated:
        say(
            "  with the same sound as an earlier one: "
            f"{counted(len(result.repeated), 'utterance')}, such as {result.repeated[0]}: does the "
            "manifest give their start and end?"
        )
    for key, reason in list(result.failures.items())[:MOST_SHOWN]:
        say(f"  {key}: {reason}")
    if len(result.failures) > MOST_SHOWN:
        say(f"  … and {len(result.failures) - MOST_SHOWN} more")
    return len(result.failures)


@app.command(name="convert-weights")
def convert_weights_command(
    source: Name, /, out: Path, name: str = "emotion2vec-plus-large", revision: str | None = None
) -> None:
    """Writes emotion2vec's model.pt as safetensors, which loads faster and contains no code.

    Args:
        source: folder or hub id with model.pt.
        out: folder to write; give it as --audio-source.
        name: which emotion2vec it is.
        revision: branch, tag or commit on the hub.
    """
    from multimodal_ser.encoders.emotion2vec_files import convert_weights as convert

    say(f"wrote {convert(source, out, name=name, revision=revision)}")


@app.command(name="import-features")
def import_features_command(
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
    dtype: Literal["float16", "float32"] = "float32",
    trained_on: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Imports your own features: .npy, .npz, .parquet, .csv, or .pkl, whose code is never run.

    Args:
        source: the file, or a folder with a .npy for each utterance.
        manifest: of the features' utterances, from `ser manifest`.
        out: the features folder.
        name: name of the features, in place of an encoder's.
        modality: audio or text.
        key: array, column or entry of the file to read.
        ids: file with one id per row, if the source has none.
        id_format: how to build an id from columns of the ids file: meld/dev/dia{Dialogue_ID}_utt{…}
        rows: match rows by ids, or take row i for the manifest's i-th utterance.
        pickle_labels: order of classes behind a pickle's integer labels, to check them.
        tokens: maximum number of tokens per utterance.
        pool: how several rows become one vector if tokens is 1.
        dtype: precision in the file.
        trained_on: what the extractor was trained on: meld=labels, cremad=unlabelled, emodb=no;
            emotions=no says that no emotion labels were used.
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
    say(f"{result.path}: {counted(result.done, 'utterance')}")
    lone = {"without a row": result.missing, "unknown to the manifest": result.unknown}
    for what, keys in lone.items():
        if keys:
            say(f"  {len(keys)} {what}, such as {next(iter(keys))}")
