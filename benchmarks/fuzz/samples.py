"""Valid files, which are damaged: small ones of each format."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from fbr_plugin.baselines.encoders.small import SmallEncoder
from fbr_plugin.postprocess.seed_files import write_seed
from fbr_plugin.postprocess.seeds import Seed

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><size><width>40</width><height>20</height></size><object><name>cat</name><bndbox>
<xmin>3</xmin><ymin>4.0</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>
"""
YAML = """seed_everything: 1
model: &model
  class_path: fbr_plugin.baselines.CAM
  init_args: {num_classes: 2, encoder: small, lr: 1e-3}
more: [*model, 2020-01-02, 0x1f, 1_000, !!int "3", !!binary aGVsbG8=, ~, .nan, "text"]
"""
LABELS = {2007000032: np.array([1.0, 0.0]), "b": [0, 1], "c": np.ones(2, np.float32), "d": (True, False)}


def images(folder: Path) -> None:
    """Photos, a mask and a saliency map."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9003] = 6, "maker", "2020:01:01 00:00:00"
    photo = Image.fromarray(noise)
    photo.save(folder / "photo.jpg", exif=exif)
    photo.save(folder / "photo.png", exif=exif)
    photo.save(folder / "photo.webp", exif=exif)
    photo.convert("P").save(folder / "palette.png", transparency=3)
    Image.fromarray(noise[..., 0].astype(np.uint16)).save(folder / "deep.png")
    mask = Image.fromarray(noise[..., 0] % 3)
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    mask.save(folder / "mask.png")
    photo.convert("L").save(folder / "saliency.png")


def texts(folder: Path) -> None:
    """Lists, tables and class names."""
    (folder / "list.txt").write_text(
        "a\n/JPEGImages/b.jpg /SegmentationClassAug/b.png\nc.jpg\n", encoding="utf-8"
    )
    (folder / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    (folder / "labels.csv").write_text('id,cat,dog\na,1,0\nb,0,1\n"c",1,1\n', encoding="utf-8")
    (folder / "named.csv").write_text("image,label\na.jpg,cat\nb.jpg,dog\na.jpg,dog\n", encoding="utf-8")
    (folder / "a.xml").write_text(XML, encoding="utf-8")


def pickles(folder: Path) -> None:
    """Image labels, and seeds of all layouts."""
    np.save(folder / "labels.npy", np.array(LABELS, dtype=object))
    with (folder / "labels.pkl").open("wb") as file:
        pickle.dump(LABELS, file, 2)
    maps = np.random.default_rng(0).random((3, 4, 5), np.float32)
    seed = Seed(np.array([0, 3]), maps[1:], maps[0])
    write_seed(folder / "irn.npy", seed, "irn")
    write_seed(folder / "amn.npy", seed, "amn")
    write_seed(folder / "seam.npy", seed, "seam")
    write_seed(folder / "compact.npz", seed, "compact")


def codes(folder: Path) -> None:
    """COCO's annotations and an image's instances."""
    outlines: list[Any] = [
        [[1, 1, 6, 1.5, 6, 5, 1, 5]],
        {"size": [6, 8], "counts": [10, 5, 33]},
        {"size": [6, 8], "counts": "`0Pod0"},
    ]
    annotations = [
        {
            "id": index,
            "image_id": 9,
            "category_id": 18,
            "iscrowd": 0,
            "bbox": [1, 1, 2, 2],
            "segmentation": outline,
        }
        for index, outline in enumerate(outlines[:2])
    ]
    content = {
        "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": 6, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    record = {"class": 2, "score": 0.5, "segmentation": outlines[1]}
    (folder / "a.json").write_text(json.dumps({"image": "a", "size": [6, 8], "instances": [record, record]}))


def weights(folder: Path) -> None:
    """Weights of an encoder in each format, and checkpoints of a training."""
    torch.manual_seed(0)
    state = SmallEncoder().state_dict()
    torch.save(state, folder / "weights.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "old.pth")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "weights.safetensors")
    (folder / "weights.params").write_bytes(mxnet({name: value.numpy() for name, value in state.items()}))


def mxnet(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """A file of MXNet's arrays."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for value in arrays.values():
        number = {"float32": 0, "int64": 6}[value.dtype.name]
        parts.append(struct.pack(f"<IiI{value.ndim}q", 0xF993FAC9, 0, value.ndim, *value.shape))
        parts.append(struct.pack("<iii", 1, 0, number) + value.tobytes() if value.ndim else b"")
    parts.append(struct.pack("<Q", len(arrays)))
    parts += [struct.pack("<Q", len(name)) + name.encode() for name in arrays]
    return b"".join(parts)


def checkpoints(folder: Path) -> None:
    """A checkpoint as `fit` writes it, in its outline, and one as `import-weights` does."""
    settings = {"_class_path": "fbr_plugin.baselines.CAM", "num_classes": 2, "encoder": "small"}
    state = {"head.weight": torch.zeros(2, 8, 1, 1)}
    training = {"epoch": 0, "global_step": 1, "loops": {}, "optimizer_states": [], "lr_schedulers": []}
    version = {"pytorch-lightning_version": "2.6.0"}
    torch.save(
        {"state_dict": state, "hyper_parameters": settings, **training, **version}, folder / "last.ckpt"
    )
    model = {"class_path": "fbr_plugin.baselines.CAM", "init_args": {"num_classes": 2, "encoder": "small"}}
    save_file(state, folder / "cam.safetensors", {"model": json.dumps(model)})


def settings(folder: Path) -> None:
    """Settings in YAML, a sweep, a cached result, and a pipeline's report with the record of a stage."""
    (folder / "config.yaml").write_text(YAML)
    (folder / "sweep.yaml").write_text(
        "training: config.yaml\narms: {one: {model.lr: 1}}\ngrid: {model.dropout: [0.1, 0.2]}\nseeds: [1]\n"
    )
    content = {"key": {"seed": 1, "arm": {"lr": 0.1}}, "scores": {"miou": 50.0}, "seconds": 1.5}
    (folder / "result.json").write_text(json.dumps(content))


def pipeline(folder: Path) -> None:
    """The output of a pipeline with one stage."""
    (folder / "masks").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "masks" / "a.png")
    (folder / "report.json").write_text(
        json.dumps({"settings": {"data": {}}, "stages": {"masks": {"miou": 1.0}}})
    )
    record = {"made_of": {"settings": {}, "inputs": {}}, "digest": "0", "scores": {}, "files": {"a.png": "0"}}
    (folder / "masks" / "stage.json").write_text(json.dumps(record))


def photos(folder: Path) -> None:
    """A folder of one's own photos with lists, labels and masks."""
    lists = folder / "ImageSets" / "Segmentation"
    for path in (lists, folder / "JPEGImages", folder / "SegmentationClass"):
        path.mkdir(parents=True)
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "labels.csv").write_text("id,cat,dog\na,1,0\nb,0,1\n")
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    for index, name in enumerate("ab"):
        Image.fromarray(noise + index).save(folder / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(np.full((12, 16), index + 1, np.uint8)).save(
            folder / "SegmentationClass" / f"{name}.png"
        )


def cub(folder: Path) -> None:
    """CUB's tables."""
    (folder / "classes.txt").write_text("1 001.Auk\n2 002.Owl\n")
    (folder / "images.txt").write_text("1 001.Auk/Auk_1.jpg\n2 001.Auk/Auk_2.jpg\n3 002.Owl/Owl_1.jpg\n")
    (folder / "train_test_split.txt").write_text("1 1\n2 0\n3 0\n")
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n")
    (folder / "bounding_boxes.txt").write_text(
        "1 1.0 2.0 20.0 10.0\n2 2.0 2.0 20.0 10.0\n3 3.0 2.0 20.0 10.0\n"
    )


def aircraft(folder: Path) -> None:
    """FGVC-Aircraft's lists."""
    data = folder / "data"
    data.mkdir()
    (data / "variants.txt").write_text("707-320\nA300\n")
    for name in ("trainval", "test"):
        (data / f"images_variant_{name}.txt").write_text("1025794 707-320\n1340192 A300\n")
    (data / "images_box.txt").write_text("1025794 3 2 30 15\n1340192 1 1 20 10\n")


def ilsvrc(folder: Path) -> None:
    """ILSVRC's lists and an annotation."""
    lists, notes = (folder / name / "CLS-LOC" for name in ("ImageSets", "Annotations"))
    for path in (lists, notes / "val"):
        path.mkdir(parents=True)
    (lists / "train_cls.txt").write_text("n01/n01_1 1\nn02/n02_1 2\n")
    (lists / "val.txt").write_text("a 1\n")
    (notes / "val" / "a.xml").write_text(XML.replace("cat", "n01"))


def openimages(folder: Path) -> None:
    """The lists of OpenImages30k."""
    for name in ("train", "test"):
        lists = folder / "metadata" / "OpenImages" / name
        lists.mkdir(parents=True)
        images = [f"{name}/0b/1.jpg", f"{name}/0c/2.jpg"]
        (lists / "image_ids.txt").write_text("\n".join(images) + "\n")
        (lists / "class_labels.txt").write_text("".join(f"{each},{i}\n" for i, each in enumerate(images)))
        rows = (f"{each},{name}/m/{i}.png,{name}/i/{i}.png\n" for i, each in enumerate(images))
        (lists / "localization.txt").write_text("".join(rows))


def cars(folder: Path) -> None:
    """Stanford Cars' lists."""
    (folder / "devkit").mkdir()
    names = np.array(["AM General", "Acura"], object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    corners = {"bbox_x1": 3, "bbox_y1": 2, "bbox_x2": 30, "bbox_y2": 15}
    kinds = [("fname", object), ("class", object), *((name, object) for name in corners)]
    rows = np.array([(f"0000{n}.jpg", n, *corners.values()) for n in (1, 2)], kinds)
    for name in ("cars_train_annos", "cars_test_annos_withlabels"):
        savemat(
            folder / "devkit" / f"{name}.mat", {"annotations": rows}, do_compression=name.endswith("labels")
        )


def dogs(folder: Path) -> None:
    """Stanford Dogs' lists and an annotation."""
    for name, kind in (("train", "n02-cat"), ("test", "n02-cat")):
        files = np.array([f"{kind}/a.jpg", f"{kind}/b.jpg"], object)[:, None]
        savemat(folder / f"{name}_list.mat", {"file_list": files, "labels": np.array([[1], [1]])})
    (folder / "Annotation" / "n02-cat").mkdir(parents=True)
    for name in "ab":
        (folder / "Annotation" / "n02-cat" / name).write_text(XML)
