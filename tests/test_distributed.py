"""Collectives in two processes, for real: the shared bank, agreement on skipped steps, gathered objects."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fbr_plugin import DenseView, FBRConfig, FBRLoss
from fbr_plugin.distributed import all_agree, gather_objects, gather_rows, is_distributed, rank

WORLD = 2
CONFIG = FBRConfig(dim=6, num_clusters=3, bank_size=40, min_bank=4, num_negatives=8)


def launch(worker, folder: Path) -> list[dict]:
    """Run a function of (rank, folder) in two gloo processes; what each returned, in rank order."""
    mp.spawn(_process, (worker, str(folder)), nprocs=WORLD)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


def _process(number: int, worker, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=number, world_size=WORLD)
    try:
        torch.save(worker(number), f"{folder}/{number}.pt")
    finally:
        dist.destroy_process_group()


def view(step: int, number: int, images: int) -> DenseView:
    """The view of a process at a step."""
    generator = torch.Generator().manual_seed(100 * step + number)
    labels = torch.zeros(images, 3)
    labels[torch.arange(images), torch.randint(3, (images,), generator=generator)] = 1
    scores = torch.randn(images, 4, 5, 5, generator=generator)
    if step == 1 and number == 1:
        scores[:, 0] = -20.0  # no background pixel but each map's minimum
    return DenseView(torch.randn(images, 4, 5, 5, generator=generator).requires_grad_(), scores, labels)


def collectives(number: int) -> dict:
    """Each collective on inputs that differ."""
    (rows, mask) = gather_rows(
        torch.full((number + 1, 2), float(number), requires_grad=True), torch.ones(number + 1).bool()
    )
    return {
        "rank": rank(),
        "rows": rows,
        "mask": mask,
        "objects": gather_objects({"of": number}),
        "agree": [all_agree(torch.tensor(True)), all_agree(torch.tensor(number == 0))],
        "distributed": is_distributed(),
    }


def steps(number: int) -> dict:
    """Three steps on batches of different sizes; the process keeps what it enqueued and the bank."""
    torch.manual_seed(0)
    loss = FBRLoss(4, 3, CONFIG)
    states, enqueued = [], []
    bank = loss.banks[0]
    original = bank.enqueue

    def recording(nrois, labels, mask):
        enqueued.append([nrois.clone(), labels.clone(), mask.clone()])
        original(nrois, labels, mask)

    bank.enqueue = recording
    gradients = []
    for step in range(3):
        terms = loss(view(step, number, images=3 - number))
        gradients.append(torch.autograd.grad(terms.total, loss.heads.foreground)[0])
        states.append({name: value.clone() for name, value in bank.state_dict().items()})
    return {"states": states, "enqueued": enqueued, "gradients": gradients}


def nan_on_one(number: int) -> dict:
    """One process meets NaN; both must skip."""
    torch.manual_seed(0)
    loss = FBRLoss(4, 3, CONFIG)
    broken = view(0, number, images=2)
    if number == 1:
        broken.features = torch.full_like(broken.features, float("nan")).requires_grad_()
    terms = loss(broken)
    terms.total.backward()
    gradients = [p.grad for p in loss.parameters()]
    return {"total": terms.total.detach(), "fill": loss.banks[0].fill, "gradients": gradients}


@pytest.mark.filterwarnings("ignore:FBR met NaN")
def test_collectives(tmp_path):
    first, second = launch(collectives, tmp_path)
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["distributed"]
    for result in (first, second):
        assert result["rows"].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
        assert result["mask"].tolist() == [True, False, True, True]
        assert not result["rows"].requires_grad
        assert result["objects"] == [{"of": 0}, {"of": 1}]
        assert [bool(flag) for flag in result["agree"]] == [True, False]


def test_processes_hold_the_bank_of_one_process_with_the_global_batch(tmp_path):
    results = launch(steps, tmp_path)
    torch.manual_seed(0)
    single = FBRLoss(4, 3, CONFIG).banks[0]
    for step in range(3):
        parts = [result["enqueued"][step] for result in results]
        single.enqueue(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        expected = single.state_dict()
        for result in results:
            held = result["states"][step]
            for name in ("pointer", "fill"):
                assert held[name] == expected[name], (step, name)
            for name in ("nrois", "labels"):  # but for the row that takes what is masked out
                assert torch.equal(held[name][:-1], expected[name][:-1]), (step, name)
    assert int(single.fill) == 40  # the ring went round
    assert not torch.equal(results[0]["gradients"][2], results[1]["gradients"][2])


def test_one_process_s_nan_is_skipped_by_all(tmp_path):
    for result in launch(nan_on_one, tmp_path):
        assert result["total"] == 0
        assert result["fill"] == 0
        assert all((gradient == 0).all() for gradient in result["gradients"] if gradient is not None)


def test_single_process_is_a_no_op():
    tensor = torch.ones(2, 3)
    assert gather_rows(tensor)[0] is tensor
    assert gather_objects(5) == [5]
    assert all_agree(torch.tensor(False)) == torch.tensor(False)
    assert not is_distributed()
    assert rank() == 0
