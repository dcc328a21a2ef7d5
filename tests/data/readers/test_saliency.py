"""Saliency maps read beside the images and transformed with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fbr_plugin.data import (
    Augmentation,
    FolderDataModule,
    Loading,
    SyntheticDataModule,
    denormalise,
    train_transform,
)
from fbr_plugin.data.transforms import apply_transform

MakeFolder = Callable[..., Path]


def write_map(path: Path, width: int, height: int = 20, **options: str) -> None:
    """A map that grows to the right."""
    path.parent.mkdir(exist_ok=True)
    values = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    Image.fromarray(values).save(path, **options)


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    """A folder of images of which the i-th is 24 + i wide, with maps in several formats."""
    root = make_folder()
    for i, suffix in enumerate((".png", ".jpg", ".jpeg", ".png")):
        write_map(root / f"saliency/img_{i}{suffix}", 24 + i)
    return root


def test_training_batches_hold_saliency(root: Path) -> None:
    module = FolderDataModule(
        root, saliency_dir=root / "saliency", augmentation=Augmentation(16), loading=Loading(4)
    )
    batch = next(iter(module.train_dataloader()))
    assert batch["saliency"].shape == (4, 16, 16)
    assert batch["saliency"].dtype == torch.float32
    assert 0 <= batch["saliency"].min() < batch["saliency"].max() <= 1
    assert "saliency" not in next(iter(module.val_dataloader()))
    assert "saliency" not in next(
        iter(FolderDataModule(root, augmentation=Augmentation(16), loading=Loading(4)).train_dataloader())
    )


@pytest.mark.parametrize(
    "options",
    [{"long_side": (30, 80)}, {"rescale": (0.5, 1.5)}, {"colour_jitter": 0.4}, {"resize": 64}],
    ids=str,
)
def test_maps_follow_their_image(options: dict[str, Any]) -> None:
    """The red channel carries the same ramp as the map, so both must stay equal wherever the crop falls."""
    ramp = np.broadcast_to(np.linspace(0, 255, 60).astype(np.uint8), (40, 60))
    image = np.stack([ramp, ramp, ramp], -1)
    transform = train_transform(Augmentation(48, **options))
    for seed in range(6):
        item = {"image": image, "mask": np.ones_like(ramp), "saliency": ramp / np.float32(255)}
        result = apply_transform(transform, item, seed)
        plain = apply_transform(transform, {"image": image, "mask": np.ones_like(ramp)}, seed)
        assert torch.equal(result["image"], plain["image"])
        assert torch.equal(result["mask"], plain["mask"])
        padded = result["mask"] == 255
        assert (result["saliency"][padded] == 0).all()
        assert len(result["saliency"].unique()) > 30
        red = torch.from_numpy(denormalise(result["image"])[..., 0])[~padded] / 255
        if "colour_jitter" not in options:
            assert (result["saliency"][~padded] - red).abs().max() < 0.06
        else:
            assert torch.corrcoef(torch.stack([result["saliency"][~padded], red]))[0, 1] > 0.95


def test_masks_keep_their_classes_beside_saliency() -> None:
    """The interpolation of one pass must not leak into the next."""
    rng, transform = np.random.default_rng(0), train_transform(Augmentation(32, rescale=(0.7, 1.3)))
    mask = rng.choice([0, 5], (40, 40)).astype(np.uint8)
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for seed in range(3):
        item = {"image": image, "mask": mask, "saliency": mask / np.float32(5)}
        assert set(apply_transform(transform, item, seed)["mask"].unique().tolist()) <= {0, 5, 255}


def test_maps_of_another_size_are_resized_with_one_warning(root: Path) -> None:
    for i in (0, 3):
        write_map(root / f"saliency/img_{i}.png", 50, 11)
    dataset = FolderDataModule(root, saliency_dir=root / "saliency", augmentation=Augmentation(16)).dataset(
        "fit"
    )
    with pytest.warns(
        UserWarning, match=r"img_0.png is 50x11 pixels, but its image 24x20: .*resized"
    ) as record:
        items = [dataset[i] for i in range(4)]
    assert len(record) == 1
    assert all(item["saliency"].shape == (16, 16) for item in items)


def test_missing_maps_are_named(root: Path) -> None:
    (root / "saliency/img_1.jpg").unlink()
    (root / "saliency/img_3.png").unlink()
    module = FolderDataModule(root, saliency_dir=root / "saliency")
    with pytest.raises(
        FileNotFoundError, match=r"2 of 4 ids have no saliency map .*: img_1, img_3; make them"
    ):
        module.dataset("fit")
    with pytest.raises(FileNotFoundError, match=r"saliency_dir=.*nowhere does not exist"):
        FolderDataModule(root, saliency_dir=root / "nowhere").dataset("fit")


def test_many_missing_maps(make_folder: MakeFolder) -> None:
    root = make_folder(12)
    (root / "saliency").mkdir()
    with pytest.raises(FileNotFoundError, match=r"12 of 12 ids .*img_9 and 2 more; make them"):
        FolderDataModule(root, saliency_dir=root / "saliency").dataset("fit")


def test_maps_of_16_bits(root: Path) -> None:
    Image.fromarray(np.zeros((20, 24), np.uint16)).save(root / "saliency/img_0.png")
    with pytest.raises(
        ValueError, match=r"img_0.png is a I;16 image: save the saliency map as an 8-bit grey image"
    ):
        FolderDataModule(root, saliency_dir=root / "saliency").dataset("fit")[0]


def test_scenes_bring_their_foreground() -> None:
    module = SyntheticDataModule(num_images=4, size=32, loading=Loading(2, eval_batch_size=4), saliency=True)
    batch = next(iter(module.val_dataloader()))
    assert torch.equal(batch["saliency"], (batch["mask"] > 0).float())
    batch = next(iter(module.train_dataloader()))
    assert torch.equal(batch["saliency"], (batch["mask"] > 0).float())
    assert "saliency" not in next(iter(SyntheticDataModule(num_images=4, size=32).val_dataloader()))
