"""FBR in a plain training loop, without Lightning. It runs in seconds and downloads nothing:

python examples/plain_pytorch.py
"""

import torch
from torch import nn
from torch.nn.functional import multilabel_soft_margin_loss

from fbr_plugin import DenseView, FBRConfig, FBRLoss
from fbr_plugin.data import SyntheticDataModule


def main() -> None:
    """Train a classifier with class activation maps for an epoch, and print every term."""
    torch.manual_seed(0)
    data = SyntheticDataModule(num_images=320)
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    )
    classifier = nn.Conv2d(64, data.num_classes, 1, bias=False)
    # Its projections and background classifier are trained along; save its state dict with the model's, as
    # the memory bank is in it.
    fbr = FBRLoss(in_channels=64, num_classes=data.num_classes, config=FBRConfig(warmup_steps=5))
    parts = nn.ModuleList([encoder, classifier, fbr])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)

    print("step    loss      fg      bg     seg     sim  queries  bank")
    for step, batch in enumerate(data.train_dataloader()):
        features = encoder(batch["image"])  # [B, 64, h, w]
        maps = classifier(features)  # [B, C, h, w]
        loss = multilabel_soft_margin_loss(maps.mean((2, 3)), batch["label"])
        terms = fbr(DenseView(features, maps, batch["label"]))
        optimizer.zero_grad()
        (loss + terms.total).backward()
        optimizer.step()
        values = (loss, terms.fg, terms.bg, terms.seg, terms.sim)
        losses = " ".join(f"{value.item():7.4f}" for value in values)
        print(f"{step:4d} {losses} {terms.num_queries.item():8.0f} {terms.bank_fill.item():5d}")


if __name__ == "__main__":
    main()
