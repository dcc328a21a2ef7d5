"""The page of `fbr-plugin browse` in Chromium: one session, from disk."""

import io
import json
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browsing import KEYS, PLAIN, SIZES, mask_at, small, write_runs
from helpers.tiny import command
from PIL import Image

from fbr_plugin.browse.page import colours
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS
from fbr_plugin.postprocess.comparison import Predictions, compare
from fbr_plugin.postprocess.seed_files import read_seed

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
if not (CHROMIUM := shutil.which("chromium")) or not (DRIVER := shutil.which("chromedriver")):
    pytest.skip("Chromium or its driver is not installed", allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

READ = "return cards.get(arguments[0]).tiles.get(arguments[1]).canvas.toDataURL()"
SLIDE = """const slider = document.getElementById("threshold");
slider.value = arguments[0];
for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind));"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs and their page."""
    root = tmp_path_factory.mktemp("browse")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_runs(root)
        command("browse", "cam", "masks", "instances", *PLAIN)
    return root


@pytest.fixture(scope="module")
def browser(root: Path) -> Iterator[Any]:
    """Chromium with the page, which must cause no error and ask for nothing but its own files."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.get((root / "browse" / "index.html").as_uri())
        WebDriverWait(driver, 20).until(
            lambda _: driver.execute_script(
                "return cards.size === 4 && [...cards.values()].every((one) => one.maps)"
            )
        )
        yield driver
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        own = (root / "browse").as_uri()
        assert {f"{own}/data/0.js", f"{own}/photos/0.jpg"} <= {*asked}
        assert [url for url in asked if not url.startswith((f"{own}/", "data:"))] == []
    finally:
        driver.quit()


def pixels(browser: Any, image: int, layer: int) -> np.ndarray:
    """The colours [h, w, 4] that the page shows for an image and a layer."""
    _, code = browser.execute_script(READ, image, layer).split(",")
    return np.array(Image.open(io.BytesIO(b64decode(code))))


def painted(mask: np.ndarray) -> np.ndarray:
    """A mask as the page paints it: in colours over a clear background."""
    opaque = np.concatenate([colours(3), np.full((256, 1), 255, np.uint8)], 1)
    opaque[0] = 0
    return opaque[small(mask)]


def order(browser: Any) -> list[str]:
    """The ids of the images that are shown, in their order."""
    return browser.execute_script("return [...document.querySelectorAll('h2')].map((one) => one.textContent)")


def captions(browser: Any, layer: int) -> dict[str, str]:
    """The IoU that is written under a layer, by id."""
    score = "one.tiles.get(arguments[0]).score.textContent"
    script = f"return [...cards.values()].map((one) => [one.article.ariaLabel, {score}])"
    return dict(browser.execute_script(script, layer))


def sort(browser: Any, text: str) -> None:
    """Choose an order of the images."""
    Select(browser.find_element("id", "sort")).select_by_visible_text(text)


def press(browser: Any, keys: str) -> None:
    ActionChains(browser).send_keys(keys).perform()


def test_the_slider_recolours_seeds_to_numpys_masks_and_scores_them(browser: Any, root: Path) -> None:
    source = LayoutSource([*SIZES], root / "photos", root / "truth", 3, None)
    for index in (30, 59, 123):
        browser.execute_script(SLIDE, index)
        cut = BACKGROUND_THRESHOLDS[index]
        for image, name in enumerate(SIZES):
            seed = read_seed(root / "cam" / f"{name}.npz", SIZES[name])
            assert np.array_equal(pixels(browser, image, 2), painted(mask_at(seed.scores, seed.keys, cut)))
        scores = compare(source, [Predictions("", root / "cam", ".npz", cut)])
        expected = {name: f"{iou:.1f}" for name, iou in zip(SIZES, scores.iou[:, 0], strict=True)}
        assert captions(browser, 2) == expected
    assert browser.find_element("id", "value").text == ".99"


def test_truth_masks_and_instances_are_painted(browser: Any, root: Path) -> None:
    for layer, folder in ((0, "truth"), (3, "masks")):
        mask = read_mask(root / folder / "a.png", 3)
        assert np.array_equal(pixels(browser, 0, layer), painted(mask))
    shown = pixels(browser, 2, 4)
    assert [int(value) for value in shown[7, 7]][3] == 115, "inside"
    assert [int(value) for value in shown[5, 7]] == [0xD5, 0x5E, 0, 255], "the edge of the first"
    assert not shown[30, 40].any()
    names = (
        "return [...cards.get(2).tiles.get(4).figure.querySelectorAll('li')].map((one) => one.textContent)"
    )
    assert browser.execute_script(names) == ["boat 0.90", "train 0.30"]


def test_maps_of_fbr_are_painted_and_have_no_score(browser: Any, root: Path) -> None:
    lowered = read_mask(root / "instances" / "gate" / "a.gate.png", 3)
    assert lowered.any()
    assert np.array_equal(pixels(browser, 0, 5), painted(lowered))
    alpha = pixels(browser, 2, 6)[..., 3]
    assert {*np.unique(alpha)} == {0, 115, 255}, "objects, clusters and their edges"
    assert not alpha[:5, :7].any(), "of the first cell, which is no cluster"
    score = "return cards.get(0).tiles.get(arguments[0]).score.textContent"
    assert [browser.execute_script(score, layer) for layer in (5, 6)] == ["", ""]


def test_images_are_sorted_worst_first_and_filtered_by_class(browser: Any, root: Path) -> None:
    sort(browser, "worst first: cam")
    browser.execute_script(SLIDE, 40)
    scores = {name: float(value) for name, value in captions(browser, 2).items()}
    assert [scores[name] for name in order(browser)] == sorted(scores.values())
    browser.execute_script(SLIDE, 110)
    again = {name: float(value) for name, value in captions(browser, 2).items()}
    assert [again[name] for name in order(browser)] == sorted(again.values()) != sorted(scores.values())
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "class"
    choice = Select(browser.switch_to.active_element)
    assert [one.text for one in choice.options] == ["all", "boat (4)", "cow (2)", "train (4)"]
    choice.select_by_visible_text("cow (2)")
    assert {*order(browser)} == {name for name, keys in KEYS.items() if 1 in keys}
    assert browser.find_element("id", "status").text == "2 of 4 images"
    seen = pixels(browser, 1, 2)[3:] == [*colours(3)[2], 255]
    assert seen.any()
    truth, own = small(read_mask(root / "truth" / "b.png", 3))[3:] == 2, seen.all(-1)
    iou = 100 * (truth & own).sum() / (truth | own).sum()
    assert captions(browser, 2)["b"] == f"{iou:.1f}", "that of the chosen class alone"
    choice.select_by_visible_text("all")
    sort(browser, "as listed")
    assert order(browser) == [*SIZES]


def test_the_table_has_the_iou_of_each_class(browser: Any, root: Path) -> None:
    browser.execute_script("document.getElementById('scores').open = true")
    browser.execute_script(SLIDE, 50)
    source = LayoutSource([*SIZES], root / "photos", root / "truth", 3, None)
    found = compare(source, [Predictions("", root / "cam", ".npz", BACKGROUND_THRESHOLDS[50])]).results[0]
    cells = {
        row.find_element("tag name", "th").text: row.find_elements("tag name", "td")[0].text
        for row in browser.find_elements("css selector", "#scores tbody tr")
    }
    assert cells.pop("oracle threshold, of all images")
    names = ("mIoU", "background", "boat", "cow", "train")
    assert cells == dict(zip(names, (f"{value:.1f}" for value in (found.miou, *found.iou)), strict=True))


def test_the_keyboard_moves_between_images_and_thresholds(browser: Any) -> None:
    def focused() -> str:
        return browser.switch_to.active_element.get_attribute("aria-label")

    sort(browser, "as listed")
    browser.execute_script(SLIDE, 50)
    press(browser, "\ue00c")  # Escape
    assert focused() == "a"
    seen = []
    for key in ("\ue014", "\ue014", "\ue012", "\ue015", "\ue013"):  # right, right, left, down, up
        press(browser, key)
        seen.append(focused())
    assert seen[:3] == ["b", "c", "b"]
    assert seen[4] == "b" != seen[3]
    press(browser, "]]]")
    assert browser.execute_script("return cut") == 53
    press(browser, "[")
    assert browser.execute_script("return [cut, +document.getElementById('threshold').value]") == [52, 52]
    assert focused() == "b", "which it stays when images are sorted again"


def test_layers_can_be_hidden(browser: Any) -> None:
    box = browser.find_element("css selector", "#layers label:nth-of-type(2) input")
    shown = "return [...document.querySelectorAll('figure')].filter((one) => one.offsetWidth).length"
    before = browser.execute_script(shown)
    box.click()
    assert browser.execute_script(shown) == before - 4
    box.click()
    assert browser.execute_script(shown) == before
