"""Collectives in two processes, for real: the shared banks, agreement on skipped steps, gathered objects."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers.processes import WORLD, launch

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape, distributed
from fbr_plugin import functional as fbr
from fbr_plugin.baselines.tasks.seed_scores import SeedScores
from fbr_plugin.callbacks.ends.interruption import InterruptionCheckpoint
from fbr_plugin.data import Loading, SyntheticDataModule
from fbr_plugin.distributed import (
    all_gather_object,
    all_gather_rows,
    all_reduce_and,
    all_reduce_sum,
    collective_device,
    is_distributed,
    rank,
)

CONFIG = FBRConfig(
    dim=6,
    num_clusters=3,
    bank_size=40,
    min_bank=4,
    num_negatives=8,
)
GATE = GateConfig(enabled=True, num_prototypes=2, num_clusters=6, recluster_every=1)
SHAPE = ViewShape(4, 3)


def view(step: int, number: int, images: int) -> DenseView:
    """The view of a process at a step."""
    generator = torch.Generator().manual_seed(100 * step + number)
    labels = torch.zeros(images, 3)
    labels[torch.arange(images), torch.randint(3, (images,), generator=generator)] = 1
    scores = torch.randn(images, 4, 5, 5, generator=generator)
    if step == 1 and number == 1:
        scores[:, 0] = -20.0  # no background pixel but each map's minimum
    return DenseView(torch.randn(images, 4, 5, 5, generator=generator).requires_grad_(), scores, labels)


def record(owner, name: str) -> tuple[list, list]:
    """Let a function run, and keep copies of the tensors that it is given and of what it returns."""
    given, returned, original = [], [], getattr(owner, name)

    def recording(*tensors, **kwargs):
        given.append([each.clone() for each in tensors if isinstance(each, torch.Tensor)])
        returned.append(original(*tensors, **kwargs))
        return returned[-1]

    setattr(owner, name, recording)
    return given, returned


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's state."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def collectives(number: int) -> dict:
    """Each collective on inputs that differ."""
    (rows, mask) = all_gather_rows(
        torch.full((number + 1, 2), float(number), requires_grad=True), torch.ones(number + 1).bool()
    )
    return {
        "rank": rank(),
        "rows": rows,
        "mask": mask,
        "objects": all_gather_object({"of": number}),
        "agree": [all_reduce_and(torch.tensor(True)), all_reduce_and(torch.tensor(number == 0))],
        "sum": all_reduce_sum(torch.tensor([1.0, number], requires_grad=True)),
        "distributed": is_distributed(),
    }


def without_spare(name: str) -> Any:
    """All of a bank's buffer but the last row of each ring, which takes what is masked out."""
    kind = name.rpartition(".")[-1]
    return (slice(None), slice(-1)) if kind == "rows" else slice(-1) if kind in ("nrois", "labels") else ...


def steps(number: int) -> dict:
    """Three steps on batches of different sizes; the process keeps what it enqueued, and the banks."""
    torch.manual_seed(0)
    loss, gate = FBRLoss(SHAPE, CONFIG), ClassAwareGate(SHAPE, GATE)
    banks = {"nrois": loss.banks[0], "background": gate.background, "pixels": gate.pixels}
    enqueued = {name: record(bank, "enqueue")[0] for name, bank in banks.items()}
    _, similarity = record(fbr, "background_similarity")
    states, gradients, sums, gates = [], [], [], []
    for step in range(3):
        given = view(step, number, images=3 - number)
        terms = loss(given)
        gate.update(given)
        gradients.append(torch.autograd.grad(terms.total, loss.heads.foreground)[0])
        states.append({name: copied(bank) for name, bank in banks.items()})
        sums.append(gate.similarity.clone())
        gates.append(copied(gate))
    return {
        "states": states,
        "enqueued": enqueued,
        "gradients": gradients,
        "similarity": similarity,
        "sums": sums,
        "gates": gates,
    }


def nan_on_one(number: int) -> dict:
    """One process meets NaN; both must skip."""
    torch.manual_seed(0)
    loss, gate = FBRLoss(SHAPE, CONFIG), ClassAwareGate(SHAPE, GATE)
    broken = view(0, number, images=2)
    if number == 1:
        broken.features = torch.full_like(broken.features, float("nan")).requires_grad_()
    terms = loss(broken)
    gate.update(broken)
    terms.total.backward()
    gradients = [p.grad for p in loss.parameters()]
    fills = [loss.banks[0].fill, gate.background.fill, *gate.pixels.fill]
    return {"total": terms.total.detach(), "fills": fills, "gradients": gradients}


def sigterm_on_one(number: int) -> list:
    """What the processes answer at each of four steps, if one of them is sent SIGTERM in the second."""
    callback, answers = InterruptionCheckpoint(), []
    for step in range(4):
        callback.signalled = number == 1 and step > 0
        answers.append(callback._agree())
    return answers


@pytest.mark.slow
def test_processes_agree_on_the_step_after_sigterm(tmp_path):
    assert launch(sigterm_on_one, tmp_path) == [[False, False, True, True]] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* met NaN")
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
        assert result["sum"].tolist() == [2, 1]
        assert not result["sum"].requires_grad


def counted(number: int) -> dict:
    """False positives in each process's half of the scenes."""
    return false_positives(slice(number, None, WORLD))


def false_positives(chosen: slice) -> dict:
    """False positives of noise in some of the scenes."""
    data = SyntheticDataModule(num_images=6, size=32, loading=Loading(eval_batch_size=6))
    batch = next(iter(data.test_dataloader()))
    scores = SeedScores(data.num_classes)
    scores.count_stuff(data.stuff_table())
    seeds = torch.rand(6, data.num_classes, 32, 32, generator=torch.Generator().manual_seed(0))
    own = {name: batch[name][chosen] for name in ("mask", "stuff", "label")}
    scores.update(own, *[seeds[chosen]] * 3)
    return {"scores": scores.compute(), "table": scores.false_positives(data.class_names)}


@pytest.mark.slow
def test_false_positives_are_those_of_all_processes(tmp_path):
    whole = false_positives(slice(None))
    assert whole["scores"].keys() >= {"fp_cooccurring", "fp_other"}
    assert launch(counted, tmp_path) == [whole, whole]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of `steps` in each process."""
    return launch(steps, tmp_path_factory.mktemp("steps"))


@pytest.mark.slow
def test_processes_hold_the_banks_of_one_process_with_the_global_batch(results):
    torch.manual_seed(0)
    loss, gate = FBRLoss(SHAPE, CONFIG), ClassAwareGate(SHAPE, GATE)
    banks = {"nrois": loss.banks[0], "background": gate.background, "pixels": gate.pixels}
    for step in range(3):
        for kind, single in banks.items():
            parts = [result["enqueued"][kind][step] for result in results]
            single.enqueue(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
            expected = single.state_dict()
            for result in results:
                held = result["states"][step][kind]
                for name, value in expected.items():
                    used = without_spare(name)
                    assert torch.equal(held[name][used], value[used]), (step, kind, name)
    assert int(banks["nrois"].fill) == 40  # the ring went round
    assert not torch.equal(results[0]["gradients"][2], results[1]["gradients"][2])


@pytest.mark.slow
def test_processes_share_the_mean_similarity_of_all(results):
    # Each takes a quantile of its own images: their mean is not that of one process with the global batch.
    expected = torch.zeros(2, 3)
    for step in range(3):
        expected *= GATE.decay
        for result in results:
            found = result["similarity"][step]
            expected += torch.stack([found.nan_to_num(0, 0, 0), found.isfinite().float()])
        for result in results:
            torch.testing.assert_close(result["sums"][step], expected)
    first, second = (result["similarity"][2] for result in results)
    assert (first.isfinite() & second.isfinite() & (first != second)).any()


@pytest.mark.slow
def test_one_process_s_nan_is_skipped_by_all(tmp_path):
    for result in launch(nan_on_one, tmp_path):
        assert result["total"] == 0
        assert not any(result["fills"])
        assert all((gradient == 0).all() for gradient in result["gradients"] if gradient is not None)


def test_masks_are_scored_where_processes_can_exchange_counts(monkeypatch):
    assert collective_device() == torch.device("cpu")
    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for backend, expected in (("gloo", "cpu"), ("nccl", "cuda:3")):
        monkeypatch.setattr(dist, "get_backend", lambda backend=backend: backend)
        assert collective_device() == torch.device(expected)


def test_single_process_is_a_no_op():
    tensor = torch.ones(2, 3)
    assert all_gather_rows(tensor)[0] is tensor
    assert all_gather_object(5) == [5]
    assert all_reduce_sum(tensor) is tensor
    assert all_reduce_and(torch.tensor(False)) == torch.tensor(False)
    assert not is_distributed()
    assert rank() == 0


@pytest.mark.slow
def test_processes_hold_one_gate(results):
    for step in range(3):
        first, second = (result["gates"][step] for result in results)
        for name, value in first.items():
            used = without_spare(name)
            assert torch.equal(second[name][used], value[used]), (step, name)
    assert second["prototypes"].any()
    assert second["clusters"].any()
