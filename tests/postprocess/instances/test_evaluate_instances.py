"""Scores of a folder of instances against both forms of truth."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.naive_instances import Pair, naive, random_pair
from helpers.tiny import command
from torchmetrics.detection import MeanAveragePrecision, mean_ap

from fbr_plugin.data.instances.arrays import to_tensors
from fbr_plugin.data.instances.codes import encode
from fbr_plugin.data.instances.files import write_instances
from fbr_plugin.data.instances.voc import read_voc_instances, write_voc_instances
from fbr_plugin.instances import Instances
from fbr_plugin.metrics import COCOInstanceAP
from fbr_plugin.postprocess.instances.evaluate import evaluate_instances, score_instances

IDS = [f"img_{number}" for number in range(6)]


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Predictions in `found`, true instances as VOC's PNGs and as an annotation file, of two classes."""
    rng = np.random.default_rng(3)
    made = [random_pair(rng, 2, distinct=True) for _ in IDS]
    images, annotations = [], []
    for number, (name, (pred, truth)) in enumerate(zip(IDS, made, strict=True)):
        write_instances(tmp_path / "found" / f"{name}.json", pred)
        paths = [tmp_path / kind / f"{name}.png" for kind in ("SegmentationObject", "SegmentationClass")]
        write_voc_instances(*paths, Instances(masks=truth["masks"], labels=truth["labels"]))
        height, width = truth["masks"].shape[1:]
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        for mask, label, crowd in zip(
            truth["masks"], truth["labels"].tolist(), truth["iscrowd"].tolist(), strict=True
        ):
            record = {"image_id": number, "category_id": 10 * label, "iscrowd": int(crowd)}
            annotations.append({**record, "segmentation": encode(mask.numpy())})
    categories = [{"id": 10, "name": "cat"}, {"id": 20, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return made


def expected(pairs: list[Pair]) -> dict[str, float]:
    return {
        name: pytest.approx(100 * value, abs=1e-4, nan_ok=True) for name, value in naive(pairs, 2).items()
    }


def test_an_annotation_file_as_truth(tmp_path: Path, pairs: list[Pair]) -> None:
    found = score_instances(tmp_path / "found", tmp_path / "truth.json", tmp_path / "list.txt")
    assert found.result.scores() == expected(pairs)
    assert (found.num_images, found.class_names) == (6, ("cat", "dog"))
    metric = COCOInstanceAP()
    metric.update(*zip(*pairs, strict=True))
    assert found.coco == pytest.approx(metric.compute(), nan_ok=True)


def test_a_folder_of_objects_as_truth(tmp_path: Path, pairs: list[Pair]) -> None:
    folder = tmp_path / "SegmentationObject"
    found = score_instances(tmp_path / "found", folder, tmp_path / "list.txt", output=tmp_path / "out.json")
    no_crowd: list[Pair] = [(p, {**t, "iscrowd": torch.zeros_like(t["iscrowd"])}) for p, t in pairs]
    assert found.result.scores() == expected(no_crowd)
    assert found.class_names == ("cat", "dog")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["ap_50"] == found.result.ap[1]
    assert {"abo", "coco_ap", "coco_ap_large", "num_images", "result"} < {*content}


def test_words_of_a_command_line(
    tmp_path: Path, pairs: list[Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--predictions", tmp_path / "found", "--list", tmp_path / "list.txt", "--truth"]
    command("evaluate", "instances", *words, tmp_path / "truth.json")
    out = capsys.readouterr().out
    assert all(
        word in out for word in ("6 images", "cat", "dog", "mean", "AP75", "ABO", "AP^r_vol", "coco_ap")
    )
    with pytest.raises(ValueError, match=r"found holds neither a seed .* nor a mask"):
        command("evaluate", *words[:4], "--masks", tmp_path / "SegmentationClass")


def test_targets_in_memory(tmp_path: Path, pairs: list[Pair]) -> None:
    found = evaluate_instances(tmp_path / "found", zip(IDS, (truth for _, truth in pairs), strict=True), 2)
    assert found.scores() == {**expected(pairs), **found.coco}
    with pytest.raises(ValueError, match="there is no image to score the instances in"):
        evaluate_instances(tmp_path / "found", [], 2)


def test_wrong_input_is_named(tmp_path: Path, pairs: list[Pair]) -> None:
    found, truth, listed = tmp_path / "found", tmp_path / "truth.json", tmp_path / "list.txt"
    with pytest.raises(ValueError, match=r"num_classes is 3, but .*classes\.txt names 2"):
        score_instances(found, tmp_path / "SegmentationObject", listed, num_classes=3)
    small = Instances(masks=torch.ones(1, 2, 3).bool(), labels=torch.ones(1).long(), scores=torch.ones(1))
    write_instances(found / "img_0.json", small)
    with pytest.raises(ValueError, match=r"img_0\.json: image 0: predicted masks are 3x2 pixels, true ones"):
        score_instances(found, truth, listed)
    write_instances(found / "img_9.json", small)
    listed.write_text("img_9")
    with pytest.raises(ValueError, match=r"truth\.json lists no image img_9: is it the file of another list"):
        score_instances(found, truth, listed)
    with pytest.raises(
        FileNotFoundError, match=r"1 of 1 true masks of objects are missing, the first .* img_9"
    ):
        score_instances(found, tmp_path / "SegmentationObject", listed)
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist: write COCO's annotations there"):
        score_instances(found, tmp_path / "none.json", listed)
    (found / "img_9.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 1 instances are missing, the first is that of id img_9"
    ):
        score_instances(found, truth, listed)


def empty(number: int = 0) -> Instances:
    masks, labels = torch.ones(number, 4, 4).bool(), torch.ones(number).long()
    return Instances(masks=masks, labels=labels, scores=torch.ones(number))


def test_coco_ap_counts_what_torchmetrics_leaves_out() -> None:
    """A false positive in an image without objects halves the precision; nothing predicted is AP 0."""
    truth = Instances(masks=torch.ones(1, 4, 4).bool(), labels=torch.ones(1).long())
    none = Instances(masks=torch.zeros(0, 4, 4).bool(), labels=torch.zeros(0).long())
    wrong, right = {**empty(1), "scores": torch.tensor([0.9])}, {**empty(1), "scores": torch.tensor([0.8])}
    ours, theirs = COCOInstanceAP(), MeanAveragePrecision(iou_type="segm")
    for metric in (ours, theirs):
        metric.update([right, wrong], [truth, none])  # type: ignore[list-item]
    assert ours.compute()["coco_ap"] == pytest.approx(50)
    assert theirs.compute()["map"] == 1
    ours.reset()
    ours.update([empty()], [truth])
    assert ours.compute()["coco_ap"] == 0
    ours.reset()
    ours.update([empty(1)], [none])
    assert all(map(math.isnan, ours.compute().values()))
    with pytest.raises(ValueError, match="1 images have predictions, but 0 have true instances"):
        ours.update([empty()], [])


def test_coco_ap_asks_for_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PYCOCOTOOLS_AVAILABLE", "_FASTER_COCO_EVAL_AVAILABLE"):
        monkeypatch.setattr(mean_ap, name, False)
    with pytest.raises(ImportError, match=r"COCO's AP needs pycocotools: pip install 'fbr_plugin\[coco\]'"):
        COCOInstanceAP()


def test_real_objects_against_themselves(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "msrc"
    names = [path.stem for path in sorted((root / "SegmentationObject").glob("*.png"))[:30]]
    for name in names:
        truth = to_tensors(
            read_voc_instances(
                *(root / kind / f"{name}.png" for kind in ("SegmentationObject", "SegmentationClass")), 14
            )
        )
        scored = Instances(
            masks=truth["masks"], labels=truth["labels"], scores=torch.ones(len(truth["labels"]))
        )
        write_instances(tmp_path / f"{name}.json", scored)
    (tmp_path / "list.txt").write_text("\n".join(names))
    found = score_instances(tmp_path, root / "SegmentationObject", tmp_path / "list.txt")
    assert found.result.ap == (100,) * 4
    assert (found.result.abo, found.coco["coco_ap"]) == (100, pytest.approx(100))
