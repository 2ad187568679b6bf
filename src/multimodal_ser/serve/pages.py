"""The server's pages, with the script and style of `ser analyze`; model cards as HTML."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from markdown_it import MarkdownIt

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


def card_html(card: str) -> str:
    """Renders a card; HTML in it is shown as text.

    >>> card_html("# Hi <b>you</b>").strip()
    '<h1>Hi &lt;b&gt;you&lt;/b&gt;</h1>'
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)  # the hub's own header
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    html: str = renderer.render(text)
    return html
