"""The addresses of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse

from multimodal_ser.errors import SerError
from multimodal_ser.serve.admission import check_key
from multimodal_ser.serve.jobs import Jobs
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings
from multimodal_ser.timeline.speakers import diariser_of
from multimodal_ser.timeline.writers import checked_formats

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_Formats = Annotated[str, Query(description="A comma list of the formats of `ser analyze`.")]
_Channels = Annotated[str, Query(description="mix, each, auto, or numbers such as 0,1.")]
_Speakers = Annotated[str, Query(description="off, auto, or their number.")]
_Names = Annotated[str, Query(description="Of channels or speakers, a comma list.")]
_Adapt = Annotated[bool, Query(description="Take out what speech has in common.")]


def add_jobs(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    """Adds them."""

    @app.post("/v1/jobs", status_code=202, openapi_extra=_BODY, tags=["jobs"])
    async def submit(
        request: Request,
        formats: _Formats = "json",
        channels: _Channels = "auto",
        speakers: _Speakers = "off",
        names: _Names = "",
        adapt: _Adapt = True,
    ) -> dict[str, Any]:
        """Takes a long recording as the body; analysed when its turn comes."""
        check_key(request, settings)
        if not (speakers in ("off", "auto") or speakers.isdecimal()):
            raise RefusedError(422, f"speakers={speakers[:40]!r}; allowed: off, auto, their number")
        try:
            chosen = checked_formats(formats) or ["json"]
            diariser, count = diariser_of(speakers)
        except SerError as error:
            raise RefusedError(422, str(error)) from None
        how = {
            "channels": channels, "adapt": adapt, "speakers": diariser, "count": count,
            "names": [name.strip() for name in names.split(",") if name.strip()],
        }  # fmt: skip
        return jobs.told(await jobs.submit(request, how, chosen))

    @app.get("/v1/jobs/{job}", tags=["jobs"])
    async def state(request: Request, job: str) -> dict[str, Any]:
        """How far a job is: queued, running, done, failed, cancelled, or lost with a server."""
        check_key(request, settings)
        return jobs.told(jobs.get(job))

    @app.get("/v1/jobs/{job}/result", tags=["jobs"])
    async def result(request: Request, job: str, format: str = "json") -> Response:
        """A file of a job that is done."""
        check_key(request, settings)
        return FileResponse(jobs.file(jobs.get(job), format))

    @app.delete("/v1/jobs/{job}", status_code=204, tags=["jobs"])
    async def cancel(request: Request, job: str) -> None:
        """Ends a job, or forgets one that is over, with its files."""
        check_key(request, settings)
        jobs.cancel(jobs.get(job))
