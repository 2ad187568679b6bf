"""Subcommands that make a model fit for use elsewhere: adapt, export, merge-encoder, serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import tyro

from multimodal_ser.cli.app import Name, app, say
from multimodal_ser.cli.predict import failed, shown, tell_unremoved, weights_of
from multimodal_ser.common.files import locked
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import NoSpeechError, SerError, to_install


@app.command(name="adapt")
def adapt_command(
    files: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path,
    model: str = "starter",
    source: tuple[str, ...] = (),
    vad: Vad = "auto",
    device: str = "cpu",
) -> int:
    """Estimates a channel from recordings without labels: a line, a microphone, a room, a speaker.

    `ser predict`, `ser analyze` and `ser serve` remove it from recordings with --adapt FILE, so
    that it is not mistaken for an emotion. The recordings should mix as many emotions as possible;
    half a dozen recordings help, a hundred are enough. Those that cannot be read are listed, and
    the exit code is then 1.

    Args:
        files: recordings, folders or wildcards; fewer than ten are cut into pieces of 3 s.
        out: file to write, such as channel.json.
        model: the model that the channel is for, as for `ser predict`.
        source: where the encoders' weights are, as for `ser predict`.
        vad: how speech is detected, as for `ser predict`.
        device: device for torch, such as cpu or cuda.
    """
    from multimodal_ser.predict import load
    from multimodal_ser.predict.sources import find_recordings, refuse_recording
    from multimodal_ser.timeline.adapting import channel_of

    found = find_recordings(files)
    refuse_recording(out, found)
    predictor = load(model, device=device, weights=weights_of(source))
    predictor.vad = vad
    failures: dict[str, str] = {}
    try:
        channel = channel_of(found, predictor, vad, failures=failures)
    except NoSpeechError as error:
        _failed(failures, len(found))
        if len(failures) < len(found):
            raise
        raise SerError("no recording can be read, so they show no channel") from error
    say(f"{channel.save(out)}: the channel of {shown(channel)}, for {channel.model}")
    tell_unremoved(channel)
    return _failed(failures, len(found))


def _failed(failures: Mapping[str, str], total: int) -> int:
    return failed([f"{name}: {reason}" for name, reason in failures.items()], total)


@app.command(name="export")
def export_command(
    model: Name,
    /,
    out: Path,
    part: Literal["whole", "head"] | None = None,
    int8: bool = False,
    compare: tuple[str, ...] = (),
    source: tuple[str, ...] = (),
) -> None:
    """Writes a model as one ONNX file and checks it against torch.

    `ser predict --model FILE.onnx` runs it without torch.

    Args:
        model: what `ser predict --model` takes.
        out: the file to write, such as starter.onnx.
        part: whole takes waveforms; head takes a run's features. Default: whole, if the model
            allows it.
        int8: quantise weights to 8 bits; the difference is measured and printed.
        compare: recordings, folders or wildcards to compare on; default: synthetic sound.
        source: where the encoders' weights are, folder or hub id; ENCODER=PLACE for several.
    """
    from multimodal_ser.audio import read_audio
    from multimodal_ser.export import export as write
    from multimodal_ser.predict import load
    from multimodal_ser.predict.sources import find_recordings

    waves = [read_audio(file) for file in find_recordings(compare)] if compare else []
    predictor = load(model, weights=weights_of(source))
    made = write(predictor, out, part=part, int8=int8, compare=waves)
    on = f"{made.compared} items"
    say(f"wrote {made.file} ({made.file.stat().st_size / 1e6:.1f} MB), part: {made.part}")
    what = "probabilities" if predictor.scale is None else "attributes on 0 to 1"
    say(f"{what} differ from torch's by {made.difference:.1e} at most, over {on}")
    if made.int8_difference is not None:
        line = f"in 8 bits by {made.int8_difference:.1e} at most"
        if made.int8_changed is not None:
            line += f"; the most probable class changed for {made.int8_changed:.1%} of {on}"
        say(line)


@app.command(name="merge-encoder")
def merge_encoder_command(
    run: Name, /, out: Path, modality: Literal["audio", "text"] = "audio", source: str | None = None
) -> None:
    """Writes a run's fine-tuned encoder as a folder of the hub's layout, its update merged in.

    The folder can be given as --audio-source or --text-source; it records what it was tuned on.

    Args:
        run: folder of a run of `ser train --tune-encoder`.
        out: folder to write.
        modality: whose encoder.
        source: folder or hub id of the weights it was tuned from.
    """
    from multimodal_ser.encoders import load_for
    from multimodal_ser.runs.config_file import read_record
    from multimodal_ser.runs.model_file import changes_of
    from multimodal_ser.training.tune.changes import write_merged

    folder = Path(run)
    spec = read_record(folder / "config.json").config.features[modality]
    changes = changes_of(folder, modality)
    if spec is None or not changes.is_file():
        raise SerError(f"{folder} has no {modality} encoder that was fine-tuned ({changes.name})")
    encoder = load_for(spec, source, "cpu")
    # the stored update is a difference: added to other weights it would give a broken encoder
    # without any error
    if encoder.info.weights != spec.weights:
        raise SerError(
            f"{run}: it was tuned from weights {spec.weights[:12]}; give them as --source"
        )
    say(f"wrote {write_merged(encoder, changes, out)}")


@app.command(name="serve")
def serve_command(
    model: str = "starter",
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "cpu",
    max_mb: float = 32.0,
    max_seconds: float = 600.0,
    concurrency: int = 2,
    deadline: float = 300.0,
    host_name: tuple[str, ...] = (),
    api_key_env: str | None = None,
    words: bool = False,
    words_model: str | None = None,
    language: str | None = None,
    adapt: Path | None = None,
    jobs: Path | None = None,
    batching: bool = True,
    source: tuple[str, ...] = (),
) -> None:
    """Serves predictions over HTTP, with a page at / to upload recordings; API docs are at /docs.

    Recordings stay in memory for the duration of their request and are not stored.

    Args:
        model: as for `ser predict`.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: port to listen on.
        device: device for torch, such as cpu or cuda.
        max_mb: largest upload in megabytes.
        max_seconds: longest recording in seconds.
        concurrency: recordings decoded at the same time.
        deadline: seconds that a request may take before it is answered with 504.
        host_name: names that clients reach the server by, such as ser.example.org; IP addresses,
            localhost and this machine's name are always allowed.
        api_key_env: environment variable with the API key that clients must send.
        words: recognise words in timelines if a request wants them (extra asr; with the extra
            offline, an English model by default).
        words_model: a Whisper model: folder in CTranslate2 format, size or hub id.
        language: language of the words, such as de; by default, a multilingual model detects it.
        adapt: a channel file of `ser adapt`, removed from every recording.
        jobs: folder for long recordings that are queued for analysis (/v1/jobs).
        batching: combine concurrent predictions into one call of the network.
        source: where the encoders' weights are, as for `ser predict`.
    """
    if not 0 <= port <= 65_535:
        raise SerError(f"--port {port}; allowed: 0 to 65535, where 0 is any free one")
    try:
        from multimodal_ser.serve import Settings, create_app, run
    except ModuleNotFoundError as error:
        raise SerError(f"{error.name} is not installed: {to_install('serve')}") from error
    from multimodal_ser.predict import Channel, load
    from multimodal_ser.timeline import Recogniser

    settings = Settings(
        max_mb=max_mb,
        max_seconds=max_seconds,
        concurrency=concurrency,
        deadline_seconds=deadline,
        hosts=host_name,
        api_key=_key(api_key_env),
        batching=batching,
        jobs=jobs,
    )
    recogniser = None
    if words or words_model or language:
        recogniser = Recogniser(words_model, language=language, device=device)
    predictor = load(model, device=device, weights=weights_of(source))
    if adapt is not None:
        predictor = predictor.adapted(Channel.read(adapt))
        tell_unremoved(predictor.channel)
    with nullcontext() if jobs is None else locked(jobs):  # two servers would both do its jobs
        run(create_app(predictor, settings, words=recogniser), host, port)


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    if not os.environ.get(name, "").strip():
        raise SerError(f"--api-key-env {name}: that variable is not set or empty; export it first")
    return os.environ[name]
