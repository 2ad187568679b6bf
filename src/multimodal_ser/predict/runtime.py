"""onnxruntime without its telemetry: nothing is sent and no file is written."""

from __future__ import annotations

import os
from typing import Any


def onnxruntime() -> Any:
    """Imports onnxruntime (extra ``onnx``) with its telemetry off.

    From version 1.29 on its packages record and send usage, and leave a database and a file
    ``.ses`` behind, unless this variable is set before the first import. A value that the user has
    set is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as runtime

    return runtime
