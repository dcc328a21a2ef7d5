"""Seeds and labels that `predict` leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.contract import MaskPrediction, SeedPrediction
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.instances import InstancePrediction, Instances
from fbr_plugin.postprocess.seed_files import read_seed

SIZES = {"2007_000032": (5, 8), "a.b": (4, 4), "plain": (9, 3)}
CLASSES = 3


def scores_of(size: tuple[int, int], channels: int) -> Tensor:
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(size[0]))


class Seeds(LightningModule):
    """Predicts a seed of random scores for each image."""

    def __init__(self, channels: int = CLASSES) -> None:
        super().__init__()
        self.channels = channels

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> SeedPrediction:
        seeds = [scores_of(image.shape[1:], self.channels) for image in batch["image"]]
        return SeedPrediction(batch["id"], seeds, batch["label"])


def predict(module: LightningModule, writer: SeedWriter, names: list[str] | None = None) -> list[str]:
    """Predict with a writer, and return the names of the files in its folder."""
    label = torch.tensor([1.0, 0.0, 1.0])
    images = {name: torch.zeros(3, *SIZES.get(name, (4, 4))) for name in names or SIZES}
    items = [{"id": name, "image": images[name], "label": label} for name in names or SIZES]
    trainer = Trainer(accelerator="cpu", callbacks=[writer], logger=False, enable_progress_bar=False)
    assert trainer.predict(module, DataLoader(items), return_predictions=False) is None
    return sorted(file.name for file in writer.output_dir.iterdir())


@pytest.mark.parametrize("style", ["irn", "seam", "compact"])
def test_seeds_are_written_at_image_size_for_present_classes(tmp_path: Path, style: Any) -> None:
    writer = SeedWriter(tmp_path / "seeds", style)
    suffix, precision = ("npz", torch.float16) if style == "compact" else ("npy", torch.float32)
    assert predict(Seeds(), writer) == [f"{name}.{suffix}" for name in sorted(SIZES)]
    for name, size in SIZES.items():
        seed = read_seed(tmp_path / "seeds" / f"{name}.{suffix}")
        assert seed.keys.tolist() == [0, 2]
        assert seed.background is None
        assert np.array_equal(seed.scores, scores_of(size, CLASSES)[[0, 2]].to(precision))


def test_amn_seeds_keep_their_background(tmp_path: Path) -> None:
    predict(Seeds(1 + CLASSES), SeedWriter(tmp_path, "amn"))
    scores, seed = scores_of((9, 3), 1 + CLASSES), read_seed(tmp_path / "plain.npy")
    assert seed.keys.tolist() == [0, 2]
    assert np.array_equal(seed.background, scores[0])
    assert np.array_equal(seed.scores, scores[[1, 3]])


def test_thresholds_write_labels_instead(tmp_path: Path) -> None:
    writer = SeedWriter(tmp_path, thresholds=(0.6, 0.3))
    assert predict(Seeds(), writer) == [f"{name}.png" for name in sorted(SIZES)]
    mask = read_mask(tmp_path / "plain.png", CLASSES)
    best, which = scores_of((9, 3), CLASSES)[[0, 2]].max(0)
    expected = torch.where(best > 0.6, 1 + 2 * which, torch.where(best > 0.3, 255, 0))
    assert np.array_equal(mask, expected)
    assert set(np.unique(mask)) == {0, 1, 3, 255}


class Masks(Seeds):
    """Predicts a mask of random classes for each image."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> MaskPrediction:
        return MaskPrediction(batch["id"], [mask_of(image.shape[1:]) for image in batch["image"]])


def mask_of(size: tuple[int, ...]) -> Tensor:
    return torch.randint(1 + CLASSES, size, generator=torch.Generator().manual_seed(size[0]))


def test_masks_are_written_as_palette_images(tmp_path: Path) -> None:
    assert predict(Masks(), SeedWriter(tmp_path)) == [f"{name}.png" for name in sorted(SIZES)]
    for name, size in SIZES.items():
        assert np.array_equal(read_mask(tmp_path / f"{name}.png", CLASSES), mask_of(size))
        assert Image.open(tmp_path / f"{name}.png").mode == "P"


@pytest.mark.parametrize("options", [{"format": "irn"}, {"thresholds": (0.3, 0.1)}], ids=str)
def test_masks_have_no_settings_of_seeds(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Masks predicts no seeds: leave out format and thresholds"):
        predict(Masks(), SeedWriter(tmp_path, **options))


class Boxes(Seeds):
    """Predicts one instance of class 2 in the upper row of each image."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> InstancePrediction:
        return InstancePrediction(batch["id"], [upper_row(image.shape[1:]) for image in batch["image"]])


def upper_row(size: tuple[int, ...]) -> Instances:
    masks = torch.zeros(1, *size, dtype=torch.bool)
    masks[:, 0] = True
    return {"masks": masks, "labels": torch.tensor([2]), "scores": torch.tensor([0.5])}


def test_instances_are_written_as_json(tmp_path: Path) -> None:
    assert predict(Boxes(), SeedWriter(tmp_path)) == [f"{name}.json" for name in sorted(SIZES)]
    for name, size in SIZES.items():
        found = read_instances(tmp_path / f"{name}.json", CLASSES)
        assert all(np.array_equal(found[key], value) for key, value in upper_row(size).items())
    with pytest.raises(ValueError, match="Boxes predicts no seeds: leave out format and thresholds"):
        predict(Boxes(), SeedWriter(tmp_path, "irn"))


def test_a_repeated_image_is_written_once(tmp_path: Path) -> None:
    assert predict(Seeds(), SeedWriter(tmp_path), ["plain", "plain"]) == ["plain.npy"]
    assert np.array_equal(read_seed(tmp_path / "plain.npy").scores, scores_of((9, 3), CLASSES)[[0, 2]])


@pytest.mark.parametrize("kind", [Seeds, Masks, Boxes])
@pytest.mark.parametrize("name", ["a/b", "../b", "a\\b"])
def test_ids_with_a_path_are_refused(tmp_path: Path, name: str, kind: type[Seeds]) -> None:
    with pytest.raises(ValueError, match=r"the id '.*' contains a path, but must be a file name: rename"):
        predict(kind(), SeedWriter(tmp_path / "seeds"), [name])
    assert list(tmp_path.rglob("*")) == [tmp_path / "seeds"]


def test_other_predictions_are_refused(tmp_path: Path) -> None:
    class Other(Seeds):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
            return {"id": batch["id"]} if batch["id"] == ["plain"] else torch.zeros(1)

    with pytest.raises(
        TypeError, match=r"Other.predict_step returned dict: .*SeedPrediction, a MaskPrediction or an Inst"
    ):
        predict(Other(), SeedWriter(tmp_path), ["plain"])
    with pytest.raises(TypeError, match="returned Tensor"):
        predict(Other(), SeedWriter(tmp_path), ["a.b"])


def test_thresholds_and_folders_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^fg must lie in \[0, 1\], as the scores of seeds do, got 30$"):
        SeedWriter(tmp_path, thresholds=(30, 5))
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match=r"taken cannot hold results \(File exists\): name another folder"):
        predict(Seeds(), SeedWriter(tmp_path / "taken"))


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [((1, 0), "3 images labelled in .* is of a class: lower"), ((0, 0), "3 images .* is background: raise")],
)
def test_thresholds_that_leave_nothing_are_warned_of(
    tmp_path: Path, thresholds: tuple[float, float], message: str
) -> None:
    with pytest.warns(UserWarning, match=f"not one pixel of the {message} the threshold"):
        predict(Seeds(), SeedWriter(tmp_path, thresholds=thresholds))
