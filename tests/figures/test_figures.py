"""Figures: what they show, what they refuse, and files that are whole."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from fbr_plugin import figures
from fbr_plugin.data.readers.images import voc_palette
from fbr_plugin.instances import Instances

NAMES = ("boat", "train", "sheep")
IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(2, 4, 6, dtype=torch.long)
LABELS[0, :2] = 2
LABELS[1, 0, 0] = 255
BOXES = torch.tensor([[1, 2, 9, 8], [0, 0, 23, 15]])
INSTANCES: list[Instances] = [
    {"masks": torch.ones(2, 16, 24) > 0, "labels": torch.tensor([1, 3]), "scores": torch.tensor([0.5, 0.0])},
    {"masks": torch.zeros(0, 16, 24) > 0, "labels": torch.zeros(0, dtype=torch.long)},
]
SWEEP = figures.threshold_sweep(
    [0.1, 0.2], {"CAM": [40.0, 50.0]}, {"CAM": {"oracle": 0.2, "label_free": 0.1}}
)
PRECISION = figures.precision_recall(
    [0.0, 0.5, 1.0], [40.0, 60.0, float("nan")], [100.0, 30.0, 0.0], 0.5, "PxAP 46.0"
)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn(figure: Figure, panel: int) -> np.ndarray:
    return np.asarray(figure.axes[panel].images[0].get_array())


def curves() -> Figure:
    return figures.loss_curves({"AMN": {"loss": ([0, 1], [1.0, 0.5])}, "AMN + FBR": {"fg": ([0], [1.0])}})


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.seeds_over_images(IMAGES, LABELS, NAMES),
        lambda: figures.examples(IMAGES, LABELS, {"AMN": LABELS, "AMN + FBR": LABELS}, NAMES),
        lambda: figures.boxes_over_images(IMAGES, IMAGES[:, 0], [BOXES, BOXES[:1]], BOXES),
        lambda: figures.instances_over_images(IMAGES, {"truth": INSTANCES}, NAMES),
        lambda: figures.object_masks_over_images(IMAGES, IMAGES[:, 0], LABELS),
        lambda: PRECISION,
        lambda: figures.class_maps(IMAGES, {"seed": IMAGES[:, 0], "gate": IMAGES[:, 1, :4, :6]}),
        lambda: figures.nroi_clusters(IMAGES, LABELS - 1),
        lambda: figures.semantic_graph(torch.eye(3), NAMES),
        lambda: figures.semantic_graph(torch.zeros(26, 26), "abcdefghijklmnopqrstuvwxyz"),
        curves,
        lambda: SWEEP,
    ],
    ids=[
        "seeds",
        "examples",
        "boxes",
        "instances",
        "masks",
        "precision",
        "class maps",
        "nroi",
        "graph",
        "large graph",
        "losses",
        "sweep",
    ],
)
def test_every_figure_is_saved_whole_and_rendered(draw: Callable[[], Figure], tmp_path: Path) -> None:
    figure = draw()
    figures.save(figure, tmp_path / "new folder" / "figure.png")
    assert [file.name for file in (tmp_path / "new folder").iterdir()] == ["figure.png"]
    pixels = np.asarray(Image.open(tmp_path / "new folder" / "figure.png").convert("RGB"))
    assert pixels.std() > 0
    assert figures.to_array(figure).shape == pixels.shape


def test_labels_lie_over_the_image_on_its_grid_and_the_legend_names_those_present() -> None:
    figure = figures.seeds_over_images(IMAGES, LABELS, NAMES)
    image, overlay = IMAGES[0].permute(1, 2, 0).numpy(), drawn(figure, 2)
    assert np.array_equal(drawn(figure, 0), image)
    assert np.array_equal(overlay[8:], image[8:])
    tint = overlay[:8] - 0.35 * image[:8].mean(-1, keepdims=True)
    assert np.allclose(tint, 0.65 * voc_palette()[2] / 255, atol=1e-6)
    assert legend(figure) == ["train", "ignored"]


def test_examples_have_a_row_an_image_and_a_column_a_method() -> None:
    figure = figures.examples(IMAGES, LABELS, {"AMN": LABELS * 0 + 3}, NAMES)
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "AMN", "", "", ""]
    assert np.allclose(drawn(figure, 5), voc_palette()[3] / 255)
    assert drawn(figure, 4)[0, 0].min() > 0.7, "ignored pixels are light"


def test_examples_have_texts_below_and_no_column_of_truth_where_there_is_none() -> None:
    captions = {"image": ["a", "b"], "AMN": ["IoU 1.0", ""]}
    figure = figures.examples(IMAGES, None, {"CAM": LABELS, "AMN": LABELS}, NAMES, captions)
    assert [axes.get_title() for axes in figure.axes] == ["image", "CAM", "AMN", "", "", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "", "IoU 1.0", "b", "", ""]


def test_rows_are_as_high_as_their_photos() -> None:
    photos = [torch.rand(3, 20, 40), torch.rand(3, 40, 20)]
    figure = figures.examples(photos, None, {"a name that is wider than its column": LABELS}, NAMES)
    figures.to_array(figure)
    corners = [axes.get_window_extent() for axes in figure.axes]
    assert corners[0].width == pytest.approx(corners[2].height, rel=0.1)
    assert corners[0].height == pytest.approx(corners[0].width / 2)
    assert 0 < corners[0].y0 - corners[2].y1 < 0.1 * corners[2].height, "no gap between rows"
    assert figure.axes[1].get_title() == "a name that is\nwider than its\ncolumn"


def test_a_legend_of_long_names_is_no_wider_than_its_figure() -> None:
    photo, labels = torch.rand(1, 3, 20, 40), torch.arange(1, 9).repeat(4, 1)[None]
    figure = figures.examples(photo, None, {"CAM": labels}, [f"a class with number {n}" for n in range(8)])
    figures.to_array(figure)
    assert figure.legends[0].get_window_extent().width < figure.bbox.width


def test_cells_have_the_shape_of_the_photos() -> None:
    tall, wide = (torch.rand(3, *size) for size in ((30, 20), (20, 30)))
    width, height = figures.nroi_clusters(
        [wide] * 2, torch.zeros(2, 2, 3, dtype=torch.long)
    ).get_size_inches()
    assert width / height > 1.3
    width, height = figures.nroi_clusters(
        [tall] * 2, torch.zeros(2, 3, 2, dtype=torch.long)
    ).get_size_inches()
    assert width / height < 0.75


def test_images_of_different_sizes_can_be_drawn() -> None:
    images, labels = [torch.rand(3, 8, 8), torch.rand(3, 20, 10)], [LABELS[0], LABELS[1]]
    assert drawn(figures.examples(images, labels, {}, NAMES), 3).shape == (20, 10, 3)


def test_clusters_have_colours_of_their_own_and_the_rest_stays_clear() -> None:
    clusters = torch.tensor([[[-1, 0], [1, 7]]])
    overlay = drawn(figures.nroi_clusters(torch.ones(1, 3, 2, 2), clusters), 1)
    assert np.array_equal(overlay[0, 0], [1, 1, 1])
    assert len(np.unique(overlay.reshape(4, 3), axis=0)) == 4


def test_the_graph_shows_its_numbers_and_greys_classes_without_negatives() -> None:
    figure = figures.semantic_graph(torch.tensor([[0, 0.75, 0.25], [1, 0, 0], [0, 0, 0]]), NAMES)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.75", "0.25", "1.00"]
    assert np.ma.getmaskarray(axes.images[0].get_array()).tolist() == [[False] * 3, [False] * 3, [True] * 3]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(NAMES)


def test_losses_have_a_panel_a_term_and_a_line_only_where_there_are_values() -> None:
    ramp = (range(40), range(40))
    figure = figures.loss_curves({"AMN": {"loss": ramp}, "+FBR": {"loss": ramp, "fg": ([0], [1])}})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "fg"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 2]
    assert legend(figure) == ["AMN", "+FBR"]
    smoothed = figure.axes[0].lines[1].get_ydata()
    assert np.allclose(smoothed[2:-2], np.arange(40)[2:-2], atol=0.51)


def test_the_sweep_names_the_value_at_each_chosen_threshold() -> None:
    assert legend(SWEEP) == ["CAM", "oracle: 50.0 at 0.200", "label_free: 40.0 at 0.100"]


def test_pages_are_drawn_one_at_a_time_into_numbered_files_or_one_book(tmp_path: Path) -> None:
    written: list[list[str]] = []

    def pages() -> Iterator[Figure]:
        for _ in range(2):
            written.append(sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith(".")))
            yield SWEEP

    assert figures.save_pages(pages(), tmp_path / "a.png", 2) == [tmp_path / "a_1.png", tmp_path / "a_2.png"]
    assert written == [[], ["a_1.png"]]
    assert figures.save_pages([SWEEP], tmp_path / "b.png", 1) == [tmp_path / "b.png"]
    assert figures.save_pages(pages(), tmp_path / "c.pdf", 2) == [tmp_path / "c.pdf"]
    book = (tmp_path / "c.pdf").read_bytes()
    assert book.startswith(b"%PDF")
    assert b"/Count 2" in book
    figures.save_pages(pages(), tmp_path / "c.pdf", 2)
    assert (tmp_path / "c.pdf").read_bytes() == book
    with pytest.raises(ValueError, match=r"suffix of .*a\.jpg must be one of '\.png', '\.pdf', got '\.jpg'"):
        figures.save_pages([SWEEP], tmp_path / "a.jpg", 1)


def test_a_book_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    def pages() -> Iterator[Figure]:
        yield SWEEP
        raise OSError("disk full")

    (tmp_path / "a.pdf").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        figures.save_pages(pages(), tmp_path / "a.pdf", 2)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def fail(partial: Path, **kwargs: str) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    figure = Figure()
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="2 images but 1 maps; give one map per image"):
        figures.nroi_clusters(IMAGES, LABELS[:1])
    with pytest.raises(ValueError, match="label 4 has no name: 3 foreground classes are named"):
        figures.seeds_over_images(IMAGES, (LABELS == 2) * 4, NAMES)
    with pytest.raises(ValueError, match=r"graph is \[2, 2\], but 3 foreground classes are named"):
        figures.semantic_graph(torch.eye(2), NAMES)


def test_boxes_lie_over_image_and_map() -> None:
    figure = figures.boxes_over_images(IMAGES, IMAGES[:, 0], [BOXES, BOXES[:1]], BOXES)
    outlines = [[patch.get_bbox().bounds for patch in axes.patches] for axes in figure.axes]
    assert outlines[0] == outlines[2] == [(0.5, 1.5, 9, 7), (-0.5, -0.5, 24, 16), (0.5, 1.5, 9, 7)]
    assert outlines[1] == outlines[3] == [(0.5, 1.5, 9, 7), (-0.5, -0.5, 24, 16)]
    assert legend(figure) == ["true", "found"]


def test_the_object_is_outlined_over_image_and_map_and_ignored_pixels_are_dark() -> None:
    masks = torch.zeros(2, 16, 24, dtype=torch.long)
    masks[0, 4:10, 6:12], masks[0, 12:] = 1, 255
    figure = figures.object_masks_over_images(IMAGES, IMAGES[:, 0], masks)
    assert [len(axes.collections) for axes in figure.axes] == [1, 0, 1, 0]  # nothing to outline in the second
    for panel in (0, 2):
        (path,) = figure.axes[panel].collections[0].get_paths()
        assert path.vertices.min(0).tolist() == [5.5, 3.5]
        assert path.vertices.max(0).tolist() == [11.5, 9.5]
        shade = np.asarray(figure.axes[panel].images[1].get_array())[..., 3]
        assert np.array_equal(shade > 0, masks[0].numpy() == 255)
    assert legend(figure) == ["outline of the object", "ignored"]


def test_precision_over_recall_has_a_mark_at_the_chosen_threshold() -> None:
    curve, mark = PRECISION.axes[0].lines
    assert np.asarray(curve.get_xdata()).tolist() == [100, 30, 0]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (30, 60)
    assert (mark.get_label(), PRECISION.axes[0].get_title(loc="left")) == ("threshold 0.500", "PxAP 46.0")


def test_instances_are_outlined_and_named_unless_their_score_is_low() -> None:
    figure = figures.instances_over_images(IMAGES, {"found": INSTANCES}, NAMES, {"found": ["AP 1", "none"]})
    title, over, _, empty = figure.axes
    assert [text.get_text() for text in over.texts] == ["boat 0.50"]
    assert len(over.images) == 2
    assert len(empty.images) == 1
    assert (over.get_xlim(), over.get_ylim()) == (title.get_xlim(), title.get_ylim())
    assert [axes.get_xlabel() for axes in (over, empty)] == ["AP 1", "none"]
