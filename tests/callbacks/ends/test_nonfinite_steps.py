"""Steps whose gradients are not finite are skipped and counted, and many in a row end the training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from fbr_plugin.callbacks.ends.nonfinite_steps import FILE, NonFiniteSteps


class Failing(LightningModule):
    """Weights and running statistics that NaN in some of the batches would spoil."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.layer = torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1)
        self.bad = bad
        self.logged: list[float] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        image = batch["image"] * (torch.nan if batch_idx in self.bad else 1.0)
        return self.layer(self.norm(image)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(count: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(4, 2, generator=generator) for _ in range(count)]
    items = [{"id": [f"{i}a", f"{i}b"], "image": image} for i, image in enumerate(images)]
    return DataLoader(items, batch_size=None)  # type: ignore[arg-type]


def fit(folder: Path, module: LightningModule, count: int, *callbacks: Any, **options: Any) -> Trainer:
    flags = {"max_epochs": 1, "enable_checkpointing": False, "enable_model_summary": False, **options}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[*callbacks],
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        **flags,
    )
    trainer.fit(module, loader(count))
    return trainer


@pytest.mark.parametrize("batches", [1, 2], ids=["a step for each batch", "accumulated"])
def test_a_step_that_is_not_finite_changes_neither_weights_nor_statistics(
    tmp_path: Path, batches: int
) -> None:
    good, bad, steps = Failing(set()), Failing({3}), NonFiniteSteps()
    fit(tmp_path, good, 4 - batches, NonFiniteSteps(), accumulate_grad_batches=batches)
    with pytest.warns(match=r"was skipped; its images were \[.*'3a', '3b'\].*after 20 steps in a row"):
        trainer = fit(tmp_path, bad, 4, steps, accumulate_grad_batches=batches)
    assert steps.skipped == 1
    assert float(trainer.callback_metrics["skipped_steps"]) == 1
    for name, value in good.state_dict().items():
        assert "tracked" in name or torch.equal(value, bad.state_dict()[name]), name


def test_many_in_a_row_end_the_training_and_name_the_images(tmp_path: Path) -> None:
    steps = NonFiniteSteps(limit=3)
    with (
        pytest.warns(match="was skipped"),
        pytest.raises(FloatingPointError, match=r"of 3 steps in a row .* lower the .* images .* are in"),
    ):
        fit(tmp_path, Failing({1, 3, 4, 5}), 9, steps)
    assert (tmp_path / FILE).read_text() == "5a\n5b\n"
    assert steps.skipped == 4


def test_counts_are_continued(tmp_path: Path) -> None:
    first, second = NonFiniteSteps(), NonFiniteSteps()
    with pytest.warns(match="was skipped"):
        fit(tmp_path, Failing({0, 3}), 4, first)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"skipped": 2, "in_a_row": 1}


def test_a_gpu_is_read_at_the_interval_of_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def reading(flags: list[torch.Tensor]) -> list[bool]:
        read.append(len(flags))
        return [True] * len(flags)

    monkeypatch.setattr("fbr_plugin.callbacks.ends.nonfinite_steps._read", reading)
    steps, layer = NonFiniteSteps(), torch.nn.Linear(1, 1)
    trainer: Any = SimpleNamespace(log_every_n_steps=4, current_epoch=0)
    module: Any = SimpleNamespace(device=torch.device("cuda"), modules=layer.modules)
    steps.on_train_start(trainer, module)
    for number in range(10):
        steps.on_train_batch_start(trainer, module, {}, number)
        layer(torch.ones(1)).backward()
        steps.on_before_optimizer_step(trainer, module, torch.optim.SGD(layer.parameters(), lr=0.1))
        steps.on_train_batch_end(trainer, module, None, {}, number)
    assert read == [4, 4]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be at least 1 step, got {limit}"):
        NonFiniteSteps(limit)
