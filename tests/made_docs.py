"""The pages' fenced commands, and a folder with small made-up data under the names they use."""

import pickle
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

import made_corpora
import made_formats
from made_sound import written

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "docs/guide.md", "docs/index.md", "docs/faq.md",
    "docs/conversations.md", "docs/interfaces.md", "docs/corpora.md",
    "docs/models.md", "docs/emotion2vec.md", "docs/cluster.md", "docs/original.md",
    "docs/performance.md", "docs/recipes.md", "docs/statistics.md", "docs/tasks.md",
    "docs/nkululeko.md", "CONTRIBUTING.md",
)  # fmt: skip
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.M | re.S)
PROGRAMS = (
    "ser",
    "python",
    "pip",
    "make",
    "docker",
    "git",
    "cd",
    "export",
    "pytest",
    "arecord",
    "curl",
)


class Block(NamedTuple):
    """A fenced block: its language, and what stands in it."""

    language: str
    body: str


def blocks(page: str) -> list[Block]:
    """A page's fenced blocks, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = _FENCE.finditer(text)
    return [Block(one["language"], one["body"]) for one in found]


def statements(body: str) -> list[str]:
    """The shell statements of a block: lines with their continuations, and whole loops."""
    found: list[str] = []
    open_loops, joined = 0, False
    for line in body.splitlines():
        if not line.strip() and not joined:
            continue
        if joined or open_loops:
            found[-1] += "\n" + line
        else:
            found.append(line)
        joined = line.endswith("\\")
        open_loops += bool(re.match(r"\s*for ", line)) - bool(re.match(r"\s*done\b", line))
    return [one for one in found if not one.lstrip().startswith("#")]


def arguments(statement: str, folder: Path, before: str = "") -> list[list[str]]:
    """What the shell would run: program and arguments, comments gone, wildcards found.

    A shell reads the statement with the programs replaced by functions that print their arguments.
    """
    said = "\n".join(
        f"{name}() {{ printf '%s\\0' {name} \"$@\"; printf '\\n'; }}" for name in PROGRAMS
    )
    done = subprocess.run(
        ["bash", "-c", f"set -f +f\n{said}\n{before}\n{statement}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, f"a command that is neither run nor listed:\n{statement}\n{done.stderr}"
    return [line.split("\0")[:-1] for line in done.stdout.split("\n") if line]


def is_shell(block: Block) -> bool:
    """Whether a block without a language, or one of the shell's, holds commands."""
    if block.language in ("bash", "sh"):
        return True
    first = block.body.split(maxsplit=1)[0] if block.body.strip() else ""
    return not block.language and (first in (*PROGRAMS, "for") or "=" in first)


def world(folder: Path) -> Path:
    """Small corpora, recordings and feature files under the names that the pages use."""
    made_corpora.make_emodb(folder / "EmoDB", sound=True)
    for file in (folder / "EmoDB" / "wav").iterdir():  # four speakers are enough
        if file.name[:2] not in ("03", "08", "09", "10"):
            file.unlink()
    labels = ("ang", "hap", "neu", "sad")
    made_corpora.make_iemocap(
        folder / "IEMOCAP_full_release",
        made_corpora.iemocap_rows(dict.fromkeys(labels, 10)),
        True,
        made_corpora.varied,
    )
    made_corpora.make_cremad(folder / "CREMA-D", sound=True)
    made_corpora.make_tallies(folder / "CREMA-D")
    made_corpora.make_meld(folder / "MELD.Raw", dialogues=4, sound=True)
    (folder / "MELD").symlink_to(folder / "MELD.Raw")
    made_corpora.make_ravdess(folder / "RAVDESS", sound=True)
    _recordings(folder)
    for number, file in enumerate(sorted(path for path in folder.rglob("*.*") if _sounds(path))):
        draw = np.random.default_rng(number)  # no two sound alike, or they count as copies
        written(file, draw.normal(0, 0.1, 8_000).astype("f4"), format="WAV")
    _own_features(folder)
    _rttm(folder)
    _formats(folder)
    return folder


def _formats(folder: Path) -> None:
    """Data in the formats of other tools, under the names that docs/corpora.md uses."""
    made_formats.make_folders(folder)
    made_formats.make_audformat(folder / "mydb")
    made_formats.make_huggingface(folder)
    made_formats.make_kaldi(folder / "asr")
    made_formats.make_lhotse(folder)
    made_formats.make_emobox(folder / "EmoBox")


def _sounds(path: Path) -> bool:
    return path.suffix in (".wav", ".mp4") and "AudioRebuilt" not in path.parts


def _recordings(folder: Path) -> None:
    """Calls, an interview, and a table of them."""
    (folder / "calls").mkdir()
    rows = ["audio,emotion,speaker"]
    for number in range(12):
        word, speaker = ("anger", "neutral")[number % 2], f"s{number % 3}"
        made_corpora.write_sound(folder / "calls" / f"{number}.wav", f"{word}{number}")
        rows.append(f"calls/{number}.wav,{word},{speaker}")
    (folder / "my.csv").write_text("\n".join(rows) + "\n")
    noise = np.random.default_rng(0)
    (folder / "more").mkdir()
    channels = {"call.wav": 2, "meeting.flac": 3, "more/c.mp3": 1}
    for name in (
        *channels,
        "interview.wav",
        "meeting.wav",
        "new.wav",
        "recording.wav",
        "a.wav",
        "b.wav",
    ):
        sound = noise.normal(0, 0.1, (16_000, channels.get(name, 1))).astype("f4")
        written(folder / name, sound)
    written(folder / "interview.mp3", noise.normal(0, 0.1, 48_000).astype("f4"), format="MP3")


def _rttm(folder: Path) -> None:
    """Who speaks when, as diarisers write it."""
    turns = ((0.0, 0.4, "ann"), (0.5, 0.4, "ben"))
    rows = [f"SPEAKER meeting 1 {t:.2f} {d:.2f} <NA> <NA> {who} <NA> <NA>" for t, d, who in turns]
    (folder / "meeting.rttm").write_text("\n".join(rows) + "\n")


def _own_features(folder: Path) -> None:
    """mine.npz for EmoDB by id, theirs.pkl for IEMOCAP by row, dev_features.npz for MELD's dev."""
    draw = np.random.default_rng(0)
    ids = [f"emodb/{file.stem}" for file in sorted((folder / "EmoDB" / "wav").iterdir())]
    np.savez(folder / "mine.npz", ids=ids, frames=draw.normal(size=(len(ids), 6)).astype("f4"))
    order = {"ang": 0, "hap": 1, "neu": 2, "sad": 3}
    made = [(key, order[word]) for key, word in made_corpora.iemocap_rows(dict.fromkeys(order, 10))]
    rows = [{"text_embed": draw.normal(size=5).astype("f4"), "label": n} for _, n in sorted(made)]
    (folder / "theirs.pkl").write_bytes(pickle.dumps(rows))
    pairs = [(dialogue, turn) for dialogue in range(4) for turn in range(7)]
    sides = {"text_roberta_base": 5, "audio_wav2vec2_base": 4}
    arrays = {key: draw.normal(size=(len(pairs), dim)).astype("f4") for key, dim in sides.items()}
    np.savez(folder / "dev_features.npz", **arrays)
    lines = ["Dialogue_ID,Utterance_ID", *(f"{d},{u}" for d, u in pairs)]
    (folder / "dev_features.csv").write_text("\n".join(lines) + "\n")


FEW = {
    "--seeds": "1",
    "--draws": "1",
    "--folds": "2",
    "--target-folds": "2",
    "--audio-tokens": "4",
    "--trials": "2",
}
SMALL = (
    "--network.members", "1", "--network.hidden-dim", "8", "--network.num-heads", "2",
    "--schedule.epochs", "1", "--schedule.least-steps", "1", "--jobs", "1",
)  # fmt: skip


def small(words: list[str]) -> list[str]:
    """The same command with fewer seeds, folds and steps; nothing else is changed."""
    if words[1] not in ("train", "experiment", "tune"):
        return words[1:]
    asked = [FEW.get(before, word) for before, word in pairwise(["", *words[1:]])]
    if "--percentages" in asked:
        place = asked.index("--percentages")
        while asked[place + 2].isdecimal():
            del asked[place + 2]
        asked[place + 1] = "100"
    if "--seeds" not in asked:
        asked += ["--seeds", "1"]
    tune = ("--tune.epochs", "1", "--tune.probe-epochs", "1", "--tune.no-augment")
    return [*asked, *SMALL, *(tune if "--tune-encoder" in asked else ())]
