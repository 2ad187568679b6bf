"""Annotation formats, read back by the library of each."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from multimodal_ser.errors import SerError
from multimodal_ser.timeline import Segment, Speaker, Timeline, Word
from multimodal_ser.timeline.annotations import tiers, turns
from multimodal_ser.timeline.picture import draw
from multimodal_ser.timeline.writers import write_files

SHARES = {"anger": 0.8, "neutral": 0.2}


def said(start, end, label, speaker=None, text=None):
    return Segment(start, end, label, 0.8, SHARES, text, speaker)


TALK = Timeline(
    duration=9.5,
    labels=("anger", "neutral"),
    segments=(
        said(0.5, 2.0, "anger", "agent", "so what"), said(1.5, 3.0, "neutral", "the customer"),
        said(2.0, 4.0, "uncertain", "agent"), said(5.0, 5.0004, "anger", "agent"),
        said(6.0, 9.6, "neutral", "the customer"),
    ),
    track=(),
    speech=((0.5, 4.0), (6.0, 9.5)),
    overall=SHARES,
    model="made",
    words=(Word(0.6, 1.0, "so", speaker="agent"), Word(0.9, 1.4, 'wh"at\x07&', speaker="agent")),
    speakers=(
        Speaker("agent", 0, 3.5, SHARES), Speaker("the customer", 1, 5.0, SHARES),
    ),
    source="calls/ü 1.wav",
)  # fmt: skip
ALONE = replace(
    TALK, speakers=(), words=(), segments=tuple(replace(s, speaker=None) for s in TALK.segments[2:])
)


def made(timeline, kind, folder):
    (file,) = write_files(timeline, Path("ü 1.wav"), folder, [kind])
    again = file.read_bytes()
    write_files(timeline, Path("ü 1.wav"), folder, [kind])
    assert file.read_bytes() == again  # the same timeline, the same bytes
    return file


def test_textgrid_is_read_by_praatio(tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid", reason="needs the extra 'annotations'")
    read = textgrid.openTextgrid(str(made(TALK, "textgrid", tmp_path)), includeEmptyIntervals=False)
    assert read.tierNames == ("agent emotion", "agent words", "the customer emotion")
    assert read.maxTimestamp == 9.5
    told = [tuple(entry) for entry in read.getTier("agent emotion").entries]
    assert told == [(0.5, 2.0, "anger"), (2.0, 4.0, "uncertain")]
    assert [tuple(entry) for entry in read.getTier("agent words").entries] == [
        (0.6, 1.0, "so"), (1.0, 1.4, 'wh"at&')
    ]  # fmt: skip
    assert read.getTier("the customer emotion").entries[-1].end == 9.5
    alone = textgrid.openTextgrid(str(made(ALONE, "textgrid", tmp_path)), False)
    assert alone.tierNames == ("emotion",)
    silent = replace(ALONE, segments=(), duration=2.0)
    assert textgrid.openTextgrid(str(made(silent, "textgrid", tmp_path)), False).tierNames


def test_eaf_is_read_by_pympi(tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="needs the extra 'annotations'")
    read = elan.Eaf(str(made(TALK, "eaf", tmp_path)))
    assert set(read.get_tier_names()) == {"agent emotion", "agent words", "the customer emotion"}
    assert [one[:3] for one in sorted(read.get_annotation_data_for_tier("agent emotion"))] == [
        (500, 2000, "anger"), (2000, 4000, "uncertain")
    ]  # fmt: skip
    assert read.get_parameters_for_tier("the customer emotion")["PARTICIPANT"] == "the customer"
    assert read.get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "calls/ü 1.wav"


def test_control_characters_in_names_are_spelt_out(tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="needs the extra 'annotations'")
    named = replace(
        TALK,
        source="a\x01b.wav",
        segments=tuple(replace(s, speaker="a\nb\x02") for s in TALK.segments[2:4]),
        speakers=(Speaker("a\nb\x02", 0, 3.5, SHARES),),
        words=(),
    )
    read = elan.Eaf(str(made(named, "eaf", tmp_path)))
    assert set(read.get_tier_names()) == {"a\\nb\\x02 emotion"}
    assert read.media_descriptors[0]["RELATIVE_MEDIA_URL"] == "a\\x01b.wav"
    assert b'name = "a\\nb\\x02 emotion"' in made(named, "textgrid", tmp_path).read_bytes()
    picture = draw(named, np.ones(9, np.float32), "a\x01b.wav", "svg")
    assert b"a\\x01b.wav" in picture
    assert b"b\\x02" in picture
    assert b"\x01" not in picture


def test_label_studio_gets_regions_of_its_own_shape(tmp_path):
    (task,) = json.loads(made(TALK, "labelstudio", tmp_path).read_text("utf-8"))
    assert task["data"] == {"audio": "calls/ü 1.wav"}
    (answer,) = task["predictions"]
    regions = answer["result"]
    assert len({region["id"] for region in regions}) == len(TALK.segments)
    assert all(
        (region["from_name"], region["to_name"], region["type"]) == ("emotion", "audio", "labels")
        for region in regions
    )
    assert regions[1]["value"] == {"start": 1.5, "end": 3.0, "channel": 1, "labels": ["neutral"]}
    assert regions[1]["meta"] == {"speaker": ["the customer"]}


def test_label_studio_reads_it_back(tmp_path):
    """Its library requires versions of OpenCV, lxml, NLTK and others that ours need not have."""
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="is not in the extra dev")
    said = {s.label for s in TALK.segments}
    labels = "".join(f'<Label value="{label}"/>' for label in sorted(said))
    ours = sdk.LabelInterface(
        f'<View><Labels name="emotion" toName="audio">{labels}</Labels>'
        '<Audio name="audio" value="$audio"/></View>'
    )
    (task,) = json.loads(made(TALK, "labelstudio", tmp_path).read_text("utf-8"))
    assert ours.validate_task({"data": task["data"]})
    (answer,) = task["predictions"]
    assert ours.validate_prediction(answer)
    answer["result"][0]["value"]["labels"] = ["none of these"]
    assert not ours.validate_prediction(answer)


def test_rttm_has_a_line_a_turn(tmp_path):
    lines = [line.split() for line in made(TALK, "rttm", tmp_path).read_text("utf-8").splitlines()]
    assert {len(line) for line in lines} == {10}
    assert [(line[1], line[2], line[3], line[4], line[7]) for line in lines] == [
        ("calls/ü_1", "1", "0.500", "3.500", "agent"),
        ("calls/ü_1", "2", "1.500", "1.500", "the_customer"),
        ("calls/ü_1", "2", "6.000", "3.600", "the_customer"),
    ]
    assert [who for _, _, who in turns(ALONE)] == ["speech"] * 3
    other = replace(ALONE, source="take v1.2")  # no ending of a recording
    assert made(other, "rttm", tmp_path).read_text("utf-8").startswith("SPEAKER take_v1.2 1 ")
    alike = {"agent": "a b", "the customer": "a_b"}
    segments = tuple(replace(s, speaker=alike[s.speaker]) for s in TALK.segments)
    lines = made(replace(TALK, segments=segments), "rttm", tmp_path).read_text("utf-8").splitlines()
    assert [line.split()[7] for line in lines] == ["a_b", "a_b_", "a_b_"]


def test_intervals_never_overlap():
    for _, items in tiers(TALK):
        assert all(first[1] <= second[0] for first, second in pairwise(items))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    for module, kind in (("praatio.textgrid", "textgrid"), ("pympi.Elan", "eaf")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(SerError, match=r"pip install .*\[annotations\]"):
            write_files(TALK, Path("x.wav"), tmp_path, [kind])
