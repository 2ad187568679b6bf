"""onnxruntime as this project uses it: silent, nothing sent and nothing written."""

from __future__ import annotations

import os
from typing import Any


def onnxruntime() -> Any:
    """Imports onnxruntime (extra ``onnx``) with its telemetry off.

    Since 1.29 its packages count what runs, send it, and leave a database and a file ``.ses``
    behind, unless this variable is set before the first import. What the user has set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as runtime

    return runtime
