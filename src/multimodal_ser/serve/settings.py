"""The limits of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multimodal_ser.errors import SerError

_POSITIVE = (
    "max_mb", "max_seconds", "concurrency", "max_long", "max_uploads", "upload_seconds",
    "decode_seconds", "deadline_seconds", "max_connections", "max_per_client", "header_seconds",
    "max_batch", "max_streams", "stream_seconds", "stream_quiet_seconds",
    "max_jobs", "job_mb", "job_seconds", "jobs_disk_mb", "jobs_kept_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Limits of a server; the defaults suit one process on a small machine.

    Attributes:
        max_mb: largest upload, in megabytes (10^6 bytes).
        max_seconds: longest recording, in seconds.
        max_text: largest number of characters of the words that are sent with a recording.
        concurrency: recordings decoded or analysed at a time; predictions run in their own thread.
        queue: requests that may wait in addition to these; further ones get the status 429.
        max_long: how many of all requests may have more than a minute of audio.
        max_heard: total seconds of audio in the windows of a timeline, which determine its cost;
            by default six times `max_seconds`.
        max_uploads: uploads in progress at a time; beyond it the slowest sender is dropped.
        upload_seconds: time limit for an upload; then 408.
        decode_seconds: time limit for decoding; then 422.
        deadline_seconds: time limit for the response after the upload; then 504.
        max_connections: open connections; beyond it the longest idle one is closed.
        max_per_client: open connections of one address.
        header_seconds: time limit for a request's header, and for a client to read a response.
        max_streams: open WebSockets at a time.
        stream_seconds: longest stream, in seconds of audio.
        stream_quiet_seconds: a stream without a message for this long is closed.
        jobs: folder for jobs, which are long recordings; None for a server without jobs.
        max_jobs: jobs that wait or run at a time.
        job_mb: largest recording of a job, in megabytes.
        job_seconds: longest recording of a job, in seconds.
        jobs_disk_mb: disk space of all jobs together, in megabytes.
        jobs_kept_seconds: how long the files of a finished job are kept.
        hosts: further names of the server, in addition to IP addresses and this machine's name.
        batching: combine concurrent predictions into one call of the network.
        max_batch: largest number of recordings in such a call.
        batch_wait_ms: how long the first of a batch waits for others, in milliseconds.
        api_key: if it is set, requests to /v1/* must send it.

    Raises:
        SerError: a limit is not positive, or the key is empty.
    """

    max_mb: float = 32.0
    max_seconds: float = 600.0
    max_text: int = 5_000
    concurrency: int = 2
    queue: int = 64
    max_long: int = 8
    max_heard: float | None = None
    max_uploads: int = 128
    upload_seconds: float = 60.0
    decode_seconds: float = 20.0
    deadline_seconds: float = 300.0
    max_connections: int = 256
    max_per_client: int = 192
    header_seconds: float = 10.0
    max_streams: int = 16
    stream_seconds: float = 3_600.0
    stream_quiet_seconds: float = 30.0
    jobs: Path | None = None
    max_jobs: int = 16
    job_mb: float = 512.0
    job_seconds: float = 14_400.0
    jobs_disk_mb: float = 4_096.0
    jobs_kept_seconds: float = 86_400.0
    hosts: tuple[str, ...] = ()
    batching: bool = True
    max_batch: int = 16
    batch_wait_ms: float = 4.0
    api_key: str | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise SerError(f"{name}={getattr(self, name)}; allowed: numbers above 0")
        for name in ("queue", "batch_wait_ms", "max_text"):
            if not getattr(self, name) >= 0:
                raise SerError(f"{name}={getattr(self, name)}; allowed: 0 or more")
        if self.api_key is not None and not self.api_key.strip():
            raise SerError("the API key is empty; set it to a long random word, or leave it out")

    @property
    def max_bytes(self) -> int:
        """Largest upload in bytes."""
        return int(self.max_mb * 1_000_000)

    @property
    def most_heard(self) -> float:
        """Seconds of sound that the windows of one timeline may hold."""
        return 6 * self.max_seconds if self.max_heard is None else self.max_heard

    @property
    def most_arriving(self) -> int:
        """Bytes of all bodies that are on their way."""
        return 8 * self.max_bytes

    @property
    def max_requests(self) -> int:
        """Requests at a time: those that are processed and those that wait."""
        return self.concurrency + self.queue
