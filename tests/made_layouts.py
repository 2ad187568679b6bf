"""Made-up corpora in the official layouts of their tables."""

from collections.abc import Callable
from pathlib import Path

from made_corpora import Made, put
from made_formats import sound_bytes, write, write_audformat, write_parquet
from multimodal_ser.corpora import emodb

IMPROV = {"A": "anger", "H": "happiness", "S": "sadness", "N": "neutral", "O": "other",
          "X": "no agreement"}  # fmt: skip
SIX = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def make_msp_improv(root: Path) -> Made:
    """Two sessions, every class, three raters of whom one is copied."""
    emotions, lines = {}, []
    for session in ("01", "02"):
        for place, (letter, word) in enumerate(IMPROV.items()):
            own_id = f"S0{place + 1}A-F{session}-{'PRST'[place % 4]}-FM01"
            name = f"MSP-IMPROV-{own_id}.wav"
            put(root / f"session{int(session)}" / f"S0{place + 1}A" / "PRST"[place % 4] / name)
            lines += [
                f"UTD-IMPROV-{own_id}.avi; {letter}; A:2.500000; V:4.000000; D:NaN ; N:3.666667;",
                "PS1_1; Angry; Angry,Frustrated; A:3.000000; V:4.000000; D:3.0; N:4.0;",
                "PS1_1; Angry; Angry,Frustrated; A:3.000000; V:4.000000; D:3.0; N:4.0;",
                "PS2_1; Neutral; ; A:2.000000; V:4.000000; D:2.0; N:3.0;",
                "",
            ]
            emotions[f"msp-improv/{own_id}"] = word
    write(root / "Evalution.txt", "\n".join(lines) + "\n")
    return Made(root, emotions)


def make_emozionalmente(root: Path) -> Made:
    """Three people, seven emotions, five votes a recording."""
    words = {word: word for word in ("anger", "disgust", "fear", "sadness", "surprise")}
    words |= {"joy": "happiness", "neutrality": "neutral"}
    samples = ["file_name,actor,sentence,emotion_expressed"]
    votes, emotions = ["file_name,emotion_recognized"], {}
    for actor in ("ada", "bruno", "carla"):
        for code, word in words.items():
            put(root / "audio" / f"{actor}_{code}.wav")
            samples.append(f'{actor}_{code}.wav,{actor},"Una frase, inventata.",{code}')
            votes += [f"{actor}_{code}.wav,{vote}" for vote in (code, code, code, "joy", "fear")]
            emotions[f"emozionalmente/{actor}_{code}"] = word
    write(root / "metadata/samples.csv", "\n".join(samples) + "\n")
    write(root / "metadata/evaluations.csv", "\n".join(votes) + "\n")
    people = "ada,f,31,it\nbruno,m,44,it\ncarla,f,27,it\n"
    write(root / "metadata/users.csv", "username,gender,age,mother_tongue\n" + people)
    return Made(root, emotions)


def make_cmu_mosei(root: Path) -> Made:
    """A video for each part, in which every emotion, none, and two at once are seen by raters."""
    levels = [*[{name: 2} for name in SIX], {}, {"anger": 1, "fear": 1}]
    said = [*SIX, "neutral", "no agreement"]
    header = ["Input.VIDEO_ID", "Input.CLIP", "WorkerId", "Answer.sentiment"]
    rows, emotions = [",".join([*header, *(f"Answer.{name}" for name in SIX)])], {}
    for video in ("aaa_1", "bbb", "12345"):
        put(root / f"Raw/Audio/Full/WAV_16000/{video}.wav")
        lines = []
        for clip, (level, word) in enumerate(zip(levels, said, strict=True)):
            lines.append(f"{video}___{clip}___{clip - 0.5}___{clip + 1.5}___Made up words.")
            cells = [str(level.get(name, 0)) for name in SIX]
            rows += [",".join([video, str(clip), f"W{k}", str(k - 1), *cells]) for k in range(3)]
            emotions[f"cmu-mosei/{video}_{clip}"] = word
        write(root / f"Raw/Transcript/Segmented/Combined/{video}.txt", "\n".join(lines) + "\n")
    write(root / "Raw/Labels/5000_batch_raw.csv", "\n".join(rows) + "\n")
    folds = (
        "standard_train_fold=['aaa_1']\nstandard_valid_fold=['bbb']\nstandard_test_fold=['12345']\n"
    )
    write(root / "cmu_mosei_std_folds.py", folds)
    return Made(root, emotions)


def make_resd(root: Path) -> Made:
    """As the hub has it, with the sound inside the tables."""
    emotions = {}
    text = {"dtype": "string", "_type": "Value"}
    features = {"name": text, "path": text, "emotion": text, "speech": {"_type": "Audio"}}
    for part, dialogue in (("train", "32"), ("test", "33")):
        rows = []
        for turn, word in enumerate((*SIX[:3], "enthusiasm", "happiness", "neutral", "sadness")):
            own = f"{dialogue}_{word}_fear_{word[0]}_{turn * 10}"
            sound = {"bytes": sound_bytes(own), "path": f"{own}.wav"}
            path = f"{word}_fear_{dialogue}/{own}.wav"
            rows.append({"name": own, "path": path, "emotion": word, "speech": sound})
            emotions[f"resd/{part}/{own}"] = word
        write_parquet(root / f"data/{part}-00000-of-00001.parquet", rows, features)
    return Made(root, emotions)


def make_emodb2(root: Path) -> Made:
    """Every speaker in every emotion twice; the second take is ambiguous."""
    emotions: dict[str, str] = {}
    words = ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral")
    english = dict(zip("WLEAFTN", words, strict=True))
    rows, people = [], {}
    for speaker, about in emodb.EMODB_SPEAKERS.items():
        sex, age = about.split(":")
        people[int(speaker)] = {"gender": sex, "age": int(age)}
        for letter, word in english.items():
            for take in "ab":
                name = f"{speaker}a01{letter}{take}"
                for folder in ("wav", "laryngo"):
                    put(root / folder / f"{name}.wav")
                rows.append((f"wav/{name}.wav", int(speaker), word, 0.95 if take == "a" else 0.4))
                emotions[f"emodb2/{name}"] = word
    write_audformat(root, "emodb", rows, people)
    return Made(root, emotions)


LAYOUTS: dict[str, Callable[[Path], Made]] = {
    "msp-improv": make_msp_improv,
    "emozionalmente": make_emozionalmente,
    "cmu-mosei": make_cmu_mosei,
    "resd": make_resd,
    "emodb2": make_emodb2,
}
