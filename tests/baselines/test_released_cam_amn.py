"""CAM and AMN against their released networks, which were run once on the same weights and inputs.

The reference holds what gaviotas/AMN at 75c1999 computes (its CAM is that of jiwoon-ahn/irn at a2ece00), with
the weights of `helpers.released`, and with dropout in training mode alone.
"""

import numpy as np
import pytest
import torch
from helpers.released import close, fixed_input, reference, with_fixed_weights
from torch import Tensor
from torch.nn.functional import multilabel_soft_margin_loss

from fbr_plugin.baselines import AMN, CAM

ENCODER = "resnet50_irn"


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return reference("cam_amn")


@pytest.fixture(scope="module")
def cam() -> CAM:
    options = {"scales": (1.0, 0.5), "grid_extent": "cells"}
    return with_fixed_weights(CAM(20, encoder=ENCODER, frozen_levels=3, **options))


@pytest.fixture(scope="module")
def amn() -> AMN:
    return with_fixed_weights(AMN(20, encoder=ENCODER, scales=(1.0, 0.5), grid_extent="image"))


@pytest.fixture
def image() -> Tensor:
    return fixed_input("image", 2, 3, 65, 97)


@pytest.fixture
def label() -> Tensor:
    label = torch.zeros(2, 20)
    label[[0, 0, 1], [2, 14, 7]] = 1
    return label


def test_levels(cam: CAM, image: Tensor, released: dict[str, Tensor]) -> None:
    with torch.no_grad():
        levels = cam.eval().encoder(image[:1])
    for number, level in enumerate(levels):
        close(level[0, :: level.shape[1] // 4], released[f"level_{number}"])


def test_cam_in_training(cam: CAM, image: Tensor, label: Tensor, released: dict[str, Tensor]) -> None:
    cam.train().zero_grad()
    logits, _ = cam(image)
    loss = multilabel_soft_margin_loss(logits, label)
    loss.backward()
    close(logits.detach(), released["cam_logits"])
    close(loss.detach(), released["cam_loss"])
    gradients = {name: parameter.grad for name, parameter in cam.named_parameters()}
    close(gradients["encoder.layer3.0.conv1.weight"][::8, ::16], released["cam_gradient"])
    close(gradients["head.weight"][:, ::32, 0, 0], released["cam_head_gradient"])
    untrained = ("encoder.conv1.", "encoder.bn1.", "encoder.layer1.", "encoder.layer2.")
    assert {name for name in gradients if gradients[name] is None} == {
        name for name in gradients if name.startswith(untrained)
    }


def test_cam_in_evaluation(cam: CAM, image: Tensor, label: Tensor, released: dict[str, Tensor]) -> None:
    cam.eval()
    with torch.no_grad():
        maps, mirrored = cam.seed_scores(image, label), cam.seed_scores(image.flip(-1), label)
        close(maps + mirrored.flip(-1), released["cam_maps"])
        close(cam(image)[0], released["cam_logits"])


def test_amn_in_training(
    amn: AMN, label: Tensor, released: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    amn.train().zero_grad()
    # The features that the run's dropout kept: versions of torch draw others from the same seed.
    kept = torch.from_numpy(np.unpackbits(released["amn_kept"].numpy())).view(2, 2048, 4, 4)
    monkeypatch.setattr(amn.head.dropout, "forward", lambda features: features * kept / 0.9)
    square = fixed_input("square", 2, 3, 64, 64)
    batch = {"image": square, "label": label, "pseudo_label": released["amn_pseudo_label"].long()}
    logits, _, _ = amn(square, label)
    close(logits.detach(), released["amn_train_logits"])
    loss = amn.training_step(batch, 0)["loss"]
    loss.backward()
    close(loss.detach(), released["amn_loss"])
    gradients = {name: parameter.grad for name, parameter in amn.named_parameters()}
    close(gradients["encoder.layer1.0.conv1.weight"][..., 0, 0], released["amn_gradient"])
    close(gradients["head.condition.weight"][::32], released["amn_condition_gradient"])
    untrained = {"encoder.conv1.weight", "encoder.bn1.weight", "encoder.bn1.bias"}
    assert {name for name in gradients if gradients[name] is None} == untrained


def test_amn_in_evaluation(amn: AMN, image: Tensor, label: Tensor, released: dict[str, Tensor]) -> None:
    amn.eval()
    with torch.no_grad():
        scores, mirrored = amn.seed_scores(image, label), amn.seed_scores(image.flip(-1), label)
    close(scores, released["amn_logits"])
    close((scores + mirrored.flip(-1)) / 2, released["amn_maps"])


def test_seeds(cam: CAM, amn: AMN, image: Tensor, label: Tensor, released: dict[str, Tensor]) -> None:
    """Over two scales and their mirror images. AMN's have the form that they have where the label is 0."""
    batch = {"id": ["image"], "image": image[:1], "label": label[:1]}
    for task, name in ((cam, "cam_seeds"), (amn, "amn_seeds")):
        with torch.no_grad():
            seed = task.eval().predict_step(batch, 0).seeds[0]
        present = seed[seed.amax((1, 2)) > 0]
        close(present[:, ::4, ::4], released[name])


def test_groups_have_the_released_parameters(cam: CAM, amn: AMN, released: dict[str, Tensor]) -> None:
    for task, name in ((cam, "cam_groups"), (amn, "amn_groups")):
        groups = [group["params"] for group in task.parameter_groups()]
        sizes = [[len(group), sum(parameter.numel() for parameter in group)] for group in groups]
        assert sizes == released[name].tolist()
