"""One, two and four processes with the same global batch: the same losses, gradients and memory."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import launch, meet_in_pairs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks import traffic
from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape
from fbr_plugin.modules.batch_norm import GlobalBatchNorm2d

CLASSES, IMAGES, STEPS = 3, 8, 3
SHAPE = ViewShape(8, CLASSES, num_views=2)
LOSSES = FBRConfig(dim=6, num_clusters=3, bank_size=60, min_bank=4, num_negatives=8)
GATE = GateConfig(num_prototypes=2, num_clusters=6, class_rows=10, background_rows=50, recluster_every=2)
EQUAL = {"rtol": 1e-5, "atol": 1e-5}
LOOSE = {"rtol": 0, "atol": 1e-3}  # of histograms in single precision: a score may round into the next bin


# No view of the counted steps renews clusters.
TRAFFIC = [traffic.Case(ViewShape(5, 4, level_channels=7), 8, shared, LOSSES) for shared in (False, True)]


class Network(nn.Module):
    """An encoder with maps in both forms, and FBR: what is logged, and the loss."""

    def __init__(self, global_batch: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), GlobalBatchNorm2d(8), nn.ReLU()
        )
        self.maps, self.logits = nn.Conv2d(8, CLASSES, 1), nn.Conv2d(8, 1 + CLASSES, 1)
        self.fbr = FBRLoss(SHAPE, LOSSES, global_batch)
        self.gate = ClassAwareGate(SHAPE, GATE, global_batch)
        memory = [f"fbr.{name}" for name, _ in self.fbr.named_buffers() if "classifier" not in name]
        memory += [f"gate.{name}" for name, _ in self.gate.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = memory

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.encoder(image)
        views = [DenseView(features, head(features), label) for head in (self.maps, self.logits)]
        losses = [self.fbr(view, index) for index, view in enumerate(views)]
        learned = [self.gate.update(view, index) for index, view in enumerate(views)]
        logged = {
            f"{name} {index}": value.detach().clone()
            for part in (losses, learned)
            for index, terms in enumerate(part)
            for name, value in terms._asdict().items()
            if not value.dim() or name in ("graph", "distributions")
        }
        # A baseline's own loss, a mean over images as most are.
        own = sum((view.scores.mean((2, 3))[:, -CLASSES:] - label).square().mean() for view in views)
        return own + sum(terms.total for terms in losses), logged


def batch(step: int) -> tuple[Tensor, Tensor]:
    """The global batch of a step, with two images twice, so that their scores are tied."""
    generator = torch.Generator().manual_seed(step)
    image = torch.randn(IMAGES, 3, 9, 9, generator=generator, dtype=torch.float64)
    label = torch.eye(CLASSES, dtype=torch.float64)[torch.randint(CLASSES, (IMAGES,), generator=generator)]
    label[:, 0] = torch.maximum(label[:, 0], torch.rand(IMAGES, generator=generator).round())
    image[5:7], label[5:7] = image[:2], label[:2]
    return image, label


def train(number: int, world: int, global_batch: bool = True) -> dict[str, Any]:
    """A few steps on the images that a DistributedSampler deals out to a process."""
    torch.manual_seed(number)  # of which that of the first process counts
    network = Network(global_batch).double()  # in which rounding does not turn a choice
    if number:
        network.fbr.banks[0].nrois.fill_(7)
    model = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    steps = []
    for step in range(STEPS):
        image, label = batch(step)
        optimizer.zero_grad()
        loss, logged = model(image[number::world], label[number::world])
        loss.backward()
        parameters = network.named_parameters()
        gradients = {name: each.grad.clone() for name, each in parameters if each.grad is not None}
        optimizer.step()
        steps.append({"logged": logged, "gradients": gradients})
    return {"steps": steps, "state": {name: value.clone() for name, value in network.state_dict().items()}}


def unequal(number: int) -> str:
    """What is said of batches of different sizes."""
    image, label = batch(0)
    with pytest.raises(ValueError, match="global_batch needs") as error:
        Network(True).double()(image[: 2 + number], label[: 2 + number])
    return str(error.value)


def processes(number: int, folder: Path) -> dict[str, Any]:
    """All that these tests need of several processes, in one start of four."""
    four = train(number, 4)
    own = meet_in_pairs(number, folder)
    return {
        "4": four,
        "2": train(own, 2),
        "2 apart": train(own, 2, False),
        "unequal": unequal(own),
        "bytes": [traffic.count_step(case, 3) for case in TRAFFIC],
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The result of `processes` in each of four."""
    folder = tmp_path_factory.mktemp("processes")
    return launch(partial(processes, folder=folder), folder, 4)


@pytest.fixture(scope="module")
def single() -> dict[str, Any]:
    """The training in one process, with the default settings."""
    return train(0, 1, False)


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check that tensors are close."""
    for name, value in expected.items():
        bounds = LOOSE if "distributions" in name else EQUAL
        torch.testing.assert_close(
            found[name], value, **bounds, msg=lambda text, name=name: f"{name}: {text}"
        )


def kept(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state without the rows that take what is masked out."""
    banks = ("fbr.banks.0.nrois", "fbr.banks.0.labels", "gate.background.nrois", "gate.background.labels")
    rows = {name: state[name][:-1] for name in banks}
    return {**state, **rows, "gate.pixels.rows": state["gate.pixels.rows"][:, :-1]}


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("what", ["logged", "gradients"])
def test_losses_and_gradients_are_those_of_one_process(results, single, world, what):
    for result in results:
        for step, expected in zip(result[str(world)]["steps"], single["steps"], strict=True):
            compare(step[what], expected[what])
    last = single["steps"][-1]
    assert all(last["logged"][f"{name} 1"] > 0 for name in ("fg", "bg", "seg", "sim", "num_queries"))
    assert all(gradient.abs().max() > 1e-3 for gradient in last["gradients"].values())


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_memory_is_that_of_one_process(results, single, world):
    for result in results:
        compare(kept(result[str(world)]["state"]), kept(single["state"]))
    assert single["state"]["gate.reclusters"] == STEPS // 2 * 2  # each with two views


@pytest.mark.slow
def test_without_the_option_processes_learn_from_their_own_images(results, single):
    first, second = (result["2 apart"] for result in results[:2])
    for name in ("total 0", "fg 1", "seg 0", "num_queries 0", "mean_gate 0"):
        assert first["steps"][-1]["logged"][name] != second["steps"][-1]["logged"][name], name
    gradients = first["steps"][-1]["gradients"]
    for name, expected in single["steps"][-1]["gradients"].items():
        assert not torch.allclose(gradients[name], expected, **EQUAL), name
        assert torch.equal(gradients[name], second["steps"][-1]["gradients"][name])
    own = {n for n, v in kept(first["state"]).items() if not torch.equal(v, kept(second["state"])[n])}
    assert all("running_" in name for name in own)  # which DDP takes from the first process


@pytest.mark.slow
def test_batches_of_different_sizes(results):
    message = "global_batch needs equally many images on every process, got 2 to 3: let the loader drop"
    assert all(result["unequal"].startswith(message) for result in results)


@pytest.mark.slow
def test_a_step_takes_as_many_bytes_as_the_formula_says(results):
    expected = [[sum(part(case, 3).values()) for part in (traffic.losses, traffic.gate)] for case in TRAFFIC]
    assert [[list(counts) for counts in result["bytes"]] for result in results] == [expected] * 4
