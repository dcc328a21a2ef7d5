"""IRN: its losses against loops over pairs, its grids, its training, and what a walk makes of seeds."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.runs import fit
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.baselines.irn.losses import IRNLosses, irn_losses
from fbr_plugin.baselines.irn.module import IRN
from fbr_plugin.baselines.irn.network import Grid, MeanShift
from fbr_plugin.functional import random_walk


def build(**options: Any) -> IRN:
    """A small network of a known initialisation."""
    pl.seed_everything(0, verbose=False)
    return IRN(NUM_CLASSES, **{"encoder": "small", "radius": 3, **options})


def naive_losses(boundary: Tensor, displacement: Tensor, label: Tensor, radius: int) -> list[Tensor]:
    """The losses pair by pair: each pair once, from its upper pixel or, in a row, from its left one."""
    kinds: dict[str, list[Tensor]] = {"background": [], "foreground": [], "negative": []}
    ways: dict[str, list[Tensor]] = {"background": [], "foreground": []}
    batch, height, width = label.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    for image in range(batch):
        for first, (y, x) in enumerate(pixels):
            for v, u in pixels[first + 1 :]:
                distance = math.hypot(v - y, u - x)
                ours, theirs = int(label[image, y, x]), int(label[image, v, u])
                if distance >= radius or 255 in (ours, theirs):
                    continue
                path = [
                    boundary[image, i, j]
                    for i in range(y, v + 1)
                    for j in range(min(x, u), max(x, u) + 1)
                    if abs((v - y) * (j - x) - (u - x) * (i - y)) / distance < 1 - 1e-9
                ]
                affinity = 1 - torch.stack(path).max()
                if ours != theirs:
                    kinds["negative"].append(-torch.log(1 - affinity + 1e-5))
                    continue
                kind = "foreground" if ours else "background"
                kinds[kind].append(-torch.log(affinity + 1e-5))
                target = (v - y, u - x) if ours else (0, 0)
                for axis in range(2):
                    difference = displacement[image, axis, y, x] - displacement[image, axis, v, u]
                    ways[kind].append((difference - target[axis]).abs())
    means = {name: torch.stack(found).mean() if found else torch.zeros(()) for name, found in kinds.items()}
    errors = [torch.stack(found).mean() if found else torch.zeros(()) for found in ways.values()]
    positive = (means["background"] + means["foreground"]) / 2
    moved = (errors[0] + errors[1]) / 2
    return [positive, means["negative"], moved, (positive + means["negative"]) / 2 + moved]


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [0, 255], [2, 255], [0, 1]], ids=str)
@pytest.mark.parametrize(("size", "radius"), [((6, 7), 4), ((3, 8), 5), ((8, 2), 4)])
def test_losses_against_loops_in_value_and_gradient(
    values: list[int], size: tuple[int, int], radius: int, generator: torch.Generator
) -> None:
    boundary = torch.rand(2, *size, generator=generator, dtype=torch.float64).requires_grad_()
    displacement = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64).requires_grad_()
    label = torch.tensor(values)[torch.randint(len(values), (2, *size), generator=generator)]
    found = irn_losses(boundary, displacement, label, radius)
    for ours, expected in zip(found, naive_losses(boundary, displacement, label, radius), strict=True):
        torch.testing.assert_close(ours, expected.double())
        theirs: tuple[Tensor, ...] = torch.zeros_like(boundary), torch.zeros_like(displacement)
        if expected.requires_grad:
            theirs = torch.autograd.grad(
                expected,
                (boundary, displacement),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        gradients = torch.autograd.grad(
            ours, (boundary, displacement), retain_graph=True, materialize_grads=True, allow_unused=True
        )
        for gradient, wanted in zip(gradients, theirs, strict=True):
            torch.testing.assert_close(gradient, wanted)


def test_losses_of_nothing_known_are_zero_with_a_gradient() -> None:
    boundary, displacement = (torch.rand(shape, requires_grad=True) for shape in ((1, 4, 4), (1, 2, 4, 4)))
    losses = irn_losses(boundary, displacement, torch.full((1, 4, 4), 255), 3)
    assert losses == IRNLosses(*torch.zeros(4))
    losses.total.backward()
    for each in (boundary, displacement):
        assert each.grad is not None
        assert each.grad.eq(0).all()


def test_losses_vanish_where_everything_is_right() -> None:
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    label[:, 2:6, 2:6] = 1
    label[:, 1, :] = label[:, 6, :] = 255
    label[:, :, 1] = label[:, :, 6] = 255
    boundary = (label == 255).float()
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    towards_centre = torch.stack([3.5 - rows, 3.5 - columns])[None] * (label == 1)[:, None]
    losses = irn_losses(boundary, towards_centre, label, 5)
    assert losses.displacement == 0
    assert losses.negative.abs() < 1e-4
    affinity = random_walk.path_affinity(boundary, ((0, 0), (0, 1)))
    assert affinity[0, 3].tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("size", [(32, 40), (50, 37)])
@pytest.mark.parametrize(
    ("options", "stride"),
    [
        ({}, 4),
        ({"finest_stride": 1}, 2),
        ({"encoder": "resnet18"}, 4),
        ({"encoder": "resnet18", "output_stride": 32, "finest_stride": 5}, 8),
    ],
    ids=str,
)
@torch.no_grad()
def test_predictions_are_on_the_grid_of_a_level(
    options: dict[str, Any], stride: int, size: tuple[int, int]
) -> None:
    model, image = build(**options), torch.randn(2, 3, *size)
    grid = (2, -(-size[0] // stride), -(-size[1] // stride))
    logits, displacement = model(image)
    assert logits.shape == grid
    assert displacement.shape == (2, 2, *grid[1:])
    boundary = model.boundary(image)
    assert boundary.shape == grid
    assert 0 <= boundary.min() < boundary.max() <= 1
    assert model.propagate(image[:1], torch.rand(1, *size)).shape == (1, *size)


@torch.no_grad()
def test_the_boundary_of_the_mirror_image_is_mirrored() -> None:
    image = torch.randn(1, 3, 32, 40)
    model = build()
    torch.testing.assert_close(model.boundary(image.flip(-1)), model.boundary(image).flip(-1))
    plain = model(image)[0]
    mirrored = model(image.flip(-1))[0].flip(-1)
    torch.testing.assert_close(model.boundary(image), ((plain + mirrored) / 2).sigmoid())


def test_grids_keep_what_lies_where() -> None:
    """A ramp over the image stays that ramp on grids of other strides."""

    def ramp(stride: int, length: int) -> Tensor:
        centres = stride * torch.arange(length) + (stride - 1) / 2
        return centres.float().expand(1, 1, 3, length)

    grid = Grid(4, 2, 9)
    for stride, length in ((1, 36), (2, 18), (4, 9), (4, 12), (8, 6)):
        fitted = grid.fit(ramp(stride, length), stride)
        torch.testing.assert_close(
            fitted[..., 1:, 1:], ramp(4, 9)[..., :1, 1:].expand_as(fitted[..., 1:, 1:])
        )


def test_the_mean_displacement_is_subtracted_in_evaluation_alone() -> None:
    shift = MeanShift()
    batches = [torch.randn(2, 2, 4, 4) + 3 for _ in range(5)]
    for batch in batches:
        torch.testing.assert_close(shift(batch), batch)
    mean = torch.stack(batches).mean((0, 1, 3, 4))
    torch.testing.assert_close(shift.get_buffer("mean"), mean)
    torch.testing.assert_close(shift.eval()(batches[0]), batches[0] - mean[:, None, None])


def test_training_logs_its_terms_and_leaves_the_encoder_alone(tmp_path: Path) -> None:
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = fit(model, RandomData(), tmp_path)
    for name in ("loss", "positive", "negative", "displacement"):
        assert trainer.callback_metrics[f"train/{name}"].isfinite()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith("encoder")]
    assert {name for name, _ in model.named_parameters() if not name.startswith("encoder")} <= moved
    assert {"displacement_branch.mean_shift.mean", "displacement_branch.mean_shift.batches"} <= moved
    assert not any(module.training for module in model.encoder.modules())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_learning_rates_of_the_branches(tmp_path: Path) -> None:
    model = build()
    trainer = fit(model, RandomData(), tmp_path, max_steps=1)
    assert [group["initial_lr"] for group in trainer.optimizers[0].param_groups] == [0.1, 1.0]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    grouped = [id(each) for group in model.parameter_groups() for each in group["params"]]
    assert len(grouped) == len(trained)
    assert set(grouped) == trained


def test_a_checkpoint_restores_boundaries_and_displacements(tmp_path: Path) -> None:
    model = build()
    fit(model, RandomData(), tmp_path).save_checkpoint(tmp_path / "irn.ckpt")
    restored = IRN.load_from_checkpoint(tmp_path / "irn.ckpt", weights_only=True)
    image = torch.randn(1, 3, 32, 40)
    assert restored.hparams["radius"] == 3
    assert torch.equal(restored.boundary(image), model.boundary(image))
    with torch.no_grad():
        assert torch.equal(restored.eval()(image)[1], model.eval()(image)[1])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
def test_losses_under_mixed_precision_are_in_single_precision(kind: torch.dtype) -> None:
    model, batch = build(), RandomData().batch()
    with torch.autocast("cpu", kind):
        assert model(batch["image"])[0].dtype == kind
        loss = model.training_step(batch, 0)
        boundary = model.boundary(batch["image"])
    loss.backward()
    assert loss.dtype == boundary.dtype == torch.float32
    torch.testing.assert_close(loss, model.training_step(batch, 0), rtol=0.02, atol=0)


def test_every_trained_parameter_has_a_gradient_even_if_nothing_is_known() -> None:
    model, batch = build(), RandomData().batch()
    batch["pseudo_label"] = torch.full_like(batch["pseudo_label"], 255)
    model.training_step(batch, 0).backward()
    missing = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert missing == []


def drawn_images(count: int) -> list[dict[str, Tensor]]:
    """Noisy images of a bright square of 20 pixels on a dark ground, 48 x 48.

    `pseudo_label` is unknown within 4 pixels of the edge, as labels of two thresholds are.
    """
    generator = torch.Generator().manual_seed(0)
    items = []
    for number in range(count):
        top, left = (4 * torch.randint(2, 6, (2,), generator=generator)).tolist()
        label = torch.zeros(48, 48, dtype=torch.int64)
        label[top - 4 : top + 24, left - 4 : left + 24] = 255
        label[top + 4 : top + 16, left + 4 : left + 16] = 1 + number % 2
        mask = torch.zeros(48, 48, dtype=torch.bool)
        mask[top : top + 20, left : left + 20] = True
        image = 2.0 * mask - 1 + 0.1 * torch.randn(3, 48, 48, generator=generator)
        items.append({"image": image, "pseudo_label": label, "mask": mask})
    return items


@pytest.mark.slow
def test_boundaries_are_learned_and_a_partial_seed_fills_its_object(tmp_path: Path) -> None:
    *items, unseen = drawn_images(15)
    model = build(radius=4, walk_steps=16)
    fit(model, DataLoader(items, batch_size=7), tmp_path, max_epochs=15)  # type: ignore[arg-type]
    image, mask = unseen["image"][None], unseen["mask"]
    boundary, inside = model.boundary(image)[0], mask[2::4, 2::4]
    down, right = (random_walk.path_affinity(boundary, ((0, 0), end)) for end in ((1, 0), (0, 1)))
    strength = 1 - torch.cat([down.flatten(), right.flatten()])
    crossed = torch.cat([inside[1:].ne(inside[:-1]).flatten(), inside[:, 1:].ne(inside[:, :-1]).flatten()])
    assert strength[crossed].mean() > 0.3 + strength[~crossed].mean()

    rows, columns = mask.nonzero().unbind(1)
    seed = torch.zeros(1, 48, 48)
    seed[0, rows.min() + 4 : rows.min() + 12, columns.min() + 4 : columns.min() + 12] = 1.0
    walked = model.propagate(image, seed)[0]
    filled = walked > 0.25
    overlap = (filled & mask).sum() / (filled | mask).sum()
    assert overlap > 0.5  # that of the seed is 0.16
    assert walked[~mask].mean() < 0.1 * walked[mask].mean()


@torch.no_grad()
def test_walks_keep_the_size_of_the_scores() -> None:
    model, image = build(), torch.randn(1, 3, 30, 41)
    scores = torch.rand(2, 30, 41)
    walked = model.propagate(image, scores)
    assert walked.shape == scores.shape
    assert walked.max() == 1
    assert walked.min() >= 0
    assert model.propagate(image, torch.rand(2, 60, 82)).shape == (2, 60, 82)
    assert model.propagate(image, scores[:0]).shape == (0, 30, 41)
    assert model.propagate(image, torch.zeros(1, 30, 41)).eq(0).all()
    still = build(walk_radius=1, walk_steps=5).propagate(image, torch.ones(1, 30, 41))
    expected = 1 - torch.nn.functional.interpolate(
        model.boundary(image)[None], scale_factor=4, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(still, (expected[0, :, :30, :41] / expected[..., :30, :41].max()))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="radius must be at least 2 for pixels to have neighbours, got 1"):
        build(radius=1)
    with pytest.raises(ValueError, match=r"a radius of at least 1 pixel.* got radius=0"):
        build(walk_radius=0)
    with pytest.raises(ValueError, match=r"fbr-plugin predict \.\.\. --thresholds FG BG`.* pseudo_label_dir"):
        build().training_step(RandomData("pseudo_label").batch(), 0)
    with pytest.raises(ValueError, match=r"one image .* got \(2, 3, 32, 40\) and \(1, 32, 40\)"):
        build().propagate(torch.zeros(2, 3, 32, 40), torch.zeros(1, 32, 40))
    with pytest.raises(ValueError, match="more than max_memory=1000: raise it"):
        build(max_memory=1000).propagate(torch.zeros(1, 3, 32, 40), torch.zeros(1, 32, 40))
    with pytest.raises(ValueError, match=r"finest_stride=8 is coarser than .* strides are 2, 4, 4, 4"):
        build(finest_stride=8)
