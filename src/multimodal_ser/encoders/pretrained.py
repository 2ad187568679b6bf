"""A folder with the hub's layout → a complete network of transformers, no layer left random."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from multimodal_ser.common.files import parse_json
from multimodal_ser.encoders.base import Placed
from multimodal_ser.encoders.weights import Weights, how_to_get, weight_source
from multimodal_ser.errors import EncoderError, some_of

WAVES = (  # read samples
    "wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat",
    "wav2vec2-conformer",
)  # fmt: skip
SPEECH = (*WAVES, "wav2vec2-bert")
TEXT = (
    "bert", "roberta", "xlm-roberta", "deberta", "deberta-v2", "modernbert", "electra",
    "distilbert", "mpnet",
)  # fmt: skip
WHISPER = "whisper"

# Parameters that a checkpoint may have in excess: heads for a task, which come after the encoder,
# and position_ids, which older versions of transformers saved although they are only 0, 1, 2, …
_HEADS = re.compile(
    r"^(lm_head|classifier|projector|quantizer|project_q|project_hid|final_proj|label_embs_concat"
    r"|layer_weights|tdnn|objective|cls|qa_outputs|pre_classifier|vocab_\w+|head|decoder"
    r"|discriminator_predictions|generator_\w+|lm_predictions|mask_predictions)\b|position_ids$"
)
# Parameters that may be missing, since they are never used here: the embedding of masked frames,
# which only training uses, and a pooler, which comes after the tokens.
_UNUSED = re.compile(r"(^|\.)(masked_spec_embed|pooler\.(dense\.)?\w+)$")


class Sendable(Placed):
    """An encoder that can be pickled, and so be sent to the processes of a cluster.

    Its network cannot be pickled itself: torch refuses weight normalisation, and transformers adds
    functions to a network that is asked for hidden states. Configuration and parameters are sent.

    Attributes:
        network: a module made of one network of transformers, its ``model``.
        dtype: in which type it computes.
    """

    dtype: torch.dtype

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copies the network as it is, such as with low-rank updates that are being trained."""
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __getstate__(self) -> dict[str, Any]:
        """The state with the network replaced by its class, configuration and parameters."""
        made = type(self.network), self.network.model.config, self.network.state_dict()
        return {**self.__dict__, "network": made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the network again."""
        from transformers import AutoModel

        self.__dict__.update(state)
        kind, config, parameters = state["network"]
        model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        network = kind(model).to(next(iter(parameters.values())).device, self.dtype)
        network.load_state_dict(parameters)
        self.network = network.eval().requires_grad_(False)


def kind_of(name: str, folder: Path) -> Any:
    """The architecture that a folder's ``config.json`` names.

    Raises:
        EncoderError: the file is missing or cannot be read.
    """
    return _config(name, folder).get("model_type")


def _config(name: str, folder: Path) -> dict[str, Any]:
    """The content of a folder's ``config.json``."""
    file = folder / "config.json"
    if not file.is_file():
        raise EncoderError(f"{name}: {folder} has no config.json; copy it from the hub")
    try:
        return dict(parse_json(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise EncoderError(f"{name}: {file} cannot be read ({error}); fetch it again") from error


def _check_no_other_weights(name: str, weights: Weights, config: Mapping[str, Any]) -> None:
    """Raises EncoderError if transformers would read other weights than those of the hash.

    What a training saw is looked up by that hash: with an adapter beside the published weights, a
    fine-tuned encoder would pass for the published one.
    """
    if (weights.folder / "adapter_config.json").is_file():
        raise EncoderError(
            f"{name}: {weights.folder} has an adapter (adapter_config.json), which is not read; "
            "merge it into the weights with peft, merge_and_unload().save_pretrained(FOLDER), and "
            "give that folder, or take the file away to have the weights without it"
        )
    other = config.get("transformers_weights")
    if other not in (None, weights.file.name):
        raise EncoderError(
            f"{name}: {weights.folder / 'config.json'} says transformers_weights {other!r}, and "
            f"{weights.file.name} is there, too; keep one of the two files, called "
            f"{weights.file.name}, and take the line out"
        )


def pretrained(name: str, weights: Weights, allowed: tuple[str, ...]) -> Any:
    """Loads a network with transformers' `AutoModel` and checks that no parameter is missing.

    Args:
        name: the encoder, for messages.
        weights: what `resolve` found.
        allowed: the architectures that are supported.

    Returns:
        The model in float32, in evaluation mode, without gradients.

    Raises:
        EncoderError: configuration or weights are missing, damaged or of another architecture; the
            message names the parameters.
    """
    wanted = weight_source(name).kind
    config = _config(name, weights.folder)
    kind = config.get("model_type")
    if kind not in ((wanted,) if wanted else allowed):
        raise EncoderError(
            f"{name}: {weights.folder / 'config.json'} says model_type {kind!r}; allowed: "
            f"{', '.join(map(repr, (wanted,) if wanted else allowed))}; {how_to_get(name)}"
        )
    _check_no_other_weights(name, weights, config)
    # transformers initialises missing parameters at random and only logs it: features of such a
    # network would look plausible and be worthless. Every difference is therefore an error.
    model, report = _loaded(name, weights)
    missing = sorted(key for key in report["missing_keys"] if not _UNUSED.search(key))
    if missing:
        raise EncoderError(
            f"{name}: {weights.file} lacks {len(missing)} parameters ({some_of(missing)}); "
            f"{how_to_get(name)}"
        )
    # Unknown parameters mean another architecture, whose known ones would not fit either.
    if strange := sorted(key for key in report["unexpected_keys"] if not _HEADS.search(key)):
        raise EncoderError(
            f"{name}: {weights.file} has {len(strange)} parameters that the network lacks "
            f"({some_of(strange)}): it is of another architecture; {how_to_get(name)}"
        )
    if other := sorted(map(str, report.get("mismatched_keys", ()))):
        raise EncoderError(
            f"{name}: {weights.file} has {len(other)} parameters of another shape than its "
            f"config.json says ({some_of(other)}); fetch both again"
        )
    model.config.return_dict = True  # whatever config.json says: outputs are taken by their names
    return model.float().eval().requires_grad_(False)


def _loaded(name: str, weights: Weights) -> tuple[Any, Any]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with _quiet():
            return AutoModel.from_pretrained(
                weights.folder,
                local_files_only=True,
                use_safetensors="safetensors" in weights.file.name,
                weights_only=True,
                # not what config.json says, to which transformers 5 would round the parameters
                torch_dtype=torch.float32,
                ignore_mismatched_sizes=True,  # reported by `pretrained` with their names
                output_loading_info=True,
            )
    except (
        UnpicklingError, OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError,
        ImportError, SafetensorError,
    ) as error:  # fmt: skip
        # transformers before 5 puts an error of its own in front of the one that says why
        cause: BaseException | None = error
        while cause and not isinstance(cause, UnpicklingError):
            cause = cause.__context__
        if cause:
            raise EncoderError(
                f"{name}: {weights.file} holds pickled code, which is never executed, or is no "
                f"checkpoint ({str(cause).strip().splitlines()[0]}); convert it to safetensors, or "
                f"get it from its authors; {how_to_get(name)}"
            ) from error
        raise EncoderError(
            f"{name}: {weights.file} cannot be loaded ({type(error).__name__}: {error}); it is "
            f"damaged or of another architecture; {how_to_get(name)}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Turns off transformers' progress bars and its reports about heads that are left out."""
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
