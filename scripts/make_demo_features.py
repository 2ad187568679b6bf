"""Makes the features that `ser demo` uses from EmoDB's recordings (CC0).

    python scripts/make_demo_features.py --emodb PATH_TO_EMODB

Does the same as `ser manifest` and `ser extract` in the README, then writes the manifest with paths
relative to the corpus folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from multimodal_ser.corpora import CORPORA
from multimodal_ser.encoders import load_encoder
from multimodal_ser.features import extract

DEMO = Path(__file__).parent.parent / "src" / "multimodal_ser" / "demo"


def main() -> None:
    """Writes the manifest and the features, and prints the features' hash for the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emodb", type=Path, required=True)
    root = parser.parse_args().emodb
    utterances = CORPORA["emodb"].read(root).utterances
    with tempfile.TemporaryDirectory() as folder:
        result = extract(utterances, load_encoder("whisper-tiny"), Path(folder), tokens=1)
        shutil.copy(result.path, DEMO / result.path.name)
        rows = (result.path.parent / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    with (DEMO / "manifest.jsonl").open("w", encoding="utf-8") as file:
        for row in map(json.loads, rows):
            row["audio"] = f"wav/{Path(row['audio']).name}"
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(hashlib.sha256((DEMO / result.path.name).read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
