"""The routes: one prediction, a timeline, jobs for long recordings, and the server's pages."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from markdown_it import MarkdownIt

from multimodal_ser.errors import SerError
from multimodal_ser.serve.admission import check_key
from multimodal_ser.serve.decode import UPLOADABLE, DecodedUpload
from multimodal_ser.serve.jobs import Jobs
from multimodal_ser.serve.refusals import REFUSAL, RefusedError, refuse_unknown
from multimodal_ser.serve.scheduling import Work
from multimodal_ser.serve.settings import Settings
from multimodal_ser.timeline.lanes import channel_numbers
from multimodal_ser.timeline.page import assets
from multimodal_ser.timeline.speakers import diariser_of
from multimodal_ser.timeline.writers import checked_formats

if TYPE_CHECKING:
    from multimodal_ser.serve.app import Service

STATIC = Path(str(files("multimodal_ser.serve") / "static"))


def add_page(app: FastAPI) -> None:
    """Adds / and /docs, and what they load."""
    css, js = assets()  # one script for what is served and for what `ser analyze` writes
    for name, text, kind in (("css", css, "text/css"), ("js", js, "text/javascript")):
        send = partial(_text, text, kind)
        app.get(f"/static/timeline.{name}", include_in_schema=False)(send)
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.get(path, include_in_schema=False)(partial(_file, name))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _text(content: str, media_type: str) -> Response:
    return Response(content, media_type=media_type)


async def _file(name: str) -> FileResponse:
    return FileResponse(STATIC / name)


def card_html(card: str) -> str:
    """Renders a card; HTML in it is shown as text.

    >>> card_html("# Hi <b>you</b>").strip()
    '<h1>Hi &lt;b&gt;you&lt;/b&gt;</h1>'
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)  # the hub's own header
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return renderer.render(text)


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "text": {"type": "string"},
                    },
                }
            },
            **dict.fromkeys(("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"), _BINARY),
        },
    }
}
_TIMELINE_BODY = deepcopy(_BODY)  # without words, which timelines recognise
del _TIMELINE_BODY["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["text"]
_JOB_BODY = {"requestBody": {"required": True, "content": {"audio/*": _BINARY}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The API key is missing or wrong"},
    404: {"description": "No such job, or its files are not ready"},
    408: {"description": "The recording did not arrive in time"},
    413: {"description": "The recording is too large or too long"},
    415: {"description": f"Not a recording in a supported format: {UPLOADABLE}"},
    422: {"description": "The recording is damaged, or a parameter is out of range"},
    429: {"description": "Too many requests; the header Retry-After says when to try again"},
    503: {"description": "The server is stopping"},
    504: {"description": "The request took longer than the server allows"},
    507: {"description": "The server cannot store the recording"},
}
for _one in ERRORS.values():  # the body of all of them, see `refusal`
    _one["content"] = {"application/json": {"schema": REFUSAL}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: ERRORS[status] for status in statuses}


_EMOTIONS: dict[str, Any] = {  # what both routes of emotions have
    "responses": _errors(401, 408, 413, 415, 422, 429, 503, 504),
    "tags": ["emotions"],
    "dependencies": [Depends(refuse_unknown)],
}
_Text = Annotated[str | None, Query(description="What is said, if the body is the recording.")]
_Formats = Annotated[str, Query(description="Formats as of `ser analyze`, separated by commas.")]
_Name = Annotated[str, Query(description="Name of the recording in the files, such as call1.wav.")]
_Channels = Annotated[str, Query(description="mix, each, auto, or numbers such as 0,1.")]
Speakers = Annotated[
    str, Query(description="Separate speakers on one channel: off, auto, or their number.")
]
Names = Annotated[str, Query(description="Names of the channels or speakers, separated by commas.")]
Adapt = Annotated[bool, Query(description="Remove the effect of channel and voice.")]


def lanes(channels: str, speakers: str, names: str, adapt: bool) -> dict[str, Any]:
    """The settings of `analyze` for channels and speakers, with the same words as in the command.

    Raises:
        RefusedError: 422; clients must not name files of this machine or hubs.
    """
    number = int(speakers[:9]) if speakers.isdecimal() else 0
    if not (speakers in ("off", "auto") or number):
        raise RefusedError(422, f"speakers={speakers[:40]!r}; allowed: off, auto, their number")
    given = [name.strip() for name in names.split(",") if name.strip()]
    try:
        diariser, count = diariser_of(speakers)
        channel_numbers(channels, given)
    except SerError as error:
        raise RefusedError(422, str(error)) from None
    return {
        "channels": channels, "names": given, "adapt": adapt, "speakers": diariser, "count": count,
    }  # fmt: skip


def add_predictions(app: FastAPI, service: Service) -> None:
    """Adds the route of predictions."""

    @app.post("/v1/predict", openapi_extra=_BODY, **_EMOTIONS)
    async def predict(request: Request, text: _Text = None) -> Response:
        """Predicts the emotion of a short recording: a probability for each class."""
        check_key(request, service.settings)
        return await service.answer(request, text, service.predict)


def add_timelines(app: FastAPI, service: Service) -> None:
    """Adds the route of timelines."""

    @app.post("/v1/analyze", openapi_extra=_TIMELINE_BODY, **_EMOTIONS)
    async def timeline(
        request: Request,
        window: Annotated[float, Query(ge=0.5, le=30, description="Seconds per prediction.")] = 3.0,
        hop: Annotated[float, Query(ge=0.1, le=30, description="Seconds between them.")] = 1.0,
        words: Annotated[
            bool, Query(description="Recognise the words, if the server was started with --words.")
        ] = False,
        peaks: Annotated[bool, Query(description="Add the waveform's peaks, 0 to 1.")] = False,
        channels: _Channels = "auto",
        speakers: Speakers = "off",
        names: Names = "",
        adapt: Adapt = False,
    ) -> Response:
        """Predicts emotions over time, for a recording of any length that the server allows."""
        check_key(request, service.settings)
        if hop > window:
            raise RefusedError(
                422, f"hop={hop:g} is longer than window={window:g}; allowed: up to it"
            )
        if words and service.words is None:
            raise RefusedError(
                422, "words=true, but this server recognises none; start it with --words"
            )
        chosen = {"window": window, "hop": hop, **lanes(channels, speakers, names, adapt)}

        async def over_time(recording: DecodedUpload, text: str | None, work: Work) -> Response:
            if text:
                raise RefusedError(
                    422, "text is for /v1/predict; timelines recognise the words with words=true"
                )
            return await service.timeline(recording, work, words=words, peaks=peaks, **chosen)

        return await service.answer(request, None, over_time, mixed=channels == "mix")


def add_jobs(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    """Adds the routes of jobs."""
    known = [Depends(refuse_unknown)]

    @app.post(
        "/v1/jobs", status_code=202, openapi_extra=_JOB_BODY, tags=["jobs"], dependencies=known,
        responses=_errors(401, 408, 413, 415, 422, 429, 503, 507),
    )  # fmt: skip
    async def submit(
        request: Request,
        formats: _Formats = "json",
        channels: _Channels = "auto",
        speakers: Speakers = "off",
        names: Names = "",
        adapt: Adapt = True,
        name: _Name = "",
    ) -> dict[str, Any]:
        """Submits a long recording, given as the body, which is analysed when its turn comes."""
        check_key(request, settings)
        options = lanes(channels, speakers, names, adapt)
        try:
            chosen = checked_formats(formats) or ["json"]
        except SerError as error:
            raise RefusedError(422, str(error)) from None
        return jobs.status_of(await jobs.submit(request, options, chosen, name))

    missing = _errors(401, 404, 422)

    @app.get("/v1/jobs/{job}", tags=["jobs"], responses=missing)
    async def state(request: Request, job: str) -> dict[str, Any]:
        """State of a job: queued, running, done, failed, cancelled, or lost (server stopped)."""
        check_key(request, settings)
        return jobs.status_of(jobs.get(job))

    @app.get(
        "/v1/jobs/{job}/result", response_class=FileResponse, tags=["jobs"], dependencies=known,
        responses={**missing, 200: {"content": {"*/*": _BINARY}}},
    )  # fmt: skip
    async def result(request: Request, job: str, format: str = "json") -> Response:
        """Returns a file of a finished job."""
        check_key(request, settings)
        return FileResponse(jobs.file(jobs.get(job), format))

    # Older FastAPI takes the annotation "None" for a body, which 204 must not have.
    @app.delete(
        "/v1/jobs/{job}", status_code=204, response_model=None, response_class=Response,
        tags=["jobs"], responses=missing,
    )  # fmt: skip
    async def cancel(request: Request, job: str) -> None:
        """Cancels a job, or removes a finished one with its files."""
        check_key(request, settings)
        jobs.cancel(jobs.get(job))
