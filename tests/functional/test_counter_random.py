"""Random numbers by counter: the published sequence, uniform and independent."""

import pytest
import torch

from fbr_plugin.functional import CounterGenerator, split_mix, uniform


def split_mix_of_integers(seed: int, count: int) -> list[int]:
    """The first outputs of SplitMix64, as its authors wrote it."""
    state, outputs = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        outputs.append(z ^ z >> 31)
    return outputs


@pytest.mark.parametrize("seed", [0, 1234567, 2**63 - 1, -1])
def test_the_sequence_is_the_published_one(seed: int) -> None:
    bits = split_mix(torch.tensor(seed), torch.arange(50)).tolist()
    assert [each % 2**64 for each in bits] == split_mix_of_integers(seed, 50)
    if seed == 1234567:
        assert bits[0] == 6457827717110365317


def test_draws_go_on_in_the_sequence() -> None:
    whole, parts = (CounterGenerator(torch.tensor(5)) for _ in range(2))
    numbers = whole.rand((10,), torch.float64)
    assert torch.equal(numbers, torch.cat([parts.rand((4,), torch.float64), parts.rand((6,), torch.float64)]))
    expected = [(bits >> 11) / 2**53 for bits in split_mix_of_integers(5, 10)]
    assert numbers.tolist() == expected
    single = CounterGenerator(torch.tensor(5))
    odd, after = single.rand((3, 1, 1)), single.rand((2,))
    words = split_mix_of_integers(5, 3)
    halves = [half for word in words for half in (word % 2**32, word >> 32)]
    assert odd.flatten().tolist() == [(half >> 8) / 2**24 for half in halves[:3]]
    assert after.tolist() == [(half >> 8) / 2**24 for half in halves[4:]]
    assert single.rand((0,)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_uniform_and_independent(dtype: torch.dtype) -> None:
    count, bins = 2**17, 2**8
    drawn = CounterGenerator(torch.tensor(77)).rand((count,), dtype)
    assert drawn.dtype == dtype
    assert 0 <= drawn.min() < drawn.max() < 1
    digits = drawn.double() * bins
    pairs = (16 * drawn).long()
    for values in (digits.long(), (digits * bins).long() % bins, 16 * pairs[::2] + pairs[1::2]):
        # The leading digits, the next ones, and pairs of neighbours: chi-squared with 255 degrees of freedom.
        found, expected = torch.bincount(values, minlength=bins), len(values) / bins
        assert abs(((found - expected) ** 2 / expected).sum() - 255) < 5 * (2 * 255) ** 0.5
    centred = (drawn.double() - 0.5) * 12**0.5
    for lag in (1, 2, 3, 64, 1024):
        assert abs((centred[lag:] * centred[:-lag]).mean()) < 5 / (count - lag) ** 0.5


def test_torch_generators_serve_as_well(generator: torch.Generator) -> None:
    state = generator.get_state()
    drawn = uniform((5,), torch.device("cpu"), generator)
    assert torch.equal(drawn, torch.rand(5, generator=generator.set_state(state)))
    torch.manual_seed(3)
    drawn = uniform((5,), torch.device("cpu"), None, torch.float64)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(5, dtype=torch.float64))
