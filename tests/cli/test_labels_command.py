"""`fbr-plugin labels`: the same table from each kind of source, and mistakes in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import command
from PIL import Image

from fbr_plugin.data import write_mask
from fbr_plugin.errors import InputError, UserError

IMAGES = {"a": ["cat"], "b": ["cat", "dog"], "c": []}
TABLE = "id,cat,dog\na,1,0\nb,1,1\nc,0,0\n"


def write_sources(root: Path) -> None:
    """Write the classes of three images in each form."""
    names = ["cat", "dog"]
    annotations = []
    for name, classes in IMAGES.items():
        mask = np.zeros((4, 4), np.uint8)
        for each in classes:
            mask[names.index(each)], mask[3, 3] = names.index(each) + 1, 255
            annotations.append({"image_id": name, "category_id": names.index(each)})
            write_photo(root / "folders" / each / f"{name}.jpg", ord(name))
        write_mask(root / "masks" / f"{name}.png", mask)
        objects = "".join(f"<object><name>{each}</name></object>" for each in classes * 2)
        (root / "xml").mkdir(exist_ok=True)
        (root / "xml" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    annotations.append({"image_id": "c", "category_id": 1, "iscrowd": 1})  # counts for none
    images = [{"id": name, "file_name": f"{name}.jpg", "height": 4, "width": 4} for name in IMAGES]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco").write_text(json.dumps(content))
    (root / "csv").write_text("Image,Label\nfolder/a.jpg,cat\nb,cat\nb,dog\nc,\n")
    (root / "columns").write_text("id,cat,dog\na.png,1,0\nb,TRUE,1.0\nc,0,false\n")


def write_photo(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (level, 0, 0)).save(path)


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)


@pytest.mark.parametrize("kind", ["masks", "xml", "coco", "csv", "columns", "folders"])
def test_all_sources_give_the_same_table(kind, capsys):
    names = ["--class_names", "cat", "dog"] if kind == "masks" else []
    command("labels", kind.replace("columns", "csv"), kind, "--output", "out/labels.csv", *names)
    without = "\n".join(TABLE.splitlines()[:-1]) + "\n"  # a photo of no class is in no folder
    assert Path("out/labels.csv").read_text() == (without if kind == "folders" else TABLE)
    assert Path("out/classes.txt").read_text() == "cat\ndog\n"
    count = "2 images of 2 classes, 0" if kind == "folders" else "3 images of 2 classes, 1"
    assert f"{count} without a class\nwritten: out/labels.csv, out/classes.txt" in capsys.readouterr().out


def test_the_list_of_classes_gives_the_order_and_is_kept():
    Path("classes.txt").write_text("dog\ncat\nlion\n")
    command("labels", "xml", "xml", "--output", "labels.csv")
    assert Path("labels.csv").read_text().splitlines()[:2] == ["id,dog,cat,lion", "a,0,1,0"]
    assert Path("classes.txt").read_text() == "dog\ncat\nlion\n"


def test_a_table_is_replaced_only_if_told():
    Path("labels.csv").write_text("mine")
    with pytest.raises(InputError, match=r"labels\.csv exists: name another file, or replace it"):
        command("labels", "xml", "xml", "--output", "labels.csv")
    assert Path("labels.csv").read_text() == "mine"
    assert not Path("classes.txt").exists()
    command("labels", "xml", "xml", "--output", "labels.csv", "--replace")
    assert Path("labels.csv").read_text() == TABLE


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("csv", "a.jpg,cat\n", "begins with a.jpg,cat: its first row must be a header"),
        ("csv", "id,cat,dog\na,1\n", "the row a,1 has 2 cells, but the header 3"),
        ("csv", "id,cat,dog\na,1,2\n", "the row of a holds '2': write 1 or 0"),
        ("csv", "id,cat,dog\na,1,1\na,1,0\n", "has two rows of a: leave one"),
        ("csv", "id,cat,cat\na,1,1\n", "the class 'cat' is named twice"),
        ("csv", "id,background,cat\na,1,1\n", "the background is no class"),
        ("csv", "id,cat,dog\n", "file holds no image: name the table"),
        ("csv", "id,label\na,\n", "no image has a class"),
        ("coco", "{", "file is not valid JSON"),
        ("coco", "{}", "does not hold COCO's instances"),
        ("xml", "", "file is a file: name the folder"),
        ("folders", "", "file is a file: name the folder that holds a folder"),
    ],
)
def test_bad_content_is_one_clear_error(kind, content, message):
    Path("file").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        command("labels", kind, "file", "--output", "out/labels.csv")
    assert "\n" not in str(error.value)
    assert not Path("out").exists()


def test_text_of_another_encoding_is_an_error():
    Path("file").write_bytes("id,label\na,Käse\n".encode("cp1252"))
    with pytest.raises(InputError, match="file is not in UTF-8"):
        command("labels", "csv", "file", "--output", "labels.csv")


def test_bad_classes_are_errors():
    with pytest.raises(InputError, match="masks hold numbers, no names"):
        command("labels", "masks", "masks", "--output", "labels.csv")
    with pytest.raises(InputError, match="holds the value 2, but a mask of 1 classes"):
        command("labels", "masks", "masks", "--output", "labels.csv", "--class_names", "cat")
    with pytest.raises(InputError, match="the image b is of the class 'dog', but the classes are"):
        command("labels", "xml", "xml", "--output", "labels.csv", "--class_names", "cat")
    Path("classes.txt").write_text("dog\ncat\n")
    with pytest.raises(InputError, match=r"classes\.txt names \['dog', 'cat'\], but the classes are"):
        command("labels", "xml", "xml", "--output", "labels.csv", "--class_names", "cat", "dog")
    with pytest.raises(UserError, match="nowhere does not exist: name the folder of masks"):
        command("labels", "masks", "nowhere", "--output", "labels.csv")


def test_a_folder_of_each_class_has_no_two_photos_of_one_id():
    write_photo(Path("folders/dog/b.jpg"), 7)
    with pytest.raises(InputError, match=r"b\.jpg are different photos of one id: rename one"):
        command("labels", "folders", "folders", "--output", "labels.csv")
