"""Every rater's answer is kept, and a vote is one rater's, whatever they named."""

from pathlib import Path

from made_corpora import make_cremad, make_iemocap, make_msp_podcast
from made_layouts import LAYOUTS
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


def test_iemocap_tells_where_an_answer_does_not_vote(tmp_path: Path) -> None:
    make_iemocap(tmp_path, [("Ses01F_impro01_F000", "ang")])
    table = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    begin = table.read_text().split("C-E2")[0]
    answers = [
        "c-e1: ANGRY / Frustration;",
        "C-E2:\tdisappointed;\t(at him)",  # not disgust
        "C-E3:\tAnger; a bit tired;\t()",
        "  C-E4:\tNeutral\t()",
        "C-E5:\tAnger Sadness;\t()",
        "C-E6:\t\t()",
        "E7: Anger;",
        "C-E4:\tAnger;\t()",
        "C-F1:\tproud;\t()",
    ]
    table.write_text(begin + "\n".join(answers) + "\n")
    read = CORPORA["iemocap"].read(tmp_path)
    assert read.utterances[0].votes == {"ang": 2.5, "fru": 0.5}
    first = begin.count("\n") + 1

    def at(number: int) -> str:
        return f"Ses01F_impro01.txt:{first + number}"

    assert [line for line in read.left_out if "answer" in line] == [
        f"note: 3 answers of raters without an emotion: {at(1)} 'disappointed', "
        f"{at(4)} 'Anger Sadness', {at(5)}",
        f"note: 1 answer of raters with words beside an emotion that are none of IEMOCAP's: "
        f"{at(2)} 'a bit tired'",
        f"note: 1 answer of raters not of the shape C-E1: emotion; or A-E1: val 1; …: {at(6)}",
        "note: 1 answer of raters unlike an earlier one of the same rater, which does not count: "
        f"{at(7)}",
    ]


def test_msp_improv_gives_no_turn_the_answers_of_another(tmp_path: Path) -> None:
    root = LAYOUTS["msp-improv"](tmp_path).root
    table = root / "Evalution.txt"
    lines = table.read_text().splitlines()
    lines[2] = "PS1_1; Angry A:3.000000; V:4.000000; D:3.0; N:4.0;"
    lines[3] = "PS2_1; Neutral; ; A:2..5; V:4.000000; D:2.0; N:3.0;"
    second = next(k for k, line in enumerate(lines) if k and line.startswith("UTD-"))
    lines[second] = lines[second].replace("; H;", "; HS;")
    table.write_text("\n".join(lines))
    read = CORPORA["msp-improv"].read(root)
    assert read.utterances[0].votes == {"anger": 1}
    told = [line for line in read.left_out if line.startswith(("Evalution", "note"))]
    assert told == [
        f"Evalution.txt:{second + 1}: not of the shape name; class; A:1; V:1; D:1; N:1;",
        "note: 2 answers of raters not of the shape rater; emotion; second; A:1; V:1; D:1; N:1;: "
        "Evalution.txt:3, Evalution.txt:4",
    ]


def test_msp_podcast_tells_where_an_answer_does_not_vote(tmp_path: Path) -> None:
    make_msp_podcast(tmp_path)
    name = "MSP-PODCAST_0001_0000.wav"
    table = tmp_path / "Labels/labels_detailed.csv"
    rows = [f'{name},"W1; Angry; ; A:6.0; V:2.0; D:5.0;"', f'{name},"W2, Sad, A:6"', "gone.wav,"]
    table.write_text("\n".join(["FileName,EmoDetail", *rows]))
    read = CORPORA["msp-podcast"].read(tmp_path)
    assert read.utterances[0].votes == {"anger": 1}
    assert [line for line in read.left_out if line.startswith("note")] == [
        "note: 1 rated recording not in labels_consensus.csv, whose votes are not used: gone.wav",
        "note: 2 answers of raters without an emotion: labels_detailed.csv:3, "
        "labels_detailed.csv:4",
    ]


def test_cremad_tells_where_an_answer_does_not_vote(tmp_path: Path) -> None:
    rows = [
        f'"{n}","{who}",1,"A_80",900,{kind},0,1,1,4,"{CLIP}","s{n}","{word}",80,"A",50,50'
        for n, (who, kind, word) in enumerate([("r1", 1, "A"), ("r2", 1, "NA"), ("r3", "1.0", "D")])
    ]
    root = cremad_with(tmp_path, "finishedResponses.csv", RESPONSES, *rows)
    read = CORPORA["cremad"].read(root)
    assert read.utterances[0].votes == {"ANG": 1}
    assert [line for line in read.left_out if line.startswith("note")] == [
        "note: 1 answer of raters without an emotion: finishedResponses.csv:3",
        "note: 1 answer of raters with a queryType that is none of 1, 2, 3: "
        "finishedResponses.csv:4",
    ]


def test_cmu_mosei_tells_where_one_rater_answers_twice(tmp_path: Path) -> None:
    root = LAYOUTS["cmu-mosei"](tmp_path).root
    table = root / "Raw/Labels/5000_batch_raw.csv"
    table.write_text(table.read_text() + "bbb,0,W1,0,0,0,0,0,3,0\n")
    again = table.read_text().count("\n")
    told = "note: 1 answer of raters unlike an earlier one of the same rater, which does not count"
    assert f"{told}: {table.name}:{again}" in CORPORA["cmu-mosei"].read(root).left_out


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
