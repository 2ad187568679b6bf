"""One thread: the networks of the tests are too small to gain from more, and lose by waiting."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
