"""Subcommand serve: a model over HTTP."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from multimodal_ser.cli.app import app
from multimodal_ser.cli.predict import weights_of
from multimodal_ser.common.files import locked
from multimodal_ser.errors import SerError, to_install


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
    with nullcontext() if jobs is None else locked(jobs):  # two servers would both do its jobs
        run(create_app(predictor, settings, words=recogniser), host, port)


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    if not os.environ.get(name, "").strip():
        raise SerError(f"--api-key-env {name}: that variable is not set or empty; export it first")
    return os.environ[name]
