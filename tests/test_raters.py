"""Every rater's answer is kept, and a vote is one rater's, whatever they named."""

from __future__ import annotations

from pathlib import Path

from made_corpora import make_cremad, make_iemocap, make_msp_podcast
from multimodal_ser.corpora import CORPORA, read_manifest, write_manifest
from multimodal_ser.corpora.base import most_chosen, votes_of
from multimodal_ser.corpora.labels import class_set

CLIP = "1001_DFA_ANG_XX"
RESPONSES = '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","subType","clipName","sessionNums","respEmo","respLevel","dispEmo","dispVal","dispLevel"'  # noqa: E501
TALLIES = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"'


def test_iemocap_raters_have_a_vote_each_and_actors_none(tmp_path: Path) -> None:
    ids = ["Ses01F_impro01_F000", "Ses01F_impro01_M000"]
    make_iemocap(tmp_path, [(own_id, "ang") for own_id in ids])
    table = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    answers = (
        "C-E2:\tAnger;\t()\nC-E3:\tNeutral state; Frustration;\t()\nC-E4:\tOther;\t(puzzled)\n"
        "C-F1:\tHappiness;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\nA-F1:\tval 2; act 4; dom 4;\t()\n"
    )
    begin, second = table.read_text().split("[1.0000")
    table.write_text(begin.split("C-E2")[0] + answers + "\n[1.0000" + second)
    first, other = CORPORA["iemocap"].read(tmp_path).utterances
    assert first.votes == {"ang": 1, "neu": 0.5, "fru": 0.5, "oth": 1}
    assert first.extra["raters"] == {
        "E2": {"emotion": ["ang"]},
        "E3": {"emotion": ["neu", "fru"], "valence": 3.0, "arousal": 2.0, "dominance": 2.0},
        "E4": {"emotion": ["oth"], "remark": "puzzled"},
        "F1": {"emotion": ["hap"], "valence": 2.0, "arousal": 4.0, "dominance": 4.0},
    }
    assert other.votes == {"neu": 1}
    classes = class_set("iemocap4")
    assert [classes.class_of("iemocap", word) for word in first.votes] == [
        "anger", "neutral", None, None,
    ]  # fmt: skip


def cremad_with(root: Path, name: str, header: str, *rows: str) -> Path:
    make_cremad(root, [CLIP])
    table = root / name
    table.parent.mkdir(exist_ok=True)
    table.write_text("\n".join([header, *rows]) + "\n")
    return root


def test_cremad_listeners_of_the_voice_are_kept(tmp_path: Path) -> None:
    rows = [
        f'"{n}","{who}",1,"A_80",900,{kind},0,1,1,4,"{CLIP}","s{n}","{word}",{level},"A",50,50'
        for n, (who, kind, word, level) in enumerate(
            [("r1", 1, "A", 80), ("r2", 1, "N", "NA"), ("r3", 2, "D", 60), ("r1", 1, "A", 70)]
        )
    ]
    (row,) = CORPORA["cremad"].read(cremad_with(tmp_path, "finishedResponses.csv", RESPONSES, *rows)).utterances  # fmt: skip  # noqa: E501
    assert row.votes == {"ANG": 1, "NEU": 1}  # who saw the face has no vote, who answers again one
    assert row.extra["raters"] == {
        "r1": {"emotion": ["ANG"], "level": 70.0},
        "r2": {"emotion": ["NEU"]},
    }
    write_manifest([row], tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == [row]


def test_cremad_tallies_serve_where_the_answers_are_not_there(tmp_path: Path) -> None:
    rows = (f'"100001",2,0,0,1,6,0,"{CLIP}",9,0.6,"N"', f'"200001",9,0,0,0,0,0,"{CLIP}",9,1,"A"')
    root = cremad_with(tmp_path, "processedResults/tabulatedVotes.csv", TALLIES, *rows)
    (root / "summaryTable.csv").rename(root / "processedResults/summaryTable.csv")
    (row,) = CORPORA["cremad"].read(root).utterances
    assert row.votes == {"ANG": 2, "HAP": 1, "NEU": 6}
    assert "raters" not in row.extra
    assert row.extra["voice_vote"] == "A"
    assert [one.emotion for one in CORPORA["cremad"].read(root, votes="voice").utterances] == [
        "ANG"
    ]


def test_msp_podcast_answers_in_either_layout(tmp_path: Path) -> None:
    make_msp_podcast(tmp_path)
    name = "MSP-PODCAST_0001_0000.wav"
    split = (
        "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
        f'{name},WORKER1,Angry,"Angry,Other-Annoyed",6,2,5\n{name},WORKER2,Other-Annoyed,,5,3,5\n'
    )
    whole = (
        "FileName,EmoDetail\n"
        f'{name},"WORKER1; Angry; Angry,Other-Annoyed; A:6.0; V:2.0; D:5.0;"\n'
        f'{name},"WORKER2; Other-Annoyed; ; A:5.0; V:3.0; D:5.0;"\n'
    )
    for text in (split, whole):
        (tmp_path / "Labels/labels_detailed.csv").write_text(text)
        row = CORPORA["msp-podcast"].read(tmp_path).utterances[0]
        assert row.votes == {"anger": 1, "other": 1}
        assert row.extra["raters"] == {
            "WORKER1": {
                "emotion": ["anger"], "second": ["anger", "annoyed"],
                "arousal": 6.0, "valence": 2.0, "dominance": 5.0,
            },
            "WORKER2": {
                "emotion": ["other"], "remark": "Other-Annoyed", "second": [],
                "arousal": 5.0, "valence": 3.0, "dominance": 5.0,
            },
        }  # fmt: skip
    labels = tmp_path / "Labels/labels_consensus.csv"
    labels.rename(labels.with_name("labels_concensus.csv"))
    assert CORPORA["msp-podcast"].read(tmp_path).utterances[0] == row


def test_several_words_of_one_rater_share_a_vote() -> None:
    three = votes_of([{"emotion": ["a", "b", "c"]}, {"emotion": ["a", "a"]}, {}])
    assert three == {"a": 1.333333, "b": 0.333333, "c": 0.333333}
    assert most_chosen(three) == "a"
    assert most_chosen({}) is None
