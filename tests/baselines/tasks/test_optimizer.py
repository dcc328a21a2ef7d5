"""The optimizer's settings and their schedule."""

import inspect
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.released import example, fixed_input, reference, with_fixed_weights
from torch import Tensor, nn

from fbr_plugin.baselines import AMN, BAS, CAM, CAMFBR, IRN, PPC, PPCFBR, DeepLabV2
from fbr_plugin.baselines.tasks.encoder_task import EncoderTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig, poly_factor
from fbr_plugin.config import preset

PUBLISHED = {
    CAM: OptimizerConfig("SGD", 0.1, 1.0, 0.9, 1e-4, 0, 0.0),
    AMN: OptimizerConfig("Adam", 5e-6, 1e-4, 0.0, 1e-4, 0, 0.0),
    PPC: OptimizerConfig("SGD", 0.01, 0.1, 0.9, 5e-4, 0, 0.0),
    PPCFBR: OptimizerConfig("SGD", 0.01, 0.1, 0.9, 5e-4, 0, 0.0),
    BAS: OptimizerConfig("SGD", 0.005, 0.05, 0.9, 1e-4, 0, 0.0),
    IRN: OptimizerConfig("SGD", 0.1, 1.0, 0.9, 1e-4, 0, 0.0),
    DeepLabV2: OptimizerConfig("SGD", 2.5e-4, 2.5e-3, 0.9, 5e-4, 0, 0.9),
}


def test_every_field_is_documented() -> None:
    for field in fields(OptimizerConfig):
        assert f"\n    {field.name}: " in (inspect.getdoc(OptimizerConfig) or ""), field.name


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_values(kind: type[EncoderTask]) -> None:
    assert preset(kind, "optimizer") == PUBLISHED[kind]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "Adamm", r"torch.optim has no optimizer 'Adamm'; did you mean .*Adam"),
        ("name", "Optimizer", r"torch.optim has no optimizer 'Optimizer'"),
        ("lr", -0.1, r"lr must be a finite number of at least 0, got -0.1"),
        ("head_lr", float("nan"), r"head_lr must be a finite number"),
        ("poly_power", -1, r"poly_power must be a finite number of at least 0, got -1"),
        ("weight_decay", float("inf"), r"weight_decay must be a finite number of at least 0, got inf"),
        ("warmup_steps", -1, r"warmup_steps must be"),
        ("momentum", -0.9, r"momentum must be"),
        ("bias_lr", -1, r"bias_lr must be"),
        ("decay_epochs", -1, r"decay_epochs must be"),
        ("poly_runs", 0.5, r"poly_runs must be at least 1, the length of the run, got 0.5"),
        ("nesterov", True, r"nesterov is for SGD with a momentum above 0, got SGD with momentum=0.0"),
    ],
)
def test_values_out_of_range(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CAM(3, encoder="small", optimizer={field: value})


def test_settings_of_the_old_kind_are_named() -> None:
    with pytest.raises(TypeError, match=r"expected OptimizerConfig\(...\) or a mapping .*; got 'AdamW'"):
        CAM(3, encoder="small", optimizer="AdamW")


def test_a_mapping_changes_the_default_of_the_class() -> None:
    class Later(AMN):
        """With an optimizer of its own."""

        def __init__(self, *args: Any, optimizer: Any = OptimizerConfig("AdamW", lr=2.0), **kwargs: Any):
            super().__init__(*args, optimizer=optimizer, **kwargs)

    for kind, default in ((CAMFBR, PUBLISHED[CAM]), (Later, OptimizerConfig("AdamW", lr=2.0))):
        assert kind(3, encoder="small").optimizer == default
        model = kind(3, encoder="small", optimizer={"head_lr": 0.5})
        assert model.optimizer == replace(default, head_lr=0.5)
    whole = OptimizerConfig("Adam", head_lr=0.5)
    assert PPC(3, encoder="small", optimizer=whole).optimizer == whole


@pytest.mark.parametrize("given", [{"lr": 0.02}, OptimizerConfig("AdamW", weight_decay=0.3)])
def test_a_checkpoint_restores_it(given: Any, tmp_path: Path) -> None:
    model = PPCFBR(3, encoder="small", optimizer=given)
    assert model.hparams["optimizer"] == model.hparams_initial["optimizer"] == asdict(model.optimizer)
    trainer = pl.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    restored = PPCFBR.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True)
    assert restored.optimizer == model.optimizer


@pytest.mark.parametrize(("name", "momentum"), [("SGD", 0.9), ("AdamW", None), ("RMSprop", 0)])
def test_momentum_is_that_of_sgd(name: str, momentum: float | None) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.2}]
    optimizer = OptimizerConfig(name, weight_decay=0.3, momentum=0.9).build(groups, 10)["optimizer"]
    (group,) = optimizer.param_groups
    assert type(optimizer) is getattr(torch.optim, name)
    assert (group["initial_lr"], group["weight_decay"], group.get("momentum")) == (0.2, 0.3, momentum)


class Toy(nn.Module):
    """Two convolutions and a normalisation, as BAS's released optimizers were run on."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)
        with_fixed_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.encoder(image).relu())
        return outputs


@pytest.mark.parametrize(
    ("recipe", "kind", "epoch", "epochs"), [("voc/bas", "wsss", 4, 3), ("wsol/cub_resnet50", "wsol", 3, 5)]
)
def test_steps_of_the_released_optimizers_of_bas(recipe: str, kind: str, epoch: int, epochs: int) -> None:
    """Rates of all groups and the weights after each step; wpy1999/BAS-Extension at bd1bfa8, on a toy.

    For segmentation on 64 images and four processes of 4 images; for localization with decay_epoch=2.
    """
    settings = example(f"recipes/{recipe}")
    config = OptimizerConfig(**settings.get("classifier", settings)["model"]["init_args"]["optimizer"])
    if kind == "wsol":
        assert config.decay_epochs == 80
        config = replace(config, decay_epochs=2)
    toy, released = Toy().train(), reference("bas_optimizers", f"{kind}.")
    groups = EncoderTask.parameter_groups(
        SimpleNamespace(optimizer=config, encoder=toy.encoder, head=toy.head)  # type: ignore[arg-type]
    )
    built = config.build(groups, epoch * epochs, epoch)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    image = fixed_input("image", 2, 3, 8, 8)
    rates, weights = [], []
    for _ in range(epoch * epochs):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.zero_grad()
        toy(image).square().mean().backward()
        optimizer.step()
        schedule.step()
        weights.append(torch.cat([value.detach().flatten() for value in toy.parameters()]))
    found = torch.tensor(rates, dtype=torch.float64)
    if kind == "wsss":
        assert found[:, 1::2].eq(0).all(), "biases are not trained"
        found = found[:, ::2]
    torch.testing.assert_close(found, released["rates"], rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.stack(weights), released["weights"], rtol=1e-6, atol=1e-7)


def test_groups_of_its_own_leave_no_rate_of_biases() -> None:
    with pytest.raises(ValueError, match=r"PPC has groups of parameters of its own, .* must be 1, got 2"):
        PPC(3, encoder="small", optimizer={"bias_lr": 2})


def test_step_decay_by_the_epochs_of_a_run(tmp_path: Path) -> None:
    """Two batches an epoch, gathered into one step."""
    settings = {"lr": 0.01, "head_lr": 0.01, "poly_power": 0, "decay_epochs": 2}
    model = CAM(NUM_CLASSES, encoder="small", scales=(1.0,), optimizer=settings)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=3, accumulate_grad_batches=2, limit_val_batches=0, accelerator="cpu", **options
    )
    trainer.fit(model, RandomData())
    (optimizer,) = trainer.optimizers
    assert (trainer.global_step, trainer.num_training_batches) == (3, 2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001] * 2)


def test_poly_schedule() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: poly_factor(step, 10, 0.9, 4))
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [2.0 * min(1, (step + 1) / 4) * (1 - step / 10) ** 0.9 for step in range(10)]
    assert rates == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0
    assert poly_factor(7, 10, 0) == 1
    assert poly_factor(7, float("inf"), 0.9) == 1


def test_a_run_that_trains_nothing_is_named() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.0}]
    with pytest.raises(
        ValueError, match=r"^the run has 0 steps: raise the Trainer's max_steps or max_epochs$"
    ):
        OptimizerConfig().build(groups, 0)
    with pytest.warns(UserWarning, match="all learning rates are 0: nothing is trained; set lr and head_lr"):
        OptimizerConfig().build(groups, 1)
