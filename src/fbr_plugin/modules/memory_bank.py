"""The memory bank of NROIs."""

import torch
from torch import Tensor, nn

from fbr_plugin.distributed import BatchShare
from fbr_plugin.errors import InputError


class MemoryBank(nn.Module):
    """A first-in first-out ring of NROIs, each with the multi-hot labels of the image it came from.

    The contents, the labels, the pointer and the fill count are buffers of the state dict, so that training
    resumes with the same negatives. Every process enqueues the NROIs of all, in rank order or, where
    processes share a batch, in that of its images, so all hold the same bank; keep it out of
    DistributedDataParallel's buffer broadcast, as `FBRMixin` does.

    Args:
        size: rows of the ring.
        dim: D, width of an NROI.
        num_classes: C, foreground classes.

    Raises:
        ValueError: a size below 1.
    """

    # One row more than `size` takes what is masked out: writing it is cheaper than waiting for a count.
    nrois: Tensor
    labels: Tensor
    pointer: Tensor
    fill: Tensor

    def __init__(self, size: int, dim: int, num_classes: int) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"a memory bank needs at least 1 row, got {size}")
        self.size = size
        self.register_buffer("nrois", torch.zeros(size + 1, dim))
        self.register_buffer("labels", torch.zeros(size + 1, num_classes, dtype=torch.bool))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fill", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(
        self, nrois: Tensor, labels: Tensor, mask: Tensor, images: int = 1, share: BatchShare = BatchShare()
    ) -> None:
        """Add the masked NROIs of all processes; the oldest rows give way.

        Args:
            nrois: [N, D].
            labels: [N, C] image labels in {0, 1}.
            mask: [N] bool, the rows to add.
            images: the images that they are from, with equally many rows each, one image after the other.
            share: of the batch that the images are.

        Raises:
            ValueError: shapes that disagree.
        """
        expected = (len(mask), self.nrois.shape[1]), (len(mask), self.labels.shape[1])
        if (tuple(nrois.shape), tuple(labels.shape)) != expected:
            raise InputError(
                f"nrois, labels and mask must be {list(expected[0])}, {list(expected[1])} and "
                f"[{len(mask)}], got {list(nrois.shape)}, {list(labels.shape)} and {list(mask.shape)}"
            )
        nrois, labels, mask = share.gather_rows(images, nrois, labels > 0, mask)
        rank = mask.cumsum(0)
        count = rank[-1]
        # More rows than the ring holds: only the last ones stay.
        kept = mask & (rank > count - self.size)
        row = torch.where(kept, (self.pointer + rank - 1) % self.size, self.size)
        self.nrois[row] = nrois.to(self.nrois.dtype)
        self.labels[row] = labels
        self.pointer.copy_((self.pointer + count) % self.size)
        self.fill.copy_((self.fill + count).clamp_max(self.size))

    def rows(self, index: Tensor) -> Tensor:
        """The NROIs at `index` [...], as [..., D]; draw indices below `fill`."""
        return self.nrois[index]

    def extra_repr(self) -> str:
        """The size of the ring, for printing."""
        return f"size={self.size}, dim={self.nrois.shape[1]}, num_classes={self.labels.shape[1]}"
