from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbr_plugin.data import read_image, read_mask, write_mask
from fbr_plugin.data.readers.images import check_same_size, voc_palette

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (6, 8, 3)
    assert read.dtype == np.uint8
    if mode == "RGBA":
        assert np.array_equal(read, PIXELS)
    if mode == "L":
        assert np.array_equal(read, np.repeat(np.asarray(image)[..., None], 3, 2))


def test_16_bits_become_8(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 255]


def test_a_turned_photo_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(PIXELS, -1))


def test_missing_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.jpg does not exist: check the folder and the id"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_truncated_jpeg(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: keep + 300 * (keep > 10)])
    with pytest.raises(ValueError, match=r"cut.jpg cannot be read .* truncated .* copy it again"):
        read_image(path)


def test_masks_are_written_and_read(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 20], [255, 3, 0]])
    path = tmp_path / "new" / "mask.png"
    write_mask(path, mask)
    assert np.array_equal(read_mask(path, 20), mask)
    image = Image.open(path)
    assert image.mode == "P"
    assert np.array_equal(image.convert("RGB"), voc_palette()[mask])
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]
    Image.fromarray(mask.astype(np.uint8)).save(path)
    assert np.array_equal(read_mask(path, 20), mask)


def test_the_palette_is_that_of_voc() -> None:
    assert voc_palette()[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_label_id_out_of_range(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", np.array([[0, 6, 255]]))
    with pytest.raises(
        ValueError, match=r"mask.png holds the value 6, but a mask of 5 classes holds .*1..5 and 255"
    ):
        read_mask(tmp_path / "mask.png", 5)


def test_colour_mask(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask.png is a RGB image.*save it as a palette or grey PNG"):
        read_mask(tmp_path / "mask.png", 5)


def test_mask_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"m.png is 7x6 pixels, but its image is 8x6: resize the mask"):
        check_same_size("m.png", np.zeros((6, 7)), PIXELS)
