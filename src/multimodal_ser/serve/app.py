"""The application: routes for one predictor, and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeAlias, TypeVar

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict.backend import cut_words, missing_words
from multimodal_ser.predict.inputs import LONG_SECONDS as LONGEST
from multimodal_ser.predict.prediction import Prediction, label_colours
from multimodal_ser.predict.predictor import Predictor, removed_count
from multimodal_ser.serve import routes
from multimodal_ser.serve.admission import Admission, RequestPlace, check_key
from multimodal_ser.serve.batching import Batcher
from multimodal_ser.serve.connections import ConnectionLimits
from multimodal_ser.serve.decode import UPLOADABLE, DecodedUpload, decode_upload
from multimodal_ser.serve.jobs import Jobs
from multimodal_ser.serve.live import live
from multimodal_ser.serve.metrics import Metrics, Streams
from multimodal_ser.serve.middleware import RequestMiddleware
from multimodal_ser.serve.refusals import RefusedError, add_handlers
from multimodal_ser.serve.scheduling import (
    LONG_BYTES,
    Scheduler,
    Work,
    Yielding,
    check_work,
    unless_gone,
    yielding_diariser,
    yielding_words,
)
from multimodal_ser.serve.settings import Settings
from multimodal_ser.serve.upload import Upload, read_upload
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.page import peaks as peaks_of
from multimodal_ser.timeline.page import rounded
from multimodal_ser.timeline.words import Words

VERSION = version("multimodal-ser")
_T = TypeVar("_T")
_Handler: TypeAlias = Callable[[DecodedUpload, "str | None", Work], Awaitable[Response]]


class Service:
    """What all routes share: predictor, limits, threads and connections."""

    def __init__(
        self, predictor: Predictor, settings: Settings, words: Words | None = None
    ) -> None:
        self.settings, self.predictor, self.words = settings, predictor, words
        self.admission, self.connections = Admission(settings), ConnectionLimits(settings)
        self.streams = Streams(settings.max_streams)
        self.metrics = Metrics(self.admission, self.streams)
        self.decoding, self.computing = Scheduler(settings.concurrency), Scheduler()
        most = settings.max_batch if settings.batching else 1
        wait = settings.batch_wait_ms / 1000
        self.batcher = Batcher(self.predictor, self.computing, most, wait)
        # One thread for every admitted request: `Scheduler`, not the number of threads, bounds what
        # is computed at the same time.
        self.threads = ThreadPoolExecutor(settings.max_requests, "ser-work")
        self.card_html = routes.card_html(predictor.card)
        self.jobs = None if settings.jobs is None else Jobs(settings.jobs, self)

    async def answer(
        self, request: Request, text: str | None, handler: _Handler, *, mixed: bool = True
    ) -> Response:
        """Reads the body of a request and responds within the time limit, if the client stays.

        Args:
            request: the request; its body holds the recording.
            text: words from the query string.
            handler: recording, words and work → the response.
            mixed: whether channels are mixed to mono.
        """
        upload = await read_upload(request, self.admission, text)
        with self.admission.enter() as place:
            work = Work(self.settings.deadline_seconds)
            return await unless_gone(
                request, work, self._answer(request, upload, place, work, handler, mixed)
            )

    async def _answer(
        self, request: Request, upload: Upload, place: RequestPlace, work: Work, handler: _Handler,
        mixed: bool,
    ) -> Response:  # fmt: skip
        if len(upload.data) > LONG_BYTES:
            place.lengthen()
        recording = await self.off_loop(self._decoded, upload.data, place, work, mixed)
        request.state.measured = {
            "bytes": len(upload.data),
            "seconds": round(len(recording.wave) / SAMPLE_RATE, 2),
        }
        return await handler(recording, upload.text, work)

    def _decoded(self, data: bytes, place: RequestPlace, work: Work, mixed: bool) -> DecodedUpload:
        with self.decoding.turn(work) as pause:
            return decode_upload(data, self.settings, pause, place.lengthen, mixed)

    async def predict(self, recording: DecodedUpload, text: str | None, work: Work) -> Response:
        """Predicts a recording; short recordings of several requests share a batch."""
        wave, warnings = recording
        seconds = len(wave) / SAMPLE_RATE
        if seconds <= LONGEST:
            prediction, long = await self.batcher(wave, text), None
        else:
            prediction = await self.off_loop(self._alone, wave, text, work)
            long = f"one prediction for {seconds:.0f} s; /v1/analyze shows emotions over time"
        about = {"model": self.predictor.name, "duration": round(seconds, 3)}
        notes = (
            long,
            missing_words(self.predictor, prediction.wordless, 1, "give them as text"),
            cut_words(self.predictor, [text]),
        )
        warnings = [*warnings, *filter(None, notes)]
        return JSONResponse({**about, **prediction.as_dict(), "warnings": warnings})

    def _alone(self, wave: Samples, text: str | None, work: Work) -> Prediction:
        with self.computing.turn(work) as pause:
            return Yielding(self.predictor, pause).waves([wave], [text])[0]

    async def timeline(
        self, recording: DecodedUpload, work: Work, *, words: bool, peaks: bool, **settings: Any
    ) -> Response:
        """Emotions over time.

        Args:
            recording: the decoded upload.
            work: the computing of the request.
            words: whether words are recognised.
            peaks: whether the peaks of the waveform are included.
            settings: of `analyze`.

        Raises:
            RefusedError: 422 if the windows hold more sound than is allowed.
        """
        each = settings["channels"] == "each" and recording.wave.ndim == 2
        lanes = recording.wave.shape[1] if each else len(settings["channels"].split(","))
        seconds = lanes * len(recording.wave) / SAMPLE_RATE
        check_work(seconds, settings["window"], settings["hop"], self.settings)
        return await self.off_loop(self._timeline, recording, work, words, peaks, settings)

    def _timeline(
        self, recording: DecodedUpload, work: Work, words: bool, peaks: bool,
        settings: dict[str, Any],
    ) -> Response:  # fmt: skip
        sound = (recording.wave, SAMPLE_RATE)
        with self.computing.turn(work) as pause:
            recognise = yielding_words(self.words, pause) if words and self.words else None
            model = Yielding(self.predictor, pause)
            settings = yielding_diariser(settings, pause)
            timeline = analyze(sound, model, words=recognise, on_progress=pause, **settings)
            # among the notes as `analyze` of a file has them, and by themselves as of a prediction
            read = (line.removeprefix("recording: ") for line in recording.warnings)
            timeline = replace(timeline, notes=(*timeline.notes, *read))
            content = {**timeline.as_dict(), "warnings": recording.warnings}
            if peaks:
                content["peaks"] = rounded(peaks_of(*sound))
            return JSONResponse(content)  # serialised in this thread, not in the event loop

    async def off_loop(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs a function in a thread, so that the event loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    def model(self) -> dict[str, Any]:
        """The description of the model for the page and for clients."""
        labels, scale = self.predictor.labels, getattr(self.predictor, "scale", None)
        also = getattr(self.predictor, "also", None)
        shown = label_colours(labels, scale, also.labels if also else ())
        return {
            "name": self.predictor.name,
            "labels": list(labels),
            "scale": scale,
            "attributes": also and {"labels": list(also.labels), "scale": also.scale},
            "threshold": round(self.predictor.threshold, 6),
            "adapted": removed_count(self.predictor.channel),
            "colours": {name: {"light": one, "dark": two} for name, (one, two) in shown.items()},
            "card": self.predictor.card,
            "card_html": self.card_html,
        }

    def close(self) -> None:
        """Ends the threads after their current work."""
        self.threads.shutdown(wait=True)
        self.batcher.close()


def create_app(
    predictor: Predictor, settings: Settings | None = None, *, words: Words | None = None
) -> FastAPI:
    """Makes the ASGI application for one model.

    Args:
        predictor: from `multimodal_ser.predict.load`.
        settings: limits; None for the defaults.
        words: recognises the words of timelines that ask for them, such as
            `multimodal_ser.timeline.Recogniser`.

    Returns:
        An ASGI application; its `state.service` holds what the routes share.
    """
    service = Service(predictor, settings or Settings(), words)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        jobs = service.jobs
        forgetting = asyncio.create_task(jobs.forget_in_time()) if jobs is not None else None
        yield
        service.admission.stopping = True
        if jobs is not None and forgetting is not None:
            forgetting.cancel()
            jobs.close()
        service.close()

    app = FastAPI(
        title="multimodal-ser", version=VERSION, docs_url=None, redoc_url=None, lifespan=life,
        redirect_slashes=False,  # a redirect would lose the recording that was sent
        summary="Predicts the emotions of recordings, with calibrated probabilities.",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(RequestMiddleware, metrics=service.metrics, hosts=service.settings.hosts)
    add_handlers(app)
    routes.add_predictions(app, service)
    routes.add_timelines(app, service)
    _add_information(app, service)
    if service.jobs is not None:
        routes.add_jobs(app, service.jobs, service.settings)
    routes.add_page(app)
    return app


def _add_information(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses={401: routes.ERRORS[401]}, tags=["server"])
    async def models(request: Request) -> dict[str, Any]:
        """Describes the model, its card, and the limits of this server."""
        check_key(request, service.settings)
        limits = service.settings
        return {
            "models": [service.model()],
            "words": service.words is not None,
            "limits": {
                "max_mb": limits.max_mb,
                "max_seconds": limits.max_seconds,
                "max_heard": limits.most_heard,
                "formats": UPLOADABLE,
            },
        }

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={401: routes.ERRORS[401]},
        tags=["server"],
    )
    async def metrics(request: Request) -> Response:
        """Counts of requests, times and load, for Prometheus."""
        check_key(request, service.settings)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await live(socket, service)

    @app.get("/health", tags=["server"], responses={503: routes.ERRORS[503]})
    async def health() -> dict[str, Any]:
        """Whether the server accepts requests; needs no API key."""
        if service.admission.stopping:
            raise RefusedError(503, "the server is stopping")
        return {"status": "ok", "version": VERSION, "requests": service.admission.requests}
