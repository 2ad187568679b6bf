"""Counters of the server for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from multimodal_ser.serve.admission import Admission
from multimodal_ser.serve.refusals import RefusedError

_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)  # seconds, of the histogram


class Metrics:
    """Counters of one server; their labels are routes and the like, never what a client sent.

    Attributes:
        decoded: seconds of sound.
    """

    def __init__(self, admission: Admission, streams: Streams) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "ser_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "ser_request_seconds",
            "Time to an answer",
            ["route"],
            buckets=_BOUNDS,
            registry=registry,
        )
        self.decoded = Counter("ser_audio_seconds", "Sound decoded", registry=registry)
        for name, about, value in (
            ("ser_requests_inside", "Requests at work or waiting", lambda: admission.active),
            ("ser_requests_long", "Of these, long recordings", lambda: admission.long),
            ("ser_uploads", "Bodies on their way", lambda: len(admission.arriving)),
            ("ser_streams", "Open streams", lambda: streams.open),
        ):
            Gauge(name, about, registry=registry).set_function(value)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a response."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counters in Prometheus's text format."""
        return generate_latest(self.registry)


class Streams:
    """Counts open streams.

    Args:
        most: largest number of open streams.
    """

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0

    @contextmanager
    def enter(self, stopping: bool) -> Iterator[None]:
        """Holds a place for a stream.

        Raises:
            RefusedError: 429 or 503.
        """
        if stopping:
            raise RefusedError(503, "the server is stopping")
        if self.open >= self.most:
            raise RefusedError(429, f"{self.open} streams are open; allowed: {self.most}")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
