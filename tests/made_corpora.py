"""Tiny made-up corpora in the official layouts: words and sounds are invented, names are not.

Every builder takes a folder, fills it, and returns `Made`: what to give `read`, and which
utterances reading it must give. Files are stand-ins of a few bytes unless ``sound=True``, which
writes half a second of a tone whose pitch depends on the emotion and the speaker.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from multimodal_ser.corpora import CORPORA, cremad, emodb

LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
CREMAD_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
MELD_EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
# Codes are said here and not taken from the readers, so that a swap in a reader is seen.
RAVDESS_EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
MSP_EMOTIONS = (
    "anger", "sadness", "happiness", "surprise", "fear", "disgust", "contempt", "neutral", "other",
    "no agreement",
)  # fmt: skip
IEMOCAP_LABELS = ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "fea", "dis", "oth", "xxx")
MELD_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


class Made(NamedTuple):
    """What a builder made: `read(root)` must give exactly these ids with these emotions."""

    root: Path
    emotions: dict[str, str]


def write_sound(path: Path, key: str = "", seconds: float = 0.5, rate: int = 16_000) -> Path:
    """A faintly noisy tone; the key decides pitch and noise, so that every key sounds its own."""
    seed = sum((place + 1) * ord(letter) for place, letter in enumerate(key))
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * (100 + seed % 300) * time) + noise
    with path.open("wb") as file:  # a wav inside, whatever the name's ending
        soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return path


def put(path: Path, key: str = "", sound: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if sound:
        write_sound(path, key)
    else:
        path.write_bytes(b"made up")


def iemocap_rows(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Made-up ids for so many utterances of each label, dealt over sessions and speakers."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    rows = []
    for number, label in enumerate(labels):
        session, rest = number % 5 + 1, number // 5
        wearer, turn = "FM"[rest // 2 % 2], "FM"[rest % 2]
        scene = "script01_1" if rest // 4 % 2 else "impro01"
        rows.append((f"Ses{session:02d}{wearer}_{scene}_{turn}{rest // 8:03d}", label))
    return rows


def varied(own_id: str) -> list[float]:
    """Valence, arousal and dominance from 1 to 5, by the id alone."""
    drawn = np.random.default_rng([*own_id.encode()]).random(3)
    return [1 + 4 * float(one) for one in drawn]


def make_tallies(root: Path) -> None:
    """CREMA-D's counts of its listeners' votes: six heard a clip, some of them as neutral."""
    rows: list[Sequence[object]] = [["", *"ADFHNS", "fileName", "numResponses"]]
    for number, path in enumerate(sorted((root / "AudioWAV").iterdir()), 1):
        heard = dict.fromkeys("ADFHNS", 0)
        heard[path.stem.split("_")[2][0]] += 3 + number % 3
        heard["N"] += 3 - number % 3
        rows.append([f"1{number:05d}", *heard.values(), path.stem, 6])
    _write_csv(root / "processedResults" / "tabulatedVotes.csv", rows)


def make_iemocap(
    root: Path,
    rows: Iterable[tuple[str, str]] | None = None,
    sound: bool = False,
    values: Callable[[str], Sequence[float]] = lambda own_id: (2.5, 3.0, 3.5),
) -> Made:
    """``Session*/dialog`` and ``sentences``; rows are (id, label), values V, A, D of an id."""
    chosen = list(iemocap_rows(dict.fromkeys(IEMOCAP_LABELS, 10)) if rows is None else rows)
    dialogues: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for own_id, label in chosen:
        dialogues[own_id.rsplit("_", 1)[0]].append((own_id, label))
    for dialogue, turns in dialogues.items():
        session = root / f"Session{int(dialogue[3:5])}"
        labels, words = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
        for number, (own_id, label) in enumerate(turns):
            start = f"{number:.4f} - {number + 0.9:.4f}"
            labels += [
                f"[{start}]\t{own_id}\t{label}\t"
                f"[{', '.join(f'{value:.4f}' for value in values(own_id))}]",
                "C-E2:\tNeutral;\t()",
                "A-E3:\tval 3; act 2; dom  2;\t()",
                "",
            ]
            stamp = f"[{number:08.4f}-{number + 0.9:08.4f}]"
            words.append(f"{own_id} {stamp}: Made up sentence {number}.")
            wav = session / "sentences" / "wav" / dialogue / f"{own_id}.wav"
            put(wav, own_id + label, sound)
        for folder, lines in (("EmoEvaluation", labels), ("transcriptions", words)):
            path = session / "dialog" / folder / f"{dialogue}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    return Made(root, {f"iemocap/{own_id}": label for own_id, label in chosen})


def cremad_names() -> list[str]:
    """The names of 7,442 clips by 91 actors with the corpus's counts per emotion."""
    short = {"ANG": 3, "DIS": 3, "FEA": 3, "HAP": 3, "NEU": 5, "SAD": 3}
    names = []
    for emotion in CREMAD_EMOTIONS:
        graded = emotion != "NEU"
        made = [
            f"{actor}_{sentence}_{emotion}_{level}"
            for actor in range(1001, 1092)
            for sentence in cremad.CREMAD_SENTENCES
            for level in (("LO", "MD", "HI") if graded and sentence == "IEO" else ("XX",))
        ]
        names += made[short[emotion] :]
    return sorted(names)


def make_cremad(
    root: Path,
    names: Sequence[str] | None = None,
    *,
    audio_dir: str = "AudioWAV",
    suffix: str = ".wav",
    votes: dict[str, str] | None = None,
    sound: bool = False,
) -> Made:
    """``AudioWAV``, ``summaryTable.csv`` (votes default to the intended) and demographics."""
    chosen = list(names or (f"{a}_DFA_{e}_XX" for a in range(1001, 1007) for e in CREMAD_EMOTIONS))
    for name in chosen:
        put(root / audio_dir / f"{name}{suffix}", name, sound)
    header = "FileName VoiceVote VoiceLevel FaceVote FaceLevel MultiModalVote MultiModalLevel"
    rows: list[Sequence[object]] = [["", *header.split()]]
    for number, name in enumerate(chosen, 1):
        vote = (votes or {}).get(name, name.split("_")[2][0])
        level = ":".join("50.5" for _ in vote.split(":"))
        official = name + "X" if name.endswith("_X") else name
        rows.append([number, official, vote, level, vote, level, vote, level])
    _write_csv(root / "summaryTable.csv", rows)
    people: list[Sequence[object]] = [["ActorID", "Age", "Sex", "Race", "Ethnicity"]]
    for actor in sorted({name[:4] for name in chosen}):
        people.append([actor, 20 + int(actor) % 50, "Female", "Asian", "Not Hispanic"])
    _write_csv(root / "VideoDemographics.csv", people)
    return Made(root, {f"cremad/{name}": name.split("_")[2] for name in chosen})


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def meld_row(dialogue: int, turn: int, emotion: str, text: str = "Made up words.") -> list[object]:
    stamps = ["00:00:01,000", "00:00:02,000"]
    return [1, text, f"Person {turn}", emotion, "neutral", dialogue, turn, 1, 2, *stamps]


def write_meld_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode"
    _write_csv(path, [[*header.split(","), "StartTime", "EndTime"], *rows])


def make_meld(
    root: Path, dialogues: int = 3, *, clips: bool = True, sound: bool = False, nested: bool = False
) -> Made:
    """Three tables, and a clip for each row; `nested` lays them out as the archives unpack."""
    emotions = {}
    for split, folder in MELD_FOLDERS.items():
        base = root / split if nested else root
        rows = []
        for dialogue in range(dialogues):
            for turn, emotion in enumerate(MELD_EMOTIONS):
                clip = f"dia{dialogue}_utt{turn}"
                rows.append(meld_row(dialogue, turn, emotion, f"Made up words {turn}, {emotion}."))
                emotions[f"meld/{split}/{clip}"] = emotion
                if clips:
                    put(base / folder / f"{clip}.mp4", split + clip + emotion, sound)
        write_meld_table(base / f"{split}_sent_emo.csv", rows)
    return Made(root, emotions)


def make_emodb(root: Path, suffix: str = ".wav", sound: bool = False) -> Made:
    """Every speaker says one sentence in every emotion; rates as the corpus writes them."""
    emotions, lines = {}, ["Nr.\tSatz\terkannt\tnatuerlich"]
    for speaker in emodb.EMODB_SPEAKERS:
        for letter in "WLEAFTN":
            name = f"{speaker}a01{letter}a"
            put(root / "wav" / f"{name}{suffix}", name, sound)
            emotions[f"emodb/{name}"] = letter
            lines.append(f"{len(lines)}\xa0\xa0\t{name}.wav\t97,50\xa0\xa0\t80,00\xa0\xa0")
    (root / "erkennung.txt").write_text("\n".join(lines), encoding="latin-1")
    return Made(root, emotions)


def make_ravdess(root: Path, sound: bool = False) -> Made:
    """Four actors, every emotion, both statements."""
    emotions = {}
    for actor in range(1, 5):
        for code, word in enumerate(RAVDESS_EMOTIONS, 1):
            for statement in ("01", "02"):
                name = f"03-01-{code:02d}-01-{statement}-01-{actor:02d}"
                put(root / f"Actor_{actor:02d}" / f"{name}.wav", name, sound)
                emotions[f"ravdess/{name}"] = word
    return Made(root, emotions)


def make_table(root: Path, sound: bool = False) -> Made:
    """``mine.jsonl`` with three speakers and four classes."""
    emotions, lines = {}, []
    for speaker in ("ann", "ben", "cleo"):
        for word in ("anger", "happiness", "neutral", "sadness"):
            name = f"{speaker}_{word}"
            put(root / "clips" / f"{name}.wav", name, sound)
            row = {"id": name, "audio": f"clips/{name}.wav", "emotion": word, "speaker": speaker}
            lines.append(json.dumps(row))
            emotions[f"mine/{name}"] = word
    (root / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return Made(root / "mine.jsonl", emotions)


# Corpora whose file names say everything: names of their own releases → emotion.
NAMED = {
    "savee": {
        "AudioData/DC/sa01.wav": "sadness",
        "AudioData/JK/a15.wav": "anger",
        "KL_su02.wav": "surprise",
        "JE_n30.wav": "neutral",
    },
    "tess": {
        "OAF_Fear/OAF_back_fear.wav": "fear",
        "YAF_happy/YAF_dog_happy.wav": "happiness",
        "OAF_neutral/OA_bite_neutral.wav": "neutral",
        "OAF_Pleasant/OAF_gun_ps.wav": "surprise",
    },
    "emovo": {
        "f1/dis-f1-b1.wav": "disgust",
        "m3/gio-m3-n5.wav": "happiness",
        "m2/pau-m2-l4.wav": "fear",
    },
    "esd": {
        "0001/Angry/0001_000351.wav": "anger",
        "0020/Surprise/test/0020_001421.wav": "surprise",
    },
    "cafe": {"Colère/Faible/01-C-1-1.wav": "anger", "Neutre/12-N-1-6.aiff": "neutral"},
    "emov-db": {
        "bea_Amused/amused_1-15_0001.wav": "amusement",
        "josh/Sleepy/sleepiness_1-28_0001.wav": "sleepiness",
        "sam_Disgusted/disgust_57-84_0059.wav": "disgust",
    },
    "jl-corpus": {
        "JL(wav+txt)/female1_angry_10a_1.wav": "anger",
        "male2_excited_1b_2.wav": "excitement",
    },
    "subesco": {
        "F_01_OISHI_S_1_ANGRY_1.wav": "anger",
        "M_10_TITAS_S_10_SURPRISE_5.wav": "surprise",
    },
    "shemo": {
        "female/F01A01.wav": "anger",
        "male/M56W12.wav": "surprise",
        "male/M05N101.wav": "neutral",
    },
    "aesdd": {"anger/a01 (1).wav": "anger", "sadness/s20 (6)b.wav": "sadness"},
    "mesd": {"Anger_C_A_abajo.wav": "anger", "Sadness_M_B_antes de ayer.wav": "sadness"},
    "urdu": {"Angry/SM1_F10_A010.wav": "anger", "Sad/SF25_F4_S4.wav": "sadness"},
    "ased": {"neutral/n1-01-02-01-09.wav": "neutral", "angry/a5-27-01-02-65.wav": "anger"},
    "nemo": {"samples/SB0_anger_1.wav": "anger", "samples/PK1_surprise_40.wav": "surprise"},
    "turev-db": {
        "Sound Source/Angry/1157_kz_acik.wav": "anger",
        "Sound Source/Calm/6783_sk_algi.wav": "calm",
    },
    "asvp-esd": {
        "ASVP-ESD-Update/Audio/actor_1/03-01-05-01-01-01-02-03-00.wav": "anger",
        "ASVP-ESD-Update/Audio/actor_12/03-02-13-02-07-12-01-02_66.wav": "other",
    },
    "mead": {
        "M003/audio/angry/level_1/001.m4a": "anger",
        "W009/audio/neutral/level_1/040.m4a": "neutral",
    },
}


def make_named(name: str, root: Path, sound: bool = False) -> Made:
    """The recordings of NAMED, with a hidden companion and a text that are none."""
    info, emotions = CORPORA[name], {}
    for path in NAMED[name]:
        put(root / path, path, sound)
    for other in ("._note.wav", "readme.txt"):
        put(root / other)
    for row in info.read(root).utterances:
        emotions[row.id] = NAMED[name][Path(str(row.audio)).relative_to(root).as_posix()]
    assert len(emotions) == len(NAMED[name])
    return Made(root, emotions)


def make_msp_podcast(root: Path, sound: bool = False) -> Made:
    """Every class in the parts that count, and a row of a part that does not."""
    rows, emotions = [], {}
    for place, (code, word) in enumerate(zip("ASHUFDCNOX", MSP_EMOTIONS, strict=True)):
        name = f"MSP-PODCAST_0001_{place:04d}"
        put(root / "Audios" / f"{name}.wav", name, sound)
        part = ("Train", "Development", "Test1", "Validation")[place % 4]
        rows.append((f"{name}.wav", code, 2.5, 3.0, 4.2, place % 3 + 1, "Female", part))
        emotions[f"msp-podcast/{name}"] = word
    _write_csv(
        root / "Labels" / "labels_consensus.csv",
        [("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"),
         *rows],
    )  # fmt: skip
    words = root / "Transcripts" / "MSP-PODCAST_0001_0000.txt"
    words.parent.mkdir()
    words.write_text("Made up words.\n")
    return Made(root, emotions)


MAKERS: dict[str, Callable[[Path], Made]] = {
    "iemocap": make_iemocap,
    "cremad": make_cremad,
    "meld": make_meld,
    "emodb": make_emodb,
    "ravdess": make_ravdess,
    "table": make_table,
    "msp-podcast": make_msp_podcast,
    **{name: partial(make_named, name) for name in NAMED},
}
