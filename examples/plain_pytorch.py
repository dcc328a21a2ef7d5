"""FBR in a plain training loop, without Lightning. It runs in seconds and downloads nothing:

python examples/plain_pytorch.py
"""

import torch
from torch import nn
from torch.nn.functional import multilabel_soft_margin_loss

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, ViewShape, gate_scores
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.functional import cams_to_seeds


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
    # The losses have parameters that are trained along, and both have memory banks: save their state dicts
    # with the model's.
    shape = ViewShape(channels=64, num_classes=data.num_classes)
    fbr, gate = FBRLoss(shape, FBRConfig(warmup_steps=5)), ClassAwareGate(shape)
    parts = nn.ModuleList([encoder, classifier, fbr, gate])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)

    print("step    loss      fg      bg     seg     sim  queries  bank")
    for step, batch in enumerate(data.train_dataloader()):
        features = encoder(batch["image"])  # [B, 64, h, w]
        maps = classifier(features)  # [B, C, h, w]
        loss = multilabel_soft_margin_loss(maps.mean((2, 3)), batch["label"])
        view = DenseView(features, maps, batch["label"])
        terms = fbr(view)
        gate.update(view)
        optimizer.zero_grad()
        (loss + terms.total).backward()
        optimizer.step()
        values = (loss, terms.fg, terms.bg, terms.seg, terms.sim)
        losses = " ".join(f"{value.item():7.4f}" for value in values)
        print(f"{step:4d} {losses} {terms.num_queries.item():8.0f} {terms.bank_fill.item():5d}")

    parts.eval()
    with torch.no_grad():  # where the loop predicts, the gate lowers the maps
        features = encoder(batch["image"])
        maps = classifier(features).relu()
        lowered = gate_scores(gate, maps, [features])
        seeds = gate.match(cams_to_seeds(lowered, batch["label"]))  # on the scale of ungated seeds
    print(f"the gate lowers the maps of a batch from {maps.mean():.4f} to {lowered.mean():.4f} on average")
    print(f"the seeds of the batch have a mean of {seeds.mean():.4f}")


if __name__ == "__main__":
    main()
