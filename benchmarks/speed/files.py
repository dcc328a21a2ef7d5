"""Evaluation over thresholds, and the CRF of labels."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from benchmarks.recipe_cost.networks import Size, example
from benchmarks.speed.timing import Case, DisagreementError, differing_pixels, need
from fbr_plugin.data import write_mask
from fbr_plugin.postprocess.evaluate import evaluate
from fbr_plugin.postprocess.refine import refine

THRESHOLDS = [step / 100 for step in range(60)]  # of the released loop
OWN = 4  # classes of a mask


def evaluation(root: Path, number: int, size: Size, theirs: bool = True) -> Case:
    """Seeds of VOC's 20 classes against masks: the mIoU at 60 thresholds."""
    torch.manual_seed(0)
    for folder in ("seeds", "masks"):
        (root / folder).mkdir()
    names = [f"2007_{position:06d}" for position in range(number)]
    for position, name in enumerate(names):
        classes = [(OWN * position + place) % 20 for place in range(OWN)]
        maps = interpolate(torch.randn(1, 1 + OWN, 6, 6), size, mode="bicubic")[0]
        mask = torch.tensor([0, *(c + 1 for c in classes)])[maps.argmax(0)]
        scores = (maps[1:] - maps[0] + 0.3 * torch.randn(OWN, *size)).sigmoid().numpy()
        np.save(
            root / "seeds" / f"{name}.npy", np.array(dict(zip(classes, scores, strict=True)), dtype=object)
        )
        write_mask(root / "masks" / f"{name}.png", mask.numpy().astype(np.uint8))
    listed = root / "list.txt"
    listed.write_text("\n".join(names))

    def ours() -> list[float]:
        found = evaluate(root / "seeds", root / "masks", listed, 20, thresholds=THRESHOLDS)
        assert found.sweep is not None
        return list(found.sweep.miou)

    def released() -> list[float]:
        words = {"list": listed, "predict_dir": root / "seeds", "gt_dir": root / "masks", "type": "npy"}
        words |= {"curve": True, "comment": "speed", "logfile": root / "log.txt"}
        given = [word for name, value in words.items() for word in (f"--{name}", str(value))]
        # In a small process, as it forks 480 times.
        said = subprocess.run([sys.executable, "eval.py", *given], check=True, capture_output=True, text=True)
        return [float(found) for found in re.findall(r"mIoU: ([\d.]+)%", said.stdout)]

    if theirs:
        need("pandas")
    text = f"{number} seeds of {size[1]}x{size[0]} at 60 thresholds"
    return Case(ours, released if theirs else None, _same_curve, text, number)


def _same_curve(ours: list[float], released: list[float]) -> str:
    difference = max(abs(one - other) for one, other in zip(ours, released, strict=True))
    if not difference <= 1e-3:
        raise DisagreementError(f"the mIoU differs by up to {difference:.2g} points")
    return f"mIoU at all thresholds within {difference:.0e} points (three decimals are printed)"


def crf(size: Size, theirs: bool = True) -> Case:
    """The dense CRF of IRN's labels on one photo with three classes."""
    need("pydensecrf")
    photo, labels = example(size)[0], example(size)[1].numpy()
    scores = np.eye(3, dtype=np.float32)[labels].transpose(2, 0, 1)
    released = importlib.import_module("misc.imutils").crf_inference_label if theirs else None
    return Case(
        lambda: refine(photo, scores, "crf", hard=True).argmax(0),
        released and (lambda: released(photo, labels, n_labels=3)),
        differing_pixels(0),
        f"a photo of {size[1]}x{size[0]}, 3 classes, 10 steps",
    )
