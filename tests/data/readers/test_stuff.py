"""Maps of the stuff around the objects, read beside the images, and the classes with which it co-occurs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbr_plugin.data import (
    STUFF_NAMES,
    Augmentation,
    FolderDataModule,
    Lists,
    Loading,
    SyntheticDataModule,
    read_mask,
    train_transform,
    write_mask,
)
from fbr_plugin.data.transforms import apply_transform
from fbr_plugin.stuff import WithStuff

MakeFolder = Callable[..., Path]


def write_stuff(root: Path, covered: list[dict[int, int]]) -> Path:
    """Write maps of the images, where each stuff in turn covers as many pixels as given."""
    (root / "stuff.txt").write_text("grass\nsky\n")
    for i, pixels in enumerate(covered):
        stuff = np.zeros((20, 24 + i), np.uint8)
        stuff.flat[: sum(pixels.values())] = np.repeat([*pixels], [*pixels.values()])
        write_mask(root / "StuffClass" / f"img_{i}.png", stuff)
    return root


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    """Cats in images 0 and 2, dogs in 1 and 3; grass in 0, 1 and 2, sky in 1, and a bit of it in 3."""
    return write_stuff(make_folder(), [{1: 100}, {1: 300, 2: 50}, {1: 6}, {2: 5}])


def opened(root: Path, **options: object) -> FolderDataModule:
    settings = {"stuff_dir": "StuffClass", "augmentation": Augmentation(16), "loading": Loading(2)}
    return FolderDataModule(root, **{**settings, **options})


def test_scored_batches_hold_stuff(root: Path) -> None:
    module = opened(root)
    for loader in (module.val_dataloader(), module.test_dataloader()):
        for i, batch in enumerate(loader):
            assert batch["stuff"].dtype == torch.int64
            assert np.array_equal(batch["stuff"][0], read_mask(root / "StuffClass" / f"img_{i}.png", 2))
    assert "stuff" not in next(iter(module.train_dataloader()))
    assert "stuff" not in next(iter(module.predict_dataloader()))
    assert "stuff" not in next(iter(opened(root, stuff_dir=None).val_dataloader()))


def test_maps_are_resized_as_masks_are(root: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (20, 24), dtype=np.uint8)
    for folder in ("SegmentationClass", "StuffClass"):
        write_mask(root / folder / "img_0.png", mask)
    batch = next(iter(opened(root, max_size=17).val_dataloader()))
    assert batch["stuff"].shape == (1, 14, 17)
    assert torch.equal(batch["stuff"], batch["mask"])
    item = {"image": rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), "mask": mask, "stuff": mask}
    drawn = apply_transform(train_transform(Augmentation(32, rescale=(0.6, 1.4))), item, 1)
    assert torch.equal(drawn["stuff"], drawn["mask"])


@pytest.mark.parametrize("label_source", ["csv", "masks"])
def test_stuff_in_half_of_the_images_of_a_class_co_occurs(root: Path, label_source: str) -> None:
    module = opened(root, label_source=label_source)
    assert isinstance(module, WithStuff)
    table = module.stuff_table()
    assert table is not None
    assert table.names == ("grass", "sky")
    # Of 26 x 20 pixels, 6 are one percent; 5 of 27 x 20 are less. Each class has two images: one is half.
    assert table.cooccurring.tolist() == [[True, False], [True, True]]
    write_stuff(root, [{}, {1: 300, 2: 50}, {1: 5}, {2: 5}])
    again = opened(root, label_source=label_source).stuff_table()
    assert again is not None
    assert again.cooccurring.tolist() == [[False, False], [True, True]]
    assert opened(root, stuff_dir=None).stuff_table() is None


def test_the_table_is_that_of_the_scored_list(root: Path) -> None:
    (root / "ImageSets/Segmentation/some.txt").write_text("img_3\n")
    table = opened(root, lists=Lists(val="some")).stuff_table()
    assert table is not None
    assert not table.cooccurring.any()  # no image of a cat, and of a dog one with a bit of sky


def test_each_scene_class_has_stuff_of_its_own() -> None:
    table = SyntheticDataModule(num_images=1).stuff_table()
    assert table.names == STUFF_NAMES
    assert [STUFF_NAMES[s] for s in table.cooccurring.nonzero()[:, 1]] == [
        "water",
        "rails",
        "grass",
        "brick",
        "wood",
    ]
    assert table.cooccurring.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_missing_files_and_empty_lists(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"stuff_dir=.*Stuff does not exist: write one stuff map ID"):
        opened(root, stuff_dir="Stuff").stuff_table()
    for i in (1, 3):
        (root / f"StuffClass/img_{i}.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"2 of 4 ids have no stuff map ID.png .*: img_1, img_3; make"
    ):
        opened(root).val_dataloader()
    assert len(opened(root).predict_dataloader()) == 4  # needs none
    (root / "stuff.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"stuff.txt is empty: write one kind of stuff per line"):
        opened(root)
    (root / "stuff.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"stuff.txt does not exist: create it with one kind of stuff"
    ):
        opened(root)
    opened(root, stuff_dir=None)


def test_an_empty_list_of_images(root: Path) -> None:
    (root / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val.txt is empty: write one image id per line"):
        opened(root).stuff_table()


@pytest.mark.parametrize("value", [3, 255])
def test_a_value_without_a_name(root: Path, value: int) -> None:
    write_mask(root / "StuffClass/img_1.png", np.full((20, 25), value))
    message = (
        rf"img_1.png holds the value {value}, but stuff.txt names 2 kinds of stuff: .* \(none\) and 1..2"
    )
    for use in (FolderDataModule.stuff_table, lambda module: list(module.val_dataloader())):
        with pytest.raises(ValueError, match=message):
            use(opened(root))


def test_maps_of_another_size_or_kind(root: Path) -> None:
    write_mask(root / "StuffClass/img_0.png", np.zeros((10, 24)))
    with pytest.raises(ValueError, match=r"StuffClass/img_0.png is 24x10 pixels, but its image is 24x20"):
        next(iter(opened(root).val_dataloader()))
    Image.new("RGB", (24, 20)).save(root / "StuffClass/img_0.png")
    with pytest.raises(ValueError, match=r"img_0.png is a RGB image, but a mask holds one class number"):
        opened(root).stuff_table()


def test_real_stuff(real_data: Path) -> None:
    root = real_data / "msrc"
    module = opened(root)
    table = module.stuff_table()
    assert table is not None
    rows = [line.split(",") for line in (root / "labels.csv").read_text().splitlines()]
    expected = np.zeros((len(module.class_names), len(table.names)), bool)
    for c, class_name in enumerate(module.class_names):
        ids = [row[0] for row in rows[1:] if row[rows[0].index(class_name)] == "1"]
        maps = [np.asarray(Image.open(root / "StuffClass" / f"{name}.png")) for name in ids]
        for s in range(len(table.names)):
            appears = [(stuff == s + 1).mean() >= 0.01 for stuff in maps]
            expected[c, s] = sum(appears) >= len(ids) / 2
    assert table.cooccurring.numpy().tolist() == expected.tolist()
    named = {
        name: {table.names[s] for s in np.flatnonzero(row)}
        for name, row in zip(module.class_names, expected, strict=True)
    }
    assert named["cow"] == named["sheep"] == {"grass"}
    assert "water" in named["boat"]
    assert "road" in named["car"]
