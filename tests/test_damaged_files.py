"""Damaged and hostile files of every format: an error of one bounded line names the file, and nothing is run.

`python -m benchmarks.fuzz` makes many more of them.
"""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers.wsol_layouts import write_cub
from jsonargparse import Namespace
from PIL import EpsImagePlugin, Image
from safetensors.torch import save_file
from scipy.io import savemat

from fbr_plugin.baselines.encoders.small import SmallEncoder
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.baselines.released.convert import convert, read_released
from fbr_plugin.browse.runs import pipeline_report
from fbr_plugin.callbacks.checkpoints import read_checkpoint
from fbr_plugin.cli.lightning.checkpoint_settings import checkpoint_settings
from fbr_plugin.cli.main import main
from fbr_plugin.cli.options.configs import find_config
from fbr_plugin.data import FolderDataModule, read_image, read_mask
from fbr_plugin.data.readers.boxes import object_boxes
from fbr_plugin.data.readers.instances import instances_of, read_annotations
from fbr_plugin.data.readers.labels import (
    labels_from_csv,
    labels_from_pickle,
    read_class_names,
    read_ids,
    read_objects,
)
from fbr_plugin.data.readers.limits import MAX_PIXELS
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.data.readers.wsol.cub import CUBLayout
from fbr_plugin.data.readers.wsol.matlab import read_matlab
from fbr_plugin.data.readers.wsol.openimages import OpenImagesLayout
from fbr_plugin.data.tables.sources import read_classes_of_images
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Report, table
from fbr_plugin.errors import UserError, short
from fbr_plugin.experiments.results import known
from fbr_plugin.pipeline.cache import status
from fbr_plugin.pipeline.record import RECORD, PipelineStage
from fbr_plugin.postprocess.seed_files import read_seed, write_seed
from fbr_plugin.postprocess.seeds import Seed

LONGEST = 1000
Read = Callable[[Path], object]


class Case(NamedTuple):
    """A file that cannot be read, or a function that writes it, its reader, and words of the error."""

    file: str
    content: bytes | Callable[[Path], object]
    read: Read
    words: str


def mxnet(*shape: int, dimensions: int | None = None) -> bytes:
    """A file of MXNet with one array of a shape."""
    count = len(shape) if dimensions is None else dimensions
    array = struct.pack(f"<IiI{len(shape)}q", 0xF993FAC9, 0, count, *shape)
    return struct.pack("<QQQ", 0x112, 0, 1) + array + bytes(64)


def png(width: int, height: int) -> bytes:
    """A PNG that says to have a size, and has next to no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    parts = (
        struct.pack(">I", len(own)) + kind + own + struct.pack(">I", zlib.crc32(kind + own))
        for kind, own in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_exif(data: bytes) -> bytes:
    """A photo with some EXIF data."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", exif=data)
    return file.getvalue()


def archive(size: int | None = None, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of numpy, whose directory may tell another size."""
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(1000))
    with zipfile.ZipFile(file, "w", compression) as packed:
        packed.writestr("scores.npy", array.getvalue())
    data = file.getvalue()
    if size is None:
        return data
    place = data.index(b"PK\x01\x02") + 24
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


def pickled(content: object) -> bytes:
    return pickle.dumps(content, 4)


def repeated_calls() -> bytes:
    """A pickle of a text that is encoded over and over."""
    text = "x" * 10_000
    start = (
        b"\x80\x02c_codecs\nencode\nq\x00(X"
        + struct.pack("<I", len(text))
        + text.encode()
        + b"X\x06\0\0\0latin1tq\x01R0"
    )
    return start + b"h\x00h\x01R0" * 5000 + b"N."


def coco(outline: object = None, **image: Any) -> bytes:
    """COCO's annotations of an image with one object."""
    record = {
        "image_id": 1,
        "category_id": 2,
        "segmentation": [[1, 1, 5, 1, 5, 5]] if outline is None else outline,
    }
    images = [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8, **image}]
    return json.dumps(
        {"images": images, "annotations": [record], "categories": [{"id": 2, "name": "dog"}]}
    ).encode()


def read_coco(path: Path) -> object:
    file = read_annotations(path, categories=None)
    return [instances_of(file, name) for name in file.sizes]


def read_xml(path: Path) -> object:
    return object_boxes(path, read_objects(path), 1)


def read_labels(path: Path) -> object:
    return labels_from_pickle(path, 2)


def read_table(path: Path) -> object:
    return labels_from_csv(path, ["cat", "dog"])


def weights(path: Path) -> None:
    load_weights(SmallEncoder(), path)


def checkpoint(path: Path, training: bool = False) -> object:
    model = Namespace(class_path="fbr_plugin.baselines.CAM", init_args=Namespace(num_classes=2))
    return checkpoint_settings(str(path), model, set(), training)


def saved(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def own() -> dict[str, Any]:
    """A dictionary that contains itself."""
    content: dict[str, Any] = {}
    content["state_dict"] = content
    return content


def xml(text: str, **corners: object) -> bytes:
    box = "".join(f"<{key}>{corners.get(key, 1)}</{key}>" for key in ("xmin", "ymin", "xmax", "ymax"))
    return f"{text}<annotation><object><name>cat</name><bndbox>{box}</bndbox></object></annotation>".encode()


def cub(**tables: str) -> Case:
    """CUB with another text in a table, whose error names it."""

    def read(path: Path) -> object:
        root = write_cub(path.parent / "CUB")
        for name, text in tables.items():
            (root / f"{name}.txt").write_text(text)
        layout = CUBLayout(root, None)
        return layout.split(True, False), layout.split(False, True)

    return Case("cub", b"", read, f"{next(iter(tables))}.txt")


def openimages(path: Path) -> object:
    lists = path.parent / "metadata" / "OpenImages" / "test"
    lists.mkdir(parents=True)
    (lists / "image_ids.txt").write_text("test/0/a.jpg\n")
    (lists / "class_labels.txt").write_text("test/0/a.jpg,0\n")
    (lists / "localization.txt").write_text("test/0/a.jpg,/etc/m.png,test/../../i.png\n")
    return OpenImagesLayout(path.parent, "test", "test").split(False, True)


TEXT = "x" * 200_000
SHARED = np.ones(2**17)
CASES = {
    "negative dimension": Case("w.params", mxnet(-4, 8), weights, r"an array has the shape \[-4, 8\]"),
    "3e8 dimensions": Case("w.params", mxnet(dimensions=300_000_000), weights, "has 300000000 dimensions"),
    "dimension of 3e8": Case("w.params", mxnet(300_000_000, 9), weights, "bytes too early"),
    "code of absurd size": Case(
        "i.json",
        coco({"size": [2**16, 2**16], "counts": [2**32]}, height=2**16, width=2**16),
        read_coco,
        "65536x65536 pixels, more than",
    ),
    "code of a side of 2e9": Case(
        "i.json", coco([[0, 0, 9, 0, 9, 9]], height=2**31, width=1), read_coco, "more than 100000000"
    ),
    "polygon of absurd size": Case(
        "i.json", coco([[0, 0, 1e300, 0, 9, 9]]), read_coco, "reaches far outside"
    ),
    "polygon of a long outline": Case(
        "i.json", coco([[0, 0, 9000, 9000] * 100], height=9000, width=9000), read_coco, "edges of more than"
    ),
    "polygon of NaN": Case(
        "i.json", coco([[1, 1, float("nan"), 1, 5, 5]]), read_coco, "cannot be rasterised"
    ),
    "name with a zero": Case(
        "i.json", coco(file_name="\0.jpg"), read_coco, "which cannot be a file in its folder"
    ),
    "half of a letter": Case(
        "i.json", coco(file_name="\ud800.jpg"), read_coco, "which cannot be a file in its folder"
    ),
    "nested JSON": Case("i.json", b"[" * 100_000, read_coco, "is not valid JSON"),
    "3 GB in an archive": Case(
        "s.npz", archive(3 * 10**9), read_seed, "unpack to 3000000000, more than 268435456"
    ),
    "archive of bzip2": Case(
        "s.npz", archive(compression=zipfile.ZIP_BZIP2), read_seed, "another method than numpy's"
    ),
    "shared arrays": Case(
        "s.pkl", pickled(dict.fromkeys(range(300), SHARED)), read_seed, "more than 268435456 bytes"
    ),
    "shared lists": Case(
        "s.pkl", pickled([[[0] * 100] * 100] * 100), load_restricted, "more values than the file"
    ),
    "repeated calls": Case("s.pkl", repeated_calls(), load_restricted, "the same values over and over"),
    "long integer": Case("s.pkl", pickled(1 << 4000), load_restricted, "more than 255 bytes"),
    "keys with fractions": Case(
        "s.pkl",
        pickled({"keys": np.array([0.5]), "cam": np.ones((1, 2, 2))}),
        read_seed,
        "are not 0-based classes",
    ),
    "keys of no class": Case(
        "s.pkl", pickled({2**40: np.ones((2, 2))}), read_seed, "are not 0-based classes"
    ),
    "empty maps": Case("s.pkl", pickled({0: np.ones((0, 2))}), read_seed, r"maps of the shape \(1, 0, 2\)"),
    "seed of a text, over and over": Case(
        "s.pkl", pickled({0: [TEXT] * 1000}), read_seed, "a list in place of an array"
    ),
    "seed of objects": Case("s.pkl", pickled({"keys": {}, "cam": [10**30]}), read_seed, "is not a seed"),
    "large picture": Case(
        "a.png",
        png(13_000, 13_000),
        read_image,
        f"13000x13000 pixels, more than 100000000: .*{MAX_PIXELS}=169000000",
    ),
    "large mask": Case(
        "a.png", png(2**31 - 1, 2**31 - 1), lambda path: read_mask(path, 2), "more than 100000000"
    ),
    "bad EXIF": Case(
        "a.jpg",
        with_exif(b"no EXIF data at all"),
        read_image,
        "has EXIF data that cannot be read",
    ),
    "TIFF": Case(
        "a.jpg", lambda path: Image.new("L", (4, 4)).save(path, "TIFF"), read_image, "not an image in JPEG"
    ),
    "list in Latin-1": Case("l.txt", "Käse\n".encode("latin-1"), read_ids, "is not in UTF-8"),
    "classes in UTF-16": Case("l.txt", "cat\n".encode("utf-16"), read_class_names, "UTF-16"),
    "table in Latin-1": Case("l.csv", "id,Käse\n".encode("latin-1"), read_table, "is not in UTF-8"),
    "list with ..": Case("l.txt", b"a\n../..\n", read_ids, r"names the image '\.\.', which cannot be a file"),
    "list with .. of Windows": Case(
        "l.txt", b"..\\..\\a\n", read_ids, "which cannot be a file in its folder"
    ),
    "list with a zero": Case("l.txt", b"a\0b\n", read_ids, "which cannot be a file in its folder"),
    "list that colours the terminal": Case(
        "l.txt", b"a\x1b[31m\n", read_ids, r"names the image 'a\\x1b\[31m'"
    ),
    "list with long ids": Case("l.txt", b"a" * 5000, read_ids, "which cannot be a file in its folder"),
    "long field": Case("l.csv", b"id,cat,dog\na,1," + b"0" * 200_000, read_table, "is not a table in CSV"),
    "long field of a table": Case(
        "l.csv",
        b"id,label\na," + b"x" * 200_000,
        lambda path: read_classes_of_images("csv", path, None),
        "is not a table in CSV",
    ),
    "long row": Case("l.csv", b"id,cat,dog\na," + b"7" * 100_000, read_table, "needs 0 or 1 in each"),
    "unknown encoding": Case(
        "a.xml", xml("<?xml version='1.0' encoding='klingon'?>"), read_xml, "is not valid XML"
    ),
    "encoding of several bytes": Case(
        "a.xml", xml("<?xml version='1.0' encoding='big5'?>"), read_xml, "is not valid XML"
    ),
    "entities of entities": Case(
        "a.xml",
        b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>"
        + b"".join(b"<!ENTITY %c '%b'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
        + b"]><a>&j;</a>",
        read_xml,
        "is not valid XML",
    ),
    "box of NaN": Case("a.xml", xml("", xmin="nan"), read_xml, "boxes that are not four numbers each"),
    "box of 1e300": Case("a.xml", xml("", xmax="1e300"), read_xml, "boxes that are not four numbers each"),
    **{
        f"label {value}": Case(
            "l.pkl", pickled({"a": np.array([0, value])}), read_labels, "the labels of a are|asks for"
        )
        for value in (float("nan"), 7, -1, 0.5, 1j, "x")
    },
    "labels of two lengths": Case(
        "l.pkl", pickled({"a": [[0, 1], [0]]}), read_labels, "the labels of a are no numbers: give 2"
    ),
    "damaged safetensors": Case(
        "w.safetensors", b"\x09" + bytes(20), weights, "is damaged or not a checkpoint"
    ),
    "safetensors of a release": Case(
        "w.safetensors", b"\xff" * 40, read_released, "is damaged or not a checkpoint"
    ),
    "settings of safetensors": Case(
        "c.safetensors",
        lambda path: save_file({"a": torch.ones(1)}, path, {"model": "[]"}),
        read_checkpoint,
        "settings of a network that cannot be read",
    ),
    "state that is a list": Case("c.ckpt", saved({"state_dict": [1]}), checkpoint, "has no 'state_dict'"),
    "weights that are a list": Case("w.pt", saved([1, 2]), read_released, "has no tensors by name"),
    "settings that are a text": Case(
        "c.ckpt",
        saved({"state_dict": {}, "hyper_parameters": "x"}),
        checkpoint,
        "damaged or not a checkpoint",
    ),
    "state of itself": Case("c.pt", saved(own()), read_released, "has no tensors by name"),
    "expanded tensor": Case(
        "c.pt", saved({"a": torch.ones(1).expand(10**9)}), read_released, "more numbers than the file"
    ),
    "sparse tensor": Case(
        "c.pt", saved({"a": torch.ones(2, 2).to_sparse()}), read_released, "no dense tensor"
    ),
    "compressed checkpoint": Case("c.ckpt", archive(3 * 10**9), checkpoint, "which unpack to 3000000000"),
    "aliases of aliases": Case(
        "c.yaml",
        b"a: &a [x, x]\n"
        + b"".join(
            b"%c: &%c [%b]\n" % (98 + n, 98 + n, b", ".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
        ),
        lambda path: find_config(str(path)),
        "aliases of aliases",
    ),
    "nested YAML": Case(
        "c.yaml", b"a: " + b"[" * 600 + b"]" * 600, lambda path: find_config(str(path)), "cannot be read"
    ),
    "YAML in Latin-1": Case(
        "c.yaml", "a: Käse".encode("latin-1"), lambda path: find_config(str(path)), "no text file in UTF-8"
    ),
    **{
        f"YAML {value}": Case(
            "c.yaml", f"a: {value}".encode(), lambda path: find_config(str(path)), "cannot be read"
        )
        for value in ("!!int x", "!!timestamp x", "2020-99-99", "!!bool x")
    },
    "result that is no JSON": Case(
        "r.json", b"\xff{", lambda path: known(path, 1), "remove it, and make the result again"
    ),
    "result that is a list": Case("r.json", b"[1]", lambda path: known(path, 1), "holds no result"),
    "MATLAB's header alone": Case(
        "m.mat",
        bytes(124) + b"\0\1IM" + b"\x0e\0\0\0\xff\xff\xff\x7f",
        lambda path: read_matlab(path, "a"),
        "bytes too early",
    ),
    "class 0 of CUB": cub(image_class_labels="1 0\n2 1\n3 2\n4 2\n"),
    "superscript class of CUB": cub(image_class_labels="1 ²\n2 1\n3 2\n4 2\n"),
    "missing class of CUB": cub(image_class_labels="1 1\n"),
    "box of NaN in CUB": cub(bounding_boxes="1 1 1 5 5\n2 nan 2 20 10\n3 1 1 5 5\n4 2 2 20 10\n"),
    "path of CUB": cub(
        images="1 ../../a.jpg\n2 001.Auk/Auk_2.jpg\n3 002.Owl/Owl_1.jpg\n4 002.Owl/Owl_2.jpg\n"
    ),
    "path of OpenImages": Case("o", b"", openimages, "names the image '/etc/m.png', which cannot be a file"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_error_of_one_line_names_the_file(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.file
    if isinstance(case.content, bytes):
        path.write_bytes(case.content)
    else:
        case.content(path)
    with pytest.raises(UserError, match=case.words) as caught:
        case.read(path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert len(message) <= LONGEST
    assert "\n" not in message


def test_the_limit_of_pixels_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "large.png").write_bytes(png(14_000, 14_000))  # more than Pillow's own limit
    monkeypatch.setenv(MAX_PIXELS, "63")
    with pytest.raises(UserError, match=r"a\.png is 8x8 pixels, more than 63: .* FBR_MAX_PIXELS=64"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv(MAX_PIXELS, str(14_000**2))
    assert read_image(tmp_path / "a.png").shape == (8, 8, 3)
    with pytest.raises(UserError, match=r"large\.png cannot be read \(.*truncated"):
        read_image(tmp_path / "large.png")
    monkeypatch.setenv(MAX_PIXELS, "many")
    with pytest.raises(UserError, match="FBR_MAX_PIXELS is 'many': give a whole number"):
        read_image(tmp_path / "a.png")


def test_an_image_that_does_not_fit_into_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: Image.Image) -> None:
        raise MemoryError

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(UserError, match=r"a\.png does not fit into memory: shrink the image or its mask"):
        read_image(tmp_path / "a.png")


def test_a_value_in_an_error_is_short_and_printable() -> None:
    assert short("a\nb\x1b\0") == "a?b??"
    assert short(["x" * 500]) == "['" + "x" * 118 + "..."


def test_arrays_may_be_used_several_times(tmp_path: Path) -> None:
    same = np.zeros(80, np.float32)
    (tmp_path / "l.pkl").write_bytes(pickled({f"COCO_train2014_{n:012d}": same for n in range(3000)}))
    assert len(labels_from_pickle(tmp_path / "l.pkl", 80)) == 3000


def test_lists_name_files_below_their_folder(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("../../etc/passwd\n../x.jpg\n")
    assert read_ids(tmp_path / "l.txt") == ["passwd", "x"]


def test_a_postscript_file_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, program = tmp_path / "trace", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for again
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(UserError, match=r"a\.jpg cannot be read .*not an image in JPEG"):
        read_image(path)
    assert not trace.exists()
    with pytest.raises(OSError, match=r"."), Image.open(path) as image:  # as it would be without our limit
        image.load()
    assert trace.exists()


class Malice:
    """Is pickled as a call that makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("read", [read_labels, read_seed, weights, read_released, checkpoint])
def test_a_pickle_runs_nothing(tmp_path: Path, read: Read) -> None:
    trace, path = tmp_path / "trace", tmp_path / "file.pt"
    torch.save(
        {"state_dict": {}, "a": Malice(trace)}, path, _use_new_zipfile_serialization=read is not read_seed
    )
    with pytest.raises(UserError, match=r"file\.pt"):
        read(path)
    np.save(tmp_path / "file.npy", np.array({"a": Malice(trace)}, dtype=object))
    with pytest.raises(UserError, match=r"file\.npy"):
        read(tmp_path / "file.npy")
    assert not trace.exists()


def test_an_archive_on_several_disks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "a": Malice(tmp_path / "trace")}, path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x06\x07") + 4] = 2  # the disk, at which `zipfile.is_zipfile` raises
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"last\.ckpt holds objects that are not loaded"):
        checkpoint(path)


def test_the_class_of_a_checkpoint_is_compared_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "last.ckpt"
    (tmp_path / "hostile.py").write_text(f"open({str(trace)!r}, 'w')\nclass Model: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "hostile.Model"}}, path)
    with pytest.raises(
        UserError, match=r"last\.ckpt was saved by hostile\.Model, but the model is fbr_plugin"
    ):
        checkpoint(path)
    assert not trace.exists()
    assert "hostile" not in sys.modules


@pytest.mark.parametrize("training", [False, True])
def test_a_checkpoint_that_lacks_a_part_is_named(tmp_path: Path, training: bool) -> None:
    settings = {"_class_path": "fbr_plugin.baselines.CAM", "num_classes": 2}
    content = {"state_dict": {}, "hyper_parameters": settings, "optimizer_states": []}
    torch.save(content, tmp_path / "last.ckpt")
    lacking = "epoch, global_step, loops, lr_schedulers, " if training else ""
    with pytest.raises(UserError, match=rf"last\.ckpt lacks {lacking}pytorch-lightning_version: give"):
        checkpoint(tmp_path / "last.ckpt", training)


def test_a_class_may_have_two_paths(tmp_path: Path) -> None:
    settings = {"_class_path": "fbr_plugin.baselines.cam.module.CAM", "num_classes": 2}
    content = {"state_dict": {}, "hyper_parameters": settings, "pytorch-lightning_version": "2.6.0"}
    torch.save(content, tmp_path / "last.ckpt")
    assert checkpoint(tmp_path / "last.ckpt") == {"num_classes": 2}


@pytest.mark.parametrize("shape", [(), (2**40, 0), (10**6,)])
def test_a_release_of_absurd_classes_is_a_misfit(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):  # which has shapes, but no numbers
        found = convert("cam", {"classifier.weight": torch.zeros(shape)})
    assert found.misfits[0].startswith(f"head.weight: {list(shape)} in the file")
    assert found.settings["num_classes"] <= 2**15


def test_matlab_is_read_as_scipy_writes_it(tmp_path: Path) -> None:
    rows = np.array([("é.jpg", 3, [1.5, 2.0]), ("b", -1, [])], [(name, object) for name in ("f", "n", "v")])
    content = {
        "rows": rows,
        "names": np.array(["a b", "c"], object),
        "numbers": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "text": np.array(["ab", "c"]),
        "none": np.zeros((0, 3)),
    }
    for compressed in (False, True):
        savemat(tmp_path / "m.mat", content, do_compression=compressed)
        found = read_matlab(tmp_path / "m.mat", *content)
        expected_rows = [{"f": "é.jpg", "n": 3, "v": [1.5, 2]}, {"f": "b", "n": -1, "v": []}]
        assert found == [expected_rows, ["a b", "c"], [0, 3, 1, 4, 2, 5], ["ab", "c"], []]


def test_a_damaged_record_makes_the_stage_again(tmp_path: Path) -> None:
    stage = PipelineStage("masks", {}, lambda folder, inputs: {})
    folder = tmp_path / "masks"
    folder.mkdir()
    for text in (
        '{"made_of": {"settings": {}, "inputs": {}}}',
        '{"made_of": {"settings": 1, "inputs": 2}}',
        "[" * 10**5,
    ):
        (folder / RECORD).write_text(text)
        assert status(stage, tmp_path, {}).reason == f"{folder / RECORD} is missing or no longer readable"


@pytest.mark.parametrize("stages", [5, [1], ["masks"], {"../x": {}}])
def test_a_damaged_report_is_none(tmp_path: Path, stages: object) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"settings": {"data": {}}, "stages": stages}))
    assert pipeline_report(tmp_path) == {}


def test_the_doctor_names_what_training_cannot_read(tmp_path: Path) -> None:
    lists = tmp_path / "ImageSets" / "Segmentation"
    for folder in (lists, tmp_path / "JPEGImages"):
        folder.mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "labels.csv").write_text("id,cat\na," + "1" * 200_000 + "\n")
    (lists / "train.txt").write_text("a\n" + "b" * 5000 + "\n..\n")
    (lists / "val.txt").write_text("a\n")
    (tmp_path / "JPEGImages" / "a.jpg").write_bytes(with_exif(b"no EXIF data at all"))
    report = Report()
    check(FolderDataModule(tmp_path), report, photos=True, workers=1)
    text = table(report)
    assert "2  ids that cannot be names of files in train.txt: b" in text
    assert "1  labels that cannot be read: labels.csv" in text
    assert "1  photos that cannot be read: a" in text
    assert max(map(len, text.splitlines())) < 400


def test_the_training_of_a_sweep_is_named(tmp_path: Path) -> None:
    (tmp_path / "training.yaml").write_text("model: !!int x\n")
    (tmp_path / "sweep.yaml").write_text("training: training.yaml\narms: {a: {}, b: {x: 1}}\n")
    with pytest.raises(UserError, match=r"training\.yaml has a value that cannot be read"):
        main(["sweep", str(tmp_path / "sweep.yaml")])


def test_scores_that_half_precision_cannot_hold_are_an_error(tmp_path: Path) -> None:
    seed = Seed(np.array([0]), np.full((1, 2, 2), 1e5, np.float32))
    with pytest.raises(UserError, match=r"a\.npz: scores of up to 100000 do not fit .*: write another style"):
        write_seed(tmp_path / "a.npz", seed, "compact")
