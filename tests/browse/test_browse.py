"""`fbr-plugin browse`: what its files hold, the runs that it reads, and mistakes in one line."""

import io
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from helpers.browsing import PLAIN, SIZES, mask_at, read_call, small, write_runs
from helpers.tiny import command
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.browse.page import write_page
from fbr_plugin.browse.pictures import instance_plane, seed_planes
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.errors import UserError
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS
from fbr_plugin.postprocess.comparison import Predictions, compare
from fbr_plugin.postprocess.evaluate import evaluate
from fbr_plugin.postprocess.seed_files import read_seed
from fbr_plugin.postprocess.seeds import Seed


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos and runs in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path)
    return tmp_path


def planes(number: int, layer: int) -> list[NDArray[np.uint8]]:
    """The maps that the page has of an image and a layer."""
    _, layers = read_call(Path(f"browse/data/{number}.js"))
    return [np.array(Image.open(io.BytesIO(b64decode(text)))) for text in layers[layer]["planes"]]


def test_two_maps_give_the_mask_at_every_threshold() -> None:
    rng = np.random.default_rng(1)
    cuts = np.array(BACKGROUND_THRESHOLDS, np.float32)
    scores = np.concatenate([rng.choice(cuts, (3, 20, 30)), rng.random((3, 20, 30), np.float32)], 1)
    scores[1, :5] = scores[0, :5]  # equal: the first class
    seed = Seed(np.array([4, 0, 2]), scores)
    classes, levels = seed_planes(seed)
    assert classes.dtype == levels.dtype == np.uint8
    for index, cut in enumerate(BACKGROUND_THRESHOLDS):
        assert np.array_equal(np.where(levels > index, classes, 0), mask_at(scores, seed.keys, cut))
    empty = seed_planes(Seed(np.zeros(0, np.int64), np.zeros((0, 4, 5), np.float32)))
    assert [plane.tolist() for plane in empty] == [[[0] * 5] * 4] * 2


def test_the_files_hold_small_maps_without_loss_and_all_counts() -> None:
    command("browse", "cam", "masks", "instances", *PLAIN)
    (page,) = read_call(Path("browse/data/images.js"))
    assert [(each["name"], each["kind"]) for each in page["layers"]] == [
        ("truth", "masks"),
        ("true instances", "instances"),
        ("cam", "seeds"),
        ("masks", "masks"),
        ("instances", "instances"),
        ("instances lowered by the gate", "gate"),
        ("instances NROIs", "nroi"),
    ]
    assert [image["id"] for image in page["images"]] == [*SIZES]
    assert [image["counts"][3] is None for image in page["images"]] == [False, False, False, True]
    source = LayoutSource([*SIZES], Path("photos"), Path("truth"), 3, None)
    for number, name in enumerate(SIZES):
        truth = source[number]["mask"]
        assert np.array_equal(planes(number, 0)[0], small(truth))
        assert page["images"][number]["true"] == sorted({*truth.flat} - {0, 255})
        if name != "d":
            assert np.array_equal(planes(number, 5)[0], small(truth % 255))
            (numbers,) = planes(number, 6)
            assert [*np.unique(numbers)] == [*range(36)]
            assert page["images"][number]["counts"][5:] == [[], []], "maps have no score"
        classes, levels = planes(number, 2)
        seed = read_seed(f"cam/{name}.npz", truth.shape)
        for index in (0, 30, 59, 123):
            mask = mask_at(seed.scores, seed.keys, BACKGROUND_THRESHOLDS[index])
            assert np.array_equal(np.where(levels > index, classes, 0), small(mask))
        with Image.open(f"browse/photos/{number}.jpg") as photo:
            assert photo.size == classes.shape[::-1]


def test_the_counts_give_the_scores_of_compare_and_evaluate() -> None:
    command("browse", "cam", "masks", *PLAIN)
    (page,) = read_call(Path("browse/data/images.js"))
    source = LayoutSource([*SIZES], Path("photos"), Path("truth"), 3, None)
    for index in (0, 30, 123):
        expected = compare(source, [Predictions("", Path("cam"), ".npz", BACKGROUND_THRESHOLDS[index])])
        total = np.zeros((4, 3))
        for image, iou in zip(page["images"], expected.iou[:, 0], strict=True):
            rows = [
                (k, sum(hits[: index + 1]), sum(own[: index + 1]), n)
                for k, n, hits, own in image["counts"][2]
            ]
            for k, *counts in rows:
                total[k] += counts
            found = [100 * hits / (own + n - hits) for _, hits, own, n in rows if n]
            assert np.mean(found) == pytest.approx(iou)
        hits, own, n = total.T
        assert 100 * hits / (own + n - hits) == pytest.approx(np.array(expected.results[0].iou))
    Path("list.txt").write_text("\n".join(SIZES))
    sweep = evaluate(Path("cam"), Path("truth"), Path("list.txt")).sweep
    assert sweep is not None
    assert BACKGROUND_THRESHOLDS[page["layers"][2]["oracle"]] == sweep.oracle_threshold
    assert page["start"] == page["layers"][2]["oracle"]


def test_instances_are_drawn_the_largest_below_and_the_least_certain_left_out() -> None:
    command("browse", "instances", *PLAIN)
    (plane,) = planes(2, 2)
    _, layers = read_call(Path("browse/data/2.js"))
    assert layers[2]["instances"] == [[1, 0.9], [3, 0.3]]
    expected = np.zeros(SIZES["c"], np.uint8)
    expected[5:20, 5:30], expected[10:15, 10:20] = 1, 2
    assert np.array_equal(plane, expected)
    many = {"masks": np.eye(300, dtype=bool)[:, None], "labels": np.ones(300, int)}
    plane, named = instance_plane({**many, "scores": np.linspace(0.1, 1, 300, dtype=np.float32)})
    assert len(named) == plane.max() == 254
    assert (plane[0, :46] == 0).all(), "the best ones are kept"


def test_images_without_truth_have_no_scores_and_those_without_any_file_are_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command("browse", "masks", "--images", "photos", "--class_names", *"ABC")
    (page,) = read_call(Path("browse/data/images.js"))
    assert [image["counts"] for image in page["images"]] == [[None, None, []]] * 3
    assert page["images"][0]["classes"] == [1, 3]
    assert page["classes"] == ["background", *"ABC"]
    assert BACKGROUND_THRESHOLDS[page["start"]] == 0.25
    assert "left out: 1 of 4 images, of which no run has a file" in capsys.readouterr().out


def test_the_stages_and_the_data_of_a_pipeline_are_known(folder: Path) -> None:
    photos = folder / "data"
    (photos / "ImageSets" / "Segmentation").mkdir(parents=True)
    (photos / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb")
    (photos / "ImageSets" / "Segmentation" / "val.txt").write_text("c")
    (folder / "classes.txt").rename(photos / "classes.txt")
    (photos / "labels.csv").write_text("id,boat,cow,train\na,1,0,1\nb,0,1,0\nc,0,0,0")
    (folder / "photos").rename(photos / "JPEGImages")
    (folder / "truth").rename(photos / "SegmentationClass")
    run = folder / "run"
    for stage, inner in {"seeds": ".", "masks": "masks", "predictions": "masks", "irn": "curves"}.items():
        (run / stage / inner).mkdir(parents=True)
        for name in "c" if stage == "predictions" else "ab":
            kind = "cam" if stage == "seeds" else "masks"
            (file,) = (folder / kind).glob(f"{name}.*")
            if stage != "irn":
                (run / stage / inner / file.name).write_bytes(file.read_bytes())
        record = {"made_of": {"settings": {}, "inputs": {}}, "files": {}}
        (run / stage / "stage.json").write_text(json.dumps(record))
    for name in "ab":
        write_mask(run / "masks" / "unrefined" / f"{name}.png", np.zeros(SIZES[name]))
    (run / "predictions.partial").mkdir()
    data = {"class_path": "fbr_plugin.data.FolderDataModule", "init_args": {"root": "data"}}
    stages: dict[str, object] = {
        name: {} for name in ("irn", "seeds", "masks", "segmentation", "predictions")
    }
    (run / "report.json").write_text(json.dumps({"settings": {"data": data}, "stages": stages}))
    command("browse", "run")
    (page,) = read_call(Path("browse/data/images.js"))
    names = [each["name"] for each in page["layers"]]
    assert names == ["truth", "true instances", "seeds", "unrefined", "masks", "predictions"]
    shown = {image["id"]: [counts is not None for counts in image["counts"]] for image in page["images"]}
    assert shown == {
        "c": [True, False, False, False, False, True],
        "a": [False, False, True, True, True, False],
        "b": [False, False, True, True, True, False],
    }
    assert [image["true"] for image in page["images"]] == [[], [1, 3], [2]], "labels, where there is no mask"
    command("browse", "run", "masks", "--names", "A", "B", "--list", "train")
    (page,) = read_call(Path("browse/data/images.js"))
    names = [each["name"] for each in page["layers"]]
    assert names[2:] == ["A seeds", "A unrefined", "A masks", "B"], "predictions are of other images"


def test_the_folder_appears_whole_or_not_at_all(folder: Path) -> None:
    command("browse", "masks", *PLAIN, "--output", "out/page")
    before = Path("out/page/data/images.js").read_bytes()
    (folder / "masks" / "c.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"^masks.c\.png cannot be read"):
        command("browse", "masks", *PLAIN, "--output", "out/page")
    assert Path("out/page/data/images.js").read_bytes() == before
    (folder / "masks" / "c.png").unlink()
    command("browse", "masks", *PLAIN, "--output", "out/page")
    assert [path.name for path in Path("out").iterdir()] == ["page"]
    assert len([*Path("out/page/data").iterdir()]) == 3
    files = {path.name for path in Path("out/page").iterdir()}
    assert files == {"index.html", "browse.js", "browse.css", "data", "photos"}


def test_true_instances_come_from_the_data(folder: Path) -> None:
    masks = np.zeros((2, 40, 52), bool)
    masks[0, 3:9], masks[1, 20:30] = True, True

    class Source:
        ids, num_classes = ["c"], 3

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> dict[str, object]:
            instances = {"masks": masks, "labels": np.array([2, 1])}
            return {"id": "c", "image": np.zeros((40, 52, 3), np.uint8), "instances": instances}

    write_page(folder / "browse", Source(), [], "ABC")
    _, layers = read_call(folder / "browse" / "data" / "0.js")
    assert layers[1]["instances"] == [[1, None], [2, None]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", *PLAIN], r"^nowhere does not exist: name a run's folder$"),
        (["photos/..", *PLAIN], r"^photos/.. holds neither seeds .* of the 4 images, such as a: name"),
        (["cam", "./cam", *PLAIN], r"^a run is given twice: cam, cam; give each once$"),
        (["cam", "masks", "--names", "A", "A", *PLAIN], r"^--names A A: give each of the 2 runs a name"),
        (["cam", "masks", "--names", "A", *PLAIN], r"^--names A: give each of the 2 runs a name"),
        (["mixed", *PLAIN], r"^mixed holds files \.png and \.npz of the same images: name a folder of one"),
        (["cam"], r"^the images are missing: give --images DIR, or --data CLASS --data.root DIR$"),
        (["cam", "--images", "nowhere"], r"^--images nowhere does not exist: name the folder of the images$"),
        (["cam", "--images", "cam"], r"^--images cam holds no image: name the folder of ID.jpg or ID.png$"),
        (["cam", *PLAIN, "--list", "no.txt"], r"^no.txt does not exist"),
        (["cam", *PLAIN, "--num_classes", "2"], r"num_classes is 2, but classes.txt names 3 classes"),
        (["cam", *PLAIN, "--output", "photos"], r"^--output photos exists and is not a page of this command"),
        (["cam", *PLAIN, "--class_names", "boat"], r"keys must be 0 to 0, got \[2\]|holds the value 3"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, folder: Path) -> None:
    for file in (folder / "cam" / "a.npz", folder / "masks" / "a.png"):
        (folder / "mixed").mkdir(exist_ok=True)
        (folder / "mixed" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=message) as error:
        command("browse", *words)
    assert "\n" not in str(error.value)
    assert not Path("browse").exists()


def test_a_prediction_of_another_size_is_named(folder: Path) -> None:
    write_mask(folder / "masks" / "b.png", np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"^masks.b\.png is 4x3 pixels, but its image is 60x90"):
        command("browse", "masks", *PLAIN)
    file = folder / "instances" / "b.json"
    text = (folder / "instances" / "c.json").read_text()
    file.write_text(text.replace('"image": "c"', '"image": "b"'))
    with pytest.raises(UserError, match=r"^instances.b\.json is 52x40 pixels, but its image is 60x90"):
        command("browse", "instances", *PLAIN)
