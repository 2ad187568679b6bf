"""Subcommand serve: the models over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

from multimodal_ser.cli.app import app
from multimodal_ser.cli.predict import weights_of
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
    """Answers over HTTP, with a page at / to drop recordings on; its addresses stand at /docs.

    Recordings stay in memory for the length of their request and are kept nowhere.

    Args:
        model: as for `ser predict`.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: port to listen on.
        device: where torch computes, such as cpu or cuda.
        max_mb: largest upload in megabytes.
        max_seconds: longest recording in seconds.
        concurrency: recordings decoded at a time.
        deadline: seconds that an answer may take; then 504.
        host_name: names that callers reach the server by, such as ser.example.org; addresses in
            figures, localhost and this machine's name need none.
        api_key_env: environment variable that holds the API key callers must send.
        words: recognise words in timelines that ask for them (extra asr; English, with the extra
            offline, where no other model is given).
        words_model: a whisper model's folder in CTranslate2's layout, size or hub id.
        language: of the words, such as de; a model of many languages finds it out where not given.
        adapt: a channel that `ser adapt` learnt, taken out of every recording.
        jobs: folder for long recordings that are analysed when their turn comes (/v1/jobs).
        batching: gather concurrent predictions into one call of the network.
        source: where encoders' weights are, as for `ser predict`.
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
    run(create_app(predictor, settings, words=recogniser), host, port)


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    if not os.environ.get(name, "").strip():
        raise SerError(f"--api-key-env {name}: that variable is not set or empty; export it first")
    return os.environ[name]
