import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.damage import DAMAGES
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.metrics import SeedSweep
from fbr_plugin.postprocess.evaluate import evaluate, evaluation_table
from fbr_plugin.postprocess.seed_files import write_seed
from fbr_plugin.postprocess.seeds import Seed

IDS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The seconds asked for are those of one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three masks of three classes and 255, predictions that differ from them, and a list."""
    rng = np.random.default_rng(0)
    for name in IDS:
        shape = (rng.integers(5, 9), rng.integers(5, 9))
        write_mask(tmp_path / "masks" / f"{name}.png", rng.choice([0, 1, 2, 3, 255], shape))
        write_mask(tmp_path / "predictions" / f"{name}.png", rng.integers(0, 4, shape))
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    return tmp_path


def load(path: Path) -> NDArray[np.int64]:
    return np.array(Image.open(path), np.int64)


def mean_iou(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], num_classes: int) -> float:
    """mIoU in percent from sets of pixels, one class at a time."""
    inter, union = np.zeros(num_classes + 1), np.zeros(num_classes + 1)
    for prediction, truth in pairs:
        known = truth != 255
        for index in range(num_classes + 1):
            a, b = (prediction == index)[known], (truth == index)[known]
            inter[index] += np.count_nonzero(a & b)
            union[index] += np.count_nonzero(a | b)
    return float(100 * (inter[union > 0] / union[union > 0]).mean())


def test_masks_equal_an_independent_computation(folder: Path) -> None:
    found = evaluate(folder / "predictions", folder / "masks", folder / "list.txt", num_classes=3)
    pairs = [(load(folder / "predictions" / f"{i}.png"), load(folder / "masks" / f"{i}.png")) for i in IDS]
    assert found.result.miou == pytest.approx(mean_iou(pairs, 3), rel=1e-12)
    assert found.num_images == 3
    assert found.list_sha256 == hashlib.sha256((folder / "list.txt").read_bytes()).hexdigest()
    table = evaluation_table(found)
    assert ["mIoU", f"{found.result.miou:.2f}"] in [line.split() for line in table.splitlines()]
    assert "class 3" in table


def test_masks_hash_follows_pixels_alone(folder: Path) -> None:
    arguments = folder / "predictions", folder / "masks", folder / "list.txt", 3
    before = evaluate(*arguments).masks_sha256
    grey = load(folder / "masks" / "a.png").astype(np.uint8)
    Image.fromarray(grey).save(folder / "masks" / "a.png")
    assert evaluate(*arguments).masks_sha256 == before
    grey[0, 0] = (grey[0, 0] + 1) % 3
    Image.fromarray(grey).save(folder / "masks" / "a.png")
    assert evaluate(*arguments).masks_sha256 != before


def test_seeds_equal_the_sweep_in_memory(folder: Path) -> None:
    rng = np.random.default_rng(1)
    sweep = SeedSweep(3)
    for name in IDS:
        truth = load(folder / "masks" / f"{name}.png")
        seed = Seed(np.array([0, 2]), rng.random((2, *truth.shape), np.float32))
        write_seed(folder / "seeds" / f"{name}.npy", seed, "irn")
        dense = np.stack([seed.scores[0], np.zeros_like(seed.scores[0]), seed.scores[1]])
        sweep.update(torch.from_numpy(dense), torch.from_numpy(truth))
    found = evaluate(
        folder / "seeds", folder / "masks", folder / "list.txt", 3, output=folder / "out" / "e.json"
    )
    assert found.sweep == sweep.compute()
    assert found.result == sweep.compute().oracle
    table = evaluation_table(found)
    assert f"at threshold {found.sweep.oracle_threshold:.3f} (oracle: chosen with the masks)" in table
    content = json.loads((folder / "out" / "e.json").read_text())
    assert content["result"]["miou"] == found.result.miou
    assert len(content["sweep"]["miou"]) == 124
    one = evaluate(folder / "seeds", folder / "masks", folder / "list.txt", 3, thresholds=[0.3])
    assert one.result == found.sweep.at(0.3)
    assert "at threshold 0.300 (given)" in evaluation_table(one)


def test_a_few_masks_choose_a_threshold(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for name in IDS:
        truth = load(folder / "masks" / f"{name}.png")
        scores = rng.random((3, *truth.shape), np.float32)
        write_seed(folder / "seeds" / f"{name}.npy", Seed(np.arange(3), scores), "irn")
    arguments = folder / "seeds", folder / "masks", folder / "list.txt", 3
    whole = evaluate(*arguments, calibrate="list")  # a list by its name, beside the other
    assert whole.calibration.threshold == whole.sweep.oracle_threshold
    assert whole.calibration.num_images == 3
    (folder / "few.txt").write_text("b\nc")
    (folder / "rest.txt").write_text("a")
    few = evaluate(*arguments, calibrate=folder / "few.txt", output=folder / "few.json")
    own = evaluate(folder / "seeds", folder / "masks", folder / "few.txt", 3)
    assert few.calibration.threshold == own.sweep.oracle_threshold
    assert few._replace(calibration=None) == whole._replace(calibration=None)
    rest = evaluate(*arguments[:2], folder / "rest.txt", 3, calibrate=folder / "few.txt")
    assert rest.calibration == few.calibration  # whose images need not be scored themselves
    written = json.loads((folder / "few.json").read_text())["calibration"]
    miou = few.sweep.at(few.calibration.threshold).miou
    assert written == {"num_images": 2, "miou_calibrated": miou, **few.calibration.scores()}
    assert f"calibrated on 2 images: threshold {few.calibration.threshold:.3f}" in evaluation_table(few)


def test_a_wrong_calibration_list_is_named(folder: Path) -> None:
    arguments = folder / "masks", folder / "list.txt", 3
    with pytest.raises(ValueError, match=r"predictions holds masks, which have no threshold: leave out"):
        evaluate(folder / "predictions", *arguments, calibrate="list")
    seed = Seed(np.array([0]), np.ones((1, 4, 4), np.float32))
    for name in IDS:
        write_mask(folder / "masks" / f"{name}.png", np.ones((4, 4)))
        write_seed(folder / "seeds" / f"{name}.npy", seed, "irn")
    for content, message in (
        ("", "few.txt is empty"),
        ("a", "on 1 image"),
        ("a\nz", "1 of 2 true masks of the cal"),
    ):
        (folder / "few.txt").write_text(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            evaluate(folder / "seeds", *arguments, calibrate="few")
    with pytest.raises(FileNotFoundError, match="twenty does not exist"):
        evaluate(folder / "seeds", *arguments, calibrate="twenty")


def test_seeds_of_no_class_are_scored_in_every_style(folder: Path) -> None:
    found = []
    for style in ("irn", "seam", "compact"):
        for name in IDS:
            shape = load(folder / "masks" / f"{name}.png").shape
            seed = Seed(np.zeros(0, np.int64), np.zeros((0, *shape), np.float32))
            write_seed(folder / style / f"{name}.{'npz' if style == 'compact' else 'npy'}", seed, style)
        found.append(evaluate(folder / style, folder / "masks", folder / "list.txt", 3))
    assert found[0].sweep.miou == found[1].sweep.miou == found[2].sweep.miou
    assert found[0].result.recall == 0


def test_compact_seeds_are_scored_as_what_they_hold(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for name in IDS:
        shape = load(folder / "masks" / f"{name}.png").shape
        scores = rng.random((2, *shape)).astype(np.float16).astype(np.float32)
        seed = Seed(np.array([0, 2]), scores, scores[0])
        write_seed(folder / "npy" / f"{name}.npy", seed, "amn")
        write_seed(folder / "npz" / f"{name}.npz", seed, "compact")
    arguments = folder / "masks", folder / "list.txt", 3
    assert evaluate(folder / "npz", *arguments) == evaluate(folder / "npy", *arguments)
    (folder / "npy" / "a.npy").rename(folder / "npz" / "a.npy")
    with pytest.raises(ValueError, match=r"both seeds \(ID\.npy\) and compact seeds \(ID\.npz\) for the 3"):
        evaluate(folder / "npz", *arguments)
    (folder / "npz" / "a.npy").unlink()
    (folder / "npz" / "b.npz").write_bytes((folder / "npz" / "b.npz").read_bytes()[:90])
    with pytest.raises(ValueError, match=r"npz.b\.npz cannot be read"):
        evaluate(folder / "npz", *arguments)


def test_a_seed_that_would_run_something_is_refused(folder: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (folder / "trace",)

    (folder / "seeds").mkdir()
    for name in IDS:
        np.save(folder / "seeds" / f"{name}.npy", np.array({"keys": Malice()}, dtype=object))
    with pytest.raises(ValueError, match=r"a\.npy cannot be read: it asks for .*, which is refused"):
        evaluate(folder / "seeds", folder / "masks", folder / "list.txt", 3)
    assert not (folder / "trace").exists()


def test_coco_ids_of_every_style_name_the_same_files(folder: Path) -> None:
    for name, number in zip(IDS, (9, 25, 30), strict=True):
        (folder / "masks" / f"{name}.png").rename(folder / "masks" / f"{number:012d}.png")
        old = folder / "predictions" / f"{name}.png"
        old.rename(folder / "predictions" / f"COCO_val2014_{number:012d}.png")
    results = []
    for style in ("{}", "{:012d}", "COCO_val2014_{:012d}"):
        (folder / "list.txt").write_text("\n".join(style.format(number) for number in (9, 25, 30)))
        results.append(evaluate(folder / "predictions", folder / "masks", folder / "list.txt", 3).result)
    assert results[0] == results[1] == results[2]


def test_number_and_names_of_classes(folder: Path) -> None:
    arguments = folder / "predictions", folder / "masks", folder / "list.txt"
    guessed = evaluate(*arguments)
    assert guessed.class_names == ("background", "class 1", "class 2", "class 3")
    assert "largest value in the masks" in evaluation_table(guessed)
    named = evaluate(*arguments, class_names=["x", "y", "z", "never"], output=folder / "e.json")
    assert named.result.miou == guessed.result.miou
    assert named.result.absent == (4,)
    assert "never       absent" in evaluation_table(named)
    assert json.loads((folder / "e.json").read_text())["result"]["iou"][4] is None
    (folder / "classes.txt").write_text("x\ny\nz\n")
    listed = evaluate(*arguments)
    assert listed.class_names == ("background", "x", "y", "z")
    assert str(folder / "classes.txt") in listed.classes_from
    with pytest.raises(ValueError, match=r"num_classes is 4, but .*classes\.txt names 3"):
        evaluate(*arguments, num_classes=4)


def test_pixels_without_prediction_are_wrong_and_reported(folder: Path) -> None:
    for name in IDS:
        mask = load(folder / "masks" / f"{name}.png").astype(np.uint8)
        mask[0] = 255
        write_mask(folder / "partly" / f"{name}.png", mask)
    found = evaluate(folder / "partly", folder / "masks", folder / "list.txt", 3)
    pairs = [(load(folder / "partly" / f"{i}.png"), load(folder / "masks" / f"{i}.png")) for i in IDS]
    assert found.result.miou == pytest.approx(mean_iou(pairs, 3), rel=1e-12)
    assert found.result.miou < 100
    assert "have no prediction (255): counted as wrong" in evaluation_table(found)


def test_wrong_input_is_named(folder: Path) -> None:
    predictions, masks, listed = folder / "predictions", folder / "masks", folder / "list.txt"
    with pytest.raises(ValueError, match=r"masks.a\.png holds the value 3"):
        evaluate(predictions, masks, listed, num_classes=2)
    listed.write_text("")
    with pytest.raises(ValueError, match=r"list\.txt is empty"):
        evaluate(predictions, masks, listed)
    listed.write_text("a\nb\nnobody\nno_one\n")
    with pytest.raises(
        FileNotFoundError, match=r"2 of 4 true masks are missing, the first is that of id nobody: "
    ):
        evaluate(predictions, masks, listed)
    listed.write_text("a\nb\n")
    (predictions / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 predictions are missing, .* id b: .*b\.png"):
        evaluate(predictions, masks, listed)
    write_mask(predictions / "b.png", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"b\.png: prediction is \(3, 3\), target \("):
        evaluate(predictions, masks, listed, 3)
    with pytest.raises(ValueError, match=r"neither a seed \(ID\.npy, ID\.npz\) nor a mask .* such as a"):
        evaluate(folder, masks, listed, 3)
    (predictions / "a.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"both seeds \(ID\.npy\) and masks"):
        evaluate(predictions, masks, listed, 3)
    (folder / "seeds").mkdir()
    (predictions / "a.npy").rename(folder / "seeds" / "a.npy")
    listed.write_text("a\n")
    with pytest.raises(ValueError, match=r"seeds.a\.npy cannot be read"):
        evaluate(folder / "seeds", masks, listed, 3)
    write_seed(folder / "seeds" / "a.npy", Seed(np.array([5]), np.zeros((1, 4, 4), np.float32)), "irn")
    with pytest.raises(ValueError, match=r"a\.npy: keys must be 0 to 2, got \[5\]"):
        evaluate(folder / "seeds", masks, listed, 3)
    write_seed(folder / "seeds" / "a.npy", Seed(np.array([2]), np.zeros((1, 4, 4), np.float32)), "irn")
    with pytest.raises(ValueError, match=r"a\.npy: seed is \(1, 4, 4\), target \("):
        evaluate(folder / "seeds", masks, listed, 3)


def test_what_would_be_scored_without_a_word(folder: Path) -> None:
    predictions, masks, listed = folder / "predictions", folder / "masks", folder / "list.txt"
    with pytest.raises(
        ValueError, match=r"predictions holds masks, which have no threshold: leave out \[0\.3\]"
    ):
        evaluate(predictions, masks, listed, thresholds=[0.3])
    with pytest.raises(ValueError, match=r"list\.txt/in cannot hold results \(Not a directory\)"):
        evaluate(predictions, masks, listed, output=listed / "in" / "scores.json")
    with pytest.warns(UserWarning, match=r"masks is the folder of the true masks itself: name another"):
        evaluate(masks, masks, listed)
    for name in IDS:
        write_mask(masks / f"{name}.png", 255 * (load(masks / f"{name}.png") > 0))
    with pytest.warns(UserWarning, match="not one pixel of the true masks is of a class: they hold 0 for"):
        evaluate(predictions, masks, listed, num_classes=3)
    with pytest.raises(
        ValueError, match=r"must be one or more numbers in \[0, 1\] in ascending order, got \(1\.5,\)"
    ):
        SeedSweep(3, [1.5])


def test_list_of_pairs(folder: Path) -> None:
    arguments = folder / "predictions", folder / "masks"
    bare = evaluate(*arguments, folder / "list.txt", 3).result
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in IDS]
    (folder / "pairs.txt").write_text("\n".join(lines))
    assert evaluate(*arguments, folder / "pairs.txt", 3).result == bare


@pytest.mark.slow
def test_all_real_masks_against_themselves(real_data: Path) -> None:
    root = real_data / "voc12"
    masks, listed = root / "SegmentationClassAug", root / "ImageSets" / "Segmentation" / "train.txt"
    start = time.process_time()
    found = evaluate(masks, masks, listed, num_classes=20)
    seconds = time.process_time() - start
    assert found.num_images == 1464
    assert found.result.miou == 100.0
    assert not math.isnan(sum(found.result.iou))
    assert seconds < 20


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_real_masks(
    real_data: Path, tmp_path: Path, damage: Callable[..., NDArray[np.uint8]]
) -> None:
    root = real_data / "voc12"
    masks = root / "SegmentationClassAug"
    ids = (root / "ImageSets" / "Segmentation" / "train.txt").read_text().split()[::20]
    (tmp_path / "list.txt").write_text("\n".join(ids))
    pairs = []
    for name in ids:
        truth = load(masks / f"{name}.png")
        damaged = damage(truth.astype(np.uint8))
        write_mask(tmp_path / "damaged" / f"{name}.png", damaged)
        pairs.append((damaged, truth))
    found = evaluate(tmp_path / "damaged", masks, tmp_path / "list.txt", num_classes=20)
    assert found.result.miou == pytest.approx(mean_iou(pairs, 20), abs=1e-9)
    assert 50 < found.result.miou < 95
