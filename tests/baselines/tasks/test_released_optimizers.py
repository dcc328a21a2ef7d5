"""The optimizers of the examples against those of the released code, over a short run on a toy network.

The reference was computed once by gaviotas/AMN at 75c1999 (`misc/torchutils.py`, `step/train_cam.py` and
`step/train_amn.py`): the rates of each step, further settings of each group, and the last weights.
"""

from typing import Any

import pytest
import torch
from helpers.released import example, fixed_input, reference, with_fixed_weights
from torch import Tensor, nn

from fbr_plugin.baselines import AMN, CAM, SeedTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.config import merged, preset

STEPS = 12


@pytest.fixture
def toy() -> nn.Sequential:
    """A network whose first layer has the rate of the encoder, the last that of the head."""
    return with_fixed_weights(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))


def arguments(name: str, *keys: str) -> dict[str, Any]:
    """The arguments of a network in an example's settings."""
    settings = example(name)
    for key in keys:
        settings = settings[key]
    found: dict[str, Any] = settings["model"]["init_args"]
    return found


def train(network: nn.Sequential, settings: OptimizerConfig) -> tuple[torch.optim.Optimizer, Tensor]:
    """Train for `STEPS` steps; return the optimizer and the rates of each step and group."""
    groups = [
        {"params": [*network[index].parameters()], "lr": rate}
        for index, rate in ((0, settings.lr), (2, settings.head_lr))
    ]
    built = settings.build(groups, STEPS)
    optimizer, rates = built["optimizer"], []
    for _ in range(STEPS):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.zero_grad()
        (network(fixed_input("toy", 5, 3)) - 1).square().mean().backward()
        optimizer.step()
        built["lr_scheduler"]["scheduler"].step()
    return optimizer, torch.tensor(rates, dtype=torch.float64)


@pytest.mark.parametrize(
    ("prefix", "kind", "where", "names"),
    [
        (
            "cam",
            CAM,
            ("recipes/voc/amn", "classifier"),
            ("momentum", "dampening", "weight_decay", "nesterov"),
        ),
        ("amn", AMN, ("voc_amn_fbr",), ("betas", "eps", "weight_decay")),
        ("amn", AMN, ("recipes/coco/amn", "baseline"), ("betas", "eps", "weight_decay")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_rates_settings_and_weights(
    toy: nn.Sequential, prefix: str, kind: type[SeedTask], where: tuple[str, ...], names: tuple[str, ...]
) -> None:
    released = reference("cam_amn_optimizers")
    optimizer, rates = train(toy, merged(preset(kind, "optimizer"), arguments(*where)["optimizer"]))
    exact = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(rates, released[f"{prefix}.rates"], **exact)
    rows = [
        torch.hstack([torch.tensor(group[name]).double() for name in names])
        for group in optimizer.param_groups
    ]
    torch.testing.assert_close(torch.stack(rows), released[f"{prefix}.settings"], rtol=1e-7, atol=0)
    for name, value in toy.state_dict().items():
        torch.testing.assert_close(value, released[f"{prefix}.{name}"])


def test_the_recipe_trains_with_the_same_settings() -> None:
    alone = arguments("voc_amn_fbr")
    assert alone.pop("num_classes") == 20
    assert alone.pop("fbr") == {"preset": "amn"}
    assert arguments("recipes/voc/amn", "baseline") == alone
