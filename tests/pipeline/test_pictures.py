"""The pipeline's figures of masks: which images they show, and what they say of them."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from fbr_plugin import figures
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.pipeline.stages import draw_masks, score_masks


@pytest.mark.filterwarnings("error")
def test_images_are_spread_over_the_quantiles_of_their_iou(tmp_path: Path) -> None:
    data = SyntheticDataModule(num_images=12, size=32)
    source = data.dataset("test").source
    for item in map(source.__getitem__, range(12)):
        lost = item["mask"] * (np.arange(32) >= 2 * int(item["id"][-2:]))
        write_mask(tmp_path / "masks" / f"{item['id']}.png", lost)
        write_mask(tmp_path / "before" / f"{item['id']}.png", item["mask"])
    folders = {"before": tmp_path / "before", "after": tmp_path / "masks"}
    scores, ious = score_masks(folders, data)
    assert scores["before"] == ious[0] == 100 > scores["after"]
    order = sorted(ious, key=lambda index: ious[index])
    with patch.object(figures, "examples", wraps=figures.examples) as examples:
        draw_masks(folders, data, ious, tmp_path / "examples.png")
    _, truths, maps, _ = examples.call_args.args
    assert examples.call_args.kwargs["note"].endswith("quantiles of the IoU of 'after', lowest first.")
    for truth, part in zip(truths, (1, 3, 6, 8, 10), strict=True):
        assert np.array_equal(truth, source[order[part]]["mask"])
    assert [*maps] == ["before", "after"]
    assert (tmp_path / "examples.png").is_file()


def test_without_masks_nothing_is_drawn(tmp_path: Path) -> None:
    data = SyntheticDataModule(num_images=2, size=32)
    scores, ious = score_masks({"miou": tmp_path}, data)
    draw_masks({"masks": tmp_path}, data, ious, tmp_path / "examples.png")
    assert scores == ious == {}
    assert not (tmp_path / "examples.png").exists()
