"""Maps of what FBR makes of predicted images, and the terms that they come from."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from fbr_plugin import FBRConfig
from fbr_plugin.baselines import AMNFBR, CAM, CAMFBR
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.errors import UsageError
from fbr_plugin.functional import lowered_classes
from fbr_plugin.training.fbr_maps import FBRMaps

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
SMALL = {"encoder": "small"}
LOSSES = FBRConfig(dim=8, num_clusters=3, bank_size=300, min_bank=8, num_negatives=16)
NAMES = ["a", "b"]


def batches() -> list[dict[str, object]]:
    """One batch of two images of two classes each."""
    image = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[1.0, 1, 0], [0, 1, 1]])
    return [{"id": NAMES, "image": image, "label": label, "size": torch.tensor([[40, 56], [80, 110]])}]


def predict(model: pl.LightningModule, folder: Path) -> dict[str, np.ndarray]:
    """The maps that a prediction writes, by the path of their files."""
    trainer = pl.Trainer(callbacks=[FBRMaps(folder)], default_root_dir=folder, **QUIET)
    trainer.predict(model, DataLoader(batches(), batch_size=None), return_predictions=False)
    return {str(path.relative_to(folder)): read_mask(path, 254) for path in folder.rglob("*.png")}


def with_gate(model: CAMFBR) -> CAMFBR:
    """The model with a gate that lowers many pixels of some classes."""
    gate = model.gate
    assert gate is not None
    draw = torch.Generator().manual_seed(1)
    gate.prototypes.copy_(torch.randn(gate.prototypes.shape, generator=draw))
    gate.clusters.copy_(torch.randn(gate.clusters.shape, generator=draw))
    gate.class_absent.fill_(True)
    gate.similarity.copy_(torch.tensor([[-9.0, -9, -9], [10, 10, 10]]))
    gate.reclusters.fill_(1)
    return model


def test_the_map_of_the_gate_is_that_of_the_image_at_the_first_scale(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    model = with_gate(CAMFBR(3, scales=(1.0, 0.5), **SMALL))
    maps = predict(model, tmp_path)
    assert {*maps} == {"gate/a.gate.png", "gate/b.gate.png"}
    model.eval()
    (batch,) = batches()
    with torch.no_grad():
        gate = model.gate(model.shallow(model.encoder(batch["image"])))
    expected = lowered_classes(gate, batch["label"])[:, None].float()
    assert len(expected.unique()) > 1, "the gate lowers something"
    for index, (name, size) in enumerate(zip(NAMES, batch["size"].tolist(), strict=True)):
        full = interpolate(expected[index : index + 1], size, mode="nearest-exact")[0, 0]
        assert np.array_equal(maps[f"gate/{name}.gate.png"], full.numpy())
    assert not model.gate._forward_hooks, "nobody listens any more"


def test_a_class_is_lowered_by_more_than_half_and_is_of_the_image() -> None:
    gate = torch.tensor([[0.4, 0.5, 0.3, 0.9], [0.49, 0.8, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]]).view(1, 3, 2, 2)
    assert lowered_classes(gate, torch.tensor([[1, 1, 0]])).tolist() == [[[1, 0], [2, 2]]]


def test_the_map_of_the_nrois_is_that_of_the_losses_and_nothing_is_learned(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    model = CAMFBR(3, fbr=LOSSES, **SMALL).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = predict(model, tmp_path)
    assert {*maps} == {"nroi/a.nroi.png", "nroi/b.nroi.png"}
    terms = model.inspect(batches()[0])
    assert terms is not None
    assert torch.equal(terms.assignments < 0, terms.pseudo_labels > 0)
    assert maps["nroi/b.nroi.png"].shape == (80, 110)
    small = interpolate((terms.assignments[:1, None] + 1).float(), (40, 56), mode="nearest-exact")
    assert np.array_equal(maps["nroi/a.nroi.png"], small[0, 0].numpy())
    assert {*np.unique(maps["nroi/a.nroi.png"])} <= {0, 1, 2, 3}
    assert maps["nroi/a.nroi.png"].any()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.log.__func__ is pl.LightningModule.log, "it logs again"
    with pytest.raises(UsageError, match=r"^inspect learns nothing: call eval\(\) first$"):
        model.train().inspect(batches()[0])


def test_a_network_without_fbr_has_no_maps(tmp_path: Path) -> None:
    assert predict(CAM(3, **SMALL), tmp_path) == {}
    assert CAMFBR(3, **SMALL).inspect({}) is None


def test_what_fails_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    model = AMNFBR(3, fbr=LOSSES, **SMALL)  # its step needs pseudo labels
    with pytest.warns(UserWarning, match=r"^maps of what FBR makes of an image cannot be written: .*pseudo"):
        assert predict(model, tmp_path) == {}
