"""The package's face: names on first use, no torch before, and the features that are shipped."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import multimodal_ser
from multimodal_ser.corpora import read_manifest
from multimodal_ser.features import FeatureStore

DEMO = Path(multimodal_ser.__file__).parent / "demo"


def test_every_public_name_is_there():
    for name in multimodal_ser.__all__:
        assert getattr(multimodal_ser, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(multimodal_ser, "nothing")


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, multimodal_ser; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_card_has_the_hash_of_the_shipped_features():
    card = (DEMO / "CARD.md").read_text(encoding="utf-8")
    stated = re.search(r"sha256 of `whisper-tiny\.safetensors` \| `([0-9a-f]{64})`", card)
    features = DEMO / "whisper-tiny.safetensors"
    assert stated
    assert stated[1] == hashlib.sha256(features.read_bytes()).hexdigest()


def test_the_shipped_features_are_whole_and_name_no_machine():
    rows = read_manifest(DEMO / "manifest.jsonl")
    store = FeatureStore.open(DEMO / "whisper-tiny.safetensors")
    assert [row.id for row in rows] == list(store.ids)
    assert len(rows) == 535
    assert len({row.speaker for row in rows}) == 10
    assert store["emodb/03a01Fa"].shape == (1, 1152)
    for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        assert '"audio": "wav/' in line


def test_loading_the_starter_imports_nothing_that_trains_or_reads_corpora():
    code = """
import sys
from multimodal_ser import load
load()
parts = {name.split(".")[1] for name in sys.modules if name.startswith("multimodal_ser.")}
print(*sorted(parts & {
    "adapt", "alignment", "augment", "baselines", "corpora", "data", "experiments", "features",
    "material", "report", "runs", "schedule", "stacking", "train",
}))
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == ""
