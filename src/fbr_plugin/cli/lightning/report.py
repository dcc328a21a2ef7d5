"""What is printed at the end of `fit` and `predict`: scores, and where the files are."""

from pathlib import Path

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

KINDS = {".npy": "seeds", ".npz": "seeds", ".json": "instances"}


def fit_report(trainer: Trainer) -> str:
    """The scores of the last validation, and the paths of a run.

    Args:
        trainer: of the training that has ended.
    """
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    shown = [name for name in scores if name.startswith("val/")] or [
        name for name in scores if "loss" in name
    ]
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    figures = list(folder.glob("figures/*.png"))
    lines = [f"{name:26}{scores[name]:9.3f}" for name in shown]
    lines += [f"{'run':16}{folder}"]
    for kept in trainer.checkpoint_callbacks:
        if isinstance(kept, ModelCheckpoint) and kept.best_model_path:
            name, score = ("best", kept.best_model_score) if kept.monitor else ("last", None)
            why = "" if score is None else f" ({kept.monitor} {float(score):.3f})"
            lines.append(f"{name + ' checkpoint':16}{kept.best_model_path}{why}")
    if figures:
        lines.append(f"{'figures':16}{folder / 'figures'} ({len(figures)} files)")
    return "\n".join(lines)


def predict_report(folder: Path, labels: bool) -> str:
    """What `predict` wrote, and how many files.

    Args:
        folder: of the files.
        labels: whether images are labels, and not masks.
    """
    files = [path for path in folder.iterdir() if path.is_file()]
    kinds = {KINDS.get(path.suffix, "labels" if labels else "masks") for path in files}
    return f"{' and '.join(sorted(kinds)) or 'nothing'}: {len(files)} files in {folder}"
