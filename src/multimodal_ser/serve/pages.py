"""The server's pages, with the same script and style as the pages of `ser analyze`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from multimodal_ser.timeline.page import assets

STATIC = Path(str(files("multimodal_ser.serve") / "static"))


def add_page(app: FastAPI) -> None:
    """Adds / and /docs, and what they load."""
    css, js = assets()  # one script for what is served and for what `ser analyze` writes
    for name, text, kind in (("css", css, "text/css"), ("js", js, "text/javascript")):
        made = partial(Response, text, media_type=kind)
        app.get(f"/static/timeline.{name}", include_in_schema=False)(_always(made))
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.get(path, include_in_schema=False)(partial(_file, name))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _always(make: Callable[[], Response]) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return make()

    return answer


async def _file(name: str) -> FileResponse:
    return FileResponse(STATIC / name)
