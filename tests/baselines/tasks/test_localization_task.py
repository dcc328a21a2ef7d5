"""Localization by the baselines that can: which maps are taken, and how batches with boxes are scored."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.random_data import NUM_CLASSES
from helpers.wsol_layouts import write_cub, write_openimages
from matplotlib.figure import Figure
from pytorch_lightning import LightningDataModule
from test_baselines import build, trainer
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin import figures
from fbr_plugin.baselines import BAS, BASFBR, CAM
from fbr_plugin.baselines.tasks.localization_task import LocalizationTask, averaged_maps, first_classes
from fbr_plugin.callbacks.localization_figure import LocalizationFigure
from fbr_plugin.data import Loading, WSOLDataModule
from fbr_plugin.data.datamodules.base import collate
from fbr_plugin.metrics import BoxAccuracy, BoxSweep, CentreBox, PixelSweep

BOX = (8, 4, 23, 19)


class Boxes(LightningDataModule):
    """Five images of two sizes with a bright square of one class each."""

    num_classes = NUM_CLASSES

    def images(self) -> list[dict[str, Any]]:
        items = []
        for index in range(5):
            image = torch.randn(3, 32, 42 + 4 * (index % 2), generator=torch.Generator().manual_seed(index))
            image[index % 3, BOX[1] : BOX[3] + 1, BOX[0] : BOX[2] + 1] += 3
            label = torch.eye(NUM_CLASSES)[index % 3]
            item = {"id": str(index), "image": image, "label": label, "boxes": torch.tensor([BOX])}
            items.append({**item, "size": torch.tensor([99, 99])})
        return items

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
            stacked = {key: torch.stack([item[key] for item in items]) for key in ("image", "label", "size")}
            return {**stacked, **{key: [item[key] for item in items] for key in ("id", "boxes")}}

        return DataLoader(self.images(), collate_fn=collate)  # type: ignore[arg-type]

    test_dataloader = val_dataloader


class Perfect(LocalizationTask):
    """Finds the squares of classes 2 and 3, and takes every image for class 1, then 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(NUM_CLASSES, encoder="small", **options)
        self.head = torch.nn.Identity()

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.zeros(len(image), NUM_CLASSES, *(-(-side // 4) for side in image.shape[-2:]))
        maps[:, :, BOX[1] // 4 : BOX[3] // 4 + 1, BOX[0] // 4 : BOX[2] // 4 + 1] = 1.0
        maps[:, 0] = torch.linspace(0, 1, maps.shape[-1])
        return maps, torch.tensor([[3.0, 2.0, 1.0]])


def test_figures_of_known_maps(tmp_path: Path) -> None:
    model, data = Perfect(box_threshold=0.5), Boxes()
    run = trainer(tmp_path)
    scores = run.test(model, data, verbose=False)[0]
    # The map of class 1 misses its two squares; the others are found, and never predicted first.
    assert scores["test/gt_known_loc"] == pytest.approx(60)
    assert scores["test/top1_loc"] == 0
    assert scores["test/top5_loc"] == pytest.approx(60)
    assert scores["test/max_box_acc_v2"] >= 60
    assert run.validate(model, data, verbose=False)[0]["val/gt_known_loc"] == pytest.approx(60)

    # The average over all classes is the same for all images, and misses none.
    averaged = run.test(Perfect(box_threshold=0.6, top_n=3), data, verbose=False)[0]
    assert averaged["test/gt_known_loc"] == pytest.approx(100)
    assert averaged["test/top1_loc"] == pytest.approx(40)


@pytest.mark.parametrize("kind", [CAM, BAS, BASFBR])
def test_scores_are_those_of_the_metrics(kind: type[LocalizationTask], tmp_path: Path) -> None:
    model, data = build(kind, box_threshold=0.4), Boxes()
    scores = trainer(tmp_path).test(model, data, verbose=False)[0]
    names = ("gt_known_loc", "top1_loc", "top5_loc", "max_box_acc", "max_box_acc_v2", "box_threshold_oracle")
    fixed_box = ("centre_box_gt_known_loc", "centre_box_max_box_acc_v2")
    assert scores.keys() == {f"test/{name}" for name in (*names, *fixed_box, "max_box_acc_v2_bas")}

    sweep, fixed, centre = BoxSweep(), BoxAccuracy(0.4), CentreBox()
    model.eval()
    for batch in data.test_dataloader():
        with torch.no_grad():
            maps, logits = model.scored_maps(batch["image"])
        own = maps[:, batch["label"][0].argmax()][:, None]
        height, width = batch["image"].shape[-2:]
        grown = torch.nn.functional.interpolate(own, scale_factor=4, mode="bilinear")[:, 0, :height, :width]
        rank = (logits[0] > logits[0, batch["label"][0].argmax()]).sum()[None]
        for metric in (sweep, fixed):
            metric.update(grown, batch["boxes"], rank)
        centre.update(batch["boxes"], torch.tensor([[height, width]]))
    assert scores["test/centre_box_gt_known_loc"] == centre.compute().gt_known
    assert scores["test/centre_box_max_box_acc_v2"] == pytest.approx(centre.compute().max_box_acc_v2)
    assert scores["test/gt_known_loc"] == fixed.compute().gt_known
    assert scores["test/top1_loc"] == fixed.compute().top1
    assert scores["test/max_box_acc_v2_bas"] == pytest.approx(fixed.compute().max_box_acc_v2_bas)
    assert scores["test/max_box_acc"] == sweep.compute().max_box_acc
    assert scores["test/max_box_acc_v2"] == pytest.approx(sweep.compute().max_box_acc_v2)


class Peak(Perfect):
    """A ramp from 0 to 1 over the cells of a row."""

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        ramp = torch.linspace(0, 1, -(-image.shape[-1] // 4)).expand(len(image), NUM_CLASSES, 8, -1)
        return ramp, image.mean((2, 3))


def blank() -> dict[str, Any]:
    """A batch of one image of 32x16 pixels with a box."""
    label = torch.eye(NUM_CLASSES)[:1]
    return {"image": torch.zeros(1, 3, 32, 16), "label": label, "boxes": [torch.tensor([[0, 0, 7, 7]])]}


def test_the_map_that_is_thresholded() -> None:
    batch = blank()
    found = [
        Peak(box_grid=grid, box_threshold=0.02).test_step(batch, 0).boxes for grid in ("image", "features")
    ]
    # The ramp is 0 up to the centre of the first cell, at 2 of 16 pixels, and reaches .02 .24 pixels later.
    # At the image's size it is .04 at the centre of the pixel from 2 to 3.
    assert found[1][0, 0] == pytest.approx(2.24, abs=0.07)
    assert found[0][0, 0] == pytest.approx(1.98, abs=0.07)
    with pytest.raises(ValueError, match=r"sides are multiples of 4, .* got \(32, 42\): .*eval_size"):
        Peak(box_grid="features").test_step({**batch, "image": torch.zeros(1, 3, 32, 42)}, 0)
    with pytest.raises(ValueError, match="box_grid must be one of 'image', 'features', got 'grid'"):
        Peak(box_grid="grid")


def test_ten_crops_classify() -> None:
    """The mean probability decides, not the mean logit and not the image itself."""
    crops = torch.zeros(1, 10, 3, 32, 16)
    crops[0, :, 1], crops[0, 0, 0] = 1.0, 12.0
    batch, model = blank(), Peak()
    logits = model.scored_maps(batch["image"])[1]
    assert torch.equal(model._class_scores(batch, logits), logits)
    scores = model._class_scores({**batch, "crops": crops}, logits)
    torch.testing.assert_close(scores, crops.mean((3, 4)).softmax(-1).mean(1))
    assert scores[0].argmax() == 1
    assert crops.mean((1, 3, 4))[0].argmax() == 0


@pytest.mark.parametrize("number", [1, 3, 9])
def test_the_figure_of_a_test(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images, one a batch: examples at even distances, and no more than there are."""
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(figures, "boxes_over_images", lambda *columns: drawn.append(columns) or Figure())
    run = trainer(tmp_path, callbacks=[LocalizationFigure(number)])
    run.test(Perfect(box_threshold=0.5), Boxes(), verbose=False)
    images, maps, boxes, found = drawn[0]
    assert len(images) == len(maps) == len(boxes) == len(found) == min(number, 5)
    classes = [int(image[:, BOX[1] : BOX[3], BOX[0] : BOX[2]].mean((1, 2)).argmax()) for image in images]
    assert classes == {1: [0], 3: [0, 1, 0], 9: [0, 1, 2, 0, 1]}[number]
    for true, own, predicted in zip(classes, boxes, found, strict=True):
        assert own.tolist() == [list(BOX)]
        assert bool((predicted - own[0]).abs().max() < 4) == (true > 0)
    assert (tmp_path / "figures" / "boxes.png").is_file()
    with pytest.raises(ValueError, match="num_images=0"):
        LocalizationFigure(0)


@pytest.mark.parametrize("encoder", ["small", "resnet18"])
def test_maps_of_the_first_classes(encoder: str) -> None:
    model = BAS(4, encoder=encoder, output_stride=None if encoder == "small" else 32).eval()
    image = torch.randn(2, 3, 40, 50)
    with torch.no_grad():
        maps, logits = model.scored_maps(image)
    one, two, all_of_them = (averaged_maps(maps, first_classes(logits, number)) for number in (1, 2, 4))
    grid = tuple(-(-side // model.stride) for side in image.shape[-2:])
    assert maps.shape == (2, 4, *grid)
    assert one.shape == (2, *grid)
    for index in range(2):
        order = logits[index].argsort(descending=True)
        torch.testing.assert_close(one[index], maps[index, order[0]])
        torch.testing.assert_close(two[index], maps[index, order[:2]].mean(0))
    torch.testing.assert_close(all_of_them, maps.mean(1))


def test_first_classes_and_averages() -> None:
    classes = first_classes(torch.tensor([[0.0, 3.0, 1.0]]), 2)
    assert classes.tolist() == [[0, 1, 1]]
    maps = torch.arange(3.0)[None, :, None, None].expand(1, 3, 2, 2)
    assert averaged_maps(maps, classes).tolist() == [[[1.5, 1.5], [1.5, 1.5]]]


@pytest.mark.parametrize("number", [0, 4])
def test_number_of_classes_averaged(number: int) -> None:
    with pytest.raises(ValueError, match=f"top_n must be 1 to num_classes=3, or None, got {number}"):
        CAM(3, encoder="small", top_n=number)


def masked(boxes: bool) -> Boxes:
    """The five images with masks of their squares, at twice the size of the image, with or without boxes."""

    class Masked(Boxes):
        def images(self) -> list[dict[str, Any]]:
            items = super().images()
            for item in items:
                height, width = item["image"].shape[1:]
                mask = torch.zeros(2 * height, 2 * width, dtype=torch.long)
                mask[2 * BOX[1] : 2 * BOX[3] + 2, 2 * BOX[0] : 2 * BOX[2] + 2] = 1
                mask[:4] = 255
                item["object_mask"] = mask
            return items if boxes else [{k: v for k, v in item.items() if k != "boxes"} for item in items]

        def val_dataloader(self) -> DataLoader[dict[str, Any]]:
            return DataLoader(self.images(), collate_fn=collate)  # type: ignore[arg-type]

        test_dataloader = val_dataloader

    return Masked()


PIXELS = ("pxap", "piou", "mask_threshold_oracle")


@pytest.mark.parametrize("kind", [CAM, BASFBR])
def test_masks_are_scored_with_boxes_and_without(kind: type[LocalizationTask], tmp_path: Path) -> None:
    model, run = build(kind), trainer(tmp_path)
    both = run.test(model, masked(boxes=True), verbose=False)[0]
    assert {f"test/{name}" for name in (*PIXELS, "gt_known_loc", "max_box_acc_v2")} <= both.keys()
    alone = run.test(model, masked(boxes=False), verbose=False)[0]
    assert alone.keys() == {f"test/{name}" for name in PIXELS}
    assert all(alone[name] == both[name] for name in alone)
    assert run.validate(model, masked(boxes=False), verbose=False)[0].keys() == {f"val/{n}" for n in PIXELS}
    assert run.test(model, Boxes(), verbose=False)[0].keys().isdisjoint(alone)

    metric = PixelSweep()
    model.eval()
    for batch in masked(boxes=False).test_dataloader():
        with torch.no_grad():
            maps = model.scored_maps(batch["image"])[0][:, batch["label"][0].argmax()].relu()
        height, width = batch["image"].shape[-2:]
        grown = torch.nn.functional.interpolate(maps[:, None], scale_factor=4, mode="bilinear")
        metric.update(grown[:, 0, :height, :width], batch["object_mask"])
    result = metric.compute()
    assert alone["test/pxap"] == pytest.approx(result.pxap, abs=1e-4)
    assert alone["test/piou"] == pytest.approx(result.piou, abs=1e-4)


def test_figures_of_masks(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[LocalizationFigure(1)])
    scores = run.test(Perfect(top_n=3), masked(boxes=True), verbose=False)[0]
    assert scores["test/piou"] > 50
    names = ("boxes.png", "masks.png", "precision_recall.png")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
    for name in names:
        (tmp_path / "figures" / name).unlink()
    run.test(Perfect(top_n=3), masked(boxes=False), verbose=False)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names[1:])


def test_masks_without_an_object_give_no_figure(tmp_path: Path) -> None:
    data = masked(boxes=False)
    items = [{**item, "object_mask": 0 * item["object_mask"] + 255} for item in data.images()]
    data.images = lambda: items  # type: ignore[method-assign]
    run = trainer(tmp_path, callbacks=[LocalizationFigure(1)])
    scores = run.test(Perfect(), data, verbose=False)[0]
    assert all(math.isnan(scores[f"test/{name}"]) for name in PIXELS)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["masks.png"]


class Bright(LocalizationTask):
    """Finds what is bright, whatever the class."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, encoder="small")
        self.head = torch.nn.Identity()

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        light = torch.nn.functional.avg_pool2d(image.mean(1, keepdim=True), 4)
        maps = (light - light.amin()).expand(-1, self.num_classes, -1, -1)
        return maps, torch.eye(self.num_classes)[:1].expand(len(image), -1)


def test_miniatures_of_the_data_sets_with_masks(tmp_path: Path) -> None:
    """The bright rectangle is the object of OpenImages, and the object but for two rows of CUB."""
    run, loading = trainer(tmp_path), Loading(eval_batch_size=2)
    root = write_openimages(tmp_path / "openimages")
    data = WSOLDataModule(root, "openimages", eval_size=80, loading=loading)
    scores = run.test(Bright(2), data, verbose=False)[0]
    assert scores.keys() == {f"test/{name}" for name in PIXELS}
    assert scores["test/pxap"] > 99
    assert scores["test/piou"] > 90

    root = write_cub(tmp_path / "CUB_200_2011")
    data = WSOLDataModule(root, "cub", eval_size=80, mask_dir="../segmentations", loading=loading)
    scores = run.test(Bright(2), data, verbose=False)[0]
    assert {"test/gt_known_loc", "test/pxap"} <= scores.keys()
    assert 60 < scores["test/piou"] < 80
