import time

import numpy as np
import pytest
import torch

from fbr_plugin.data import PRESETS, Loading, SyntheticDataModule, SyntheticScenes, denormalise
from fbr_plugin.data.scenes.scene import draw_scene
from fbr_plugin.data.scenes.shapes import CLASS_NAMES, paint_object
from fbr_plugin.data.scenes.textures import canvas_of

CLASSES = range(len(CLASS_NAMES))


def shown(scenes: SyntheticScenes) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N, 5] and whether each class's stuff is shown [N, 5]."""
    labels = np.stack([scene.label for scene in scenes.scenes]) > 0
    stuff = np.stack([[(scene.stuff == 1 + c).any() for c in CLASSES] for scene in scenes.scenes])
    return labels, stuff


@pytest.fixture(scope="module")
def scenes() -> SyntheticScenes:
    return SyntheticScenes("default", 400, seed=3)


@pytest.mark.parametrize("name", PRESETS)
def test_stuff_follows_its_class(name: str) -> None:
    preset = PRESETS[name]
    labels, stuff = shown(SyntheticScenes(name, 250, seed=1))
    assert stuff[labels].mean() == pytest.approx(preset.p_co, abs=0.08)
    assert stuff[~labels].mean() == pytest.approx(preset.p_stray, abs=0.06)


def test_statistics_of_the_default_preset(scenes: SyntheticScenes) -> None:
    masks = np.stack([scene.mask for scene in scenes.scenes])
    assert ((masks > 0) & (masks < 255)).mean() == pytest.approx(0.14, abs=0.015)
    assert (masks == 255).mean() < 1e-4
    labels, stuff = shown(scenes)
    assert (labels.sum(1) == 1).mean() == pytest.approx(0.65, abs=0.05)
    assert set(labels.sum(1)) == {1, 2}
    assert labels.mean(0) == pytest.approx(0.27, abs=0.07)
    assert np.mean([labels[stuff[:, c], c].mean() for c in CLASSES]) == pytest.approx(0.74, abs=0.06)


def test_maps_of_a_scene_agree(scenes: SyntheticScenes) -> None:
    for scene in scenes.scenes[:100]:
        assert ((scene.instances > 0) == ((scene.mask > 0) & (scene.mask < 255))).all()
        present = np.unique(scene.mask[(scene.mask > 0) & (scene.mask < 255)]) - 1
        assert set(present) == set(np.flatnonzero(scene.label))
        for instance in np.unique(scene.instances)[1:]:
            assert len(np.unique(scene.mask[scene.instances == instance])) == 1
        assert len(np.unique(scene.stuff)) <= 4


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    run, part = SyntheticScenes(num_images=6, seed=5), SyntheticScenes(num_images=2, seed=5, first=4)
    for full, same in zip(run.scenes[4:], part.scenes, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(full, same, strict=True))
    assert part[1]["id"] == run[5]["id"] == "scene_000005"
    assert not np.array_equal(run.scenes[0].image, SyntheticScenes(num_images=1, seed=6).scenes[0].image)


@pytest.mark.parametrize("size", [32, 100, 192])
def test_a_scene_looks_the_same_at_every_size(size: int) -> None:
    small, large = (draw_scene(PRESETS["default"], 0, 1, s) for s in (64, size))
    assert large.image.shape == (size, size, 3)
    cells = np.minimum(((np.arange(size) + 0.5) * 64 / size).astype(int), 63)
    assert (large.mask == small.mask[cells[:, None], cells]).mean() > 0.96
    assert np.array_equal(large.label, small.label)


@pytest.mark.parametrize("kind", CLASSES)
def test_hiding_the_telling_part_leaves_the_body(kind: int) -> None:
    canvas = canvas_of(64)
    for seed in range(5):
        hidden, full = (
            paint_object(np.random.default_rng(seed), kind, (32, 32), p_hide, canvas) for p_hide in (1.0, 0.0)
        )
        assert (hidden[0] <= full[0]).all()
        assert 0.5 < hidden[0].sum() / full[0].sum() <= 1
        part = full[0] & (np.abs(hidden[1] - full[1]).max(-1) > 0.15)
        assert 0.05 < part.sum() / full[0].sum() < 0.45
        saturation = full[1].max(-1) - full[1].min(-1)
        assert saturation[part].mean() > 2 * saturation[hidden[0] & ~part].mean()


def test_drawing_is_quick() -> None:
    start = time.process_time()
    SyntheticScenes("default", 100)
    assert time.process_time() - start < 1


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="preset must be one of 'default', 'hard', 'control', got 'easy'"):
        SyntheticScenes("easy", 1)


def test_data_module_evaluates_on_its_training_scenes() -> None:
    module = SyntheticDataModule(num_images=6, size=32, loading=Loading(4, eval_batch_size=3, seed=2))
    assert (module.num_classes, module.class_names[0]) == (5, "boat")
    for loader in (module.val_dataloader(), module.test_dataloader(), module.predict_dataloader()):
        batches = list(loader)
        assert [batch["id"][0] for batch in batches] == ["scene_000000", "scene_000003"]
        assert np.array_equal(denormalise(batches[0]["image"])[1], module.train_scenes[1]["image"])
    (batch,) = module.train_dataloader()
    assert batch["image"].shape == (4, 3, 32, 32)
    assert batch["label"].dtype == torch.float32
    assert all(batch[key].dtype == torch.int64 for key in ("mask", "stuff"))
    fresh = SyntheticDataModule(num_images=6, val_images=2, size=32)
    assert next(iter(fresh.val_dataloader()))["id"] == ["scene_000006", "scene_000007"]
    assert len(fresh.predict_dataloader().dataset) == 6


@pytest.mark.parametrize("options", [{"size": 1}, {"size": -5}, {"num_images": 0}])
def test_scenes_of_nothing_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(
        ValueError, match=r"^scenes need a size of at least 16 pixels and at least 1 image, got "
    ):
        SyntheticScenes(**{"num_images": 1, **options})
