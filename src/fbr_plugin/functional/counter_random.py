"""Random numbers that are a function of a key and a counter: equal on every device, with no state to copy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbr_plugin.distributed import BatchShare

# The increment of SplitMix64, its inverse, and the factors, as signed numbers: 64-bit products wrap around.
GAMMA, INVERSE, FIRST, SECOND = (
    number - 2**64
    for number in (0x9E3779B97F4A7C15, 0xF1DE83E19937733D, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def split_mix(seed: Tensor, numbers: Tensor) -> Tensor:
    """The outputs of SplitMix64 at given places in its sequence.

    Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014. Nothing here depends
    on the host: the seed may be the result of a kernel, so steps can be compiled or captured as CUDA graphs.

    Args:
        seed: 0-d int64.
        numbers: int64 of any shape, 0 for the first output.

    Returns:
        64 random bits each, as int64, in the shape of `numbers`.
    """
    # seed + GAMMA * (numbers + 1), in an order that no compiler takes for an index: those do not wrap around.
    bits = numbers.add(seed * INVERSE + 1).mul_(GAMMA)
    for shift, factor in ((30, FIRST), (27, SECOND)):
        bits.bitwise_xor_((bits >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(2**33 - 1))


class CounterGenerator:
    """A source of uniform random numbers that stands for a `torch.Generator`, but lives in tensors.

    Args:
        key: 0-d int64, on the device of the numbers; every key has a sequence of its own.
    """

    def __init__(self, key: Tensor) -> None:
        self.key = key
        self.drawn = 0

    def rand(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next numbers of the sequence, in [0, 1): multiples of 2**-24, or of 2**-53 for float64."""
        count = torch.Size(shape).numel()
        words = count if dtype == torch.float64 else (count + 1) // 2
        places = torch.arange(self.drawn, self.drawn + words, device=self.key.device)
        self.drawn += words
        bits = split_mix(self.key, places)
        if dtype == torch.float64:
            return (bits >> 11).bitwise_and_(2**53 - 1).view(shape).double().mul_(2.0**-53)
        halves = bits.view(torch.int32)[:count].view(shape)
        return (halves >> 8).bitwise_and_(2**24 - 1).to(dtype).mul_(2.0**-24)


Generator = CounterGenerator | torch.Generator
"""Where functions that draw take their numbers from."""


def uniform(
    shape: Sequence[int],
    device: torch.device,
    generator: Generator | None,
    dtype: torch.dtype = torch.float32,
    share: BatchShare = BatchShare(),
) -> Tensor:
    """Random numbers in [0, 1).

    Args:
        shape: of the result.
        device: of the result, and of the generator.
        generator: source of randomness; None takes torch's global one.
        dtype: float32 or float64.
        share: of the batch that the first axis has the images of; drawn for the whole batch.
    """
    whole = (shape[0] * share.processes, *shape[1:])
    if isinstance(generator, CounterGenerator):
        drawn = generator.rand(whole, dtype)
    else:
        drawn = torch.rand(whole, dtype=dtype, device=device, generator=generator)
    return share.own(drawn)
