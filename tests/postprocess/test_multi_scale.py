import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin import functional as fbr
from fbr_plugin.errors import WarnOnce
from fbr_plugin.postprocess import multi_scale
from fbr_plugin.postprocess.multi_scale import GridExtent, multi_scale_scores
from fbr_plugin.postprocess.seeds import logits_to_seeds


def block_means(stride: int, image: Tensor) -> Tensor:
    """A network whose score is the mean of the block of pixels that it stands for: [B, 1, ceil, ceil]."""
    height, width = image.shape[-2:]
    padded = F.pad(image[:, :1], (0, -width % stride, 0, -height % stride))
    return F.avg_pool2d(padded, stride)


@pytest.mark.parametrize("size", [(64, 96), (69, 101), (65, 91)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (1.5,), (1.0, 0.5, 1.5, 2.0)])
@pytest.mark.parametrize("mirrored", [(False,), (False, True)])
def test_a_peak_stays_in_place(
    size: tuple[int, int], scales: tuple[float, ...], mirrored: tuple[bool, ...]
) -> None:
    """The centre of mass of a blob, wide enough for the coarsest grid, moves by less than half a pixel."""
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    for row, column in ((25, 25), (size[0] - 25, size[1] - 25), (25, size[1] - 25)):
        image = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50.0).expand(1, 3, *size)
        scores = multi_scale_scores(
            lambda view, _: block_means(4, view), image, torch.ones(1, 1), 4, scales, mirrored
        )
        assert scores.shape == (1, 1, *size)
        mass = scores[0, 0] / scores.sum()
        assert abs(float((mass * rows).sum()) - row) < 0.5
        assert abs(float((mass * columns).sum()) - column) < 0.5


def test_a_ramp_is_reproduced_without_shift() -> None:
    """A linear ramp has block means that interpolate to itself, but for the rim of half a cell."""
    ramp = torch.arange(50.0).expand(1, 3, 38, 50)
    scores = multi_scale_scores(lambda view, _: block_means(4, view), ramp, None, 4, mirrored=(False,))
    torch.testing.assert_close(scores[0, 0, 2:-4, 2:-4], ramp[0, 0, 2:-4, 2:-4])


@pytest.mark.parametrize(("extent", "width"), [("image", 10), ("cells", 12)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("flip", [False, True])
def test_grids_stretched_over_one_area(extent: GridExtent, width: int, scale: float, flip: bool) -> None:
    """Two scores stand for the halves of the image, or of its three cells of 4 pixels, at every scale."""
    image = (torch.arange(10) > 4).float().expand(1, 3, 8, 10)
    scores = multi_scale_scores(
        lambda view, _: view[:, :1, :1, [0, -1]], image, None, 4, (scale,), (flip,), extent
    )
    ramp = ((torch.arange(10) + 0.5) * 2 / width - 0.5).clamp(0, 1)
    torch.testing.assert_close(scores[0, 0], ramp.expand(8, 10))


def test_averages_views_and_hands_over_labels() -> None:
    seen: list[Tensor] = []

    def score(view: Tensor, label: Tensor) -> Tensor:
        seen.append(view)
        return label[:, :, None, None].expand(-1, -1, *view.shape[-2:]) * len(seen)

    image, label = torch.rand(2, 3, 6, 8), torch.tensor([[1.0, 0], [1, 1]])
    scores = multi_scale_scores(score, image, label, 1, (1.0, 0.5))
    assert [tuple(view.shape[-2:]) for view in seen] == [(6, 8), (6, 8), (3, 4), (3, 4)]
    assert torch.equal(seen[1], image.flip(-1))
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in seen)  # faster on a CPU
    torch.testing.assert_close(scores, 2.5 * label[:, :, None, None].expand(-1, -1, 6, 8))


def test_rejects_wrong_stride_and_scales() -> None:
    image, label = torch.rand(1, 3, 16, 16), torch.ones(1, 1)
    with pytest.raises(ValueError, match=r"grid \(4, 4\), expected \(2, 2\) at stride 8"):
        multi_scale_scores(lambda view, _: block_means(4, view), image, label, 8)
    with pytest.raises(ValueError, match="scales must be one or more positive factors"):
        multi_scale_scores(lambda view, _: block_means(4, view), image, label, 4, (1.0, 0.0))
    with pytest.raises(ValueError, match="extent must be one of 'own', 'image', 'cells', got 'grid'"):
        multi_scale_scores(lambda view, _: block_means(4, view), image, label, 4, extent="grid")


def test_finish_logits() -> None:
    logits, label = torch.randn(1, 4, 5, 5), torch.tensor([[1.0, 0, 1]])
    plain = logits_to_seeds(logits, label)
    assert torch.equal(plain[:, [0, 1, 3]], logits.softmax(1)[:, [0, 1, 3]])
    assert plain[:, 2].abs().max() == 0
    pseudo = torch.zeros(1, 5, 5, dtype=torch.long)
    pseudo[0, 1], pseudo[0, 2] = 3, 255
    mixed = logits_to_seeds(logits, label, pseudo)
    for channel in (0, 1, 3):
        plane = plain[0, channel]
        stretched = (plane - plane.min()) / (plane.max() - plane.min())
        torch.testing.assert_close(mixed[0, channel, 1:3], stretched[1:3])
        assert torch.equal(mixed[0, channel, 3:], plane[3:])
    assert mixed[:, 2].abs().max() == 0


def test_constant_maps_divide_by_nothing() -> None:
    seeds = logits_to_seeds(torch.zeros(1, 3, 4, 4), torch.ones(1, 2), torch.ones(1, 4, 4, dtype=torch.long))
    assert torch.equal(seeds, torch.zeros_like(seeds))


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory: you"]
)
@pytest.mark.parametrize("extent", ["own", "image"])
def test_a_view_that_does_not_fit_into_memory_is_scored_at_half_its_scale(
    monkeypatch: pytest.MonkeyPatch, message: str, extent: GridExtent
) -> None:
    def score(view: Tensor, label: Tensor) -> Tensor:
        if view.shape[-1] > 40:
            raise RuntimeError(message)
        return block_means(4, view)

    monkeypatch.setattr(multi_scale, "_warn_of_memory", WarnOnce())
    image = torch.rand(1, 3, 20, 28)
    with pytest.warns(match=r"A view of 40x56 pixels .* half its size.*max_size, lower loading") as warned:
        scores = multi_scale_scores(score, image, None, 4, (1.0, 2.0, 4.0), extent=extent)
    assert len(warned) == 1
    expected = multi_scale_scores(score, image, None, 4, (1.0, 1.0, 1.0), extent=extent)
    torch.testing.assert_close(scores, expected)


def test_a_view_that_cannot_be_resized_within_the_memory_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(maps: Tensor, size: tuple[int, int], *args: bool) -> Tensor:
        if maps.shape[1] == 3 and size[0] > 20:
            raise RuntimeError("CUDA out of memory")
        return fbr.resize(maps, size, *args)

    image = torch.rand(1, 3, 20, 28)
    expected = multi_scale_scores(lambda view, _: block_means(4, view), image, None, 4)
    monkeypatch.setattr(multi_scale, "resize", small)
    monkeypatch.setattr(multi_scale, "_warn_of_memory", lambda message: None)
    scores = multi_scale_scores(lambda view, _: block_means(4, view), image, None, 4, (2.0,))
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("message", ["CUDA out of memory", "expected a 4-d tensor"])
def test_what_does_not_help_is_not_tried_on_and_on(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    sizes: list[int] = []

    def score(view: Tensor, label: Tensor) -> Tensor:
        sizes.append(view.shape[-1])
        raise RuntimeError(message)

    monkeypatch.setattr(multi_scale, "_warn_of_memory", lambda message: None)
    with pytest.raises(RuntimeError, match=message):
        multi_scale_scores(score, torch.rand(1, 3, 32, 32), None, 8)
    assert sizes == ([32, 16, 8] if "memory" in message else [32])
