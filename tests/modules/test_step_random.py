"""The draws of a module: the same for the same seed, step, view and process, and else different."""

import pytest
import torch

from fbr_plugin.modules import StepRandom
from fbr_plugin.modules import step_random as source


def draw(module: StepRandom, view: int = 0) -> float:
    """The first number of the generator of a view."""
    return torch.rand((), dtype=torch.float64, generator=module.generator(torch.device("cpu"), view)).item()


def seeded(seed: int) -> StepRandom:
    """A module made under a global seed."""
    torch.manual_seed(seed)
    return StepRandom()


def test_every_seed_step_view_and_process_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = seeded(3)
    assert draw(module) == draw(module) == draw(seeded(3))
    cpu = torch.device("cpu")
    assert module.generator(cpu).initial_seed() == module.generator(cpu, view=0).initial_seed()
    drawn = [draw(module), draw(seeded(4)), draw(module, 1)]
    module.step = 1
    drawn += [draw(module), draw(module, 1)]
    monkeypatch.setattr(source, "rank", lambda: 1)
    drawn += [draw(module), draw(module, 1)]
    assert len({*drawn}) == len(drawn)


def test_the_state_restores_seed_and_step() -> None:
    module, other = seeded(3), seeded(4)
    module.step = 7
    other.load_state_dict(module.state_dict())
    assert (other.seed, other.step) == (module.seed, 7)
    assert draw(other) == draw(module)


def test_a_negative_global_seed_is_taken() -> None:
    assert seeded(-1).seed == 2**63 - 1
    assert 0 <= draw(seeded(-1)) < 1
