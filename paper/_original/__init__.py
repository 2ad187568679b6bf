"""The original document's command lines → the library: flags in, features and results out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import tyro

from multimodal_ser.errors import SerError


def main(command: Callable[..., int | None]) -> int:
    """Runs one of the original's commands; the exit code is 1 for errors that users can fix."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "huggingface_hub", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return int(tyro.cli(command, use_underscores=True) or 0)
    except SerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
