"""BAS as released: its networks, its losses and gradients, and seeds with the CAM of another network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.released import close, fixed_input, reference, with_fixed_weights
from test_baselines import trainer
from torch import Tensor, nn

from fbr_plugin.baselines import BAS, CAM, CAMFBR
from fbr_plugin.baselines.bas.trained_cam import TrainedCAM
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.tasks.localization_task import averaged_maps, first_classes
from fbr_plugin.functional import cams_to_seeds, resize

NETWORKS = "fbr_plugin.baselines.bas"
WSOL = {"wsol": True, "classifier_width": 1024}
RELEASED: dict[str, dict[str, Any]] = {
    "mobilenet": {"encoder": f"{NETWORKS}.mobilenet_v1.MobileNetV1", "frg": 0.5, "area": 1.9, **WSOL},
    "vgg": {"encoder": f"{NETWORKS}.vgg16.VGG16", "frg": 0.05, "area": 0.9, **WSOL},
    "inception": {"encoder": f"{NETWORKS}.inception_v3.InceptionV3", "frg": 0.5, "area": 1.0, **WSOL},
    "resnet": {
        "encoder": f"{NETWORKS}.resnet50.ResNet50",
        "output_stride": 8,
        "frg": 0.5,
        "area": 1.5,
        **WSOL,
    },
    "cvpr": {
        "encoder": f"{NETWORKS}.mobilenet_v1.MobileNetV1",
        "frg": 0.5,
        "area": 1.5,
        "final_relu": True,
        "num_classes": 200,
        **WSOL,
    },
    "wsss": {"encoder": f"{NETWORKS}.resnet50.ResNet50", "frg": 0.2, "area": 1.2},
}
TARGET = torch.tensor([2, 5])
SIDE = 96  # of the image
GRADIENTS = 12  # parameters of which gradients are compared


def network(name: str) -> Any:
    """BAS with the weights that the released network had."""
    settings = dict(RELEASED[name])
    frg, area = settings.pop("frg"), settings.pop("area")
    model = BAS(**{"num_classes": 7, **settings}, weight_frg=frg, weight_area=area)
    with_fixed_weights(model, 1.0 if "resnet50" in settings["encoder"] else 2.0)
    last = [layer for layer in model.head["classifier"].modules() if isinstance(layer, nn.Conv2d)][-1]
    last.weight.data.abs_()  # scores above 0, which are suppressed
    model.sample_label.forward = lambda label: TARGET
    return model


def sums(parameters: list[nn.Parameter]) -> Tensor:
    """Absolute sums of gradients, of all elements and of five: [N, 2]."""
    rows = []
    for parameter in parameters:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        rows.append(torch.stack([gradient.abs().sum(), some(gradient).abs().sum()]))
    return torch.stack(rows)


def some(values: Tensor) -> Tensor:
    """Five elements at even distances."""
    return values.flatten()[:: max(1, values.numel() // 5)][:5]


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_released_networks(name: str) -> None:
    """wpy1999/BAS-Extension at bd1bfa8, "cvpr" wpy1999/BAS at 54c395e, with fixed weights.

    Scores, maps of the classes, losses, gradients and a running mean after one step, and the maps in
    evaluation: of the true class and of the first three.
    """
    expected, model, rows = reference("bas_networks", f"{name}."), network(name), torch.arange(2)
    image = fixed_input("image", 2, 3, SIDE, SIDE)
    if name == "wsss":
        label = torch.zeros(2, 7)
        label[[0, 0, 1], [2, 4, 5]] = 1
    else:
        label = torch.eye(model.num_classes)[TARGET]
    with torch.no_grad():
        model.eval()
        if name == "wsss":
            maps = model(torch.stack([image[0], image[0].flip(-1)]))[1]
            close(maps[0] + maps[1].flip(-1), expected["eval.map"])
        elif name != "cvpr":
            maps, logits = model.scored_maps(image)
            close(logits, expected["eval.scores"])
            close(maps[rows, TARGET], expected["eval.map"])
            close(averaged_maps(maps, first_classes(logits, 3)), expected["eval.top3"])
    model.train()
    seen: list[Any] = []
    forward = model.forward
    model.forward = lambda image: seen.append(forward(image)) or seen[0]
    logged: dict[str, Tensor] = {}
    model.log_dict = lambda values, **_: logged.update(values)
    model.log = lambda name, value, **_: logged.update({name: value})
    loss = model.training_step({"image": image, "label": label}, 0)["loss"]
    loss.backward()
    class_maps, maps, _ = seen[0]
    close(class_maps.mean((2, 3)).detach(), expected["train.scores"])
    if name != "cvpr":
        close(maps[rows, TARGET].detach(), expected["train.map"])
    terms = torch.stack([logged[f"train/{term}"].detach() for term in ("cls", "frg", "bas", "area", "loss")])
    close(terms, expected["train.terms"])
    parameters = [
        *model.encoder.parameters(),
        *model.head["classifier"].parameters(),
        *model.head["generator"].parameters(),
    ]
    picked = torch.linspace(0, len(parameters) - 1, GRADIENTS).long().tolist()
    found = sums([parameters[index] for index in picked])
    for row, theirs in zip(found, expected["train.gradients"], strict=True):
        close(row, theirs, 1e-4)
    if "train.running_mean" in expected:
        means = [value for key, value in model.state_dict().items() if key.endswith("running_mean")]
        close(means[-1][:16], expected["train.running_mean"])


@pytest.mark.parametrize("name", ["mobilenet", "vgg", "inception", "resnet"])
def test_split_of_the_released_networks(name: str) -> None:
    settings = RELEASED[name]
    encoder: Any = build_encoder(settings["encoder"], settings.get("output_stride")).eval()
    assert encoder.strides[-2] == 8, "of the maps, as published"
    with torch.no_grad():
        levels = encoder(torch.randn(1, 3, 48, 32))
        for count in (1, 2):
            again = encoder.last_stage(count)(levels[-1 - count])
            torch.testing.assert_close(again, levels[-1], rtol=0, atol=0)


def test_released_networks_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    for name in ("vgg", "inception", "resnet"):
        with pytest.raises(FileNotFoundError, match=r"cannot be loaded: no network; .* weights=FILE"):
            build_encoder(RELEASED[name]["encoder"], pretrained=True)
    with pytest.raises(ValueError, match=r"cannot be built with \{'pretrained': True\}"):
        build_encoder(RELEASED["mobilenet"]["encoder"], pretrained=True)
    with pytest.raises(ValueError, match=r"'ResNet50 of BAS' has no output stride 32; it supports 8, 16"):
        build_encoder(RELEASED["resnet"]["encoder"], 32)
    inception: Any = build_encoder(RELEASED["inception"]["encoder"])
    with pytest.raises(ValueError, match=r"can be split before its last 1 or 2 levels, not 3"):
        inception.last_stage(3)


@pytest.mark.parametrize("level", [-1, -2, -3, -4])
@pytest.mark.parametrize("wsol", [False, True])
def test_place_of_the_generator(level: int, wsol: bool) -> None:
    torch.manual_seed(0)
    model = BAS(NUM_CLASSES, encoder="small", generator_level=level, wsol=wsol)
    batch = RandomData().batch()
    class_maps, maps, levels = model(batch["image"])
    stride = {-1: 8 if wsol else 4, -2: 4, -3: 4, -4: 2}[level]
    assert model.stride == stride
    assert maps.shape[-2:] == (-(-32 // stride), -(-40 // stride))
    assert model.head["generator"].in_channels == levels[level].shape[1]
    model.training_step(batch, 0)["loss"].backward()
    assert model.head["generator"].weight.grad.abs().sum() > 0
    # Without a mask, the pass through the frozen layers is the plain one.
    model.eval()
    with torch.no_grad():
        class_maps, _, levels = model(batch["image"])
        stages = nn.Sequential() if level == -1 else model.encoder.last_stage(-1 - level)
        torch.testing.assert_close(model.head["classifier"](stages(levels[level])), class_maps)


def test_encoders_without_that_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"generator_level must be -4 to -1 for 'small', got -5"):
        BAS(NUM_CLASSES, encoder="small", generator_level=-5)
    with pytest.raises(ValueError, match=r"ResNet38d can be split before its last stage alone: .* here 2"):
        BAS(NUM_CLASSES, encoder="resnet38d", generator_level=-3)


def test_settings_of_the_deeper_classifier() -> None:
    with pytest.raises(ValueError, match=r"of the deeper classifier: set wsol=True"):
        BAS(NUM_CLASSES, encoder="small", final_relu=True)
    model = BAS(NUM_CLASSES, encoder="small", wsol=True, classifier_width=20, final_relu=True)
    widths = [layer.out_channels for layer in model.head["classifier"] if isinstance(layer, nn.Conv2d)]
    assert widths == [20, 20, NUM_CLASSES]
    assert model(RandomData().batch()["image"])[0].min() == 0


@pytest.fixture
def cam(tmp_path: Path) -> Path:
    """The checkpoint of a CAM."""
    torch.manual_seed(1)
    return save(CAM(NUM_CLASSES, encoder="small", scales=(1.0,)), tmp_path / "cam.ckpt")


def save(model: Any, path: Path) -> Path:
    run = trainer(path.parent)
    run.strategy.connect(model)
    run.save_checkpoint(path)
    return path


def test_seeds_with_the_cam_of_another_network(cam: Path, tmp_path: Path) -> None:
    """M and the other CAM, each divided by its maximum, added up and divided again, as released."""
    model = BAS(NUM_CLASSES, encoder="small", scales=(1.0,), combine_with=str(cam))
    (*_, last) = trainer(tmp_path).predict(model, RandomData()) or []
    image, label = RandomData().images[3]["image"][None], torch.tensor([[1.0, 1.0, 0.0]])
    other, maps = TrainedCAM(str(cam), NUM_CLASSES), []
    model.eval()
    with torch.no_grad():
        for view in (image, image.flip(-1)):
            both = torch.cat([model(view)[1], other(view, label)], 1)
            full = resize(both, (32, 40))
            maps.append(full if view is image else full.flip(-1))
    expected = cams_to_seeds(maps[0] + maps[1], label)
    torch.testing.assert_close(torch.stack(list(last.seeds)), expected, rtol=1e-4, atol=1e-5)
    assert not any("other" in key for key in model.state_dict())
    assert "combine_with" not in model.hparams
    assert not any(weight.requires_grad for weight in other.network.parameters())


def test_a_cam_trained_with_fbr(tmp_path: Path) -> None:
    path = save(CAMFBR(NUM_CLASSES, encoder="small", gate={"enabled": True}), tmp_path / "fbr.ckpt")
    assert isinstance(TrainedCAM(str(path), NUM_CLASSES).network, CAMFBR)


def test_checkpoints_that_cannot_be_combined(cam: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"combine_with=.*nowhere.ckpt does not exist: .* trained CAM"
    ):
        TrainedCAM(str(tmp_path / "nowhere.ckpt"), NUM_CLASSES)
    with pytest.raises(ValueError, match=r"is a CAM of 3 classes, but the network has num_classes=5"):
        TrainedCAM(str(cam), 5)
    path = save(BAS(NUM_CLASSES, encoder="small"), tmp_path / "bas.ckpt")
    with pytest.raises(ValueError, match=r"combine_with=.*bas.ckpt is not the checkpoint of a CAM: "):
        TrainedCAM(str(path), NUM_CLASSES)
    with pytest.raises(ValueError, match=r"seeds='generator' takes no maps of combine_with"):
        BAS(NUM_CLASSES, encoder="small", seeds="generator", combine_with=str(cam))
