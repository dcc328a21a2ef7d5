"""The ring of NROIs."""

from collections import deque

import pytest
import torch

from fbr_plugin.modules import MemoryBank


def rows(start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbered NROIs [count, 2] and labels [count, 3]."""
    numbers = torch.arange(start, start + count)
    return numbers[:, None].float().expand(-1, 2), torch.eye(3)[numbers % 3]


def test_equals_a_queue(generator):
    bank, queue = MemoryBank(7, 2, 3), deque(maxlen=7)
    for step in range(12):
        nrois, labels = rows(10 * step, 5)
        mask = torch.rand(5, generator=generator) < 0.6
        bank.enqueue(nrois, labels, mask)
        queue.extend(nrois[mask, 0].tolist())
        assert int(bank.fill) == len(queue)
        pointer, held = int(bank.pointer), bank.nrois[:7, 0]
        ordered = held[: len(queue)] if len(queue) < 7 else torch.cat([held[pointer:], held[:pointer]])
        assert ordered.tolist() == list(queue)
        assert torch.equal(bank.labels[: len(queue)].int().argmax(1), held[: len(queue)].int() % 3)


def test_more_rows_than_the_ring_holds():
    bank = MemoryBank(4, 2, 3)
    bank.enqueue(*rows(0, 3), torch.ones(3, dtype=torch.bool))
    bank.enqueue(*rows(10, 11), torch.arange(11) != 9)
    assert sorted(bank.nrois[:4, 0].tolist()) == [16, 17, 18, 20]
    assert (int(bank.fill), int(bank.pointer)) == (4, (3 + 10) % 4)


def test_nothing_to_add():
    bank = MemoryBank(4, 2, 3)
    bank.enqueue(*rows(5, 3), torch.zeros(3, dtype=torch.bool))
    assert (int(bank.fill), int(bank.pointer)) == (0, 0)
    assert (bank.nrois[:4] == 0).all()


def test_state_dict_holds_everything():
    bank, other = MemoryBank(4, 2, 3), MemoryBank(4, 2, 3)
    bank.enqueue(*rows(1, 6), torch.ones(6, dtype=torch.bool))
    other.load_state_dict(bank.state_dict())
    for name, value in bank.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert set(bank.state_dict()) == {"nrois", "labels", "pointer", "fill"}


def test_takes_no_gradient_and_follows_the_precision():
    bank = MemoryBank(4, 2, 3).bfloat16()
    nrois = torch.ones(1, 2, requires_grad=True)
    bank.enqueue(nrois, torch.ones(1, 3), torch.ones(1, dtype=torch.bool))
    assert bank.nrois.dtype == torch.bfloat16
    assert not bank.nrois.requires_grad


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 1 row, got 0"):
        MemoryBank(0, 2, 3)
    with pytest.raises(ValueError, match=r"must be \[2, 2\], \[2, 3\] and \[2\], got \[2, 5\], \[2, 3\]"):
        MemoryBank(4, 2, 3).enqueue(torch.ones(2, 5), torch.ones(2, 3), torch.ones(2, dtype=torch.bool))


def test_a_ring_of_one_row():
    bank = MemoryBank(1, 2, 3)
    bank.enqueue(*rows(5, 3), torch.tensor([True, True, False]))
    assert bank.nrois[0].tolist() == [6, 6]


def test_its_sizes_are_printed():
    assert repr(MemoryBank(4, 2, 3)) == "MemoryBank(size=4, dim=2, num_classes=3)"
