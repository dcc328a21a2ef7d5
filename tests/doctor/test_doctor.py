"""`fbr-plugin doctor`: the table, the exit code, and mended copies."""

import shutil

import numpy as np
import pytest
from doctor.faults import FAULTS

from fbr_plugin.data import read_mask
from fbr_plugin.doctor import inspection
from fbr_plugin.doctor.findings import Report, table
from fbr_plugin.errors import InputError


def test_a_sound_folder_prints_figures_and_ends_with_0(photos, doctor):
    code, text = doctor("--data.root", photos)
    assert code == 0
    assert "training images of each class: dog 2, cat 2\n" in text
    assert text.endswith("\n\nnothing found\n")


def test_warnings_end_with_0_and_errors_with_1(photos, doctor):
    FAULTS["id twice"].plant(photos)
    code, text = doctor("--data.root", photos)
    assert (code, text.splitlines()[-1]) == (0, "1 warning")
    FAULTS["photo missing"].plant(photos)
    code, text = doctor("--data.root", photos)
    assert (code, text.splitlines()[-1]) == (1, "1 error, 1 warning")
    assert text.index("ids without a photo: 00\n") < text.index("ids listed twice in train.txt: 00\n")


def test_many_cases_are_shortened():
    report = Report()
    report.add("error", "ids", "abcd", "remedy")
    report.add("note", "nothing", [], "remedy")
    assert table(report) == "error        4  ids: a, b, c, ...\n                -> remedy\n1 error"


def test_the_data_may_come_from_a_file_of_settings(photos, doctor, tmp_path):
    config = tmp_path / "fit.yaml"
    config.write_text(
        "model: any\ndata:\n  class_path: fbr_plugin.data.FolderDataModule\n  init_args: {root: x}\n"
    )
    assert doctor("--config", config, "--data.root", photos, "--photos", "false")[0] == 0
    config.write_text("model: any\n")
    with pytest.raises(InputError, match="has no settings of the data: write them under data:"):
        doctor("--config", config)


def test_no_data_are_an_error(doctor):
    with pytest.raises(InputError, match=r"the data are missing: give --data\.root PHOTOS"):
        doctor("--fix")


def test_no_worker_is_an_error(photos, doctor):
    with pytest.raises(InputError, match="--workers must be at least 1, got 0"):
        doctor("--data.root", photos, "--workers", 0)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"cat\ncat\n", "class names twice in classes.txt: cat"),
        (b"background\ncat\ndog\n", "the background is a class in classes.txt: background"),
        ("Kätzchen\nHund\n".encode("cp1252"), "text that is not UTF-8: classes.txt (cp1252)"),
    ],
)
def test_classes_are_checked_even_if_the_data_cannot_be_opened(content, what, photos, doctor):
    (photos / "classes.txt").write_bytes(content)
    code, text = doctor("--data.root", photos)
    assert code == 1
    assert what in text


def test_text_of_another_encoding_is_mended(photos, doctor):
    (photos / "classes.txt").write_bytes("Kätzchen\nHund\n".encode("cp1252"))
    doctor("--data.root", photos, "--fix")
    assert (photos / "classes.fixed.txt").read_text(encoding="utf-8") == "Kätzchen\nHund\n"


def test_a_missing_folder_is_an_error(doctor):
    with pytest.raises(ValueError, match="the folder nowhere does not exist"):
        doctor("--data.root", "nowhere")


def test_mended_copies_lie_beside_and_are_never_replaced(photos, doctor):
    for name in ("id twice", "overlap", "photo truncated", "mask in colours", "labels without zeros"):
        FAULTS[name].plant(photos)
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    code, text = doctor("--data.root", photos, "--fix")
    assert code == 1
    lists = photos / "ImageSets/Segmentation"
    assert (lists / "train.fixed.txt").read_text() == "01\n02\n03\n"
    assert not (lists / "val.fixed.txt").exists()
    assert (photos / "labels.fixed.csv").read_text().splitlines()[:3] == ["id,cat,dog", "00,1,0", "01,0,1"]
    converted = {path.name: read_mask(path, 2) for path in (photos / "SegmentationClass.fixed").iterdir()}
    assert [*sorted(converted)] == [f"0{number}.png" for number in range(6)]
    expected = np.zeros((20, 24))
    expected[4:12, 4:12], expected[0] = 1, 255
    np.testing.assert_array_equal(converted["00.png"], expected)
    assert text.count("written: ") == 3
    assert {path: path.read_bytes() for path in before} == before

    shutil.move(photos / "labels.fixed.csv", photos / "labels.csv")
    mended = ["--data.lists.train", "train.fixed", "--data.mask_dir", "SegmentationClass.fixed"]
    assert doctor("--data.root", photos, *mended)[0] == 0
    text = doctor("--data.root", photos, "--fix")[1]
    assert text.count("not written: ") == 2


@pytest.mark.parametrize(("fault", "number"), [("mask in grey colours", 0), ("mask of reduced colours", 1)])
def test_masks_of_colours_are_converted(fault, number, photos, doctor):
    before = read_mask(photos / "SegmentationClass" / f"0{number}.png", 2)
    FAULTS[fault].plant(photos)
    doctor("--data.root", photos, "--fix")
    after = read_mask(photos / "SegmentationClass.fixed" / f"0{number}.png", 2)
    np.testing.assert_array_equal(after, before)


def test_lists_of_another_encoding_are_mended(photos, doctor):
    FAULTS["list encoding"].plant(photos)
    doctor("--data.root", photos, "--fix")
    assert (photos / "ImageSets/Segmentation/train.fixed.txt").read_text() == "00\n01\n02\n03\n"


@pytest.mark.slow
def test_processes_find_the_same(photos, doctor, monkeypatch):
    FAULTS["mask of another size"].plant(photos)
    FAULTS["photo truncated"].plant(photos)
    alone = doctor("--data.root", photos, "--workers", 1)
    monkeypatch.setattr(inspection, "_FEW", 0)
    assert doctor("--data.root", photos, "--workers", 2) == alone
