"""The draws of a module: the same for the same seed, step, view and process, and else independent."""

import pytest
import torch

from fbr_plugin import FBRConfig, FBRLoss, ViewShape, distributed
from fbr_plugin.modules import StepRandom
from fbr_plugin.modules import step_random as source


def draw(module: StepRandom, view: int = 0, count: int = 1) -> torch.Tensor:
    """The first numbers of a view."""
    return module.generator(view).rand((count,), torch.float64)


def seeded(seed: int) -> StepRandom:
    """A module made under a global seed."""
    torch.manual_seed(seed)
    return StepRandom()


def test_every_seed_step_view_and_process_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.equal(draw(seeded(3)), draw(seeded(3)))
    streams, count = [], 2048
    for seed in (0, 3, 4):
        module = seeded(seed)
        for step in (0, 1, 2, 1000):
            module.step.fill_(step)
            for process in (0, 1, 7):
                monkeypatch.setattr(source, "rank", lambda process=process: process)
                streams += [draw(module, view, count) for view in (0, 1, 2)]
    numbers = torch.stack(streams)
    assert numbers.unique().numel() == numbers.numel()
    mean, spread = numbers.mean(1) - 0.5, numbers.var(1) * 12 - 1
    assert mean.abs().max() < 5 * (12 * count) ** -0.5
    assert spread.abs().max() < 5 * (0.8 / count) ** 0.5
    correlation = torch.corrcoef(numbers).fill_diagonal_(0)
    assert correlation.abs().max() < 5 * count**-0.5
    first = numbers[:, 0].sort().values  # of all streams, also uniform: Kolmogorov and Smirnov
    assert (first - torch.linspace(0, 1, len(first)).double()).abs().max() < 1.8 * len(first) ** -0.5


def test_the_global_stream_stays() -> None:
    module = seeded(3)
    before = torch.get_rng_state()
    draw(module)
    module.initial_generator()
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_have_a_stream_of_their_own() -> None:
    drawn = [torch.rand(3, generator=seeded(seed).initial_generator()) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], torch.rand(3, generator=torch.Generator().manual_seed(3)))


def test_the_state_restores_seed_and_step() -> None:
    module, other = seeded(3), seeded(4)
    module.step.fill_(7)
    other.load_state_dict(module.state_dict())
    assert (other.seed, other.step) == (module.seed, 7)
    assert torch.equal(draw(other), draw(module))
    assert set(module.state_dict()) == {"_extra_state"}


def test_a_negative_global_seed_is_taken() -> None:
    assert seeded(-1).seed == 2**63 - 1
    assert 0 <= draw(seeded(-1)) < 1


def test_initial_weights_do_not_depend_on_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    first = FBRLoss(ViewShape(4, 2), FBRConfig(dim=6, bank_size=64))
    monkeypatch.setattr(source, "rank", lambda: 1)
    other = FBRLoss(ViewShape(4, 2), FBRConfig(dim=6, bank_size=64))
    for name, value in first.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_processes_built_with_other_seeds_take_the_first_one_s_state(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    first = FBRLoss(ViewShape(4, 2), FBRConfig(dim=6, bank_size=64))
    first.banks[0].fill += 1
    torch.manual_seed(4)
    other = FBRLoss(ViewShape(4, 2), FBRConfig(dim=6, bank_size=64))
    assert not torch.equal(other.heads.foreground, first.heads.foreground)
    sent = iter([*first.parameters(), *first.buffers(), first.get_extra_state()])
    monkeypatch.setattr(source, "is_distributed", lambda: True)
    for module in (source, distributed):  # in the order of the first process
        monkeypatch.setattr(module, "broadcast_from_rank_zero", lambda _: next(sent))
    other.eval().begin(0, images=2)
    assert other.seed == 4
    other.train().begin(0, images=2)
    other.begin(0, images=2)  # nothing is left to send
    assert (other.seed, other.step) == (3, 2)
    for name, value in first.state_dict().items():
        assert "_extra_state" in name or torch.equal(other.state_dict()[name], value), name


def test_processes_draw_alike_for_a_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    module = StepRandom(global_batch=True)
    first = draw(module)
    assert torch.equal(first, draw(seeded(3)))
    monkeypatch.setattr(source, "rank", lambda: 1)
    assert torch.equal(draw(module), first)
    assert not torch.equal(draw(seeded(3)), first)
