"""What a server allows."""

from __future__ import annotations

from dataclasses import dataclass

from multimodal_ser.errors import SerError


@dataclass(frozen=True)
class Settings:
    """Limits of a server; the defaults suit one process on a small machine.

    Attributes:
        max_mb: largest upload, in megabytes (10^6 bytes).
        max_seconds: longest recording, in seconds.
        max_text: most characters of words sent along.
        concurrency: recordings decoded or analysed at a time; prediction has a thread of its own.
        queue: requests that may wait beyond these; more are answered 429.
        upload_seconds: time for a body to arrive; then 408.
        decode_seconds: time for decoding; then 422.
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
    upload_seconds: float = 60.0
    decode_seconds: float = 20.0
    batching: bool = True
    max_batch: int = 16
    batch_wait_ms: float = 4.0
    api_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_seconds", "concurrency", "upload_seconds", "decode_seconds",
                     "max_batch"):  # fmt: skip
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
    def max_requests(self) -> int:
        """Requests inside at a time: those at work and those that wait."""
        return self.concurrency + self.queue
