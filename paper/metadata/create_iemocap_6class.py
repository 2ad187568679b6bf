"""IEMOCAP, 6 classes → metadata/IEMOCAP_6class.csv."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _original import main
from _original.metadata import iemocap6

if __name__ == "__main__":
    raise SystemExit(main(iemocap6))
