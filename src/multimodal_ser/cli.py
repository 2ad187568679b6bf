"""The command `ser`: one subcommand = one library function.

Nothing heavy is imported until a subcommand runs, so that help answers at once.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.features import ExtractionResult, ImportResult

app = tyro.extras.SubcommandApp()
Name = Annotated[str, tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]
MOST_SHOWN = 20


def main(args: list[str] | None = None) -> int:
    """Runs one subcommand; 0 if all went well, 1 for an error that the user can mend."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "huggingface_hub", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = app.cli(
            prog="ser",
            description="Speech emotion recognition whose numbers can be believed.",
            args=args,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
    except SerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was finished is kept: the same command goes on there\n")
        return 130
    return int(code or 0)


@app.command(name="list")
def list_all() -> None:
    """Lists the corpora, class sets, splits, encoders and models that there are."""
    from multimodal_ser.corpora import CORPORA
    from multimodal_ser.encoders import ENCODERS
    from multimodal_ser.labels import CLASS_SETS
    from multimodal_ser.splits import SCHEMES

    sections = {
        "corpora": {name: f"{c.description} [{c.licence}]" for name, c in CORPORA.items()},
        "class sets": {name: " ".join(s.classes) for name, s in CLASS_SETS.items()},
        "splits": {name: scheme.about for name, scheme in SCHEMES.items()},
        "encoders": {name: f"{e.modality}: {e.about}" for name, e in ENCODERS.items()},
        "models": {
            "text, audio": "one side: self-attention, attentive pooling, MLP",
            "concat": "both sides, each pooled by itself, side by side",
            "cross_attention": "both sides, each attending to the other, both ways",
            "linear, svm": "baselines on pooled features; they stand in every table",
        },
    }
    for title, lines in sections.items():
        _print(f"\n{title}")
        for name, about in lines.items():
            _print(f"  {name:18} {about}")


@app.command
def manifest(
    corpus: Name,
    /,
    root: Path,
    out: Path,
    labels: str | None = None,
    audio_dir: str | None = None,
    votes: Literal["intended", "voice"] | None = None,
    name: str | None = None,
    part: Literal["train", "dev", "test"] | None = None,
) -> None:
    """Reads a corpus folder into a manifest: one JSON object per utterance.

    Args:
        corpus: iemocap, cremad, meld, emodb, ravdess, or table (any CSV, TSV or JSONL).
        root: the corpus's folder; for table, the file.
        out: the manifest to write, such as emodb.jsonl.
        labels: class set to count by; the corpus's own where not given.
        audio_dir: CREMA-D: the folder of its recordings (AudioWAV).
        votes: CREMA-D: take the intended emotion, or what most listeners heard in the voice.
        name: table: what the corpus is called (the file's name).
        part: keep only this part of the corpus's official split.
    """
    from multimodal_ser.corpora import CORPORA, Corpus, summarise, write_manifest
    from multimodal_ser.errors import one_of
    from multimodal_ser.labels import class_set

    if corpus not in CORPORA:
        raise SerError(one_of("corpus", corpus, CORPORA))
    info = CORPORA[corpus]
    given = {"audio_dir": audio_dir, "votes": votes, "name": name}
    options = {key: value for key, value in given.items() if value is not None}
    takes = {"cremad": {"audio_dir", "votes"}, "table": {"name"}}.get(corpus, set())
    if strange := sorted(options.keys() - takes):
        raise SerError(f"--{strange[0].replace('_', '-')} is not an option of {corpus}")
    read = info.read(root, **options)
    if part is not None:
        read = Corpus([row for row in read.utterances if row.split == part], read.left_out)
        if not read.utterances:
            raise SerError(f"{corpus} in {root} has no {part} part; leave --part away")
    chosen = labels or info.labels
    rows = summarise(read, class_set(chosen) if chosen else None)
    write_manifest(read.utterances, out)
    for section in dict.fromkeys(row.part for row in rows):
        mine = [row for row in rows if row.part == section]
        _print(f"{section}:")
        for row in mine[:MOST_SHOWN]:
            _print(f"  {row.total:6d}  {row.name}")
        if len(mine) > MOST_SHOWN:
            _print(f"          … and {len(mine) - MOST_SHOWN} more")
    _print(f"wrote {out}; licence of the corpus: {info.licence}")


@app.command
def check(manifest: File, /, shortest: float = 0.1) -> int:
    """Opens every recording of a manifest and lists what is wrong with it.

    Args:
        manifest: from `ser manifest`.
        shortest: seconds below which a recording is reported as too short.
    """
    from multimodal_ser.check import check as check_recordings
    from multimodal_ser.corpora import read_manifest

    utterances = read_manifest(manifest)
    findings = check_recordings(utterances, shortest=shortest)
    for finding in findings:
        _print(f"{finding.problem:12} {finding.id}  {finding.detail}")
    _print(f"{len(utterances)} utterances checked, {len(findings)} findings")
    return 1 if findings else 0


@app.command
def split(
    manifest: File,
    /,
    labels: str,
    scheme: str,
    out: Path,
    folds: int | None = None,
    allow: tuple[str, ...] = (),
) -> None:
    """Writes a split file: ids of every fold's parts, with a hash.

    Args:
        manifest: from `ser manifest`.
        labels: class set; utterances outside it are left out.
        scheme: speaker, session, dialogue, official, iemocap-original, cremad-original, or a
            folder of the EmoBox benchmark's folds.
        out: the file to write.
        folds: number of folds; one group is left out at a time where not given.
        allow: overlaps to accept: speaker, session, dialogue, recording.
    """
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.folds import write_split
    from multimodal_ser.labels import class_set
    from multimodal_ser.splits import make_split

    classes = class_set(labels)
    rows = [row for row in read_manifest(manifest) if classes.class_of(row.corpus, row.emotion)]
    made = make_split(rows, scheme, folds=folds, allow=allow)
    write_split(made, out)
    _print(f"wrote {out}: {made.name}, {len(made.folds)} folds, hash {made.hash}")
    for leak in made.leaks:
        _print(f"  leak: {leak}")


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
) -> int:
    """Encodes the recordings and words of manifests into feature files.

    Killed at any moment, the same command goes on where it was. Failures are listed, the rest is
    kept, and the exit code is then 1.

    Args:
        manifest: one or more, from `ser manifest`.
        out: the features folder.
        audio: encoder of the sound: whisper-tiny, wav2vec2, egemaps, emotion2vec-base,
            emotion2vec-plus-seed, emotion2vec-plus-base, emotion2vec-plus-large.
        text: encoder of the words: minilm, bert.
        audio_source: folder or hub id of its weights; the installed offline package otherwise.
        text_source: the same for the words.
        audio_tokens: frames are averaged to at most so many; 1 is the pooled vector.
        text_tokens: word pieces kept at most; 1 is the pooled vector.
        layers: layers of the audio encoder to put side by side.
        dtype: precision in the file.
        device: where torch computes, such as cpu or cuda.
        audio_dtype: what emotion2vec computes in; float32 where not given.
        overwrite: replace features that were made with other settings.
        retry_failed: try what failed before again.
    """
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.encoders import ENCODERS, load_encoder
    from multimodal_ser.errors import one_of
    from multimodal_ser.features import extract as extract_features

    if audio is None and text is None:
        raise SerError("nothing to extract: give --audio ENCODER, --text ENCODER, or both")
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
        given = {"layers": layers, "dtype": audio_dtype} if name == audio else {}
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
            )
            failed += _show_extracted(result)
    return 1 if failed else 0


def _show_extracted(result: ExtractionResult) -> int:
    _print(f"{result.path}: {result.done} utterances, {len(result.failures)} failed")
    if result.truncated:
        _print(f"  the last words of {result.truncated} utterances were cut (--text-tokens)")
    for key, reason in list(result.failures.items())[:MOST_SHOWN]:
        _print(f"  {key}: {reason}")
    if len(result.failures) > MOST_SHOWN:
        _print(f"  … and {len(result.failures) - MOST_SHOWN} more")
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

    _print(f"wrote {convert(source, out, name=name, revision=revision)}")


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
    _print(f"{result.path}: {result.done} utterances")
    for what, keys in (
        ("without a row", result.missing),
        ("unknown to the manifest", result.unknown),
    ):
        if keys:
            _print(f"  {len(keys)} {what}, such as {next(iter(keys))}")


@app.command
def train(
    features: Path,
    labels: str,
    split: str,
    out: Path,
    model: tuple[str, ...] = ("cross_attention",),
    baselines: tuple[str, ...] = ("linear", "svm"),
    seeds: int = 5,
    folds: int | None = None,
    allow: tuple[str, ...] = (),
    audio: str | None = None,
    text: str | None = None,
    jobs: int | None = None,
    network: ModelConfig = ModelConfig(),  # noqa: B008 - frozen
    schedule: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
) -> None:
    """Trains models on every fold with every seed, the baselines beside them, and prints the table.

    Complete runs are kept: the same command goes on where it was.

    Args:
        features: folder of one corpus's features.
        labels: class set such as emodb7, or your own as a comma list in its order.
        split: speaker, session, dialogue, official, iemocap-original, cremad-original, a split
            file, or a folder of EmoBox folds.
        out: the experiment's folder, such as runs/emodb.
        model: text, audio, concat, cross_attention.
        baselines: linear, svm: they stand in every table.
        seeds: how many; the baselines draw nothing at random and run once.
        folds: number of folds; one group is left out at a time where not given.
        allow: overlaps to accept, which every result then states.
        audio: which audio features, where there are several; none for none.
        text: which text features; none for none.
        jobs: processes that make runs side by side; one a processor where not given.
        network: the network's knobs.
        schedule: the training's knobs.
    """
    from multimodal_ser.experiments import train_table

    table = train_table(
        features=features,
        labels=labels,
        split=split,
        out=out,
        models=(*model, *(name for name in baselines if name not in model)),
        seeds=seeds,
        folds=folds,
        allow=allow,
        audio=audio,
        text=text,
        network=network,
        schedule=schedule,
        jobs=jobs,
    )
    _print(table)


@app.command
def report(experiment: File, /, out: Path | None = None) -> None:
    """Writes tables, pictures and one page about an experiment, and prints the table.

    Args:
        experiment: a folder of runs, from `ser train`.
        out: where to write; EXPERIMENT/report where not given.
    """
    from multimodal_ser.report import report as write_report
    from multimodal_ser.report import summarise, text_table

    page = write_report(experiment, out)
    _print(text_table(summarise(experiment)))
    _print(f"page: {page}")


@app.command
def demo(out: Path = Path("demo"), seeds: int = 5, open_page: bool = False) -> None:
    """Trains and evaluates on the features that are shipped: EmoDB, one speaker out at a time.

    Args:
        out: where runs and report go.
        seeds: of the network.
        open_page: show the report in a browser.
    """
    from multimodal_ser.experiments import demo as run_demo

    page, table = run_demo(out, seeds)
    _print(table)
    _print(f"report: {page}")
    if open_page:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
