"""A resumed run draws the numbers of the uninterrupted one."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from fbr_plugin.callbacks.exact_resume import ExactResume, collect_random_state, restore_random_state


def draws() -> tuple[float, ...]:
    """A number from each global generator; gauss keeps half a pair back, which the state must carry too."""
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),  # noqa: NPY002
        np.random.randn(),  # noqa: NPY002
        torch.rand(()).item(),
        torch.randn(()).item(),
    )


class Drawing(LightningModule):
    """Records what the global generators give in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.drawn: dict[int, tuple[float, ...]] = {}

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.drawn[self.global_step] = draws()
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, steps: int, seed: int, resume: Path | None = None, *callbacks: Callback, **options: int
) -> tuple[Drawing, Trainer]:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)), generator=torch.Generator().manual_seed(0))
    module = Drawing()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=[ExactResume(), *callbacks],
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    return module, trainer


@pytest.mark.parametrize("stop", [3, 4], ids=["mid-epoch", "at an epoch's boundary"])
@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended.*")
def test_a_resumed_run_draws_the_same_numbers(tmp_path: Path, stop: int) -> None:
    whole, _ = fit(tmp_path, steps=8, seed=1)
    first, trainer = fit(tmp_path, steps=stop, seed=1)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    second, _ = fit(tmp_path, steps=8, seed=2, resume=tmp_path / "stop.ckpt")
    assert first.drawn | second.drawn == whole.drawn
    assert list(second.drawn) == list(range(stop, 8))


def test_another_number_of_processes_restores_nothing(tmp_path: Path) -> None:
    module, trainer = fit(tmp_path, steps=1, seed=1)
    callback = ExactResume()
    callback.load_state_dict({"processes": callback.state_dict()["processes"] * 2})
    torch.rand(1)
    before = torch.get_rng_state()
    with pytest.warns(
        UserWarning, match=r"random state of 2 processes .* this run has 1 .* as many processes"
    ):
        callback.on_train_start(trainer, module)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_process_gets_its_own_state_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, trainer = fit(tmp_path, steps=1, seed=1)
    monkeypatch.setattr(Trainer, "world_size", 2)
    monkeypatch.setattr("fbr_plugin.callbacks.exact_resume.rank", lambda: 1)
    states = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        states.append(collect_random_state())
    torch.rand(1)
    callback = ExactResume()
    callback.load_state_dict({"processes": states})
    callback.on_train_start(trainer, module)
    assert torch.equal(torch.get_rng_state(), states[1]["torch"])


def test_a_state_loaded_for_another_run_is_not_used(tmp_path: Path) -> None:
    module, trainer = fit(tmp_path, steps=1, seed=1)
    callback = ExactResume()
    callback.load_state_dict(callback.state_dict())
    torch.rand(1)
    before = torch.get_rng_state()
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_generators_are_carried() -> None:
    state = collect_random_state()
    expected = torch.rand(4, device="cuda")
    restore_random_state(state)
    assert torch.equal(torch.rand(4, device="cuda"), expected)


def test_no_checkpoint_is_saved_within_a_step_after_a_resume(tmp_path: Path) -> None:
    class Batches(ModelCheckpoint):
        """Records the batches that have been seen when it saves."""

        def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
            saved.append((trainer.global_step, trainer.fit_loop.epoch_loop.total_batch_idx + 1))
            super()._save_checkpoint(trainer, filepath)

    saved: list[tuple[int, int]] = []
    files = {"filename": "{step}", "every_n_train_steps": 2, "save_top_k": -1}
    fit(tmp_path, 2, 0, None, Batches(tmp_path / "first", **files), accumulate_grad_batches=2)
    fit(
        tmp_path,
        4,
        0,
        tmp_path / "first" / "step=2.ckpt",
        Batches(tmp_path, **files),
        accumulate_grad_batches=2,
    )
    assert saved == [(2, 4), (4, 8)]
