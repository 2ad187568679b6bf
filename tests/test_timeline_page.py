"""The page in a real browser: it plays, follows, and is used by keyboard."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from made_sound import written
from made_timeline import FELT, RATE, Both, Felt, Pitch, recording
from multimodal_ser.corpora import read_manifest
from multimodal_ser.timeline import Point, Segment, Speaker, Timeline, Word, analyze
from multimodal_ser.timeline.speakers import Turn
from multimodal_ser.timeline.writers import write_files

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
KEYS = webdriver.Keys
Wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)
SOUND = recording(1.0, (4.0, "anger"), 1.0, (4.0, "sadness"), 1.0, (2.0, "neutral"), 0.5)


def words(sound):
    return [Word(0.5 + k, 1.0 + k, f"<i>word{k}</i>") for k in range(int(len(sound) / RATE))]


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, timeline, path):
    (file,) = write_files(timeline, path, path.parent, ["html"])
    browser.get(file.as_uri())


@pytest.fixture
def page(browser, tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy", words=words)
    opened(browser, timeline, path)
    yield browser, timeline
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def find(browser, css):
    return browser.find_elements("css selector", css)


def run(browser, script, *given):
    return browser.execute_script(f"return {script}", *given)


def test_everything_is_shown(page):
    browser, timeline = page
    buttons = find(browser, ".seg")
    assert len(buttons) == len(timeline.segments)
    assert buttons[0].get_attribute("aria-label").startswith("anger 100 %, 0:00.9 to 0:05")
    assert len(find(browser, ".list > li")) == len(timeline.segments)
    assert len(find(browser, ".meter")) == 3
    paths = [path.get_attribute("d") for path in find(browser, ".curves path")]
    assert [path.count("M") for path in paths] == [len(timeline.speech)] * 3
    assert "<i>word0</i>" in find(browser, ".said-words")[0].text  # words are text, never markup
    assert not find(browser, ".said-words i")
    assert run(browser, "document.documentElement.scrollWidth <= innerWidth")
    shown = [b for b in find(browser, "button, input, select") if b.is_displayed()]
    assert len(shown) > 12
    assert all(b.accessible_name for b in shown)


def test_it_plays_and_follows(page):
    browser, _ = page
    wait = Wait(browser, 60)
    find(browser, ".play")[0].click()
    wait.until(lambda b: run(b, "timeline.audio.currentTime > 0.2"))
    assert find(browser, ".play")[0].get_attribute("aria-label") == "Pause"
    run(browser, "timeline.seek(7)")
    wait.until(
        lambda b: (
            find(b, ".list > li.now .name") and "sadness" in find(b, ".list > li.now .name")[0].text
        )
    )
    wait.until(lambda b: find(b, ".said-words span.now"))
    assert run(browser, "parseFloat(document.querySelector('.head').style.left)") > 40
    find(browser, ".play")[0].click()
    wait.until(lambda b: find(b, ".play")[0].get_attribute("aria-label") == "Play")


def test_a_large_recording_plays_from_where_it_is_or_the_folder_of_the_page(
    browser, tmp_path, monkeypatch
):
    monkeypatch.setattr("multimodal_ser.timeline.page.EMBEDDED", 1000)
    (tmp_path / "calls").mkdir()
    path = written(tmp_path / "calls" / "a #1.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy")
    (file,) = write_files(timeline, path, tmp_path / "out", ["html"])

    def plays():
        browser.get(file.as_uri())
        known = "timeline.audio.readyState > 0 || !document.querySelector('.note').hidden"
        Wait(browser, 60).until(lambda _: run(browser, known))
        return run(browser, "timeline.audio.readyState > 0")

    assert plays()
    path.rename(tmp_path / "out" / path.name)
    assert plays()
    (tmp_path / "out" / path.name).unlink()
    assert not plays()
    browser.get_log("browser")  # that the files are not there


def test_the_keyboard_is_enough(page):
    browser, timeline = page
    act = lambda *keys: webdriver.ActionChains(browser).send_keys(*keys).perform()  # noqa: E731
    for _ in range(30):
        act(KEYS.TAB)
        if run(browser, "document.activeElement.classList.contains('seg')"):
            break
    act(KEYS.ARROW_RIGHT)
    assert "sadness" in run(browser, "document.activeElement.getAttribute('aria-label')")
    act(KEYS.ENTER)
    second = timeline.segments[1]
    assert run(browser, "+document.querySelector('.seek').value") == pytest.approx(
        second.start, abs=0.1
    )
    assert find(browser, "[role=status]")[0].get_attribute("textContent").startswith("sadness")
    assert find(browser, ".nowbox .said")[0].text.startswith("sadness")
    run(browser, "document.activeElement.blur()")
    act("]")
    assert find(browser, ".nowbox .said")[0].text.startswith("neutral")
    act(KEYS.ARROW_LEFT)
    assert run(browser, "+document.querySelector('.seek').value") == pytest.approx(
        timeline.segments[2].start - 5, abs=0.1
    )


def test_a_curve_can_be_hidden(page):
    browser, _ = page
    meter = find(browser, ".meter")[0]
    meter.click()
    assert meter.get_attribute("aria-pressed") == "false"
    shown = [line.value_of_css_property("display") for line in find(browser, ".curves path")]
    assert shown.count("none") == 1


def test_zoom(page):
    browser, _ = page
    before = run(browser, "document.querySelector('.tracks').offsetWidth")
    find(browser, "[aria-label='Zoom in']")[0].click()
    assert run(browser, "document.querySelector('.tracks').offsetWidth") == pytest.approx(
        2 * before, abs=2
    )


def talk(seconds, count):
    """A timeline of two speakers with so many segments."""
    draw = np.random.default_rng(0)
    edges = np.sort(draw.uniform(0, seconds, count + 1)).round(3)
    segments, track, said = [], [], []
    for k in range(count):
        start, end, who = float(edges[k]), float(edges[k + 1]), ("agent", "customer")[k % 2]
        row = dict(zip(Pitch.labels, draw.dirichlet([0.5] * 3).tolist(), strict=True))
        label = max(row, key=lambda name: row[name])
        label = label if row[label] > 0.6 else "uncertain"
        text = f"number {k} {'refund' if k % 10 == 3 else 'well'}"
        segments.append(Segment(start, end, label, max(row.values()), row, text, who))
        track += [Point(float(at), min(float(at) + 1, end), row, who)
                  for at in np.arange(start, end)]  # fmt: skip
        said.append(Word(start, end, text, speaker=who))
    mean = dict.fromkeys(Pitch.labels, 1 / 3)
    return Timeline(
        seconds, Pitch.labels, tuple(segments), tuple(track), ((0.0, seconds),), mean, "made",
        words=tuple(said), source="calls/x.wav",
        speakers=(Speaker("agent", 0, seconds / 2, mean), Speaker("customer", 1, 900.0, mean)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hour")
    sound = np.tile(0.1 * np.random.default_rng(0).standard_normal(60_000), 60).astype("f4")
    path = written(folder / "x.wav", sound, 1000, subtype="PCM_16")
    timeline = talk(3600.0, 1000)
    (file,) = write_files(timeline, path, folder, ["html"])
    return file.as_uri(), timeline


@pytest.fixture
def hour(browser, long):
    address, timeline = long
    browser.get(address)
    run(browser, "localStorage.clear()")
    browser.get(address)
    yield browser, timeline
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_an_hour_is_a_page_of_few_elements_and_is_searched(hour):
    browser, timeline = hour
    assert len(find(browser, ".list > li")) == 1000
    # what a browser's time goes into, so that the page opens within a second or two
    assert run(browser, "document.querySelectorAll('*').length") < 15_000
    assert [one.text for one in find(browser, ".lane")] == ["agent", "customer"]
    assert [len(row.find_elements("css selector", ".seg")) for row in find(browser, ".strip")] == [
        500, 500
    ]  # fmt: skip
    assert len(find(browser, ".trend rect")) >= 60
    longest = max(path.get_attribute("d").count("L") for path in find(browser, ".curves path"))
    assert longest < 500  # means, where single turns are too short to be seen

    def shown():
        return run(browser, "document.querySelectorAll('.list > li:not([hidden])').length")

    search = find(browser, "[type=search]")[0]
    search.send_keys("Refund")
    assert shown() == 100
    assert find(browser, ".count")[0].text == "100 of 1000 segments"
    run(browser, "(document.activeElement.blur(), timeline.seek(0))")
    act = lambda *keys: webdriver.ActionChains(browser).send_keys(*keys).perform()  # noqa: E731
    act("]")
    at = timeline.segments[3].start
    assert run(browser, "+document.querySelector('.seek').value") == pytest.approx(at, abs=0.1)
    search.send_keys(KEYS.BACKSPACE * 6)
    find(browser, "[aria-label=Speaker]")[0].send_keys("agent")
    assert shown() == 500
    chip = next(one for one in find(browser, ".chip") if one.text == "anger")
    chip.click()
    angry = sum(s.label == "anger" and s.speaker == "agent" for s in timeline.segments)
    assert shown() == 500 - angry > 0
    chip.click()
    run(browser, "(() => { const r = document.querySelector('.least input'); r.value = 90;"
        "r.dispatchEvent(new Event('input')); })()")  # fmt: skip
    mine = [s for s in timeline.segments if s.speaker == "agent"]
    assert shown() == sum(s.label == "uncertain" or s.confidence >= 0.9 for s in mine)
    strongest = find(browser, ".strong button")
    assert len(strongest) == 8
    strongest[0].click()
    here = run(browser, "+document.querySelector('.seek').value")
    label = strongest[0].text.split()[1]
    assert any(s.label == label and abs(s.start - here) < 0.11 for s in mine)


def test_a_corrected_label_is_kept_and_can_be_learnt_from(hour, tmp_path):
    browser, timeline = hour
    place = next(k for k, s in enumerate(timeline.segments) if s.label == "anger")
    row = find(browser, ".list > li")[place]
    row.find_element("css selector", ".fix").click()
    assert run(browser, "document.activeElement.tagName") == "SELECT"
    browser.switch_to.active_element.send_keys("sadness", KEYS.ENTER)
    assert "was anger" in row.text
    assert "sadness" in find(browser, ".seg")[0].get_attribute("aria-label") or place > 0
    lines = run(browser, "timeline.asManifest()")
    (tmp_path / "corrected.jsonl").write_text(lines, "utf-8")
    (utterance,) = read_manifest(tmp_path / "corrected.jsonl")
    was = timeline.segments[place]
    assert (utterance.emotion, utterance.speaker) == ("sadness", was.speaker)
    assert (utterance.start, utterance.end) == (was.start, was.end)
    assert utterance.audio.endswith("calls/x.wav")
    assert utterance.dialogue == "calls/x.wav"  # by which recordings can be split
    told = json.loads(run(browser, "timeline.asJSON()"))
    assert told["segments"][place]["label"] == "sadness"
    assert told["segments"][place]["was"] == "anger"
    assert not {"peaks", "colours", "keep"} & set(told)
    other = next(k for k in range(place + 1, 1000) if timeline.segments[k].label == "anger")
    run(browser, f"timeline.correct({other}, 'uncertain')")  # is no class to be learnt
    assert json.loads(run(browser, "timeline.asJSON()"))["segments"][other]["label"] == "uncertain"
    assert run(browser, "timeline.asManifest()") == lines
    browser.refresh()  # the page remembers
    assert "was anger" in find(browser, ".list > li")[place].text
    assert run(browser, "timeline.asManifest()") == lines


def test_numbered_speakers_are_other_people_in_other_recordings(browser, tmp_path):
    path = written(tmp_path / "x.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy")
    people = ("speaker 1", "channel 0", "agent")
    timeline = replace(
        timeline,
        segments=tuple(
            replace(timeline.segments[0], start=k, end=k + 1, speaker=who)
            for k, who in enumerate(people)
        ),
    )
    opened(browser, timeline, path)
    for k in range(3):
        run(browser, f"timeline.correct({k}, 'neutral')")
    lines = run(browser, "timeline.asManifest()").splitlines()
    told = [json.loads(line)["speaker"] for line in lines]
    assert told == ["speaker 1 of x.wav", "channel 0 of x.wav", "agent"]


def test_corrections_are_of_one_recording(browser, tmp_path):
    pages = []
    for folder, emotion in (("monday", "anger"), ("tuesday", "sadness")):  # of equal lengths
        (tmp_path / folder).mkdir()
        path = written(tmp_path / folder / "x.wav", recording(1.0, (4.0, emotion), 1.0))
        timeline = analyze(path, Pitch(), vad="energy")
        assert len(timeline.segments) == 1
        pages += [one.as_uri() for one in write_files(timeline, path, path.parent, ["html"])]
    browser.get(pages[0])
    run(browser, "localStorage.clear()")
    run(browser, "timeline.correct(0, 'neutral')")
    browser.refresh()
    assert "was anger" in find(browser, ".list > li")[0].text
    browser.get(pages[1])
    assert not find(browser, ".was")
    assert run(browser, "timeline.asManifest()") == ""


def test_it_is_printed_without_its_controls(hour):
    browser, *_ = hour
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = [".bar", ".filters", ".whole", ".fix"]
    assert not any(find(browser, css)[0].is_displayed() for css in hidden)
    assert find(browser, ".list .item")[0].is_displayed()
    at_once = [".said", ".meter .num", ".meter i"]  # paper shows no moment
    assert not any(find(browser, css)[0].is_displayed() for css in at_once)
    assert "anger" in find(browser, ".meter")[0].text
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_page_draws_the_plane_and_a_line_an_attribute(browser, tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    timeline = analyze(path, Felt(), vad="energy", smoothing=0)
    opened(browser, timeline, path)
    assert [one.text for one in find(browser, ".list .name")] == [
        "active negative",
        "passive negative",
        "passive positive",
    ]
    lines = [line.get_attribute("d") for line in find(browser, ".curves path")]
    assert [line.count("M") for line in lines] == [3, 3]
    assert [one.text for one in find(browser, ".plot .scale")] == ["5", "3"]
    assert len(find(browser, ".plane .cloud")) == len(timeline.track)

    def spot(seconds):
        run(browser, f"timeline.seek({seconds})")
        (dot,) = find(browser, ".plane .spot")
        return (float(dot.get_attribute("cx")) - 4) / 92, (96 - float(dot.get_attribute("cy"))) / 92

    for seconds, (arousal, valence) in zip((3, 8, 12.5), FELT.values(), strict=True):
        assert spot(seconds) == pytest.approx((valence, arousal), abs=0.03)
    (plane,) = find(browser, ".plane")
    assert "now arousal 2.6, valence 4.2" in plane.get_attribute("aria-label")
    assert [one.text.split()[-1] for one in find(browser, ".meter")] == ["2.6", "4.2"]
    assert not find(browser, ".fix, .least")  # there is no class to put right, and no confidence
    assert len(find(browser, ".chip")) == 4
    assert run(browser, "document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_the_page_of_a_model_of_both_has_classes_the_plane_and_lines_of_each(browser, tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    timeline = analyze(path, Both(), vad="energy", smoothing=0)
    opened(browser, timeline, path)
    names = [one.text.split()[0] for one in find(browser, ".list .name")]
    assert names == ["anger", "sadness", "neutral"]
    assert len(find(browser, ".curves")) == 2
    assert len(find(browser, ".curves path")) == 3 + 2
    assert [one.text for one in find(browser, ".plot .scale")] == ["100 %", "50 %", "5", "3"]
    assert len(find(browser, ".plane .cloud")) == len(timeline.track)
    run(browser, "timeline.seek(12.5)")
    (plane,) = find(browser, ".plane")
    assert "now arousal 2.6, valence 4.2" in plane.get_attribute("aria-label")
    meters = {one.text.split()[0]: one.text for one in find(browser, ".meter")}
    assert meters["neutral"].endswith("%")
    assert meters["valence"].endswith("4.2")
    assert find(browser, ".fix, .least")  # a class can be put right, and has a confidence
    assert run(browser, "document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


SIDES = """
const placed = (node, first, last) => {
  const range = document.createRange();
  range.setStart(node, first);
  range.setEnd(node, last);
  return range.getBoundingClientRect();
};
return [...document.querySelectorAll(arguments[0])].map((row) => {
  const nodes = [], walk = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) nodes.push(walk.currentNode);
  const name = nodes.find((n) => /[\\u0590-\\u06ff]/.test(n.data)), all = name.data.length;
  const amount = nodes.find((n) => n.data.endsWith("%")), end = amount.data.length;
  return [placed(name, 0, all).right <= placed(amount, end - 4, end - 2).left,
    placed(amount, end - 4, end - 2).right <= placed(amount, end - 1, end).left];
});
"""


def test_a_number_stays_behind_a_name_that_is_written_from_right_to_left(browser, tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy", channels="mix", names=["גיל"], speakers=one)
    name = dict(zip(timeline.labels, ("غضب", "حياد", "עצב"), strict=True))

    def named(shares):
        return {name[label]: share for label, share in shares.items()}

    segments = [
        replace(s, label=name.get(s.label, s.label), probabilities=named(s.probabilities),
                text="שלום, a word")
        for s in timeline.segments
    ]  # fmt: skip
    timeline = replace(
        timeline, labels=tuple(name.values()), overall=named(timeline.overall),
        segments=tuple(segments),
        speakers=tuple(replace(s, overall=named(s.overall)) for s in timeline.speakers),
        track=tuple(replace(p, probabilities=named(p.probabilities)) for p in timeline.track),
    )  # fmt: skip
    opened(browser, timeline, path)
    find(browser, ".list .item")[0].click()
    for place in (".shares li", ".strong .name", ".nowbox .said"):
        sides = browser.execute_script(SIDES, place)
        assert sides, place
        assert all(all(row) for row in sides), (place, sides)
    assert find(browser, ".people li")[0].text.startswith("גיל")
    assert (
        run(browser, "getComputedStyle(document.querySelector('.said-words')).direction") == "rtl"
    )


def one(blocks, count):
    for _ in blocks:
        pass
    return [Turn(0, len(SOUND), "a")]


def test_one_segment_is_one(browser, tmp_path):
    path = written(tmp_path / "a.wav", recording(0.5, (2.0, "anger"), 0.5))
    (file,) = write_files(analyze(path, Pitch(), vad="energy"), path, tmp_path, ["html"])
    browser.get(file.as_uri())
    assert find(browser, ".count")[0].text == "1 segment"
