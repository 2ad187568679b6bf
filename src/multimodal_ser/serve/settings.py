"""What a server allows."""

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
        max_text: most characters of words sent along.
        concurrency: recordings decoded or analysed at a time; prediction has a thread of its own.
        queue: requests that may wait beyond these; more are answered 429.
        max_long: of all requests inside, those that may have more than a minute of sound.
        max_heard: seconds of sound that a timeline's windows may hold together, which is what it
            costs to answer; six times `max_seconds` where not given.
        max_uploads: bodies that may be on their way at a time; then the slowest sender is dropped.
        upload_seconds: time for a body to arrive; then 408.
        decode_seconds: time for decoding; then 422.
        deadline_seconds: time for a whole answer, from the body's arrival; then 504.
        max_connections: open connections; then the one that has been idle longest is closed.
        max_per_client: of these, by one address.
        header_seconds: time for a request's header to arrive, and for a client to take an answer.
        max_streams: WebSockets that may be open at a time.
        stream_seconds: sound that one of them may bring.
        stream_quiet_seconds: time between two of its messages; then it is closed.
        jobs: folder for long recordings that wait their turn; None for a server without jobs.
        max_jobs: of them that may wait or run.
        job_mb: largest recording of a job, in megabytes.
        job_seconds: longest one, in seconds.
        jobs_disk_mb: room that all jobs may take on disk, in megabytes.
        jobs_kept_seconds: time for which the files of a job that is over are kept.
        hosts: names that the server is reached by, beside addresses and this machine's own.
        batching: gather concurrent predictions into one call of the network.
        max_batch: recordings in such a call at most.
        batch_wait_ms: how long the first of a batch waits for others, in milliseconds.
        api_key: when set, /v1/* asks for it.

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
        """Requests inside at a time: those at work and those that wait."""
        return self.concurrency + self.queue
