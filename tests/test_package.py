"""The package's public names, its imports without torch, and the shipped features."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import multimodal_ser
from multimodal_ser.corpora import read_manifest
from multimodal_ser.errors import to_install
from multimodal_ser.features import FeatureStore

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it there
    import tomli as tomllib

DEMO = Path(multimodal_ser.__file__).parent / "demo"


def test_every_public_name_is_there():
    for name in multimodal_ser.__all__:
        assert getattr(multimodal_ser, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(multimodal_ser, "nothing")


def printed(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, multimodal_ser; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert printed(code) == "[]"


def test_the_card_has_the_hash_of_the_shipped_features():
    card = (DEMO / "CARD.md").read_text(encoding="utf-8")
    stated = re.search(r"sha256 of `whisper-tiny\.safetensors` \| `([0-9a-f]{64})`", card)
    features = DEMO / "whisper-tiny.safetensors"
    assert stated
    assert stated[1] == hashlib.sha256(features.read_bytes()).hexdigest()


def test_the_shipped_features_are_complete_and_contain_no_local_path():
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
    assert printed(code) == ""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes what pip notes of where a package came from (PEP 610), before all else on the path."""
    noted = tmp_path / "site" / "multimodal_ser-9.dist-info"
    noted.mkdir(parents=True)
    (noted / "METADATA").write_text("Metadata-Version: 2.1\nName: multimodal-ser\nVersion: 9\n")
    monkeypatch.syspath_prepend(noted.parent)

    def note(**origin):
        (noted / "direct_url.json").write_text(json.dumps(origin))

    return note


def test_an_extra_is_installed_from_where_the_package_came(installed, tmp_path, monkeypatch):
    assert to_install("train") == "pip install 'multimodal-ser[train]'"
    installed(url="file:///a/ser.whl", archive_info={})
    assert to_install("train") == "pip install 'multimodal-ser[train] @ file:///a/ser.whl'"
    installed(url="https://x.org/ser.git", vcs_info={"vcs": "git", "commit_id": "12ab"})
    named = "multimodal-ser[train] @ git+https://x.org/ser.git@12ab"
    assert to_install("train") == f"pip install '{named}'"
    clone = tmp_path / "a clone"
    installed(url=clone.as_uri(), dir_info={"editable": True})
    assert to_install("train") == "pip install '.[train]' in a clone of multimodal-ser"
    (clone / "src" / "multimodal_ser").mkdir(parents=True)
    monkeypatch.setattr(sys, "version_info", (3, 11))
    assert to_install("train") == f"pip install -c '{clone}/constraints.txt' '{clone}[train]'"
    monkeypatch.chdir(clone)
    assert to_install("train") == "pip install -c constraints.txt '.[train]'"
    monkeypatch.setattr(sys, "version_info", (3, 10))
    assert to_install("train") == "pip install '.[train]'"


def test_every_message_that_names_an_extra_tells_how_to_install_it():
    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    package = root / "src" / "multimodal_ser"
    asked = set()
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        asked |= set(re.findall(r"""to_install\(["']([\w-]+)["']\)""", text))
        asked |= set(re.findall(r"""import_extra\([^()]*["']([\w-]+)["'][^()"']*\)""", text))
        if file != package / "errors.py":
            assert "multimodal-ser[" not in text, file
    assert {"train", "serve", "asr", "onnx", "video", "ray"} <= asked <= set(extras)
