"""`fbr-plugin compare`: its scores, the images that it shows, its files, and mistakes in one line."""

import csv
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from helpers.damage import eroded
from helpers.tiny import command, write_coco, write_photos, write_scene_labels
from matplotlib.figure import Figure
from PIL import Image

from fbr_plugin import figures
from fbr_plugin.data.readers.images import read_mask, write_mask
from fbr_plugin.data.readers.instances import rasterise_instances
from fbr_plugin.errors import UserError
from fbr_plugin.postprocess.evaluate import evaluate
from fbr_plugin.postprocess.seed_files import seed_path, write_seed
from fbr_plugin.postprocess.seeds import Seed

IDS = [f"2007_{number:06d}" for number in range(6)]
PLAIN = ["--images", "photos/JPEGImages", "--masks", "photos/SegmentationClass"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos with their masks, masks `bad` and `good`, and noisy seeds in each layout, in the working folder.

    The bad masks are the worse the smaller the number of the image, the good ones lack one pixel each.
    """
    monkeypatch.chdir(tmp_path)
    photos = write_photos(tmp_path / "photos")
    rng = np.random.default_rng(0)
    for number, name in enumerate(IDS):
        truth = read_mask(photos / "SegmentationClass" / f"{name}.png", 2)
        bad, good = np.where(truth == 255, 0, truth), np.where(truth == 255, 0, truth)
        bad[8 : 20 - 2 * number], good[23, 23] = 0, 255
        write_mask(tmp_path / "bad" / f"{name}.png", bad)
        write_mask(tmp_path / "good" / f"{name}.png", good)
        scores = rng.random((2, *truth.shape), np.float32)
        seed = Seed(np.arange(2), scores, scores[0])
        for style in ("irn", "amn", "seam", "compact"):
            write_seed(seed_path(tmp_path / style, name, style), seed, style)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """For each page that is drawn, but not written, its titles and the texts below each row of pictures."""
    pages: list[list[list[str]]] = []
    original = figures.examples

    def examples(*args: Any) -> Figure:
        figure = original(*args)
        titles = [axes.get_title().replace("\n", "") for axes in figure.axes if axes.get_title()]
        below = [axes.get_xlabel() for axes in figure.axes]
        rows = [below[start : start + len(titles)] for start in range(0, len(below), len(titles))]
        pages.append([titles, *rows])
        return figure

    monkeypatch.setattr(figures, "examples", examples)
    monkeypatch.setattr(figures, "save_pages", lambda drawn, path, count: [path for _ in drawn])
    return pages


def compare(*words: object, output: str = "out/figure.png") -> None:
    """Run the command."""
    command("compare", *words, "--output", output)


def table(path: str = "out/figure.csv") -> dict[str, list[float]]:
    """The IoU of each image, by column."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("id") for row in rows] == IDS[: len(rows)]
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def image_iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean IoU in percent over the classes in the true mask of an image, by sets of pixels."""
    known = truth != 255
    ious = []
    for index in {*truth[known].tolist()}:
        a, b = (prediction == index)[known], (truth == index)[known]
        ious.append(100 * (a & b).sum() / (a | b).sum())
    return float(np.mean(ious))


def test_masks_are_scored_image_by_image_and_together(
    folders: Path, drawn: list[list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    compare("bad", "good", *PLAIN, "--ids", *IDS[:2], "--names", "CAM", "AMN")
    scores = table()
    (folders / "list.txt").write_text("\n".join(IDS))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    for column, folder in (("CAM", "bad"), ("AMN", "good")):
        for name, found in zip(IDS, scores[column], strict=True):
            pair = [np.array(Image.open(f"{where}/{name}.png")) for where in (folder, PLAIN[-1])]
            assert found == pytest.approx(image_iou(*pair), abs=1e-4)
        both = evaluate(folders / folder, folders / PLAIN[-1], folders / "list.txt", 2)
        assert [column, f"{both.result.miou:.2f}", f"{np.mean(scores[column]):.2f}"] in printed
    assert printed[-1] == ["written:", "out/figure.png,", "out/figure.csv"]
    titles, *rows = drawn[0]
    assert titles == ["image", "truth", "CAM", "AMN"]
    assert rows == [
        [name, "", f"IoU {scores['CAM'][row]:.1f}", f"IoU {scores['AMN'][row]:.1f}"]
        for row, name in enumerate(IDS[:2])
    ]


@pytest.mark.usefixtures("drawn")
def test_seeds_of_every_layout_are_scored_at_their_threshold(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("bad", "irn", "amn", "seam", "compact", *PLAIN, "--thresholds", 0.4, 0.4, 0.4, 0.7)
    (folders / "list.txt").write_text("\n".join(IDS))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    for style, cut in (("irn", 0.4), ("amn", 0.4), ("seam", 0.4), ("compact", 0.7)):
        found = evaluate(folders / style, folders / PLAIN[-1], folders / "list.txt", 2, thresholds=[cut])
        (line,) = [line for line in printed if line[0] == style]
        assert line[1] == f"{found.result.miou:.2f}"
        assert line[3] == f"{cut:.3f}"
    before = table()
    assert before["irn"] == before["amn"] == before["seam"] != before["compact"]
    compare("bad", "irn", "amn", *PLAIN, "--thresholds", 0.4)
    assert table() == {name: before[name] for name in ("bad", "irn", "amn")}


@pytest.mark.usefixtures("drawn")
def test_one_folder_of_seeds_can_be_compared_at_two_thresholds() -> None:
    compare("irn", "irn", *PLAIN, "--thresholds", 0.2, 0.6, "--names", "low", "high")
    assert table()["low"] != table()["high"]


@pytest.mark.parametrize("kind", ["Folder", "VOC", "COCO", "Synthetic"])
def test_images_and_masks_come_from_any_data_module(
    kind: str, folders: Path, drawn: list[list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = ["--data", f"fbr_plugin.data.{kind}DataModule"]
    root, masks = folders / kind, folders / "predicted"
    if kind == "Synthetic":
        words += ["--data.num_images", 6, "--data.size", 32]
        write_scene_labels(masks, 6, 32)
    elif kind == "COCO":
        write_coco(root, 6)
        words += ["--data.root", root]
        rasterise_instances(root / "annotations" / "instances_val2014.json", masks)
        for file in masks.iterdir():
            file.rename(masks / f"{file.stem[-12:]}.png")
    else:
        masks = write_photos(root, 20 if kind == "VOC" else 2) / "SegmentationClass"
        words += ["--data.root", root]
    worse = folders / "worse"
    for file in masks.iterdir():
        write_mask(worse / file.name, eroded(read_mask(file, 254)))
    compare(masks, worse, *words)
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[-3:-1]}
    assert lines[masks.name] == ["100.00", "100.00"]
    assert float(lines["worse"][0]) < 100
    ((titles, *rows),) = drawn
    assert titles == ["image", "truth", masks.name, "worse"]
    assert len(rows) == 5
    assert all(row[2] == "IoU 100.0" for row in rows)


def test_a_list_of_the_data_selects_images(folders: Path, drawn: list[list[list[str]]]) -> None:
    (folders / "photos" / "ImageSets" / "Segmentation" / "few.txt").write_text("\n".join(IDS[1:3]))
    words = ["bad", "good", "--data", "fbr_plugin.data.FolderDataModule", "--data.root", "photos"]
    compare(*words, "--list", "few", "--rows", "random")
    assert [row[0] for row in drawn[0][1:]] == IDS[1:3]
    (folders / "other.txt").write_text("no_such_image")
    for folder in ("bad", "good"):
        write_mask(folders / folder / "no_such_image.png", np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"^1 of the 1 ids on the list are of no image in the data"):
        compare(*words, "--list", folders / "other.txt")


def test_rows_are_gains_losses_random_or_given(folders: Path, drawn: list[list[list[str]]]) -> None:
    def shown(*words: object) -> list[str]:
        drawn.clear()
        compare("bad", "good", *PLAIN, "--rows_per_page", 2, *words)
        return [row[0] for page in drawn for row in page[1:]]

    assert shown() == shown("--rows", "quantiles") == [IDS[4], IDS[1]], "the middle ones of two halves"
    assert shown("--rows", "gain") == IDS[:2]
    assert shown("--rows", "loss") == IDS[:-3:-1]
    assert shown("--rows", "gain", "--pages", 2) == IDS[:4]
    random = [shown("--rows", "random", "--seed", seed) for seed in (1, 2, 1)]
    assert random[0] == random[2] != random[1]
    assert shown("--ids", IDS[4], IDS[0], IDS[5]) == [IDS[4], IDS[0], IDS[5]]
    assert shown("--ids", IDS[4], IDS[0], IDS[5], "--pages", 1) == [IDS[4], IDS[0]]
    (folders / "shown.txt").write_text(f"{IDS[3]}\n{IDS[1]}\n")
    assert shown("--ids", "shown.txt") == [IDS[3], IDS[1]]


@pytest.mark.usefixtures("drawn")
def test_every_figure_says_how_its_images_were_chosen() -> None:
    for words, rule in (
        ([], "Images at evenly spaced quantiles of the change in IoU from bad to good, lowest first."),
        (["--rows", "gain"], "The images with the largest gain of IoU from bad to good."),
        (["--rows", "loss"], "The images with the largest loss of IoU from bad to good."),
        (["--rows", "random"], "Images drawn at random."),
        (["--ids", IDS[0]], "Images chosen by name."),
    ):
        with patch.object(figures, "examples", wraps=figures.examples) as examples:
            compare("bad", "good", *PLAIN, *words)
        assert examples.call_args.args[-1] == rule


def test_several_pages_are_numbered_pngs_or_one_pdf() -> None:
    words = ["bad", "good", *PLAIN, "--rows_per_page", 4, "--pages", 9]
    compare(*words)
    names = ["figure.csv", *(f"figure_{number}.png" for number in (1, 2))]
    assert sorted(file.name for file in Path("out").iterdir()) == names
    compare(*words, output="book/figure.pdf")
    assert sorted(file.name for file in Path("book").iterdir()) == ["figure.csv", "figure.pdf"]
    assert b"/Count 2" in Path("book/figure.pdf").read_bytes()


def test_without_true_masks_there_are_images_but_no_scores(
    drawn: list[list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    compare("bad", "good", *PLAIN[:2], "--names", "CAM", "AMN")
    titles, *rows = drawn[0]
    assert titles == ["image", "CAM", "AMN"]
    assert len(rows) == 5
    assert all(row[1:] == ["", ""] for row in rows)
    assert "no true masks" in capsys.readouterr().out
    assert not Path("out").exists(), "no table without scores"
    with pytest.raises(UserError, match=r"^--rows loss needs true masks: give --masks"):
        compare("bad", "good", *PLAIN[:2], "--rows", "loss")


def test_an_image_whose_mask_is_ignored_everywhere_has_no_score(drawn: list[list[list[str]]]) -> None:
    write_mask(Path(PLAIN[-1], f"{IDS[0]}.png"), np.full((32, 36), 255))
    compare("bad", "good", *PLAIN, "--pages", 2)
    assert Path("out/figure.csv").read_text().splitlines()[1] == f"{IDS[0]},,"
    assert [row[0] for row in drawn[0][1:]] == IDS[:0:-1], "nor a change of its IoU"
    compare("bad", "good", *PLAIN, "--ids", IDS[0])
    assert drawn[-1][1] == [IDS[0], "", "", ""]
    for number, name in enumerate(IDS):
        write_mask(Path(PLAIN[-1], f"{name}.png"), np.full((32, 36 + number), 255))
    with pytest.raises(UserError, match=r"^the true masks are 255 everywhere"):
        compare("bad", "good", *PLAIN)


@pytest.mark.usefixtures("drawn")
def test_images_that_a_folder_lacks_are_left_out_unless_they_are_listed(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "good" / f"{IDS[5]}.png").unlink()
    compare("bad", "good", *PLAIN)
    assert f"left out: good lacks 1 of 6 images, the first is {IDS[5]}" in capsys.readouterr().out
    assert len(table()["bad"]) == 5
    (folders / "list.txt").write_text("\n".join(IDS))
    with pytest.raises(UserError, match=rf"^good lacks 1 of 6 images, the first is {IDS[5]}: is this"):
        compare("bad", "good", *PLAIN, "--list", "list.txt")
    for name in IDS[:3]:
        (folders / "good" / f"{name}.png").unlink()
    for name in IDS[3:]:
        (folders / "irn" / f"{name}.npy").unlink()
    with pytest.raises(UserError, match=r"^no image of 6 has a file in every folder"):
        compare("bad", "good", "irn", *PLAIN, "--thresholds", 0.3)


def test_folders_are_named_by_what_tells_them_apart(folders: Path, drawn: list[list[list[str]]]) -> None:
    for run, kept in (("1", "bad"), ("2", "good")):
        (folders / run).mkdir()
        (folders / kept).rename(folders / run / "masks")
    compare("1/masks", "2/masks", *PLAIN)
    assert drawn[0][0] == ["image", "truth", "1/masks", "2/masks"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bad"], "a comparison needs two or more folders, got 1"),
        (["bad", "nowhere"], "nowhere does not exist: name a folder of masks or seeds"),
        (["nowhere", "bad"], "nowhere does not exist: name a folder of masks or seeds"),
        (["empty", "bad"], r"empty holds neither masks \(ID.png\) nor seeds \(ID.npy, ID.npz\)"),
        (["bad", "empty"], r"empty holds neither a seed .* such as 2007_000000"),
        (["bad", "others"], r"others holds neither a seed .* such as 2007_000000"),
        (["bad", "./bad"], "bad is given twice: leave it out once, or give its seeds two thresholds"),
        (["bad", "good", "--names", "A", "A"], "two columns would be called 'A'"),
        (["bad", "good", "--names", "A", "truth"], "two columns would be called 'truth'"),
        (["bad", "good", "--names", "A"], "1 names for 2 folders: give one name for each"),
        (["bad", "irn"], "irn holds seeds: give the threshold that their scores must exceed"),
        (["bad", "good", "--thresholds", ".3"], r"all folders hold masks, .*: leave out \[0.3\]"),
        (["bad", "irn", "--thresholds", ".3", ".4"], "2 thresholds for 1 folders of seeds"),
        (
            ["bad", "irn", "--thresholds", "-1"],
            r"thresholds must be one or more numbers in \[0, 1\] .* \(-1.0,\)",
        ),
        (
            ["bad", "good", "--ids", "nobody"],
            "the id nobody is not among the 6 images .* such as 2007_000000",
        ),
        (["bad", "good", "--ids", IDS[0], "--rows", "gain"], "--ids and --rows gain exclude each other"),
        (["bad", "good", "--rows_per_page", "0"], "--rows_per_page must be at least 1, got 0"),
        (
            ["bad", "good", "--rows_per_page", "6"],
            "--rows_per_page 6 is more than the 5 that a screen has room for: give more --pages",
        ),
        (["bad", "good", "--pages", "0"], "--pages must be at least 1, got 0"),
        (["bad", "good", "--list", "no.txt"], r"no.txt does not exist: create it"),
        (["bad", "good", "--num_classes", "1"], r"000001.png holds the value 2, but a mask of 1 classes"),
        (
            ["bad", "good", "--data", "fbr_plugin.data.VOCDataModule"],
            "--data and --images exclude each other",
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, folders: Path) -> None:
    (folders / "empty").mkdir()
    write_mask(folders / "others" / "x.png", np.zeros((2, 2)))
    (folders / "photos" / "classes.txt").unlink()
    if "--data" in words:
        words = [*words, "--data.root", "photos"]
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        compare(*words, *PLAIN)
    assert not (folders / "out").exists()


def test_mistakes_about_images_and_output_are_one_line() -> None:
    with pytest.raises(UserError, match=r"^the images are missing: give --images DIR, or --data CLASS"):
        compare("bad", "good")
    with pytest.raises(UserError, match=r"^nowhere lacks 6 of 6 images, the first is 2007_000000"):
        compare("bad", "good", "--images", "nowhere")
    with pytest.raises(UserError, match=r"^the suffix of --output .*jpg must be one of '\.png', '\.pdf'"):
        compare("bad", "good", *PLAIN, output="figure.jpg")


def test_files_that_cannot_be_used_are_named(folders: Path) -> None:
    path = folders / "good" / f"{IDS[1]}.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(UserError, match=rf"^good.{IDS[1]}\.png cannot be read .* truncated"):
        compare("bad", "good", *PLAIN)
    write_mask(path, np.zeros((3, 4)))
    with pytest.raises(UserError, match=rf"{IDS[1]}\.png is 4x3 pixels, but its image is 37x32"):
        compare("bad", "good", *PLAIN)
    write_mask(path, np.full((32, 37), 9))
    with pytest.raises(UserError, match=rf"{IDS[1]}\.png holds the value 9, but a mask of 2 classes holds"):
        compare("bad", "good", *PLAIN)
    path.write_bytes(whole)
    seed = Seed(np.array([5]), np.zeros((1, 32, 37), np.float32))
    write_seed(folders / "irn" / f"{IDS[1]}.npy", seed, "irn")
    with pytest.raises(UserError, match=rf"{IDS[1]}\.npy: keys must be 0 to 1, got \[5\]"):
        compare("bad", "irn", *PLAIN, "--thresholds", 0.3)
    write_seed(folders / "irn" / f"{IDS[1]}.npy", Seed(np.array([1]), np.zeros((1, 5, 7), np.float32)), "irn")
    with pytest.raises(UserError, match=rf"{IDS[1]}\.npy is 7x5 pixels, but its image is 37x32"):
        compare("bad", "irn", *PLAIN, "--thresholds", 0.3)


@pytest.mark.slow
def test_real_masks_against_damaged_ones(
    real_data: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = real_data / "msrc"
    ids = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[::25]
    for name in ids:
        truth = read_mask(root / "SegmentationClass" / f"{name}.png", 14)
        write_mask(folders / "eroded" / f"{name}.png", eroded(truth))
        write_mask(folders / "same" / f"{name}.png", truth)
    (folders / "list.txt").write_text("\n".join(ids))
    compare("eroded", "same", "--data", "fbr_plugin.data.FolderDataModule", "--data.root", root)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = evaluate(folders / "eroded", root / "SegmentationClass", folders / "list.txt")
    assert next(line for line in printed if line[0] == "eroded")[1] == f"{found.result.miou:.2f}"
    assert next(line for line in printed if line[0] == "same")[1] == "100.00"
