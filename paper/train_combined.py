"""features of two corpora → one training → results JSON."""

from _original import main
from _original.training import combined

if __name__ == "__main__":
    raise SystemExit(main(combined))
