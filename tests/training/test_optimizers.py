"""FBR's parameters in optimizers as the field has them: biases apart, rates and counters by index."""

import pytorch_lightning as pl
import torch
from helpers.runs import fit
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from fbr_plugin import DenseView, FBRConfig, FBRMixin, ViewShape, capture
from fbr_plugin.training.optimizers import add_parameters

CONFIG = FBRConfig(dim=8, num_clusters=3, bank_size=300, min_bank=8, num_negatives=16)


class WarmupAdamW(torch.optim.AdamW):
    """Counts its steps in an attribute, and keeps the first rate of each group in a private list."""

    def __init__(self, groups, lr, warmup, max_step):
        super().__init__(groups, lr)
        self.global_step, self.warmup, self.max_step = 0, warmup, max_step
        self.__first = [group["lr"] for group in self.param_groups]

    def step(self, closure=None):
        warming = self.global_step < self.warmup
        factor = self.global_step / self.warmup if warming else (1 - self.global_step / self.max_step) ** 0.9
        for index in range(len(self.param_groups)):
            self.param_groups[index]["lr"] = self.__first[index] * factor
        super().step(closure)
        self.global_step += 1


class Theirs(pl.LightningModule):
    """A network in a submodule, whose weights and biases have groups apart, the biases last."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 1))

    def training_step(self, batch, batch_idx):
        logits = self.net(batch["image"]).mean((2, 3))
        return nn.functional.multilabel_soft_margin_loss(logits, batch["label"])

    def configure_optimizers(self):
        first, _, last = self.net
        parts = ((first.weight, 1), (first.bias, 2), (last.weight, 10), (last.bias, 20))
        groups = [{"params": [part], "lr": 1e-3 * factor} for part, factor in parts]
        return WarmupAdamW(groups, 1e-3, warmup=4, max_step=20)


class TheirsFBR(FBRMixin, Theirs):
    view_shape = ViewShape(6, 5)
    features = capture("net.1")
    scores = capture("net.2")

    def dense_views(self, batch, outputs):
        return [DenseView(self.features, self.scores, batch["label"])]


def train(scenes, folder, checkpoint=None):
    pl.seed_everything(0 if checkpoint is None else 9, verbose=False)
    model = TheirsFBR(fbr=CONFIG)
    saver = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    options = {"callbacks": [saver], "enable_checkpointing": True, "max_epochs": 2, "max_steps": 8}
    return model, fit(model, scenes(), folder, checkpoint, **options).optimizers[0]


def test_weights_of_the_new_layers_take_in_fbr_s_not_their_biases(scenes, tmp_path):
    model, optimizer = train(scenes, tmp_path)
    held = [{id(each) for each in group["params"]} for group in optimizer.param_groups]
    own = {id(each) for each in model.fbr.parameters()}
    assert [bool(own & group) for group in held] == [False, False, True, False]
    assert own <= held[2]


def test_vectors_alone_take_them_in():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(3))]} for _ in range(2)], 0.1)
    add_parameters([optimizer], [nn.Parameter(torch.zeros(2, 2))])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]


def test_a_resume_within_the_warm_up_is_exact(scenes, tmp_path):
    (whole, optimizer), (resumed, other) = (
        train(scenes, tmp_path, checkpoint) for checkpoint in (None, tmp_path / "step=3.ckpt")
    )
    assert optimizer.global_step == other.global_step == 8
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in other.param_groups]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
