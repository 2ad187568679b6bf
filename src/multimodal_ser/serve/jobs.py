"""Jobs: long recordings that are submitted, analysed one after another, and fetched later.

A job is a folder of its own under `Settings.jobs`, with its state, its sound until it has ended,
and its files. A job that had not ended when the server stopped is lost, and reports so after a
restart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from multimodal_ser.common.files import parse_json, write_file
from multimodal_ser.errors import SerError
from multimodal_ser.serve.decode import reworded
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.scheduling import Work, Yielding, yielding_diariser
from multimodal_ser.serve.upload import is_recording
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.writers import rendered

if TYPE_CHECKING:
    from multimodal_ser.serve.app import Service

STATE, SOUND = "job.json", "sound"
OPEN = ("arriving", "queued", "running")
_QUIET = 30.0  # seconds between two pieces of a body at most
_LONGEST_NAME = 60  # letters; file systems allow 255 bytes, and a letter may have four
_TIDY = 60.0  # seconds from one look for old jobs to the next, at most
_log = logging.getLogger(__name__)


@dataclass
class Job:
    """One recording that is to be analysed.

    Attributes:
        id: a random name that only its sender knows.
        name: of the recording, in the files; recordings of one name are one in corrections.
        status: one of `OPEN`; then ``done``, ``failed``, ``cancelled`` or ``lost``.
        progress: share of the recording that is analysed.
        error: why it failed.
        files: format → name of the file that is ready.
        warnings: what is odd about the recording, such as that it is truncated.
        over: when it ended, in seconds since 1970; None until then.
    """

    id: str
    name: str = SOUND
    status: str = "arriving"
    progress: float = 0.0
    error: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    over: float | None = None


class Jobs:
    """The jobs of one server.

    Args:
        folder: where they are kept.
        service: predictor, limits and turns.

    Raises:
        SerError: the folder cannot be used.
    """

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder, self._service = folder, service
        self.jobs: dict[str, Job] = {}
        # settings of `analyze`, and formats of the files, by job
        self._asked: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        self._work: dict[str, Work] = {}
        self._bytes: dict[str, int] = {}  # on disk, by job
        self._task: asyncio.Task[None] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._recall()
        except OSError as error:
            raise SerError(f"{folder}: cannot keep jobs ({error}); give another --jobs") from error

    @property
    def waiting(self) -> list[str]:
        """The jobs that have not begun, in order."""
        return [job.id for job in self.jobs.values() if job.status == "queued"]

    async def submit(
        self, request: Request, options: Mapping[str, Any], formats: list[str], name: str
    ) -> Job:
        """Stores the recording in the body of a request on disk; without a name it gets one.

        Raises:
            RefusedError: 408, 413, 415, 422, 429, 503 or 507.
        """
        self._forget_old()
        limits = self._service.settings
        if self._service.admission.stopping:
            raise RefusedError(503, "the server is stopping", {"Retry-After": "30"})
        if sum(job.status in OPEN for job in self.jobs.values()) >= limits.max_jobs:
            raise RefusedError(
                429, f"{limits.max_jobs} jobs wait already; try again later", {"Retry-After": "60"}
            )
        if not is_recording(request.headers.get("content-type", "")):
            raise RefusedError(
                415, "send the recording itself as body, with a Content-Type such as audio/wav"
            )
        bad = PurePath(name).name != name or name == ".." or "\\" in name
        if bad or len(name) > _LONGEST_NAME or not name.isprintable():
            raise RefusedError(
                422, f"name={name[:80]!r}; allowed: a file's name of up to {_LONGEST_NAME} letters"
            )
        job = Job(secrets.token_urlsafe(16), name or f"{SOUND}-{secrets.token_hex(4)}")
        self.jobs[job.id] = job  # counts against the limit from now on, while it arrives
        try:
            with _stored():
                await self._received(request, job)
                job.status = "queued"
                self._save(job)
        except BaseException:
            self._remove(job)
            raise
        self._asked[job.id] = (options, formats)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return job

    def get(self, name: str) -> Job:
        """A job by its id.

        Raises:
            RefusedError: 404.
        """
        if name not in self.jobs:
            raise RefusedError(404, "no such job; it may be older than this server keeps them")
        return self.jobs[name]

    def status_of(self, job: Job) -> dict[str, Any]:
        """The state of a job for its sender."""
        kept = {key: value for key, value in asdict(job).items() if key != "over"}
        ahead = self.waiting.index(job.id) if job.status == "queued" else 0
        return {**kept, "files": sorted(job.files), "ahead": ahead}

    def file(self, job: Job, kind: str) -> Path:
        """A finished file of a job.

        Raises:
            RefusedError: 404 or 422.
        """
        if kind in job.files:  # also of a job that failed later
            return self._place(job) / job.files[kind]
        if job.status != "done":
            raise RefusedError(404, f"the job is {job.status}; its files are there once it is done")
        raise RefusedError(422, f"format {kind!r} was not asked for: {', '.join(job.files)}")

    def cancel(self, job: Job) -> None:
        """Cancels a job, or removes one that has ended."""
        if job.status == "running":
            self._work[job.id].unwanted = True
        elif job.status == "queued":
            self._over(job, "cancelled")
        elif job.status != "arriving":
            self._remove(job)

    async def forget_in_time(self) -> None:
        """Removes the jobs that are older than the server keeps them, for as long as it runs."""
        while True:
            try:
                self._forget_old()
            except OSError as error:
                _log.error("an old job cannot be removed: %s", error)
            await asyncio.sleep(min(_TIDY, self._service.settings.jobs_kept_seconds))

    def close(self) -> None:
        """Stops the running job, which will be reported as lost."""
        for work in self._work.values():
            work.unwanted = True

    async def _received(self, request: Request, job: Job) -> None:
        limits, size = self._service.settings, 0
        most = int(limits.job_mb * 1e6)
        self._sound(job).parent.mkdir(parents=True)
        self._save(job)  # first, so that a job that is interrupted while it arrives is found again
        stream = request.stream()
        with self._sound(job).open("wb") as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(stream, None), _QUIET)
                except asyncio.TimeoutError:
                    raise RefusedError(408, f"nothing came for {_QUIET:g} s") from None
                if chunk is None:
                    break
                size += len(chunk)
                self._bytes[job.id] = size
                if size > most:
                    raise RefusedError(413, f"the recording is larger than {limits.job_mb:g} MB")
                if sum(self._bytes.values()) > limits.jobs_disk_mb * 1e6:
                    raise RefusedError(
                        429, "jobs have filled their share of the disk; try again later"
                    )
                file.write(chunk)
        if not size:
            raise RefusedError(422, "the recording is empty (0 bytes)")

    async def _run(self) -> None:
        """Runs the jobs one after another until none is waiting, whatever becomes of each."""
        while (waiting := self.waiting) and not self._service.admission.stopping:
            await self._finished(self.jobs[waiting[0]])

    async def _finished(self, job: Job) -> None:
        # Without a deadline: nobody waits for the response of a job.
        self._work[job.id] = work = Work(math.inf)
        job.status = "running"
        try:
            with _stored():
                self._save(job)
            await run_in_threadpool(self._analyzed, job, work, *self._asked[job.id])
            job.progress = 1.0
            self._over(job, "done")
        except RefusedError as error:
            # When the server stops, the state stays as it is: the next one reports it as lost.
            if work.unwanted and not self._service.admission.stopping:
                self._over(job, "cancelled")
            elif not self._service.admission.stopping:
                self._over(job, "failed", str(error))
        except (SerError, OSError) as error:
            said = str(error).replace(str(self._place(job)), "").removeprefix(f"{job.name}: ")
            self._over(job, "failed", reworded(said))
        except Exception:  # noqa: BLE001 - logged, and the sender is told; other jobs still have to run
            _log.exception("a job failed")
            self._over(job, "failed", "the server failed; its log says why")
        finally:
            del self._work[job.id]

    def _analyzed(
        self, job: Job, work: Work, options: Mapping[str, Any], formats: list[str]
    ) -> None:
        sound, limits = self._sound(job), self._service.settings
        with self._service.computing.turn(work) as pause:

            def progressed(done: float, whole: float | None) -> None:
                if done > limits.job_seconds:
                    raise RefusedError(413, f"it is longer than {limits.job_seconds:g} s")
                job.progress = round(done / max(whole or done, done, 1e-9), 3)
                pause()

            def warn(line: str) -> None:
                job.warnings.append(reworded(line.removeprefix(f"{job.name}: ")))

            model = Yielding(self._service.predictor, pause)
            options = yielding_diariser(options, pause)
            timeline = analyze(sound, model, on_progress=progressed, warn=warn, **options)
            contents = rendered(timeline, sound, formats)
            for kind, (ending, content) in zip(formats, contents, strict=True):
                name = f"timeline{ending}"
                with _stored():
                    write_file(self._place(job) / name, content)
                job.files = {**job.files, kind: name}  # what is ready stays if the next one fails
                pause()

    def _over(self, job: Job, status: str, error: str | None = None) -> None:
        job.status, job.error, job.over = status, error, time.time()
        self._asked.pop(job.id, None)
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self._sound(job).parent)
            self._save(job)
            self._measure(job)
        except (SerError, OSError) as failure:  # other jobs still have to run
            _log.error("the state of a job cannot be stored: %s", failure)

    def _measure(self, job: Job) -> None:
        self._bytes[job.id] = sum(file.stat().st_size for file in self._place(job).iterdir())

    def _place(self, job: Job) -> Path:
        return self.folder / job.id

    def _sound(self, job: Job) -> Path:
        return self._place(job) / SOUND / job.name  # apart, whatever its name is

    def _save(self, job: Job) -> None:
        write_file(self._place(job) / STATE, json.dumps(asdict(job)) + "\n")

    def _remove(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        self._bytes.pop(job.id, None)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._place(job))

    def _recall(self) -> None:
        """Loads the jobs of an earlier server from the folder."""
        for state in sorted(self.folder.glob(f"*/{STATE}")):
            with suppress(ValueError, TypeError, KeyError):
                job = Job(**parse_json(state.read_text("utf-8")))
                if job.id != state.parent.name:
                    continue
                self.jobs[job.id] = job
                if job.status in OPEN:
                    self._over(job, "lost", "the server ended before the job did; send it again")
                self._measure(job)
        self._forget_old()

    def _forget_old(self) -> None:
        before = time.time() - self._service.settings.jobs_kept_seconds
        for job in list(self.jobs.values()):
            if job.over and job.over < before:
                self._remove(job)


@contextmanager
def _stored() -> Iterator[None]:
    """Refuses what the disk does not take, in words for whoever sent it.

    Raises:
        RefusedError: 507.
    """
    try:
        yield
    except RefusedError:
        raise
    except (SerError, OSError) as error:
        _log.error("a job cannot be stored: %s", error)
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = getattr(cause, "strerror", None) or "a folder is missing"
        raise RefusedError(
            507, f"the server cannot store it ({reason}); try again later", {"Retry-After": "60"}
        ) from error
