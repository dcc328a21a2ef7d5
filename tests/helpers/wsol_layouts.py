"""Miniatures of the layouts of localization data sets, each as its download is unpacked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

Box = tuple[int, int, int, int]

WIDTH, HEIGHT = 40, 20
INSIDE: Box = (10, 5, 29, 14)
"""The bright rectangle of every photo: x0, y0, x1, y1 from 0, both corners inside."""


def write_photo(path: Path, width: int = WIDTH, height: int = HEIGHT, grey: int = 60) -> None:
    """Write a photo with a bright rectangle."""
    photo = np.full((height, width, 3), grey, np.uint8)
    x0, y0, x1, y1 = INSIDE
    photo[y0 : y1 + 1, x0 : x1 + 1] = 200
    save(path, photo)


def save(path: Path, pixels: NDArray) -> None:
    """Write an image file, in the folders of its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_xml(path: Path, objects: Sequence[tuple[str, Box]]) -> None:
    """Write an annotation in VOC's XML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("xmin", "ymin", "xmax", "ymax")
    texts = [
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    ]
    path.write_text(f"<annotation>{''.join(texts)}</annotation>")


def write_lists(folder: Path, **lists: Sequence[str]) -> None:
    """Write text files `NAME.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def rectangle(box: Box = INSIDE, scale: int = 1) -> NDArray[np.bool_]:
    """A mask [HEIGHT, WIDTH] times `scale` that is true in a box."""
    mask = np.zeros((HEIGHT * scale, WIDTH * scale), np.bool_)
    x0, y0, x1, y1 = box
    mask[y0 * scale : (y1 + 1) * scale, x0 * scale : (x1 + 1) * scale] = True
    return mask


def write_cub(root: Path) -> Path:
    """CUB-200-2011: two classes of two images, and beside them their masks in `segmentations`."""
    names = ["001.Auk/Auk_1", "001.Auk/Auk_2", "002.Owl/Owl_1", "002.Owl/Owl_2"]
    for name in names:
        write_photo(root / f"images/{name}.jpg")
        marked = rectangle() * np.uint8(255)
        marked[:2] = 51  # by one annotator of five
        save(root.parent / f"segmentations/{name}.png", marked)
    write_lists(
        root,
        classes=["1 001.Auk", "2 002.Owl"],
        images=[f"{i} {name}.jpg" for i, name in enumerate(names, 1)],
        train_test_split=["1 1", "2 0", "3 1", "4 0"],
        image_class_labels=["1 1", "2 1", "3 2", "4 2"],
        bounding_boxes=[f"{i} {i}.0 2.0 20.0 10.0" for i in range(1, 5)],
    )
    return root


def write_ilsvrc(root: Path) -> Path:
    """ILSVRC 2012: three images of two classes for training, and one with two boxes for validation."""
    train = ["n02/n02_7", "n01/n01_1", "n01/n01_2"]
    for name in train:
        write_photo(root / f"Data/CLS-LOC/train/{name}.JPEG")
    write_photo(root / "Data/CLS-LOC/val/val_1.JPEG")
    boxes: list[tuple[str, Box]] = [("n02", (0, 0, WIDTH - 1, HEIGHT - 1)), ("n02", (3, 4, 5, 6))]
    write_xml(root / "Annotations/CLS-LOC/val/val_1.xml", boxes)
    lines = [f"{name} {i}" for i, name in enumerate(train, 1)]
    write_lists(root / "ImageSets/CLS-LOC", train_cls=lines, val=["val_1 1"])
    return root


def write_openimages(root: Path) -> Path:
    """OpenImages30k: two classes, one image of each in `train`, `val` and `test`, with masks in the last two.

    Masks are twice as large as the image. Each image has two objects, the left and the right half of the
    bright rectangle, and an ignored region at the bottom that overlaps them.
    """
    data = root / "dataset" / "OpenImages"
    x0, y0, x1, y1 = INSIDE
    halves: list[Box] = [(x0, y0, (x0 + x1) // 2, y1), ((x0 + x1) // 2 + 1, y0, x1, y1)]
    for split in ("train", "val", "test"):
        names = [f"{split}/01226z/aa", f"{split}/018xm/bb"]
        rows = []
        for name in names:
            write_photo(data / f"{name}.jpg")
            if split == "train":
                continue
            for half, box in enumerate(halves):
                save(data / f"{name}_m{half}.png", rectangle(box, 2))
                rows.append(f"{name}.jpg,{name}_m{half}.png,{'' if half else f'{name}_ignore.png'}")
            ignored = rectangle((0, 12, WIDTH - 1, HEIGHT - 1), 2) * np.uint8(255)
            save(data / f"{name}_ignore.png", np.repeat(ignored[..., None], 3, -1))
        write_lists(
            root / "metadata" / "OpenImages" / split,
            image_ids=[f"{name}.jpg" for name in names],
            class_labels=[f"{name}.jpg,{number}" for number, name in enumerate(names)],
            localization=rows,
        )
    return root


def write_dogs(root: Path) -> Path:
    """Stanford Dogs: two breeds, one image of each in training and in test, one of them with two dogs."""
    breeds = ("n01-Chihuahua", "n02-Maltese_dog")
    for file, number in (("train_list", 1), ("test_list", 2)):
        names = [f"{breed}/{breed[:3]}_{number}" for breed in breeds]
        for name in names:
            write_photo(root / "Images" / f"{name}.jpg")
            boxes: list[Box] = [INSIDE, (0, 0, 3, 3)] if name.endswith("02_2") else [INSIDE]
            write_xml(root / "Annotation" / name, [("dog", box) for box in boxes])
        files = np.array([[f"{name}.jpg"] for name in names], object)
        savemat(root / f"{file}.mat", {"file_list": files, "labels": np.array([[1], [2]], np.uint8)})
    return root


def write_cars(root: Path) -> Path:
    """Stanford Cars: two models, one image of each in training and in test."""
    models = np.array([["Acura TL 2012", "Volvo 240 1993"]], object)
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": models})
    lists = {
        "cars_train": "devkit/cars_train_annos.mat",
        "cars_test": "cars_test_annos_withlabels.mat",
    }
    for folder, file in lists.items():
        for number in (1, 2):
            write_photo(root / folder / f"{number:05d}.jpg")
        rows = [car(f"{number:05d}.jpg", number) for number in (2, 1)]
        write_cars_list(root / file, rows)
    return root


def car(file: str, number: int, box: Box = INSIDE) -> dict[str, object]:
    """An annotation of Stanford Cars, whose pixels are counted from 1."""
    keys = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    return {**{key: value + 1 for key, value in zip(keys, box, strict=True)}, "class": number, "fname": file}


def write_cars_list(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write annotations as a MATLAB struct [1, n]."""
    fields = [(key, object) for key in rows[0]]
    structs = np.array([[tuple(row.values()) for row in rows]], fields)
    savemat(path, {"annotations": structs})


def write_aircraft(root: Path) -> Path:
    """FGVC-Aircraft: two variants, two images of each in training, one in test."""
    variants = {"707-320": "0000001 0000003 0000005", "F-16A/B": "0000002 0000004 0000006"}
    rows = [(name, variant) for variant, names in variants.items() for name in names.split()]
    for name, _ in rows:
        write_photo(root / "data" / "images" / f"{name}.jpg")
    corners = " ".join(str(value + 1) for value in INSIDE)
    write_lists(
        root / "data",
        variants=list(variants),
        images_variant_trainval=[" ".join(row) for row in rows if row[0] < "0000005"],
        images_variant_test=[" ".join(row) for row in rows if row[0] >= "0000005"],
        images_box=[f"{name} {corners}" for name, _ in rows],
    )
    return root
