"""Every collective of the project. Each is a no-op in a single process."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """The rank of this process, 0 in a single process."""
    return dist.get_rank() if is_distributed() else 0


def is_rank_zero() -> bool:
    """Whether this is the first process of a run, also before its processes have met."""
    if is_distributed():
        return rank() == 0
    return not any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def barrier() -> None:
    """Go on when every process has come here."""
    if is_distributed():
        dist.barrier()


def collective_device() -> torch.device:
    """Where tensors must lie to be exchanged: NCCL knows the process's GPU alone."""
    if is_distributed() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def shard(items: Sequence[T]) -> Sequence[T]:
    """Of items that every process holds, those that are this one's to work on."""
    return items[dist.get_rank() :: dist.get_world_size()] if is_distributed() else items


def all_gather_object(obj: Any) -> list[Any]:
    """Collect one picklable object of every process, in rank order, on every process."""
    if not is_distributed():
        return [obj]
    objects: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(objects, obj)
    return objects


def any_process(flag: bool) -> Tensor:
    """Whether a flag is set on any process, as a 0-d tensor: reading it waits for all processes."""
    agreed = torch.tensor(int(flag), device=collective_device())
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    return agreed


def all_reduce_and(flag: Tensor) -> Tensor:
    """Logical AND of a 0-d bool over all processes, without a host read."""
    if not is_distributed():
        return flag
    agreed = flag.to(torch.int32)
    dist.all_reduce(agreed, op=dist.ReduceOp.MIN)
    return agreed.bool()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Add a tensor over all processes, without gradient and without a host read."""
    if not is_distributed():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def broadcast_from_rank_zero(values: Tensor) -> Tensor:
    """The tensor of the first process, on every process; without gradient."""
    if not is_distributed():
        return values
    shared = values.detach().to(torch.uint8 if values.dtype == torch.bool else values.dtype, copy=True)
    dist.broadcast(shared, 0)
    return shared.to(values.dtype)


def all_gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Concatenate tensors along their first axis over all processes, in rank order; without gradient.

    Processes may hold different numbers of rows: shorter ones are padded with zeros to the longest, so every
    process must be able to tell padding from content (a gathered mask does: its padding is False).

    Args:
        tensors: [N_rank, ...] each, of one N_rank on this process; the trailing shape is equal everywhere.

    Returns:
        For each tensor [world * max(N_rank), ...], equal on every process.
    """
    if not is_distributed():
        return tensors
    rows = torch.tensor(len(tensors[0]), device=tensors[0].device)
    dist.all_reduce(rows, op=dist.ReduceOp.MAX)
    longest = int(rows)
    gathered = []
    for tensor in tensors:
        padding = [0, 0] * (tensor.dim() - 1) + [0, longest - len(tensor)]
        content = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype)
        local = F.pad(content, padding).contiguous()
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local)
        gathered.append(torch.cat(parts).to(tensor.dtype))
    return tuple(gathered)
