import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fbr_plugin.data import MEAN, STD, Augmentation, denormalise, eval_transform, train_transform
from fbr_plugin.data.transforms import apply_transform, shift_transform


def photo(height: int = 40, width: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """An image whose mask says where its red channel is bright."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[..., 0] = np.where(np.indices((height, width)).sum(0) // 10 % 2, 255, 0)
    return {"image": image, "mask": (image[..., 0] > 0).astype(np.uint8)}


def test_the_version_check_is_off_before_its_only_importer_imports() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    root = Path(__file__).parents[2]
    files = [*(root / "src").rglob("*.py"), *(root / "baselines").rglob("*.py")]
    importers = [file.name for file in files if "albumentations as" in file.read_text()]
    assert importers == ["transforms.py"]


@pytest.mark.parametrize(
    "options", [{"long_side": (30, 80)}, {"rescale": (0.5, 1.5)}, {"colour_jitter": 0.4}, {}], ids=str
)
def test_training_crops_have_one_size_and_masks_follow(options: dict[str, Any]) -> None:
    transform = train_transform(Augmentation(48, **options))
    for seed in range(8):
        item = apply_transform(transform, {**photo(), "pseudo_label": photo()["mask"]}, seed)
        assert item["image"].shape == (3, 48, 48)
        assert item["mask"].dtype == torch.int64
        assert torch.equal(item["mask"], item["pseudo_label"])
        assert set(item["mask"].unique().tolist()) <= {0, 1, 255}
        if options != {"colour_jitter": 0.4}:
            red, inside = denormalise(item["image"])[..., 0] > 127, item["mask"] < 255
            assert (torch.from_numpy(red)[inside] == (item["mask"] == 1)[inside]).float().mean() > 0.8


def test_padding_has_the_mean_colour_and_is_ignored() -> None:
    item = apply_transform(train_transform(Augmentation(80)), photo(), 0)
    outside = item["mask"] == 255
    assert outside.sum() == 80 * 80 - 40 * 60
    assert item["image"][:, outside].abs().max() < 0.02


def test_a_seed_decides_every_draw() -> None:
    transform = train_transform(Augmentation(32, rescale=(0.5, 1.5), colour_jitter=0.3))
    first, other, again = (apply_transform(transform, photo(), seed)["image"] for seed in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_hue_changes_colours_but_not_greys() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8], image[8:] = (200, 40, 40), 120
    item = apply_transform(train_transform(Augmentation(16, hue_jitter=0.5)), {"image": image}, 0)
    found = denormalise(item["image"])
    assert np.abs(found[8:].astype(int) - 120).max() <= 2
    assert np.abs(found[:8].astype(int) - image[:8]).max() > 20


def test_hsv_shift_is_one_number_for_all_pixels() -> None:
    image = np.random.default_rng(0).integers(100, 156, (16, 16, 1), dtype=np.uint8).repeat(3, 2)
    transform = train_transform(Augmentation(16, hsv_shift=10))
    changes = []
    for seed in range(20):
        twin = {"image": image, "mask": image[..., 0]}  # the image's pixels, cropped and mirrored alike
        item = apply_transform(transform, twin, seed)
        found = denormalise(item["image"]).astype(int).max(2) - item["mask"].numpy()
        assert np.ptp(found) <= 1, "greys differ in their value alone"
        changes.append(found.flat[0])
    assert -10 <= min(changes) < -3
    assert 3 < max(changes) <= 10


def test_draws_of_different_steps_are_independent() -> None:
    transform = train_transform(Augmentation(16, long_side=(100, 400)))
    image = np.zeros((100, 100, 3), np.uint8)
    columns = np.broadcast_to(np.arange(100, dtype=np.uint8), (100, 100))
    places, spans = [], []
    for seed in range(200):
        mask = apply_transform(transform, {"image": image, "mask": columns.copy()}, seed)["mask"]
        places.append(mask.double().mean().item())
        spans.append((mask.max() - mask.min()).item())
    assert abs(np.corrcoef(places, spans)[0, 1]) < 0.2


def test_shift_keeps_the_size_and_reflects() -> None:
    transform = shift_transform(16, 4)
    items = [apply_transform(transform, photo(16, 16), seed) for seed in range(20)]
    assert all(item["mask"].shape == (16, 16) and item["mask"].max() == 1 for item in items)
    assert len({item["image"].sum().item() for item in items}) > 15


def test_denormalising_gives_the_photo_back_bit_for_bit() -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.stack([levels, levels[::-1], np.roll(levels, 7)], -1)[None]  # every value of every channel
    assert np.array_equal(denormalise(apply_transform(eval_transform(), {"image": image}, 0)["image"]), image)


def test_each_channel_is_normalised_by_its_own_mean_and_deviation() -> None:
    for level, expected in ((0, (-2.1179, -2.0357, -1.8044)), (255, (2.2489, 2.4286, 2.6400))):  # red first
        image = apply_transform(eval_transform(), {"image": np.full((1, 1, 3), level, np.uint8)}, 0)["image"]
        assert np.allclose(image.flatten(), expected, atol=5e-5)


def test_evaluation_keeps_the_size_unless_it_is_too_big() -> None:
    item = apply_transform(eval_transform(), photo(), 0)
    assert np.array_equal(denormalise(item["image"]), photo()["image"])
    expected = (photo()["image"] / 255 - MEAN) / STD
    assert np.allclose(item["image"].permute(1, 2, 0), expected, atol=1e-5)
    assert apply_transform(eval_transform(max_size=30), photo(), 0)["mask"].shape == (20, 30)
    assert apply_transform(eval_transform(max_size=90), photo(), 0)["mask"].shape == (40, 60)
