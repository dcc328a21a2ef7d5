"""Size and first paint of the page that `fbr-plugin browse` writes, in Chromium, and a picture of it.

`python -m benchmarks.browse` makes synthetic photos of 500x375 pixels with 20 classes, and two runs of seeds,
masks and instances. `--picture FILE` draws a page of the synthetic scenes instead. Chromium, its driver and
selenium must be installed.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait
from torch.nn.functional import interpolate
from tqdm import tqdm

from benchmarks.refine import damage
from fbr_plugin.browse.page import write_page
from fbr_plugin.data.instances.files import instances_path, write_instances
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.data.scenes.shapes import CLASS_NAMES
from fbr_plugin.data.scenes.source import SyntheticScenes
from fbr_plugin.instances import Instances
from fbr_plugin.postprocess.comparison import Predictions
from fbr_plugin.postprocess.seed_files import write_seed
from fbr_plugin.postprocess.seeds import Seed, threshold_labels

HEIGHT, WIDTH, STRIDE, CLASSES = 375, 500, 16, 20
NAMES = [f"class {number}" for number in range(1, CLASSES + 1)]


class Photos:
    """Synthetic photos of blurred noise, with true masks of one to three classes.

    Args:
        number: of photos.
    """

    num_classes = CLASSES

    def __init__(self, number: int) -> None:
        self.ids = [f"photo_{index:04d}" for index in range(number)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        photo = smooth(rng, 3, 8) * 0.7 + smooth(rng, 3, 128) * 0.2 + rng.random((3, HEIGHT, WIDTH)) * 0.1
        keys = rng.choice(CLASSES, rng.integers(1, 4), replace=False)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for key, area in zip(keys, smooth(rng, len(keys), 6), strict=True):
            mask[area > 0.7] = key + 1
        image = (255 * photo).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        return {"id": self.ids[index], "image": image, "mask": mask, "keys": np.sort(keys)}


def smooth(rng: np.random.Generator, number: int, cells: int) -> NDArray[np.float32]:
    """Random maps [number, HEIGHT, WIDTH] in [0, 1], interpolated from this many cells across."""
    coarse = torch.from_numpy(rng.random((1, number, cells * 3 // 4, cells), np.float32))
    return interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")[0].numpy()


def write_run(source: Photos, folder: Path, seed: int) -> list[Predictions]:
    """Write a run: seeds about as coarse and noisy as a CAM's, and masks and instances made of them."""
    for index in tqdm(range(len(source)), folder.name):
        item, rng = source[index], np.random.default_rng((seed, index))
        keys, name = item["keys"], item["id"]
        maps = torch.from_numpy((item["mask"] == keys[:, None, None] + 1).astype(np.float32))[None]
        coarse = interpolate(maps, (HEIGHT // STRIDE, WIDTH // STRIDE), mode="area")
        coarse = 0.7 * coarse + 0.3 * torch.from_numpy(rng.random(coarse.shape, np.float32))
        scores = Seed(keys, interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")[0].numpy())
        write_seed(folder / "seeds" / f"{name}.npz", scores, "compact")
        labels = threshold_labels(scores, 0.3, 0.3)
        write_mask(folder / "masks" / f"{name}.png", labels)
        found: Instances = {
            "masks": torch.from_numpy(labels == keys[:, None, None] + 1),
            "labels": torch.from_numpy(keys + 1),
            "scores": torch.from_numpy(rng.random(len(keys), np.float32)),
        }
        write_instances(instances_path(folder / "instances", name), found)
    suffixes = {"seeds": ".npz", "masks": ".png", "instances": ".json"}
    return [
        Predictions(f"{folder.name} {kind}", folder / kind, suffix, None) for kind, suffix in suffixes.items()
    ]


@contextmanager
def opened(page: Path) -> Iterator[Any]:
    """Chromium with a page whose first images are complete."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for word in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,960"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get((page / "index.html").absolute().as_uri())
        complete = "cards.size && [...cards.values()].every((one) => !one.wanted || one.maps)"
        WebDriverWait(driver, 60, 0.05).until(lambda _: driver.execute_script(f"return {complete}"))
        yield driver
    finally:
        driver.quit()


def measure(number: int, folder: Path) -> dict[str, float]:
    """Seconds that a page takes to write, its megabytes, and milliseconds until it shows something."""
    source = Photos(number)
    predictions = [each for seed in (1, 2) for each in write_run(source, folder / f"run_{seed}", seed)]
    start, used = time.perf_counter(), time.process_time()
    write_page(folder / "page", source, predictions, NAMES)
    result = {"seconds": time.perf_counter() - start, "seconds of CPU": time.process_time() - used}
    files = [path for path in (folder / "page").rglob("*") if path.is_file()]
    result["MB"] = sum(path.stat().st_size for path in files) / 1e6
    result["MB of images.js"] = (folder / "page" / "data" / "images.js").stat().st_size / 1e6
    with opened(folder / "page") as driver:
        entries = driver.execute_script(
            "return performance.getEntriesByType('paint').map((one) => one.toJSON())"
        )
        result |= {f"ms until {entry['name']}": entry["startTime"] for entry in entries}
        result["ms until the first images are complete"] = driver.execute_script("return performance.now()")
    return result


def draw(picture: Path, folder: Path) -> None:
    """Draw the page of some scenes; true masks, blurred to two grids, stand for the seeds of two runs."""
    source = SyntheticScenes(num_images=12, size=192)
    source.instances = True
    predictions = []
    for stride in (16, 32):
        run = folder / f"stride {stride}"
        for index in range(len(source)):
            item = source[index]
            keys = np.flatnonzero(item["label"])
            maps = torch.from_numpy((item["mask"] == keys[:, None, None] + 1).astype(np.float32))
            seed = Seed(keys, damage(maps, 0, stride)[1:])
            write_seed(run / "seeds" / f"{item['id']}.npz", seed, "compact")
            write_mask(run / "masks" / f"{item['id']}.png", threshold_labels(seed, 0.5, 0.5))
        for kind, suffix in (("seeds", ".npz"), ("masks", ".png")):
            predictions.append(Predictions(f"{run.name} {kind}", run / kind, suffix, None))
    write_page(folder / "page", source, predictions, CLASS_NAMES)
    with opened(folder / "page") as driver:
        picture.write_bytes(driver.get_screenshot_as_png())


def main() -> None:
    """Measure, or draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browse", description=__doc__)
    parser.add_argument("--photos", type=int, default=600, help="their number; default: %(default)s")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the page of scenes instead")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        if options.picture:
            draw(options.picture, Path(folder))
        else:
            print(json.dumps(measure(options.photos, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
