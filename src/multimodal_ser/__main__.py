"""The command `ser`, and `python -m multimodal_ser`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs `multimodal_ser.cli.main`, and ends without a traceback on Ctrl-C while it is imported.

    Returns:
        Its exit code; 130 after Ctrl-C.
    """
    try:
        from multimodal_ser.cli import main as run  # takes most of the first half second
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return run()


if __name__ == "__main__":
    raise SystemExit(main())
