"""Figures: what they show, what they refuse, and files that are whole."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from PIL import Image

from fbr_plugin import figures
from fbr_plugin.figures import MAX_COLUMNS, MAX_ROWS
from fbr_plugin.figures.canvas import MAX_HEIGHT
from fbr_plugin.figures.palette import class_colours, instance_colours
from fbr_plugin.instances import Instances
from fbr_plugin.metrics import SegmentationScore

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


# Machado, Oliveira and Fernandes (2009): protanopia, deuteranopia and tritanopia, of linear RGB.
DEFICIENCIES = (
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
)


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB [N, 3] in [0, 1] without its gamma."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def oklab(colours: np.ndarray) -> np.ndarray:
    """Linear RGB [N, 3] in OKLab (Ottosson, 2020), in which distances are those that are seen."""
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    axes = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(colours.clip(0, 1) @ np.transpose(cones)) @ np.transpose(axes)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn(figure: Figure, panel: int) -> np.ndarray:
    return np.asarray(figure.axes[panel].images[0].get_array())


def curves() -> Figure:
    return figures.loss_curves({"AMN": {"loss": ([0, 1], [1.0, 0.5])}, "AMN + FBR": {"fg": ([0], [1.0])}})


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.labels_over_images(IMAGES, {"labels": LABELS}, NAMES),
        lambda: figures.examples(IMAGES, LABELS, {"AMN": LABELS, "AMN + FBR": LABELS}, NAMES),
        lambda: figures.boxes_over_images(IMAGES, IMAGES[:, 0], [BOXES, BOXES[:1]], BOXES),
        lambda: figures.instances_over_images(IMAGES, {"truth": INSTANCES}, NAMES),
        lambda: figures.object_masks_over_images(IMAGES, IMAGES[:, 0], LABELS),
        lambda: PRECISION,
        lambda: figures.class_maps(IMAGES, {"seed": IMAGES[:, 0], "gate": IMAGES[:, 1, :4, :6]}),
        lambda: figures.nroi_clusters(IMAGES, LABELS - 1),
        lambda: figures.semantic_graph(torch.eye(3), NAMES),
        lambda: figures.semantic_graph(torch.zeros(26, 26), "abcdefghijklmnopqrstuvwxyz"),
        lambda: figures.confusion_matrix(torch.eye(4, 5), NAMES, "Confusion"),
        lambda: figures.histograms({"gate": (np.array([1.0, 3.0]), np.array([0.0, 0.5, 1.0]))}),
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
        "confusion",
        "histograms",
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
    figure = figures.labels_over_images(IMAGES, {"labels": LABELS}, NAMES)
    image, overlay = IMAGES[0].permute(1, 2, 0).numpy(), drawn(figure, 2)
    assert np.array_equal(drawn(figure, 0), image)
    assert np.array_equal(overlay[8:], image[8:])
    tint = overlay[:8] - 0.5 * image[:8].mean(-1, keepdims=True)
    assert np.allclose(tint, 0.5 * class_colours(3)[1], atol=1e-6)
    assert legend(figure) == ["train", "ignored (no label)"]
    boundary, hatched = figure.axes[2].collections, figure.axes[3].collections
    assert [len(boundary), len(hatched)] == [1, 1]
    assert hatched[0].hatches[0]


def test_examples_have_a_row_an_image_and_a_column_a_method_over_the_photo() -> None:
    figure = figures.examples(IMAGES, LABELS, {"AMN": LABELS * 0 + 3}, NAMES)
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "AMN", "", "", ""]
    photo = drawn(figure, 3)
    assert np.array_equal(drawn(figure, 4)[8:], photo[8:]), "the background stays the photo"
    assert np.allclose(drawn(figure, 5), 0.5 * photo.mean(-1, keepdims=True) + 0.5 * class_colours(3)[2])
    assert drawn(figure, 4)[0, 0].min() >= 0.5, "ignored pixels are light"
    assert legend(figure) == ["train", "sheep", "ignored (no label)"]


def test_outlines_lie_on_the_boundaries_of_masks_and_have_the_colour_of_the_class() -> None:
    label = torch.zeros(1, 16, 24, dtype=torch.long)
    label[0, 3:9, 5:] = 3  # reaches the right edge
    figure = figures.examples(IMAGES[:1], None, {"AMN": label}, NAMES)
    (lines,) = figure.axes[1].collections
    assert np.allclose(lines.get_edgecolor()[0, :3], class_colours(3)[2])
    inside = np.pad(label[0].numpy() == 3, 1)
    for x, y in np.concatenate([path.vertices for path in lines.get_paths()]) + 1:
        around = {(int(f(y)), int(g(x))) for f in (np.floor, np.ceil) for g in (np.floor, np.ceil)}
        assert {bool(inside[place]) for place in around} == {False, True}
    assert (figure.axes[1].get_xlim(), figure.axes[1].get_ylim()) == ((-0.5, 23.5), (15.5, -0.5))


def test_the_iou_below_a_panel_is_that_of_the_metric() -> None:
    truths, found = LABELS.clone(), LABELS.clone()
    truths[1], found[0, 1] = 255, 1
    figure = figures.examples(IMAGES, truths, {"AMN": found, "AMN + FBR": truths}, NAMES)
    score = SegmentationScore(3)
    score.update(found[0], truths[0])
    own = np.array(score.compute().iou)[truths[0].unique()]
    below = [axes.get_xlabel() for axes in figure.axes]
    assert below == ["", "", f"IoU {own.mean():.1f}", "IoU 100.0", "", "", "", ""]


def test_a_figure_of_many_images_is_a_screen_high_and_says_how_many_it_shows() -> None:
    photos, labels = IMAGES[:1].expand(100, -1, -1, -1), LABELS[:1].expand(100, -1, -1)
    clusters, boxes = labels.clamp(max=3), [BOXES[:1]] * 100
    for figure, shown in (
        (figures.examples(photos, labels, {"AMN": labels}, NAMES), MAX_ROWS),
        (figures.class_maps(photos, {"seed": photos[:, 0]}), MAX_ROWS),
        (figures.instances_over_images(photos, {"found": INSTANCES[:1] * 100}, NAMES), MAX_ROWS),
        (figures.labels_over_images(photos, {"labels": labels}, NAMES), MAX_COLUMNS),
        (figures.nroi_clusters(photos, clusters), MAX_COLUMNS),
        (figures.boxes_over_images(photos, photos[:, 0], boxes, BOXES[:1].expand(100, -1)), MAX_COLUMNS),
    ):
        assert figure.get_figheight() <= MAX_HEIGHT
        notes = [text.get_text() for text in figure.texts]
        notes += [each.get_title().get_text() for each in figure.legends]
        assert any(f"The first {shown} of 100 images." in " ".join(note.split()) for note in notes)
    assert figures.semantic_graph(torch.eye(80), ["name"] * 80).get_figheight() <= MAX_HEIGHT
    assert Gcf.get_num_fig_managers() == 0, "nothing keeps the figures in memory"


def test_long_names_are_inside_the_canvas() -> None:
    names = [f"a class whose name is much longer than its figure is wide, number {n}" for n in range(7)]
    labels = torch.arange(1, 8).repeat(4, 1)[None]
    title = "a method whose name is longer than its column"
    figure = figures.examples(torch.rand(1, 3, 20, 40), labels, {title: labels}, names)
    graph = figures.semantic_graph(torch.eye(5), names[:5])
    for each in (figure, graph):
        figures.to_array(each)
        around = each.get_tightbbox().get_points() * each.dpi
        assert around.min() >= -1
        assert (around[1] <= each.bbox.size + 1).all()
    assert [" ".join(text.split()) for text in legend(figure)] == names
    assert figure.axes[2].get_title().split() == title.split()


def test_titles_of_narrow_pictures_do_not_meet() -> None:
    names, labels = ["cat"], torch.ones(5, 60, 36, dtype=torch.int64)
    columns = {title: labels for title in ("labels of the seeds", "before refinement", "after refinement")}
    figure = figures.examples(torch.rand(5, 3, 60, 36), labels, columns, names)
    figures.to_array(figure)
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert [axes.get_title() for axes in figure.axes if axes.get_title()][3] == "before\nrefinement"


def test_twenty_classes_have_colours_that_a_colour_vision_deficiency_leaves_apart() -> None:
    colours = class_colours(20)
    assert len(np.unique(class_colours(80), axis=0)) == 80
    assert np.array_equal(class_colours(80)[:20], colours), "a class has one colour, however many there are"
    for matrix in (np.eye(3), *DEFICIENCIES):
        seen = oklab(linear(colours) @ np.transpose(matrix))
        apart = np.linalg.norm(seen[:, None] - seen, axis=-1) + np.eye(20)
        assert apart.min() > 0.06  # of VOC's colours .03


def test_score_maps_have_a_colour_bar() -> None:
    for figure in (
        figures.class_maps(IMAGES, {"gate": IMAGES[:, 0]}),
        figures.object_masks_over_images(IMAGES, IMAGES[:, 0], LABELS),
    ):
        bar, heat = figure.axes[-1], [image for axes in figure.axes for image in axes.images[1:]]
        assert "score" in bar.get_ylabel()
        assert bar.get_ylim() == (0, 1) == heat[0].get_clim()


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
    assert figure.axes[1].get_title() == "a name that is wider\nthan its column"


def test_cells_have_the_shape_of_the_photos() -> None:
    tall, wide = (torch.rand(3, *size) for size in ((30, 20), (20, 30)))
    width, height = figures.nroi_clusters(
        [wide] * 2, torch.zeros(2, 2, 3, dtype=torch.long)
    ).get_size_inches()
    assert width / height > 1.3
    width, height = figures.nroi_clusters(
        [tall] * 2, torch.zeros(2, 3, 2, dtype=torch.long)
    ).get_size_inches()
    assert width / height < 0.8


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
    assert legend(SWEEP) == ["CAM", "oracle threshold 0.200: 50.0", "label-free threshold 0.100: 40.0"]


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
        figures.labels_over_images(IMAGES, {"labels": (LABELS == 2) * 4}, NAMES)
    with pytest.raises(ValueError, match=r"graph is \[2, 2\], but 3 foreground classes are named"):
        figures.semantic_graph(torch.eye(2), NAMES)


def test_boxes_lie_over_image_and_map() -> None:
    figure = figures.boxes_over_images(IMAGES, IMAGES[:, 0], [BOXES, BOXES[:1]], BOXES)
    outlines = [[patch.get_bbox().bounds for patch in axes.patches] for axes in figure.axes[:4]]
    assert outlines[0] == outlines[2] == [(0.5, 1.5, 9, 7), (-0.5, -0.5, 24, 16), (0.5, 1.5, 9, 7)]
    assert outlines[1] == outlines[3] == [(0.5, 1.5, 9, 7), (-0.5, -0.5, 24, 16)]
    assert legend(figure) == ["true box", "box found"]
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["IoU 100.0", "IoU 16.4"]


def test_the_object_is_outlined_over_image_and_map_and_ignored_pixels_are_hatched() -> None:
    masks = torch.zeros(2, 16, 24, dtype=torch.long)
    masks[0, 4:10, 6:12], masks[0, 12:] = 1, 255
    figure = figures.object_masks_over_images(IMAGES, IMAGES[:, 0], masks)
    assert [len(axes.collections) for axes in figure.axes[:4]] == [2, 0, 2, 0]  # nothing in the second image
    for panel in (0, 2):
        hatched, outlined = figure.axes[panel].collections
        (path,) = outlined.get_paths()
        assert path.vertices.min(0).tolist() == [5.5, 3.5]
        assert path.vertices.max(0).tolist() == [11.5, 9.5]
        assert hatched.hatches[0]
        assert hatched.get_paths()[0].vertices.min(0).tolist() == [-0.5, 11.5]
    assert legend(figure) == ["outline of the true object", "ignored (no label)"]


def test_precision_over_recall_has_a_mark_at_the_chosen_threshold() -> None:
    curve, mark = PRECISION.axes[0].lines
    assert np.asarray(curve.get_xdata()).tolist() == [100, 30, 0]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (30, 60)
    assert (mark.get_label(), PRECISION.axes[0].get_title(loc="left")) == ("threshold 0.500", "PxAP 46.0")


def test_instances_are_outlined_and_scored_unless_their_score_is_low() -> None:
    figure = figures.instances_over_images(IMAGES, {"found": INSTANCES}, NAMES, {"found": ["AP 1", "none"]})
    title, over, _, empty = figure.axes
    assert [text.get_text() for text in over.texts] == ["0.50"]
    assert legend(figure) == ["boat"]
    assert [len(over.images), len(over.collections)] == [2, 1]
    assert len(empty.images) == 1
    assert (over.get_xlim(), over.get_ylim()) == (title.get_xlim(), title.get_ylim())
    assert [axes.get_xlabel() for axes in (over, empty)] == ["AP 1", "none"]


def test_instances_of_a_class_are_shades_of_its_colour() -> None:
    own = instance_colours([2, 1, 2], 3)
    assert np.allclose(own[:2], class_colours(3)[[1, 0]])
    assert np.allclose(own[2], 0.5 * class_colours(3)[1] + 0.5)


def test_the_iou_below_instances_is_the_mean_over_the_true_ones() -> None:
    masks = torch.zeros(2, 16, 24, dtype=torch.bool)
    masks[0, :8], masks[1, 8:] = True, True
    truth: Instances = {"masks": masks, "labels": torch.tensor([1, 2])}
    half: Instances = {"masks": masks[:1], "labels": torch.tensor([1])}
    columns = {"truth": [truth, INSTANCES[1]], "found": [half, half]}
    figure = figures.instances_over_images(IMAGES, columns, NAMES)
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "IoU 50.0", "", "", ""]


def test_confusion_is_in_percent_of_the_true_pixels() -> None:
    counts = torch.tensor([[6, 2, 0, 2], [0, 0, 0, 0], [0, 1, 3, 0]])  # the last column has no prediction
    axes = figures.confusion_matrix(counts, ("boat", "train"), "Confusion").axes[0]
    assert [text.get_text() for text in axes.texts] == ["60", "20", "25", "75"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "boat", "train"]
    assert axes.images[0].get_array().mask[1].all()  # without pixels
