"""The memory bank of the pixels of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbr_plugin.distributed import BatchShare


class ClassBank(nn.Module):
    """A first-in first-out ring of rows for each class, equal on every process.

    Args:
        num_classes: C.
        size: rows of each ring.
        dim: width of a row.
    """

    # One row more than `size` takes what is masked out, as in `MemoryBank`.
    rows: Tensor
    pointer: Tensor
    fill: Tensor

    def __init__(self, num_classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(num_classes, size + 1, dim))
        self.register_buffer("pointer", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("fill", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def enqueue(
        self, rows: Tensor, classes: Tensor, mask: Tensor, images: int = 1, share: BatchShare = BatchShare()
    ) -> None:
        """Add the masked rows of all processes; the oldest rows of their classes give way.

        Args:
            rows: [N, L].
            classes: [N] int64, 0 to C - 1.
            mask: [N] bool, the rows to add.
            images: the images that they are from, with equally many rows each, one image after the other.
            share: of the batch that the images are.
        """
        rows, classes, mask = share.gather_rows(images, rows, classes, mask)
        member = F.one_hot(classes, len(self.fill)) * mask[:, None]
        ranks = member.cumsum(0)
        count = ranks[-1]
        rank = ranks.gather(1, classes[:, None])[:, 0]
        # More rows than a ring holds: only the last ones stay.
        kept = mask & (rank > (count - self.size)[classes])
        slot = torch.where(kept, (self.pointer[classes] + rank - 1) % self.size, self.size)
        self.rows[classes, slot] = rows.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + count) % self.size)
        self.fill.copy_((self.fill + count).clamp_max(self.size))

    def mask(self) -> Tensor:
        """Which rows hold something: [C, size + 1]."""
        return torch.arange(self.size + 1, device=self.fill.device) < self.fill[:, None]
