"""Log records → JSON lines, limited in number."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


class JsonFormatter(logging.Formatter):
    """Formats log records as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes time, level, logger and message, and the fields of a request if it is one."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Limited(logging.Filter):
    """Lets `most` records of a kind pass per `seconds`, and counts the others.

    The next record that passes reports how many were suppressed. A kind is logger, level, message
    and, for a request, its route and status. Successful requests may be ten times as many.
    """

    def __init__(self, most: int = 20, seconds: float = 10.0) -> None:
        super().__init__()
        self.most, self.seconds = most, seconds
        self._kinds: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        fields = getattr(record, "fields", {})
        answered = fields.get("status", 500) < 400
        kind = record.name, record.levelno, record.msg, fields.get("route"), fields.get("status")
        began, count = self._kinds.get(kind, (-self.seconds, 0))
        most = 10 * self.most if answered else self.most
        if record.created - began >= self.seconds:
            if count > most:
                record.fields = {**fields, "suppressed": count - most}
            began, count = record.created, 0
        self._kinds[kind] = began, count + 1
        # messages that differ every time must not fill the memory
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.clear()
        return count < most


_MOST_KINDS = 1_000


def log_json() -> None:
    """Sends the log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Limited())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it quotes what was sent
