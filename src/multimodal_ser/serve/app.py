"""The application: routes over one predictor, and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from multimodal_ser.audio import SAMPLE_RATE
from multimodal_ser.palette import colour
from multimodal_ser.predict.backend import Wave
from multimodal_ser.predict.predictor import Predictor
from multimodal_ser.serve.admission import Gate, check_key
from multimodal_ser.serve.batching import Batcher, Shared
from multimodal_ser.serve.cards import card_html
from multimodal_ser.serve.decode import ALLOWED, decode
from multimodal_ser.serve.middleware import Around
from multimodal_ser.serve.refusals import RefusedError, add_handlers
from multimodal_ser.serve.settings import Settings
from multimodal_ser.serve.upload import Upload, read_upload
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.words import Words

VERSION = version("multimodal-ser")
STATIC = Path(str(files("multimodal_ser.serve") / "static"))
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
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "API key missing or wrong"},
    413: {"description": "Recording too large or too long"},
    415: {"description": f"Not a recording that is read here: {ALLOWED}"},
    422: {"description": "Recording damaged, or a parameter out of range"},
    429: {"description": "Too many requests inside; Retry-After says when to come again"},
    503: {"description": "The server is stopping"},
}
Text = Annotated[str | None, Query(description="The words, where the body is the recording.")]
_T = TypeVar("_T")


class Service:
    """What the routes share: predictor, limits, threads."""

    def __init__(
        self, predictor: Predictor, settings: Settings, words: Words | None = None
    ) -> None:
        self.settings, self.gate = settings, Gate(settings)
        self.predictor, self.words = Shared(predictor), words
        most = settings.max_batch if settings.batching else 1
        self.batcher = Batcher(self.predictor, most, settings.batch_wait_ms / 1000)
        self.threads = ThreadPoolExecutor(settings.concurrency, "ser-work")

    async def recording(self, request: Request, text: str | None) -> tuple[Wave, str | None]:
        """Reads and decodes what a request brought; notes its size for the log."""
        upload: Upload = await read_upload(request, self.settings, text)
        wave = await self.off_loop(decode, upload.data, self.settings)
        request.state.measured = {
            "bytes": len(upload.data),
            "seconds": round(len(wave) / SAMPLE_RATE, 2),
        }
        return wave, upload.text

    async def off_loop(self, work: Callable[..., _T], *given: Any) -> _T:
        """Runs something in one of the bounded number of threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(work, *given))

    def timeline(self, wave: Wave, window: float, hop: float, words: bool) -> dict[str, Any]:
        """The emotions of a recording over time, ready for JSON."""
        heard = self.words if words else None
        found = analyze((wave, SAMPLE_RATE), self.predictor, window=window, hop=hop, words=heard)
        return found.as_dict()

    def model(self) -> dict[str, Any]:
        """What the page and callers must know of the model."""
        shown = (*self.predictor.labels, "uncertain")
        return {
            "name": self.predictor.name,
            "labels": list(self.predictor.labels),
            "threshold": self.predictor.threshold,
            "colours": {
                name: {"light": colour(name), "dark": colour(name, dark=True)} for name in shown
            },
            "card": self.predictor.card,
            "card_html": card_html(self.predictor.card),
        }

    def close(self) -> None:
        """Ends the threads when what runs is done."""
        self.threads.shutdown(wait=True)
        self.batcher.close()


def create_app(
    predictor: Predictor, settings: Settings | None = None, *, words: Words | None = None
) -> FastAPI:
    """Makes the application that answers for one model.

    Args:
        predictor: from `multimodal_ser.predict.load`.
        settings: limits; the defaults where not given.
        words: recognises the words of timelines that ask for them, such as
            `multimodal_ser.timeline.Recogniser`.

    Returns:
        An ASGI application; its `state.service` holds what the routes share.
    """
    service = Service(predictor, settings or Settings(), words)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.gate.stopping = True
        service.close()

    app = FastAPI(
        title="multimodal-ser", version=VERSION, docs_url=None, redoc_url=None, lifespan=life,
        summary="The emotions of recordings, with probabilities that mean what they say.",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(Around)
    add_handlers(app)
    _add_answers(app, service)
    _add_information(app, service)
    _add_page(app)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", openapi_extra=_BODY, responses=_ERRORS, tags=["emotions"])
    async def predict(request: Request, text: Text = None) -> dict[str, Any]:
        """One answer for a short recording: probabilities by emotion."""
        check_key(request, service.settings)
        with service.gate.enter():
            wave, words = await service.recording(request, text)
            prediction = await service.batcher(wave, words)
            return {
                "model": service.predictor.name,
                "duration": round(len(wave) / SAMPLE_RATE, 3),
                **prediction.as_dict(),
            }

    @app.post("/v1/analyze", openapi_extra=_BODY, responses=_ERRORS, tags=["emotions"])
    async def timeline(
        request: Request,
        window: Annotated[float, Query(ge=0.5, le=30, description="Seconds heard at once.")] = 3.0,
        hop: Annotated[float, Query(ge=0.1, le=30, description="Seconds between answers.")] = 1.0,
        words: Annotated[
            bool, Query(description="Recognise the words; for servers started with --words.")
        ] = False,
    ) -> dict[str, Any]:
        """Emotions over time, for a recording of any length that the server allows."""
        check_key(request, service.settings)
        if hop > window:
            raise RefusedError(
                422, f"hop={hop:g} is longer than window={window:g}; allowed: up to it"
            )
        if words and service.words is None:
            raise RefusedError(
                422, "words=true, but this server recognises none; start it with --words"
            )
        with service.gate.enter():
            wave, _ = await service.recording(request, None)
            return await service.off_loop(service.timeline, wave, window, hop, words)


def _add_information(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses={401: _ERRORS[401]}, tags=["server"])
    async def models(request: Request) -> dict[str, Any]:
        """The model that answers here, its card, and what this server allows."""
        check_key(request, service.settings)
        limits = service.settings
        return {
            "models": [service.model()],
            "words": service.words is not None,
            "limits": {
                "max_mb": limits.max_mb,
                "max_seconds": limits.max_seconds,
                "formats": ALLOWED,
            },
        }

    @app.get("/health", tags=["server"], responses={503: _ERRORS[503]})
    async def health() -> dict[str, Any]:
        """Whether the server takes requests; never asks for a key."""
        if service.gate.stopping:
            raise RefusedError(503, "the server is stopping")
        return {"status": "ok", "version": VERSION, "requests": service.gate.inside}


def _add_page(app: FastAPI) -> None:
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.get(path, include_in_schema=False)(partial(_file, name))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _file(name: str) -> FileResponse:
    return FileResponse(STATIC / name)
