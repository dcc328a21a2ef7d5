"""Every collective of the project. Each is a no-op in a single process."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fbr_plugin.errors import InputError

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


@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Give a module the parameters and buffers of the first process, with those that DDP is to ignore."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.copy_(broadcast_from_rank_zero(tensor))


class _Mean(torch.autograd.Function):
    """The mean of a tensor over all processes; so is its gradient, as each contributes to the loss of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_reduce_sum(values) / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient) / dist.get_world_size()


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes, for a loss of which DDP averages the gradients."""
    mean: Tensor = _Mean.apply(values) if is_distributed() else values
    return mean


@dataclass(frozen=True)
class BatchShare:
    """This process's share of the batch that a step is computed on.

    By default the batch is that of this process. With `global_batch` it has the images of all processes,
    equally many of each: image i of process r among N is image i * N + r of the batch, in the order in which
    `DistributedSampler` deals them out. So N processes compute what one computes on the whole batch.

    Args:
        global_batch: whether the batch has the images of all processes.
    """

    global_batch: bool = False

    @property
    def processes(self) -> int:
        """N, the number of processes that share the batch."""
        return dist.get_world_size() if self.global_batch and is_distributed() else 1

    @property
    def first(self) -> int:
        """The place in the batch of this process's first image."""
        return rank() if self.global_batch else 0

    def check(self, images: int) -> None:
        """Raise `ValueError`, on every process, unless all have equally many images. It waits for them."""
        if self.processes > 1:
            sizes = torch.tensor([images, -images], device=collective_device())
            dist.all_reduce(sizes, op=dist.ReduceOp.MAX)
            most, least = sizes.tolist()
            if most != -least:
                raise InputError(
                    f"global_batch needs equally many images on every process, got {-least} to {most}: let "
                    "the loader drop the last batch, drop_last=True"
                )

    def own(self, whole: Tensor) -> Tensor:
        """Of values for the images of the whole batch, those for this process's."""
        return whole[self.first :: self.processes] if self.processes > 1 else whole

    def gather(self, tensor: Tensor) -> Tensor:
        """The images of the whole batch [N * B, ...], of those of each process [B, ...]; without gradient."""
        if self.processes == 1:
            return tensor
        own = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.processes)]
        dist.all_gather(parts, own)
        return torch.stack(parts, 1).flatten(0, 1).to(tensor.dtype)

    def gather_rows(self, images: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The rows of all processes, by image where the batch is global, else in the order of the processes.

        Args:
            images: B, the images that the rows are from.
            tensors: [B * n, ...] each, n rows of every image; without `global_batch`, n and B may differ
                between processes, as for `all_gather_rows`.
        """
        if not self.global_batch:
            return all_gather_rows(*tensors)
        return tuple(self.gather(rows.unflatten(0, (images, -1))).flatten(0, 1) for rows in tensors)

    def take(self, rows: Tensor, index: Tensor) -> Tensor:
        """Rows of the whole batch, without gradient.

        Args:
            rows: [B, n, D] of this process's images.
            index: [...] int64 into the N * B * n rows of the batch, equal on every process.

        Returns:
            [..., D].
        """
        if self.processes == 1:
            return rows.detach().flatten(0, 1)[index]
        image, place = index // rows.shape[1], index % rows.shape[1]
        own = image % self.processes == self.first
        return self.total(torch.where(own[..., None], rows[image // self.processes, place], 0))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes of the batch, without gradient."""
        return all_reduce_sum(values) if self.processes > 1 else values

    def mean(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The mean over the processes of each 0-d value, with the gradient of this process's own."""
        if self.processes == 1:
            return values
        own = torch.stack([value.detach() for value in values])
        means = (self.total(own) / self.processes).unbind()
        return tuple(
            value + (mean.to(value.dtype) - value.detach()) for value, mean in zip(values, means, strict=True)
        )
