"""Takes the screenshots of the web page and the HTML timeline in docs/images, with Chromium.

Needs the extras serve and dev, and Debian's chromium and chromium-driver:

    python scripts/screenshots.py --audio one.wav two.wav [--words] [--out docs/images]

Several recordings are joined into one, with short pauses. Those in docs/images are genuine clips of
CREMA-D (ODbL 1.0), with --words: 1001_DFA_NEU_XX, 1001_IEO_HAP_HI, 1001_DFA_ANG_XX,
1001_IEO_FEA_HI, 1001_DFA_SAD_XX.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict import Predictor, load
from multimodal_ser.serve import create_app, serving
from multimodal_ser.timeline import Recogniser, analyze
from multimodal_ser.timeline.words import Words
from multimodal_ser.timeline.writers import as_html

WIDE, NARROW, SCALE = 1200, 390, 2
LOOKS = (("", False, WIDE), ("-dark", True, WIDE), ("-phone", False, NARROW))
PAUSE = 0.6  # seconds between joined recordings
MIDWAY = """
    const sound = window.timeline?.audio ?? document.querySelector("audio");
    sound.currentTime = 0.48 * sound.duration;
"""


@contextmanager
def browser(*, dark: bool = False, width: int = WIDE) -> Iterator[webdriver.Chrome]:
    """Starts a headless Chromium with a light or dark colour scheme, at double resolution."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        sys.exit("needs Debian's packages chromium and chromium-driver; as root: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": look})
    resized(driver, width, 900)
    try:
        yield driver
    finally:
        driver.quit()


def resized(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Sets the size of the window in CSS pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": SCALE, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def picture(driver: webdriver.Chrome, file: Path, width: int) -> None:
    """Moves to the middle of the recording and takes a screenshot of the whole page."""
    time.sleep(1)  # the browser decodes the sound
    driver.execute_script(MIDWAY)
    resized(driver, width, driver.execute_script("return document.documentElement.scrollHeight"))
    driver.execute_script("window.dispatchEvent(new Event('resize'))")
    time.sleep(0.5)
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)  # a third of the size
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def page(
    predictor: Predictor, audio: Path, file: Path, words: Words | None, *, dark: bool, width: int
) -> None:
    """Uploads a recording to the page and takes a screenshot."""
    app = create_app(predictor, words=words)
    with serving(app) as address, browser(dark=dark, width=width) as driver:
        find, wait = driver.find_element, WebDriverWait(driver, 120)
        driver.get(address)
        wait.until(lambda _: find(By.ID, "model-name").text == predictor.name)
        find(By.ID, "file").send_keys(str(audio.absolute()))
        wait.until(lambda _: find(By.ID, "result").is_displayed())
        picture(driver, file, width)


def timeline(written: Path, file: Path, *, dark: bool, width: int) -> None:
    """Takes a screenshot of an HTML timeline."""
    with browser(dark=dark, width=width) as driver:
        driver.get(written.as_uri())
        picture(driver, file, width)


def joined(files: Sequence[Path], out: Path) -> Path:
    """Joins the recordings into one file."""
    draw, parts = np.random.default_rng(0), []
    for file in files:
        wave = read_audio(file)
        pause = 1e-4 * draw.standard_normal(round(PAUSE * SAMPLE_RATE))
        parts += [wave / max(1e-6, 1.5 * float(np.abs(wave).max())), pause.astype(np.float32)]
    soundfile.write(out, np.concatenate(parts[:-1]), SAMPLE_RATE)
    return out


def main() -> None:
    """Takes all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="recordings")
    parser.add_argument("--name", default="conversation", help="name of the joined file")
    parser.add_argument("--words", action="store_true", help="recognise English words (extra asr)")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    predictor, words = load(given.model), Recogniser() if given.words else None
    with TemporaryDirectory() as folder:
        audio = joined(given.audio, Path(folder) / f"{given.name}.flac")
        for look, dark, width in LOOKS:
            file = given.out / f"page{look}.png"
            page(predictor, audio, file, words, dark=dark, width=width)
        written = Path(folder) / "timeline.html"
        html = as_html(analyze(audio, predictor, words=words), audio)
        written.write_text(html, encoding="utf-8")
        for look, dark, width in LOOKS:
            timeline(written, given.out / f"timeline{look}.png", dark=dark, width=width)


if __name__ == "__main__":
    main()
