"""The page in a real browser: a file, the microphone, an error, the keyboard, light and dark."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("selenium", reason="needs selenium, of the extra dev")

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from made_server import MadePredictor, melody
from made_sound import tone, written
from multimodal_ser.serve import Settings, create_app, serving
from multimodal_ser.timeline import Word
from multimodal_ser.timeline.tables import Overview, summary_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    microphone = np.tile(np.concatenate([tone(1.5, 48_000, 600), np.zeros(24_000, "f4")]), 3)
    (folder / "notes.txt").write_text("These are words, not sound.")
    return {
        "talk": written(folder / "talk.wav", melody(200, 600, 1000)),
        "microphone": written(folder / "mic.wav", microphone, 48_000, subtype="PCM_16"),
        "text": folder / "notes.txt",
    }


@pytest.fixture(scope="module")
def driver(sounds):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={sounds['microphone']}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_ser.audio.speech.gates.AUTO", "energy")
        with serving(create_app(MadePredictor(), Settings(max_mb=2))) as here:
            yield here


@pytest.fixture
def page(driver, address):
    """The page, ready; afterwards nothing was logged and nothing asked of another host."""
    driver.get_log("browser"), driver.get_log("performance")
    opened(driver, address)
    yield driver
    complaints = [one["message"] for one in driver.get_log("browser")]
    allowed = [one for one in complaints if "415" in one or "401" in one]  # answers asked for
    assert complaints == allowed
    for line in driver.get_log("performance"):
        if "Network.requestWillBeSent" in line["message"] and '"url":"http' in line["message"]:
            url = line["message"].split('"url":"', 1)[1]
            assert url.startswith(address), url[:200]


def opened(driver, address):
    driver.get(address)
    until(driver, lambda: by(driver, "model-name").text == "made")


def by(driver, name):
    return driver.find_element(By.ID, name)


def until(driver, true, seconds=120, ignored=()):
    WebDriverWait(driver, seconds, 0.05, ignored).until(lambda _: true())


def analysed(driver, file):
    """Chooses a file and waits for its timeline."""
    by(driver, "file").send_keys(str(file))
    until(driver, lambda: by(driver, "result").is_displayed())


def focused(driver):
    return driver.switch_to.active_element.get_attribute("id")


def labels_of(driver):
    return [one.text for one in driver.find_elements(By.CSS_SELECTOR, "#timeline .list .name")]


def test_a_file_becomes_a_timeline(page, sounds):
    analysed(page, sounds["talk"])
    assert labels_of(page) == ["disgust", "happiness", "sadness"]
    assert [one.text for one in page.find_elements(By.CSS_SELECTOR, ".seg")] == labels_of(page)
    assert "talk.wav" in by(page, "eyebrow").text
    assert page.find_element(By.CSS_SELECTOR, ".clock").text == "0:00 / 0:12"
    waves = page.find_elements(By.CSS_SELECTOR, ".scroll .wave path")
    assert len(waves) == 4, "no waveform of three emotions and of pauses"
    curves = page.find_elements(By.CSS_SELECTOR, ".curves path")
    assert [one.get_attribute("d").count("M") for one in curves] == [3] * 6  # stretches of speech
    page.find_elements(By.CSS_SELECTOR, ".list .item")[1].click()
    until(page, lambda: page.find_element(By.CSS_SELECTOR, ".said").text.startswith("happiness"))
    until(page, lambda: page.execute_script("return timeline.audio.duration") > 11)


def test_the_microphone_becomes_a_timeline(page):
    by(page, "record").click()
    until(page, lambda: by(page, "elapsed").text >= "0:02")
    assert page.switch_to.active_element == by(page, "stop")
    by(page, "stop").click()
    until(page, lambda: by(page, "result").is_displayed())
    assert "happiness" in labels_of(page)
    assert "Recording" in by(page, "eyebrow").text


@pytest.fixture
def busy(driver, tmp_path, level_is_speech):
    """The page while a long recording is analysed, and whether the server is done with it."""
    predictor = MadePredictor(0.5)
    long = written(tmp_path / "long.wav", melody(*[200] * 20), subtype="PCM_16")
    with serving(create_app(predictor)) as here:
        opened(driver, here)
        by(driver, "file").send_keys(str(long))
        until(driver, lambda: predictor.batches)

        def done():
            with urlopen(f"{here}/health") as answer:
                return not json.load(answer)["requests"]

        yield driver, done


def test_of_two_recordings_the_last_one_given_is_shown(busy, sounds):
    page, done = busy
    analysed(page, sounds["talk"])
    assert "talk.wav" in by(page, "eyebrow").text
    until(page, done)
    time.sleep(0.5)  # for the other one to arrive
    assert "talk.wav" in by(page, "eyebrow").text


def test_what_was_given_before_does_not_hide_the_recording_that_runs(busy):
    page, done = busy
    by(page, "record").click()
    until(page, lambda: by(page, "elapsed").text >= "0:01")
    until(page, done)
    time.sleep(0.5)
    assert by(page, "stop").is_displayed()
    by(page, "stop").click()
    until(page, lambda: by(page, "result").is_displayed())
    assert "Recording" in by(page, "eyebrow").text


def test_a_text_file_is_an_error_that_says_what_to_do(page, sounds):
    by(page, "file").send_keys(str(sounds["text"]))
    until(page, lambda: by(page, "error").is_displayed())
    assert "allowed: wav, flac" in by(page, "error").text
    assert by(page, "error").get_attribute("role") == "alert"
    assert not by(page, "result").is_displayed()
    analysed(page, sounds["talk"])
    assert not by(page, "error").is_displayed()


def test_a_file_too_large_is_refused_before_it_is_sent(page, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(2_100_000))
    by(page, "file").send_keys(str(large))
    until(page, lambda: "allowed: 2 MB" in by(page, "error").text)


def test_the_page_works_by_keyboard(page, sounds):
    press = page.switch_to.active_element.send_keys
    order = []
    for _ in range(7):
        press(Keys.TAB)
        press = page.switch_to.active_element.send_keys
        order.append(focused(page))
    assert order[2] == "card-open"
    assert order[4:6] == ["choose", "record"]
    by(page, "card-open").send_keys(Keys.ENTER)
    until(page, lambda: by(page, "card-text").is_displayed())
    assert "<script>alert(1)</script>" in by(page, "card-text").text
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(page, lambda: not by(page, "card-text").is_displayed())

    by(page, "record").send_keys(Keys.SPACE)
    until(page, lambda: by(page, "elapsed").text >= "0:01")
    page.switch_to.active_element.send_keys(Keys.ENTER)  # the focus is on Stop
    until(page, lambda: focused(page) == "verdict")
    seek = page.find_element(By.CSS_SELECTOR, ".seek")
    seek.send_keys(Keys.END)
    assert float(seek.get_attribute("value")) > 0.5
    seek.send_keys(Keys.HOME)
    assert float(seek.get_attribute("value")) == 0
    assert seek.get_attribute("aria-valuetext").startswith("0:00, ")
    chip = page.find_element(By.CSS_SELECTOR, ".chip")
    chip.send_keys(Keys.SPACE)
    assert chip.get_attribute("aria-pressed") == "false"
    by(page, "again").send_keys(Keys.ENTER)
    until(page, lambda: focused(page) == "choose")


def test_every_control_has_a_name_and_every_picture_words(page, sounds):
    analysed(page, sounds["talk"])
    for node in page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in ("button", "link", "slider", "image", "dialog"):
            assert node.get("name", {}).get("value"), node
    told = [one.accessible_name for one in page.find_elements(By.CSS_SELECTOR, ".seg")]
    assert any(name.startswith("happiness") and " to 0:" in name for name in told)


def test_dark_has_its_own_colours(page, sounds):
    analysed(page, sounds["talk"])
    look = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}

    def colours():
        chip = page.find_element(By.CSS_SELECTOR, ".chip .swatch")
        body = page.find_element(By.TAG_NAME, "body")
        return chip.value_of_css_property("background-color"), body.value_of_css_property(
            "background-color"
        )

    light = colours()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", look)
    until(page, lambda: colours()[0] != light[0], ignored=[StaleElementReferenceException])
    assert colours()[1] != light[1]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def least_width(driver):
    """Pixels that the page takes on a screen of 360."""
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return wide


def test_a_narrow_screen_does_not_scroll_sideways(page, sounds):
    analysed(page, sounds["talk"])
    assert least_width(page) <= 360


def test_the_summary_of_a_folder_does_not_scroll_sideways_either(driver, tmp_path):
    overview = Overview(("anger", "joy"))
    overview.add({"source": f"{'a' * 90}.wav", "reason": f"no such file; it was /{'b' * 90}.wav"})
    (tmp_path / "summary.html").write_text(summary_page(overview, pages=False))
    driver.get((tmp_path / "summary.html").as_uri())
    assert least_width(driver) <= 360


def test_colours_that_mean_something_stay_in_high_contrast(page, sounds, tmp_path):
    analysed(page, sounds["talk"])
    look = {"features": [{"name": "forced-colors", "value": "active"}]}
    said = {"start": 0.0, "end": 1.0, "label": "joy", "confidence": 0.9, "speaker": None}
    overview, of_it = Overview(("anger", "joy")), {"segments": [{**said, "text": None}]}
    of_it |= {"duration": 2.0, "speech": [(0.0, 1.0)], "speakers": []}
    overview.add({"source": "a.wav", "name": "a", "reason": "", "timeline": of_it})
    (tmp_path / "summary.html").write_text(summary_page(overview, pages=False))

    def colours():
        some = page.find_elements(By.CSS_SELECTOR, "span.hue")
        return [one.value_of_css_property("background-color") for one in some[:9]]

    for address in (None, (tmp_path / "summary.html").as_uri()):
        if address is not None:
            page.get(address)
        usual = colours()
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", look)
        forced = colours()
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        assert len(set(usual)) >= (1 if address else 3)
        assert forced == usual
    (mark, *_) = page.find_elements(By.CSS_SELECTOR, "span.hue")
    assert (
        mark.value_of_css_property("print-color-adjust") == "exact"
    )  # as on each recording's page


def test_words_stand_in_their_moments_and_follow_the_sound(driver, sounds, level_is_speech):
    said = [Word(0.5, 1.0, "<i>so"), Word(5.0, 5.4, "very"), Word(5.5, 5.9, "much")]
    with serving(create_app(MadePredictor(), words=lambda samples: said)) as here:
        opened(driver, here)
        by(driver, "file").send_keys(str(sounds["talk"]))
        until(driver, lambda: by(driver, "result").is_displayed())
        told = [one.text for one in driver.find_elements(By.CSS_SELECTOR, ".said-words")]
        assert told == ["<i>so", "very much"]  # text, never markup
        second = driver.find_elements(By.CSS_SELECTOR, ".said-words span")[2]
        driver.execute_script("arguments[0].click()", second)
        until(driver, lambda: second.get_attribute("class") == "now")
        by(driver, "again").click()
        by(driver, "words").click()
        by(driver, "file").send_keys(str(sounds["talk"]))
        until(driver, lambda: by(driver, "result").is_displayed())
        assert not driver.find_elements(By.CSS_SELECTOR, ".said-words")


def test_words_are_not_offered_where_the_server_has_none(page):
    assert not by(page, "words-option").is_displayed()


def test_the_api_page_lists_the_routes(page, address):
    page.get(f"{address}/docs")
    until(page, lambda: len(page.find_elements(By.TAG_NAME, "article")) == 5)
    assert "/v1/analyze" in by(page, "routes").text


def test_the_script_takes_its_pictures(sounds, tmp_path):
    script = Path(__file__).parents[1] / "scripts/screenshots.py"
    command = [sys.executable, str(script), "--out", str(tmp_path), "--audio", str(sounds["talk"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for kind in ("page", "timeline"):
        for look, wide in (("", 2400), ("-dark", 2400), ("-phone", 780)):
            with Image.open(tmp_path / f"{kind}{look}.png") as shot:
                assert shot.width == wide
                assert len(shot.convert("RGB").getcolors(1 << 20)) > 50
            assert (tmp_path / f"{kind}{look}.png").stat().st_size < 300_000


def test_a_key_is_asked_for(driver):
    with serving(create_app(MadePredictor(), Settings(api_key="sesame"))) as here:
        driver.get(here)
        until(driver, lambda: by(driver, "key-form").is_displayed())
        assert focused(driver) == "key"
        assert not by(driver, "choose").is_enabled()
        by(driver, "key").send_keys("sesame" + Keys.ENTER)
        until(driver, lambda: by(driver, "model-name").text == "made")
        assert not by(driver, "key-form").is_displayed()
        assert by(driver, "choose").is_enabled()
