import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DistributedSampler

from fbr_plugin.data import EpochSampler, Loading, SyntheticDataModule
from fbr_plugin.data.datamodules.base import collate

BATCHES = 5  # 11 scenes in batches of 2


class Recorder(pl.LightningModule):
    """Notes which pixels of which scenes each training step sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[list[str], float]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((batch["id"], batch["image"].double().square().sum().item()))
        return (self.weight * batch["image"].mean()).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(
    folder: Path, workers: int = 0, validate: bool = True, save: str = "", resume: str = "", **limits: Any
) -> list[tuple[list[str], float]]:
    """The data of a run on small scenes, with checkpoints every third and fifth step and every epoch."""
    model, data = (
        Recorder(),
        SyntheticDataModule(num_images=11, size=16, loading=Loading(2, num_workers=workers)),
    )
    callbacks = [
        ModelCheckpoint(folder, filename="third_{step}", every_n_train_steps=3, save_top_k=-1),
        ModelCheckpoint(folder, filename="fifth_{step}", every_n_train_steps=5, save_top_k=-1),
        ModelCheckpoint(folder, filename="epoch_{step}", every_n_epochs=1, save_top_k=-1),
    ]
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1 if validate else 0,
        callbacks=callbacks,
        **limits,
    )
    trainer.fit(model, data, ckpt_path=str(folder / resume) if resume else None)
    if save:
        trainer.save_checkpoint(folder / save)
    return model.seen


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "validate"), [(0, True), (0, False), (2, False)])
def test_resume_sees_what_the_whole_run_sees(tmp_path: Path, workers: int, validate: bool) -> None:
    whole = fit(tmp_path, 0, validate, max_epochs=3)
    assert len(whole) == 3 * BATCHES
    for epoch in range(3):
        seen = [name for names, _ in whole[epoch * BATCHES : (epoch + 1) * BATCHES] for name in names]
        assert len(set(seen)) == 2 * BATCHES
    checkpoints = (("third", 3), ("epoch", 5), ("fifth", 5), ("third", 12))
    for name, step in checkpoints if workers == 0 else checkpoints[:2]:
        rest = fit(tmp_path, workers, validate, resume=f"{name}_step={step}.ckpt", max_epochs=3)
        assert rest == whole[step:], (name, step)


@pytest.mark.slow
def test_two_resumes_in_a_row_from_the_last_batch_of_an_epoch(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", max_steps=4 * BATCHES)
    for step, saved_by in ((BATCHES, "whole"), (2 * BATCHES, "once")):
        checkpoint = str(tmp_path / saved_by / f"fifth_step={step}.ckpt")
        rest = fit(tmp_path / "once", workers=2, validate=False, resume=checkpoint, max_steps=4 * BATCHES)
        assert rest == whole[step:], saved_by


@pytest.mark.parametrize("step", [3, 5])
def test_resume_of_a_run_limited_by_steps(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path / "whole", max_steps=12)
    fit(tmp_path, max_steps=step, save="stopped.ckpt")
    assert fit(tmp_path, resume="stopped.ckpt", max_steps=12) == whole[step:]


def test_resume_with_fewer_batches_an_epoch(tmp_path: Path) -> None:
    limits = {"max_epochs": 3, "limit_train_batches": 4}
    whole = fit(tmp_path, **limits)
    assert fit(tmp_path, resume="fifth_step=5.ckpt", **limits) == whole[5:]


def test_the_global_stream_is_left_alone() -> None:
    module = SyntheticDataModule(num_images=4, size=16, loading=Loading(2, num_workers=1))
    state = torch.get_rng_state()
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for _ in loader:
            pass
    assert torch.equal(torch.get_rng_state(), state)


def test_sampler_shares_an_epoch_among_ranks() -> None:
    ranks = [EpochSampler(range(11), seed=1, num_replicas=2, rank=rank) for rank in range(2)]
    items = [list(sampler) for sampler in ranks]
    assert [len(sampler) for sampler in ranks] == [5, 5]
    assert len({index for index, _ in itertools.chain(*items)}) == 10
    seeds = dict(itertools.chain(*items))
    assert all(seeds[index] == seed for index, seed in EpochSampler(range(11), seed=1) if index in seeds)


def test_sampler_keeps_the_epoch_that_an_iteration_began_with() -> None:
    sampler = EpochSampler(range(8), seed=1)
    first, begun = list(sampler), iter(sampler)
    sampler.set_epoch(1)
    assert list(begun) == first


def test_sampler_changes_order_and_seeds_with_the_epoch() -> None:
    sampler = EpochSampler(range(8), seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [i for i, _ in first] != [i for i, _ in second]
    assert not {seed for _, seed in first} & {seed for _, seed in second}


def test_too_few_images_for_a_batch() -> None:
    with pytest.raises(ValueError, match=r"3 training images do not fill a batch of 16 .*lower batch_size"):
        SyntheticDataModule(num_images=3, size=16).train_dataloader()


def test_images_of_two_sizes_in_a_batch() -> None:
    items = [{"image": torch.zeros(3, 4, width), "id": "x"} for width in (5, 6)]
    with pytest.raises(ValueError, match=r"of the sizes \[\(4, 5\), \(4, 6\)\]: set eval_batch_size to 1"):
        collate(items)


def test_the_photo_comes_along_outside_training() -> None:
    module = SyntheticDataModule(num_images=4, size=16, loading=Loading(2, eval_batch_size=2))
    assert "photo" not in next(iter(module.train_dataloader()))
    for loader in (module.val_dataloader(), module.test_dataloader(), module.predict_dataloader()):
        first, second = next(iter(loader))["photo"]
        assert first.dtype == second.dtype == "uint8"
        for index, photo in enumerate((first, second)):
            assert (photo == module.train_scenes[index]["image"]).all()


@pytest.mark.parametrize("count", [5, 6])
def test_processes_share_the_images_that_are_scored(count: int) -> None:
    module = SyntheticDataModule(num_images=count, size=16, loading=Loading(eval_batch_size=2))
    for stage, loader in (("test", module.test_dataloader), ("validate", module.val_dataloader)):
        found = []
        for number in range(2):
            state = SimpleNamespace(fn=stage)
            module.trainer = SimpleNamespace(world_size=2, global_rank=number, state=state)  # type: ignore[assignment]
            found.append([name for batch in loader() for name in batch["id"]])
        expected = module.dataset("test").source.ids
        assert sorted(found[0] + found[1]) == sorted(expected)
        assert abs(len(found[0]) - len(found[1])) <= 1
    module.trainer.state.fn = "fit"  # type: ignore[union-attr, misc]
    assert not isinstance(module.val_dataloader().sampler, DistributedSampler)  # Lightning puts its own there


def test_prediction_goes_through_the_list_in_order() -> None:
    class Names(Recorder):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
            return batch["id"]

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    batches = trainer.predict(
        Names(), SyntheticDataModule(num_images=5, size=16, loading=Loading(eval_batch_size=2))
    )
    assert batches == [["scene_000000", "scene_000001"], ["scene_000002", "scene_000003"], ["scene_000004"]]
