"""Masks of predicted seeds: written as they come, here or in processes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import write_photos
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.baselines import CAM
from fbr_plugin.baselines.irn.module import IRN
from fbr_plugin.callbacks.seed_refiner import SeedRefiner
from fbr_plugin.contract import MaskPrediction, SeedPrediction
from fbr_plugin.data import FolderDataModule
from fbr_plugin.data.readers.images import read_image, read_mask
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.data.transforms import apply_transform, eval_transform
from fbr_plugin.postprocess.pseudo_masks import pseudo_mask
from fbr_plugin.postprocess.seeds import Seed

NAMES = [f"photo_{number}" for number in range(11)]


class Seeds(LightningModule):
    """Predicts of class 3 the red channel of the image, at twice its size."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> SeedPrediction:
        red = batch["image"][:, :1].sigmoid().repeat_interleave(2, 2).repeat_interleave(2, 3)
        seed = torch.cat([torch.zeros_like(red), torch.zeros_like(red), red], 1)
        return SeedPrediction(batch["id"], seed, batch["label"])


def photo(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def items(label: tuple[float, ...] = (0, 0, 1)) -> list[dict[str, Any]]:
    """Photos, and their images shrunk to half the size."""
    shrink = eval_transform(max_size=8)
    photos = [photo(number) for number in range(len(NAMES))]
    raw = [{"id": name, "image": each, "photo": each} for name, each in zip(NAMES, photos, strict=True)]
    return [{**apply_transform(shrink, item, 0), "label": torch.tensor(label)} for item in raw]


def refine(
    writer: SeedRefiner, data: list[dict[str, Any]] | None = None, network: LightningModule | None = None
) -> None:
    trainer = Trainer(accelerator="cpu", callbacks=[writer], logger=False, enable_progress_bar=False)
    trainer.predict(network or Seeds(), DataLoader(data or items()), return_predictions=False)


def brightness(image: NDArray[np.uint8], seed: Seed, device: torch.device) -> NDArray[np.uint8]:
    """The image itself, that a test can see what the function was given."""
    return image[..., 0] // 3


def broken(image: NDArray[np.uint8], seed: Seed, device: torch.device) -> NDArray[np.uint8]:
    raise ValueError("scores of 3")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_each_image_has_its_masks(tmp_path: Path, workers: int) -> None:
    to_mask = {"plain": partial(pseudo_mask, background=0.5), "photo": brightness}
    refine(SeedRefiner(tmp_path, to_mask, workers=workers))
    for name, item in zip(NAMES, items(), strict=True):
        red = item["image"][0].sigmoid().repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()
        assert np.array_equal(read_mask(tmp_path / "plain" / f"{name}.png", 3), np.where(red > 0.5, 3, 0))
    assert sorted(path.stem for path in (tmp_path / "photo").iterdir()) == sorted(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_made_of_the_photo_as_read(tmp_path: Path, workers: int) -> None:
    refine(SeedRefiner(tmp_path, {"photo": brightness}, workers=workers))
    for number, name in enumerate(NAMES):
        seen = read_mask(tmp_path / "photo" / f"{name}.png", 254)
        assert np.array_equal(seen, photo(number)[..., 0] // 3)


def test_photos_that_the_data_module_shrinks(tmp_path: Path) -> None:
    root, seen = write_photos(tmp_path / "photos"), []

    def record(image: NDArray[np.uint8], seed: Seed, device: torch.device) -> NDArray[np.uint8]:
        seen.append(image)
        assert seed.scores.shape[1:] == image.shape[:2]
        return image[..., 0] // 3

    data = FolderDataModule(root, max_size=20)
    assert all(max(batch["image"].shape[2:]) == 20 for batch in data.predict_dataloader())
    writer = SeedRefiner(tmp_path, {"masks": record})
    trainer = Trainer(accelerator="cpu", callbacks=[writer], logger=False, enable_progress_bar=False)
    trainer.predict(CAM(2, encoder="small", scales=(1.0,)), data, return_predictions=False)
    names = read_ids(root / "ImageSets" / "Segmentation" / "train.txt")
    for image, name in zip(seen, names, strict=True):
        assert np.array_equal(image, read_image(root / "JPEGImages" / f"{name}.jpg"))


def test_a_batch_without_photos_is_named(tmp_path: Path) -> None:
    data = [{key: item[key] for key in item if key != "photo"} for item in items()]
    with pytest.raises(ValueError, match=r"the batch of 'photo_0' has no 'photo', .* data module add a list"):
        refine(SeedRefiner(tmp_path, {"masks": brightness}), data)


def test_predictions_other_than_seeds_are_named(tmp_path: Path) -> None:
    class Masks(LightningModule):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> MaskPrediction:
            return MaskPrediction(batch["id"], [torch.zeros(12, 16)])

    message = r"Masks.predict_step returned MaskPrediction: .* from seeds, a fbr_plugin.SeedPrediction"
    with pytest.raises(TypeError, match=message):
        refine(SeedRefiner(tmp_path, {"": brightness}), network=Masks())


def test_scores_walk_first(tmp_path: Path) -> None:
    given: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    class Walk(torch.nn.Module):
        def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
            given.append((tuple(image.shape), tuple(scores.shape)))
            return torch.ones_like(scores)

    refine(SeedRefiner(tmp_path, {"masks": partial(pseudo_mask, background=0.5)}, Walk()))
    assert given == [((1, 3, 6, 8), (1, 12, 16))] * len(NAMES)
    assert all((read_mask(tmp_path / "masks" / f"{name}.png", 3) == 3).all() for name in NAMES)


def test_a_background_of_a_power_walks_with_the_seeds(tmp_path: Path) -> None:
    given: list[Tensor] = []

    class Walk(torch.nn.Module):
        def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
            given.append(scores)
            return scores.flip(0)  # the background gets the scores of the class

    to_mask = {"masks": partial(pseudo_mask, background=None)}
    refine(SeedRefiner(tmp_path / "walked", to_mask, Walk(), background_power=2))
    refine(SeedRefiner(tmp_path / "plain", to_mask, background_power=2))
    for name, (background, seed) in zip(NAMES, given, strict=True):
        torch.testing.assert_close(background, (1 - seed) ** 2)
        plain, walked = (
            read_mask(tmp_path / kind / "masks" / f"{name}.png", 3) for kind in ("plain", "walked")
        )
        assert np.array_equal(plain, np.where(seed > background, 3, 0))
        assert np.array_equal(walked, np.where(seed < background, 3, 0))


def test_seeds_are_raised_before_they_walk(tmp_path: Path) -> None:
    given: list[Tensor] = []

    class Walk(torch.nn.Module):
        def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
            given.append(scores)
            return torch.full_like(scores, 0.6)

    class Signed(Seeds):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> SeedPrediction:
            prediction = super().predict_step(batch, batch_idx)
            return prediction._replace(seeds=prediction.seeds - 0.5)

    to_mask = {"masks": partial(pseudo_mask, background=0.55)}
    refine(SeedRefiner(tmp_path / "raised", to_mask, Walk(), power=1.3), network=Signed())
    refine(SeedRefiner(tmp_path / "plain", to_mask, Walk()), network=Signed())
    raised, plain = given[: len(NAMES)], given[len(NAMES) :]
    assert min(scores.min() for scores in plain) < 0  # as they were predicted
    for one, other in zip(raised, plain, strict=True):
        assert torch.equal(one, torch.from_numpy(other.numpy().clip(0) ** 1.3))
    for name in NAMES:  # what has walked is not raised again: 0.6 ** 1.3 is below the background
        assert (read_mask(tmp_path / "raised" / "masks" / f"{name}.png", 3) == 3).all()


def test_seeds_that_do_not_walk_are_raised(tmp_path: Path) -> None:
    to_mask = {"masks": partial(pseudo_mask, background=0.3)}
    refine(SeedRefiner(tmp_path, to_mask, power=2.0))
    for name, item in zip(NAMES, items(), strict=True):
        red = item["image"][0].sigmoid().repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()
        mask = read_mask(tmp_path / "masks" / f"{name}.png", 3)
        assert np.array_equal(mask, np.where(red**2.0 > 0.3, 3, 0))


def test_the_order_of_power_and_walk_decides_the_mask_of_a_real_irn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    irn = IRN(3, encoder="small", walk_steps=2).eval()
    refine(SeedRefiner(tmp_path, {"masks": partial(pseudo_mask, background=0.5)}, irn, power=3.0))
    moved = 0
    for name, item in zip(NAMES, items(), strict=True):
        image = item["image"][None]
        red = image[0, :1].sigmoid().repeat_interleave(2, 1).repeat_interleave(2, 2)
        first, last = irn.propagate(image, red**3)[0] > 0.5, irn.propagate(image, red)[0] ** 3 > 0.5
        assert np.array_equal(read_mask(tmp_path / "masks" / f"{name}.png", 3) == 3, first)
        moved += int((first != last).sum())
    assert moved


def test_an_image_without_a_class_does_not_walk(tmp_path: Path) -> None:
    to_mask = {"masks": partial(pseudo_mask, background=0.5)}
    refine(SeedRefiner(tmp_path, to_mask, torch.nn.Identity()), items(label=(0, 0, 0)))
    assert not any(read_mask(tmp_path / "masks" / f"{name}.png", 3).any() for name in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_seed_that_cannot_be_refined_is_named(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match=r"the seed of photo_0 cannot be refined: scores of 3"):
        refine(SeedRefiner(tmp_path, {"masks": broken}, workers=workers))


def test_an_id_that_holds_a_path_is_refused(tmp_path: Path) -> None:
    data = [{**items()[0], "id": "../photo"}]
    with pytest.raises(ValueError, match=r"the id '\.\./photo' contains a path"):
        refine(SeedRefiner(tmp_path / "masks", {"masks": brightness}), data)
    assert list(tmp_path.rglob("*")) == [tmp_path / "masks"]
