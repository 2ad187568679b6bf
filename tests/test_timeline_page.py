"""The page in a real browser: it plays, follows, and is used by keyboard."""

from __future__ import annotations

import shutil

import pytest

from made_sound import written
from made_timeline import RATE, Pitch, recording
from multimodal_ser.timeline import Word, analyze
from multimodal_ser.timeline.writers import write

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


@pytest.fixture
def page(browser, tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy", words=words)
    (file,) = write(timeline, path, tmp_path, ["html"])
    browser.get(file.as_uri())
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
    assert len(find(browser, ".curves polyline")) == 3 * len(timeline.speech)
    assert "<i>word0</i>" in find(browser, ".said-words")[0].text  # words are text, never markup
    assert not find(browser, ".said-words i")
    assert run(browser, "document.documentElement.scrollWidth <= innerWidth")
    shown = [b for b in find(browser, "button, input, select") if b.is_displayed()]
    assert len(shown) > 12
    assert all(b.accessible_name for b in shown)


def test_it_plays_and_follows(page):
    browser, _ = page
    wait = Wait(browser, 10)
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
    shown = [line.value_of_css_property("display") for line in find(browser, ".curves polyline")]
    assert shown.count("none") == 3


def test_zoom(page):
    browser, _ = page
    before = run(browser, "document.querySelector('.tracks').offsetWidth")
    find(browser, "[aria-label='Zoom in']")[0].click()
    assert run(browser, "document.querySelector('.tracks').offsetWidth") == pytest.approx(
        2 * before, abs=2
    )
