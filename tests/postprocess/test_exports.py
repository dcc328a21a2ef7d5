import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import auto_cli
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as tools
from pycocotools.coco import COCO

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.readers.images import voc_palette, write_mask
from fbr_plugin.postprocess.exports import coco_rle, convert_seeds, export, submission
from fbr_plugin.postprocess.seed_files import read_seed, seed_path, write_seed
from fbr_plugin.postprocess.seeds import Seed

IDS = ["2008_000006", "2008_000011"]
COCO_IDS = ["COCO_val2014_000000000042", "COCO_val2014_000000000073"]
PREFIX = "results/VOC2012/Segmentation/comp6_test_cls"


def write_masks(folder: Path, ids: list[str], highest: int) -> dict[str, NDArray[np.int64]]:
    """Masks of several sizes with background, the class `highest` and one more."""
    rng = np.random.default_rng(0)
    masks = {name: rng.choice([0, 3, highest], (7 + row, 9)) for row, name in enumerate(ids)}
    for name, mask in masks.items():
        write_mask(folder / f"{name}.png", mask)
    return masks


def test_submission_holds_the_masks_as_they_are(tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", IDS, 20)
    for name, mask in masks.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", mask.shape[::-1]).save(tmp_path / "images" / f"{name}.jpg")
    submission(tmp_path / "masks", IDS, tmp_path / "out" / "a.tar.gz", tmp_path / "images")
    with tarfile.open(tmp_path / "out" / "a.tar.gz", "r:gz") as archive:
        assert archive.getnames() == [f"{PREFIX}/{name}.png" for name in IDS]
        for name, mask in masks.items():
            member = archive.extractfile(f"{PREFIX}/{name}.png")
            assert member is not None
            image = Image.open(io.BytesIO(member.read()))
            assert image.mode == "P"
            assert np.array_equal(image, mask)
            assert np.array_equal(image.convert("RGB"), voc_palette()[mask])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tar.gz"]


def test_the_same_masks_give_the_same_bytes(tmp_path: Path) -> None:
    contents = set()
    for number, folder in enumerate(("one", "two")):
        write_masks(tmp_path / folder, IDS, 20)
        for path in (tmp_path / folder).iterdir():
            os.utime(path, (number, number))
        submission(tmp_path / folder, IDS, tmp_path / f"{folder}.tar.gz")
        contents.add((tmp_path / f"{folder}.tar.gz").read_bytes())
    (content,) = contents
    assert content[3:8] == bytes(5)  # neither a name nor a time is in the header


def test_masks_that_the_server_would_refuse(tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", IDS, 20)
    path, images, last = tmp_path / "a.tar.gz", tmp_path / "images", tmp_path / "masks" / f"{IDS[1]}.png"
    path.write_text("an older one")

    def refused(error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            submission(tmp_path / "masks", IDS, path, images if images.exists() else None)
        assert path.read_text() == "an older one"
        assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["a.tar.gz"]

    Image.fromarray(masks[IDS[1]].astype(np.uint8)).save(last)
    refused(ValueError, rf"{IDS[1]}.png is a L image: the server takes palette PNGs")
    write_mask(last, np.full((8, 9), 255))
    refused(ValueError, rf"{IDS[1]}.png holds 255: the server wants a class, 0 to 20, at every pixel")
    write_mask(last, np.full((8, 9), 21))
    refused(ValueError, rf"{IDS[1]}.png holds the value 21, but a mask of 20 classes")
    last.write_bytes(last.read_bytes()[:60])
    refused(ValueError, rf"{IDS[1]}.png cannot be read .*truncated")
    last.unlink()
    refused(FileNotFoundError, rf"1 of 2 masks are missing, the first is that of id {IDS[1]}")
    write_mask(last, np.zeros((8, 9)))
    images.mkdir()
    refused(FileNotFoundError, rf"{IDS[0]}.jpg does not exist")
    Image.new("RGB", (9, 6)).save(images / f"{IDS[0]}.jpg")
    refused(ValueError, rf"{IDS[0]}.png is 9x7 pixels, but its image is 9x6")


def test_run_length_codes_give_the_masks_back(tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", COCO_IDS, 80)
    masks[COCO_IDS[0]][2:4] = 255
    write_mask(tmp_path / "masks" / f"{COCO_IDS[0]}.png", masks[COCO_IDS[0]])
    coco_rle(tmp_path / "masks", ["42", "000000000073"], tmp_path / "out" / "rle.json")
    records = json.loads((tmp_path / "out" / "rle.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in records] == [(42, 3), (42, 90), (73, 3), (73, 90)]
    assert {record["score"] for record in records} == {1.0}
    for name, number in zip(COCO_IDS, (42, 73), strict=True):
        back = np.zeros_like(masks[name])
        for record in (record for record in records if record["image_id"] == number):
            covered = tools.decode(record["segmentation"]).astype(bool)
            assert record["area"] == covered.sum()
            rows, columns = covered.any(1).nonzero()[0], covered.any(0).nonzero()[0]
            corner, size = (columns[0], rows[0]), (np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert record["bbox"] == [*corner, *size]
            back[covered] = {3: 3, 90: 80}[record["category_id"]]
        assert np.array_equal(back, np.where(masks[name] == 255, 0, masks[name]))


def test_cocos_own_tools_read_the_results(tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", COCO_IDS, 80)
    coco_rle(tmp_path / "masks", COCO_IDS, tmp_path / "rle.json")
    known = COCO()
    known.dataset = {
        "images": [
            {"id": number, "height": mask.shape[0], "width": mask.shape[1]}
            for number, mask in zip((42, 73), masks.values(), strict=True)
        ],
        "categories": [{"id": 3}, {"id": 90}],
        "annotations": [],
    }
    known.createIndex()
    results = known.loadRes(str(tmp_path / "rle.json"))
    (found,) = results.loadAnns(results.getAnnIds(imgIds=73, catIds=90))
    assert np.array_equal(results.annToMask(found), masks[COCO_IDS[1]] == 80)


def test_plain_numbers_and_other_ids(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "2007_000032.png", np.full((3, 4), 12))
    write_mask(tmp_path / "masks" / "photo.png", np.zeros((3, 4)))
    write_mask(tmp_path / "masks" / "img_2.png", np.array([[0, 254]]))
    write_mask(tmp_path / "masks" / "1_23.png", np.full((3, 4), 1))  # a frame, no number
    ids = ["2007_000032", "photo", "img_2", "1_23"]
    coco_rle(tmp_path / "masks", ids, tmp_path / "rle.json", coco_ids=False)
    records = json.loads((tmp_path / "rle.json").read_text())
    found = [(record["image_id"], record["category_id"]) for record in records]
    assert found == [(2007000032, 12), ("img_2", 254), ("1_23", 1)]
    with pytest.raises(ValueError, match=r"img_2.png holds the value 254, but a mask of 80 classes"):
        coco_rle(tmp_path / "masks", ids, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_run_length_codes_ask_for_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r"need pycocotools: pip install 'fbr_plugin\[coco\]'"):
        coco_rle(tmp_path, ["a"], tmp_path / "rle.json")


@pytest.fixture
def seed() -> Seed:
    rng = np.random.default_rng(0)
    return Seed(np.array([2, 7]), rng.random((2, 9, 14), np.float32), rng.random((9, 14), np.float32))


@pytest.mark.parametrize("target", ["irn", "amn", "seam", "compact"])
@pytest.mark.parametrize("origin", ["amn", "compact"])
def test_seeds_of_any_layout_become_any_other(
    tmp_path: Path, seed: Seed, origin: SeedStyle, target: SeedStyle
) -> None:
    for name in IDS:
        write_seed(seed_path(tmp_path / "old", name, origin), seed, origin)
    convert_seeds(tmp_path / "old", IDS, tmp_path / "new", target)
    assert len(list((tmp_path / "new").iterdir())) == len(IDS)
    back = read_seed(seed_path(tmp_path / "new", IDS[1], target))
    exact = 0 if "compact" not in (origin, target) else 2.0**-12
    assert back.keys.tolist() == [2, 7]
    np.testing.assert_allclose(back.scores, seed.scores, rtol=0, atol=exact)
    assert (back.background is None) == (target in ("irn", "seam"))
    if back.background is not None:
        np.testing.assert_allclose(back.background, seed.background, rtol=0, atol=exact)


def test_seeds_that_cannot_be_converted(tmp_path: Path, seed: Seed) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_seed(old / "a.npy", seed, "irn")
    with pytest.raises(ValueError, match=r"a.npy: the style 'amn' needs a background map"):
        convert_seeds(old, ["a"], new, "amn")
    unknown: Any = "IRN"
    with pytest.raises(ValueError, match=r"style must be one of 'irn', 'amn', 'seam', 'compact', got 'IRN'"):
        convert_seeds(old, ["a"], new, unknown)
    with pytest.raises(ValueError, match=r"old holds the seeds to convert: write the new ones to another"):
        convert_seeds(old, ["a"], tmp_path / "new" / ".." / "old", "seam")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 seeds are missing, the first is that of id b"):
        convert_seeds(old, ["a", "b"], new, "seam")
    write_mask(tmp_path / "masks" / "a.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"masks holds masks, which cannot become seeds"):
        convert_seeds(tmp_path / "masks", ["a"], new, "seam")
    assert not new.exists()


@pytest.mark.parametrize(
    ("what", "made"), [("voc", "out"), ("coco", "out"), ("compact", "out/2008_000011.npz")]
)
def test_words_of_a_command_line(tmp_path: Path, seed: Seed, what: str, made: str) -> None:
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    if what == "compact":
        for name in IDS:
            write_seed(tmp_path / "in" / f"{name}.npy", seed, "amn")
    else:
        write_masks(tmp_path / "in", IDS, 20)
    words = ["--predictions", tmp_path / "in", "--list", tmp_path / "list.txt", "--what", what]
    words += ["--output", tmp_path / "out", *(["--coco_ids", "false"] if what == "coco" else [])]
    done = auto_cli(export, as_positional=False, args=[str(word) for word in words], allow_abbrev=True)
    assert done == tmp_path / "out"
    assert (tmp_path / made).is_file()


def test_classes_that_are_not_cocos_keep_their_numbers(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "photo.png", np.array([[0, 2, 255]]))
    (tmp_path / "list.txt").write_text("photo")
    words = tmp_path / "masks", tmp_path / "list.txt", "coco", tmp_path / "out.json"
    with pytest.raises(
        ValueError, match=r"no id is of an image of COCO, the first is 'photo', .*--coco_ids false"
    ):
        export(*words)
    with pytest.warns(UserWarning, match="1 of 1 masks in .*masks hold 255: these pixels are in no record"):
        export(*words, coco_ids=False)
    with pytest.raises(ValueError, match=r"masks is a folder: name the file to write$"):
        export(*words[:3], tmp_path / "masks", coco_ids=False)
