"""Random images with everything that a batch can hold."""

from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from fbr_plugin.stuff import StuffTable

NUM_CLASSES = 3


class RandomImages(Dataset[dict[str, Any]]):
    """Four images of noise, 32 x 40, with class 1 in their upper half and class 2 in a corner."""

    def __init__(self, *without: str) -> None:
        self.without = without

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        mask = torch.zeros(32, 40, dtype=torch.int64)
        mask[:16] = 1
        mask[24:, :8] = 2
        item = {
            "id": f"image{index}",
            "image": torch.randn(3, 32, 40, generator=torch.Generator().manual_seed(index)) + (mask == 1),
            "label": torch.tensor([1.0, 1.0, 0.0]),
            "mask": mask,
            "pseudo_label": mask.masked_fill(mask == 2, 255),
            "stuff": 1 + mask % 2,
        }
        return {key: value for key, value in item.items() if key not in self.without}


class RandomData(LightningDataModule):
    """The same images for every stage."""

    num_classes = NUM_CLASSES
    class_names = ("a", "b", "c")

    def __init__(self, *without: str) -> None:
        super().__init__()
        self.images = RandomImages(*without)

    def stuff_table(self) -> StuffTable:
        """Stuff of each class's own; the background is that of class 1."""
        return StuffTable(("x", "y", "z"), torch.eye(NUM_CLASSES, dtype=torch.bool))

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.images, batch_size=2)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.images)

    test_dataloader = predict_dataloader = val_dataloader

    def batch(self) -> dict[str, Any]:
        """The first two images."""
        return next(iter(self.train_dataloader()))
