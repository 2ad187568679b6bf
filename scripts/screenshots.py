"""Takes the README's pictures of the page and of the HTML timeline, in a headless Chromium.

Needs the extras serve and dev, and Debian's chromium and chromium-driver:

    python scripts/screenshots.py --audio recording.wav [--model starter] [--out docs/images]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from multimodal_ser.predict import Predictor, load
from multimodal_ser.serve import create_app, serving

WIDTH, SCALE = 1200, 2
MIDWAY = """
    const sound = window.timeline?.audio ?? document.querySelector("audio");
    sound.currentTime = 0.42 * sound.duration;
"""


@contextmanager
def browser(*, dark: bool = False, height: int = 900) -> Iterator[webdriver.Chrome]:
    """A headless Chromium in light or dark, with sharp letters."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={WIDTH},{height}")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": look})
    try:
        yield driver
    finally:
        driver.quit()


def picture(driver: webdriver.Chrome, file: Path) -> None:
    """Goes into the recording, and takes the whole page, however long."""
    time.sleep(1)
    driver.execute_script(MIDWAY)
    tall = driver.execute_script("return document.documentElement.scrollHeight")
    size = {"width": WIDTH, "height": tall, "deviceScaleFactor": SCALE, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(0.5)
    driver.save_screenshot(str(file))
    print(file)


def page(predictor: Predictor, audio: Path, file: Path, *, dark: bool) -> None:
    """Gives the page a recording and takes its picture."""
    with serving(create_app(predictor)) as address, browser(dark=dark) as driver:
        find, wait = driver.find_element, WebDriverWait(driver, 120)
        driver.get(address)
        wait.until(lambda _: find(By.ID, "model-name").text == predictor.name)
        find(By.ID, "file").send_keys(str(audio.absolute()))
        wait.until(lambda _: find(By.ID, "result").is_displayed())
        picture(driver, file)


def timeline(predictor: Predictor, audio: Path, file: Path) -> None:
    """Writes the HTML timeline of a recording and takes its picture."""
    from multimodal_ser.timeline import analyze
    from multimodal_ser.timeline.writers import as_html

    with TemporaryDirectory() as folder, browser() as driver:
        written = Path(folder) / "timeline.html"
        written.write_text(as_html(analyze(audio, predictor), audio), encoding="utf-8")
        driver.get(written.as_uri())
        picture(driver, file)


def main() -> None:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, required=True, help="a recording of speech")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    predictor = load(given.model)
    page(predictor, given.audio, given.out / "page.png", dark=False)
    page(predictor, given.audio, given.out / "page-dark.png", dark=True)
    timeline(predictor, given.audio, given.out / "timeline.png")


if __name__ == "__main__":
    main()
