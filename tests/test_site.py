"""The site of docs/: built strictly, with every public name, and a shape for every array."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import multimodal_ser

ROOT = Path(__file__).parents[1]
LISTED = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.M)
ARRAY = re.compile(r"NDArray|ndarray|Tensor|ArrayLike|\bWave\b|\bVector\b|\bFloats\b|\bSamples\b")
SHAPE = re.compile(r"\[[A-Za-z0-9](?:[A-Za-z0-9 ,/·+-]*)\]|2-D|scalar")
UNITS = re.compile(r"\bHz\b|kHz|\bseconds?\b|\b\d+ ms\b|\bs\b")
TIMED = re.compile(r"rate|seconds|window|hop|smoothing")


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_reference_lists_every_public_name():
    listed = {path.rpartition(".")[2]: found(path) for path in LISTED}
    for name in multimodal_ser.__all__:
        assert name in listed, f"docs/api.md lacks {name}"
        assert listed[name] is getattr(multimodal_ser, name), name


def callables(path):
    """The documented functions behind a listed name: itself, or a class's public methods."""
    thing = found(path)
    if inspect.isclass(thing):
        yield path, thing, inspect.getdoc(thing) or ""
        for name, member in vars(thing).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield f"{path}.{name}", member, inspect.getdoc(member) or ""
    elif inspect.isfunction(thing):
        yield path, thing, inspect.getdoc(thing) or ""


def lacking(name, annotations, doc):
    """What a docstring owes its reader: shapes of arrays, units of times and rates."""
    arrays = [key for key, kind in annotations.items() if ARRAY.search(str(kind))]
    if arrays and not SHAPE.search(doc):
        yield f"{name}: no shape of {', '.join(arrays)}"
    timed = [key for key, kind in annotations.items()
             if TIMED.search(key) and re.search(r"int|float", str(kind))]  # fmt: skip
    if timed and not UNITS.search(doc):
        yield f"{name}: no unit of {', '.join(timed)}"


def test_public_docstrings_have_shapes_and_units():
    missing = []
    for path in LISTED:
        for name, thing, doc in callables(path):
            if not doc:
                missing.append(f"{name}: no docstring")
            missing += lacking(name, getattr(thing, "__annotations__", {}), doc)
    assert not missing


def test_the_rule_finds_what_is_missing():
    owed = list(lacking("f", {"x": "NDArray[np.float32]", "rate": "int"}, "Reads it."))
    assert owed == ["f: no shape of x", "f: no unit of rate"]
    assert not list(lacking("f", {"x": "Tensor", "hop": "float"}, "[N, C]; hop in seconds."))


def test_the_site_is_built_without_a_warning(tmp_path):
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed, reason="the extra 'docs' is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text("utf-8")
    for path in LISTED:
        assert f'id="{path}"' in page, path
