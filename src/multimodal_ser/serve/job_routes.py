"""The routes for jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse

from multimodal_ser.errors import SerError
from multimodal_ser.serve.admission import check_key
from multimodal_ser.serve.answers import Adapt, Names, Speakers, _Channels, lanes
from multimodal_ser.serve.jobs import Jobs
from multimodal_ser.serve.refusals import RefusedError, refuse_unknown
from multimodal_ser.serve.settings import Settings
from multimodal_ser.timeline.writers import checked_formats

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_Formats = Annotated[str, Query(description="Formats as of `ser analyze`, separated by commas.")]


def add_jobs(app: FastAPI, jobs: Jobs, settings: Settings) -> None:
    """Adds the routes to the application."""
    known = [Depends(refuse_unknown)]

    @app.post("/v1/jobs", status_code=202, openapi_extra=_BODY, tags=["jobs"], dependencies=known)
    async def submit(
        request: Request,
        formats: _Formats = "json",
        channels: _Channels = "auto",
        speakers: Speakers = "off",
        names: Names = "",
        adapt: Adapt = True,
    ) -> dict[str, Any]:
        """Submits a long recording, given as the body, which is analysed when its turn comes."""
        check_key(request, settings)
        how = lanes(channels, speakers, names, adapt)
        try:
            chosen = checked_formats(formats) or ["json"]
        except SerError as error:
            raise RefusedError(422, str(error)) from None
        return jobs.told(await jobs.submit(request, how, chosen))

    @app.get("/v1/jobs/{job}", tags=["jobs"])
    async def state(request: Request, job: str) -> dict[str, Any]:
        """State of a job: queued, running, done, failed, cancelled, or lost (server stopped)."""
        check_key(request, settings)
        return jobs.told(jobs.get(job))

    @app.get("/v1/jobs/{job}/result", tags=["jobs"], dependencies=known)
    async def result(request: Request, job: str, format: str = "json") -> Response:
        """Returns a file of a finished job."""
        check_key(request, settings)
        return FileResponse(jobs.file(jobs.get(job), format))

    @app.delete("/v1/jobs/{job}", status_code=204, tags=["jobs"])
    async def cancel(request: Request, job: str) -> None:
        """Cancels a job, or removes a finished one with its files."""
        check_key(request, settings)
        jobs.cancel(jobs.get(job))
